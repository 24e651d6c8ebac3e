"""What a split holds, in one of four levels and one plain sentence."""

from __future__ import annotations

from typing import Any, NamedTuple

APART = "patients apart"
PARTLY = "copies apart, patients partly known"
UNKNOWN = "copies apart, patients unknown"
LEAKING = "leaking"
LEVELS = (APART, PARTLY, UNKNOWN, LEAKING)


class Evidence(NamedTuple):
    """What speaks for and against a split. The learning sides are those that are trained or chosen on.

    Attributes:
        images: test images.
        copies: test images with a copy on a learning side, confirmed by ``dedupe``.
        missed: further ones, found by the second auditor alone.
        explained: how many of these its false accepts may explain.
        patients: test images whose known patient has an image on a learning side.
        series: test images with a slice that likely is of their series on a learning side; None where nobody looked.
            A look alone, it decides no level.
        folds_apart: no fold that stands in for its patients is on both sides.
        known: images on any side whose patient is known, or the fold that stands in.
        by_fold: how many of these the fold alone is known of.
        likely: images whose patient is only likely: they look like others' slices.
        unknown: all other images.
    """

    images: int
    copies: int = 0
    missed: int = 0
    explained: int = 0
    patients: int = 0
    series: int | None = None
    folds_apart: bool = True
    known: int = 0
    by_fold: int = 0
    likely: int = 0
    unknown: int = 0


def judge(evidence: Evidence) -> dict[str, Any]:
    """The verdict on a split.

    Args:
        evidence: what was found.

    Returns:
        ``level``, one of LEVELS, ``sentence``, and the evidence itself.
    """
    level = _level(evidence)
    return {"level": level, "sentence": _sentence(level, evidence), "evidence": evidence._asdict()}


def _level(found: Evidence) -> str:
    if found.copies or found.patients or found.missed > found.explained:
        return LEAKING
    if found.known and not found.likely + found.unknown and found.folds_apart:
        return APART
    return PARTLY if found.known else UNKNOWN


def _sentence(level: str, found: Evidence) -> str:
    of = f"of {found.images} test images"
    if level == LEAKING:
        missed = found.missed if found.missed > found.explained else 0
        copies, parts = found.copies + missed, []
        if copies:
            second = f", {missed} of them found by the second search alone" if missed else ""
            parts.append(f"{copies} {of} {_have(copies)} a copy among the images learned from{second}")
        if found.patients:
            images = f"{found.patients}" if parts else f"{found.patients} {of}"
            parts.append(f"{images} {_are(found.patients)} of patients who are learned from")
        return f"{', and '.join(parts)}: the scores are inflated."
    total = found.known + found.likely + found.unknown
    if level == APART:
        fold = f", or of {found.by_fold} of {total} the published fold of patients," if found.by_fold else ""
        return (
            "No copy and no patient of a test image is among the images learned from, and the patient"
            f"{fold} of every image is known."
        )
    series = ""
    if found.series:
        look = "looks" if found.series == 1 else "look"
        series = f"; {found.series} {of} {look} like a slice of a series that is learned from"
    if level == PARTLY:
        likely = f", {found.likely} more likely so" if found.likely else ""
        return (
            "No copy and no known patient of a test image is among the images learned from, but the patients of only "
            f"{found.known} of {total} images are known{likely}{series}."
        )
    likely = f", by looks alone the series of {found.likely} of {total} images" if found.likely else ""
    return (
        f"No copy of a test image is among the images learned from, but no patient is known{likely}: slices of one "
        f"patient may be on both sides{series}."
    )


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
