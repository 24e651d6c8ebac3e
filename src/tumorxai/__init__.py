"""TumorXAI: open, reproducible self-supervised learning for brain-MRI tumour classification."""

__version__ = "0.1.0"
