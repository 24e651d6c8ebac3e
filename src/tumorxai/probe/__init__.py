"""Stages ``linear``, ``frozen`` and ``baselines``: classifiers on frozen features."""
