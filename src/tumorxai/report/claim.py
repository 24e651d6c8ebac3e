"""CLAIM 2024, filled in: which of its 44 items a run answers, where, and which are left to the user.

The numbers and the order are those of Tejani et al., Radiology: Artificial Intelligence 6(4):e240300, 2024
(doi:10.1148/ryai.240300); the words are our own, and no substitute for the paper.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tumorxai.report.facts import Facts

YES, PART, NO, YOURS, NONE = "answered", "in part", "not answered", "yours to answer", "does not apply"


@dataclass(frozen=True)
class Item:
    """One item of the checklist.

    Attributes:
        number: 1 to 44.
        part: of an article that it belongs to.
        topic: what it asks for, in short.
        status: one of YES, PART, NO, YOURS and NONE.
        text: the answer, or why there is none.
        where: section of the report that holds it, or the empty string.
    """

    number: int
    part: str
    topic: str
    status: str
    text: str
    where: str = ""


Row = tuple[str, str, str, str]  # topic, status, text, where


def items(facts: Facts) -> list[Item]:
    """All 44 items, for one run."""
    parts = {
        "Title and abstract": _abstract(facts),
        "Introduction": _introduction(facts),
        "Methods: design": _design(),
        "Methods: data": _data(facts),
        "Methods: reference standard": _reference(facts),
        "Methods: partitions": _partitions(facts),
        "Methods: model": _model(facts),
        "Methods: training": _training(facts),
        "Methods: evaluation": _evaluation(facts),
        "Results: data": _flow(facts),
        "Results: performance": _performance(facts),
        "Discussion": _discussion(),
        "Other": _other(facts),
    }
    rows = [(part, row) for part, rows in parts.items() for row in rows]
    return [Item(number, part, *row) for number, (part, row) in enumerate(rows, start=1)]


def summary(facts: Facts) -> str:
    """How many items have each status, in words."""
    counts = Counter(item.status for item in items(facts))
    return ", ".join(f"{counts[status]} {status}" for status in (YES, PART, NO, YOURS, NONE) if counts[status])


def _has(facts: Facts, name: str) -> str:
    return YES if facts.metrics[name] is not None else NO


def _abstract(facts: Facts) -> list[Row]:
    return [
        ("Named as an AI study, with its kind of technology", YES, "Title: self-supervised deep learning.", "top"),
        ("Structured summary", PART, "Question, answer and headline scores; the prose is yours.", "question"),
    ]


def _introduction(facts: Facts) -> list[Row]:
    return [
        ("Background and intended use", PART, "Use: research only. The clinical background is yours.", "question"),
        ("Aims and hypotheses", YES, "One question, put before any result is seen.", "question"),
    ]


def _design() -> list[Row]:
    return [
        ("Prospective or retrospective", YES, "Retrospective: published or given images.", "data"),
        ("Goal of the study", YES, "Comparison of ways to train on the same images; no clinical claim.", "question"),
    ]


def _data(facts: Facts) -> list[Row]:
    made_up = "phantom" in facts.sources
    publisher = "you" if facts.own else "the publishers of the data"
    return [
        ("Data sources", YES, "Named with their pages and licences; see also the dataset card.", "data"),
        ("Inclusion and exclusion", YES, "Unreadable images, other classes and label conflicts, counted.", "data"),
        ("Preprocessing", YES, "Decoding, size, channels and fit.", "methods"),
        ("Selection of subsets", YES, "All images of the sources; the share of labels is a parameter.", "methods"),
        (
            "De-identification",
            NONE if made_up and len(facts.sources) == 1 else YOURS,
            "No patients: the images are simulated in a template."
            if made_up and len(facts.sources) == 1
            else f"Done, or not, by {publisher}; the pipeline keeps pixels only.",
            "data",
        ),
        ("Missing data", PART, "Files that cannot be read are listed; unknown patients stay unknown.", "data"),
        (
            "Image acquisition",
            PART if made_up else YOURS if facts.own else NO,
            "The simulated signal is described in the code; real scanners are not known."
            if made_up
            else "Scanner and protocol are yours to state."
            if facts.own
            else "Scanner and protocol are not in the public archives.",
            "limitations",
        ),
    ]


def _reference(facts: Facts) -> list[Row]:
    if facts.sources == ["phantom"]:
        known = "Known by construction: the lesion was painted."
        return [
            ("Definition of the reference standard", YES, known, "data"),
            ("Why this standard", YES, "A known truth lets every stage be checked.", "data"),
            ("Who annotated", NONE, "Nobody: labels and masks are drawn with the image.", "data"),
            ("Annotation of the test set", YES, known, "data"),
            ("Variability between and within raters", NONE, "No raters.", "data"),
        ]
    if facts.own:
        yours = "Your class folders are taken as they are; how they were decided is yours to state."
        return [
            ("Definition of the reference standard", YOURS, yours, "data"),
            ("Why this standard", YOURS, "No other labels were given.", "limitations"),
            ("Who annotated", YOURS, "Not given to the pipeline.", "data"),
            ("Annotation of the test set", YOURS, "Like the rest; doubtful labels are listed, none changed.", "errors"),
            ("Variability between and within raters", YOURS, "Not given to the pipeline.", "limitations"),
        ]
    text = "The class folder of the publisher; how it was decided is not in the archive."
    return [
        ("Definition of the reference standard", PART, text, "data"),
        ("Why this standard", YOURS, "No other labels are published with the images.", "limitations"),
        ("Who annotated", YOURS, "See the pages of the sources.", "data"),
        (
            "Annotation of the test set",
            PART,
            "Like the rest; doubtful labels are listed, none changed.",
            "errors",
        ),
        ("Variability between and within raters", NO, "Not published.", "limitations"),
    ]


def _partitions(facts: Facts) -> list[Row]:
    level = {
        "patients": "Groups of copies, patients where known and series where likely, whole.",
        "grouped": "Groups of copies and, where declared, patients, whole; slices of patients not named may cross.",
        "official": "As the sources state it; what crosses is counted.",
        "random": "Images only: copies and patients stand on both sides. The scores are inflated.",
    }[facts.params.split.protocol]
    given, split = "you gave" if facts.own else "is published", facts.params.split
    fold = f"; the test side is fold {split.fold} of {split.folds}" if split.folds else ""
    return [
        ("How images were assigned", YES, f"Protocol {split.protocol}, drawn by the seed{fold}.", "data"),
        ("Level at which sides are kept apart", _has(facts, "leakage"), f"{level} Audited.", "leakage"),
        (
            "Sample size",
            PART,
            f"Not planned: what {given}. The detectable difference is stated.",
            "scores",
        ),
    ]


def _model(facts: Facts) -> list[Row]:
    start = "Random, by the seed." if facts.start == "random" else "Published weights."
    return [
        ("The model", YES, f"{facts.params.model.backbone}, by its public name; inputs and outputs stated.", "methods"),
        ("Software", YES, "Versions listed; the whole tree is pinned with hashes in requirements.lock.", "environment"),
        ("Initial weights", YES, f"{start} Fine-tuning starts from the pretrained encoder.", "methods"),
    ]


def _training(facts: Facts) -> list[Row]:
    labels = " Pretraining, too, learns from the training labels." if facts.method.uses_labels else ""
    return [
        ("Training", YES, f"All parameters, views and curves.{labels}", "training"),
        ("Choice of the final model", YES, f"{facts.chosen} The test side is scored afterwards.", "methods"),
        ("Ensembles", NONE, "Not used.", "methods"),
    ]


def _evaluation(facts: Facts) -> list[Row]:
    external = bool(facts.params.split.external)
    return [
        ("Metrics", YES, "With scikit-learn's definitions; each stated.", "scores"),
        ("Uncertainty and significance", YES, "Jackknife over clusters, paired tests, DeLong, adjusted.", "scores"),
        ("Robustness", _has(facts, "robustness"), "Nine kinds of damage; foreign images.", "robustness"),
        ("Explainability, and its validation", _has(facts, "explain"), "Report card against floors.", "explanations"),
        (
            "Internal evaluation",
            YES if facts.results else NO,
            "Validation and test sides.",
            "scores",
        ),
        (
            "External testing",
            YES if external else NO,
            f"Test side: {', '.join(facts.params.split.external)}."
            if external
            else "Not in this run; split.external makes a source the test side.",
            "scores" if external else "limitations",
        ),
        ("Trial registration", NONE, "No trial.", ""),
    ]


def _flow(facts: Facts) -> list[Row]:
    return [
        ("Numbers included and excluded", _has(facts, "split"), "Flow diagram with counts.", "data"),
        ("Characteristics of each partition", PART, "Classes only; age, sex and scanner were not given.", "data"),
    ]


def _performance(facts: Facts) -> list[Row]:
    scored = YES if facts.results else NO
    return [
        ("Performance, with uncertainty", scored, "All protocols, 95% intervals, on all sides.", "scores"),
        ("Diagnostic performance, with precision", scored, "Sensitivity and specificity by class.", "scores"),
        ("Failure analysis", _has(facts, "errors"), "The worst errors, drawn, and doubtful labels.", "errors"),
    ]


def _discussion() -> list[Row]:
    return [
        ("Limitations", YES, "Listed; add those of your own study.", "limitations"),
        ("Implications for practice", YOURS, "Nothing is claimed: research use only.", "limitations"),
    ]


def _other(facts: Facts) -> list[Row]:
    return [
        ("Full protocol", YES, "dvc.yaml, params.yaml and the code, at the commit that is named.", "methods"),
        (
            "Availability of software, model and data",
            PART,
            "The software is open; data: see sources.",
            "environment",
        ),
        ("Funding", YOURS, "The pipeline cannot know it.", ""),
    ]
