"""TumorXAI: open, reproducible self-supervised learning for brain-MRI tumour classification."""

__version__ = "0.2.0"
