"""Stages ``finetune``, ``supervised`` and their label fractions: end-to-end training."""
