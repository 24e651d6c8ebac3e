"""The sections of the report, in order: the name of each is its anchor and its template, ``section_NAME.html.j2``."""

from __future__ import annotations

SECTIONS = {
    "question": "Question and answer",
    "data": "Data",
    "leakage": "Copies and leakage",
    "methods": "Methods and parameters",
    "training": "Training curves",
    "scores": "Scores on the test side",
    "labels": "How many labels does it take?",
    "calibration": "Calibration",
    "robustness": "Disturbed and foreign images",
    "errors": "Errors",
    "explanations": "Where the classifier looks",
    "search": "Similar cases",
    "compute": "Compute and energy",
    "environment": "Environment",
    "limitations": "Limitations",
    "claim": "CLAIM 2024 checklist",
    "cards": "Model card and dataset card",
    "glossary": "Words",
}
