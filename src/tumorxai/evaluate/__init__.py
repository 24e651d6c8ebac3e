"""Evaluation: frozen protocols, end-to-end training, scores with intervals."""
