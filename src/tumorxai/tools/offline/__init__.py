"""Runs where DVC is not: on a node without a network, or many side by side; and their results, brought back."""
