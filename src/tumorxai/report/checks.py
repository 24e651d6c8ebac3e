"""Can the run be believed? A few questions, each answered by what was measured, with yes, no or not shown."""

from __future__ import annotations

from typing import Any, NamedTuple

from tumorxai.audit.verdict import APART, LEAKING
from tumorxai.base.statistics import ALPHA
from tumorxai.report.facts import Facts
from tumorxai.report.terms import FLOORS
from tumorxai.report.words import between, percent, points

YES, NO, OPEN = "yes", "no", "not shown"
LESION = ("energy", "pointing", "iou_best", "iou_fixed", "pixel_auroc")  # checks of a map against the lesion's outline
CALIBRATED = 0.05  # calibration error below which confidence is taken at its word


class Check(NamedTuple):
    """One line of the table.

    Attributes:
        question: in a few words, so that yes is good.
        mark: YES, NO or OPEN.
        sentence: plain, with the figures.
        where: section that holds more.
    """

    question: str
    mark: str
    sentence: str
    where: str


def checks(facts: Facts) -> list[Check]:
    """All of them, in the order of the table; what a run has not measured is OPEN, and said to be."""
    return [
        _floor(facts),
        _pair(facts, "linear - random_linear", "Features better than random weights"),
        _pair(facts, "finetune - supervised", "Pretraining helps training"),
        _copies(facts),
        _patients(facts),
        _calibrated(facts),
        Check(
            "Same with other seeds",
            OPEN,
            f"No single run can show it, and this is that of seed {facts.params.seed}: the command “make repeat” runs "
            "others, and “Over seeds” on the leaderboard then answers yes or no, with the spread.",
            "limitations",
        ),
        _external(facts),
        _explained(facts),
    ]


def _mark(good: bool | None) -> str:
    return OPEN if good is None else YES if good else NO


def _floor(facts: Facts) -> Check:
    question = "Better than guessing"
    found, floor = facts.metrics["finetune"], facts.metrics["majority"]
    if found is None or floor is None:
        return Check(question, OPEN, "Not measured.", "scores")
    test, guess = found["test"], floor["test"]
    own, least = test["balanced_accuracy"], guess["balanced_accuracy"]["value"]
    sentence = (
        f"The fine-tuned classifier has a balanced accuracy of {between(own)}, and is right on "
        f"{percent(test['accuracy']['value'])} of the test images; always saying the most frequent class gives "
        f"{percent(least)} and {percent(guess['accuracy']['value'])}."
    )
    good = True if own["low"] > least else False if own["high"] < least else None
    return Check(question, _mark(good), sentence, "scores")


def _pair(facts: Facts, pair: str, question: str) -> Check:
    found: dict[str, Any] | None = (facts.metrics["comparisons"] or {}).get(pair)
    if found is None:
        return Check(question, OPEN, "Not measured.", "scores")
    own = found["accuracy"]
    first, second = {
        "linear - random_linear": ("A linear probe on the pretrained encoder", "the same on random weights"),
        "finetune - supervised": ("The fine-tuned classifier", "the same network trained from random weights"),
    }[pair]
    sentence = (
        f"{first} is right on {points(own['value'])} of the test images than {second} (interval "
        f"{100 * own['low']:+.1f} to {100 * own['high']:+.1f})"
    )
    unequal = f"; {facts.unlike}" if pair == "finetune - supervised" and facts.unlike else ""
    if facts.leaky:
        return Check(question, OPEN, f"{sentence}{unequal}: on a split that leaks this answers nothing.", "scores")
    if own["p"] >= ALPHA:
        return Check(question, OPEN, f"{sentence}{unequal}: that may be chance.", "scores")
    return Check(question, _mark(own["value"] > 0), f"{sentence}{unequal}.", "scores")


def _copies(facts: Facts) -> Check:
    question = "No copies across sides"
    evidence = (facts.verdict or {}).get("evidence")
    if evidence is None:
        return Check(question, OPEN, "Not looked for.", "leakage")
    beyond = evidence["missed"] if evidence["missed"] > evidence["explained"] else 0
    count = evidence["copies"] + beyond
    sentence = (
        f"{count or 'None'} of the {evidence['images']} test images {'have' if count > 1 else 'has'} a copy among the "
        "images learned from."
    )
    return Check(question, _mark(not count), sentence, "leakage")


def _patients(facts: Facts) -> Check:
    question = "No patient across sides"
    verdict = facts.verdict
    if verdict is None:
        return Check(question, OPEN, "Not looked for.", "leakage")
    evidence = verdict["evidence"]
    total = evidence["known"] + evidence["likely"] + evidence["unknown"]
    if evidence["patients"]:
        sentence = (
            f"{evidence['patients']} of the {evidence['images']} test images are of patients who are learned from."
        )
        return Check(question, NO, sentence, "leakage")
    if verdict["level"] == APART:
        return Check(question, YES, f"The patient of each of the {total} images is known, and on one side.", "leakage")
    if not evidence["known"]:
        return Check(question, OPEN, "No patient is named: slices of one may be on both sides.", "leakage")
    sentence = (
        f"None among the {evidence['known']} of {total} images whose patient is known; of the others nobody knows."
    )
    return Check(question, OPEN, sentence, "leakage")


def _calibrated(facts: Facts) -> Check:
    question = "Confidence can be taken at its word"
    found = (facts.metrics["calibration"] or {}).get("finetune")
    if found is None or found["before"]["error"]["value"] is None:
        return Check(question, OPEN, "Not measured.", "calibration")
    heated = bool(facts.params.split.validation)
    own = found["after" if heated else "before"]["error"]
    good = True if own["high"] <= CALIBRATED else False if own["low"] > CALIBRATED else None
    bound = " The temperature is at the end of its range: do not rely on it." if found.get("at_bound") else ""
    how = f"with a temperature of {found['temperature']:.2f}" if heated else "as trained, without a temperature"
    sentence = f"Confidence and accuracy are {between(own)} apart, {how}; below {percent(CALIBRATED)} would do.{bound}"
    return Check(question, _mark(False if bound else good), sentence, "calibration")


def _external(facts: Facts) -> Check:
    external = facts.params.split.external
    sentence = (
        f"The test side is {', '.join(external)}, of which nothing was trained on."
        if external
        else "All sides come from the same sources: how it does elsewhere is not measured."
    )
    return Check("Tested on another source", _mark(bool(external)), sentence, "limitations")


def _explained(facts: Facts) -> Check:
    question = "Heat-maps better than a blob"
    found = (facts.metrics["explain"] or {}).get("classifiers")
    if not found:
        return Check(question, OPEN, "Not measured.", "explanations")
    passed = next(iter(found.values()))["passed"]
    own = {name: entry for name, entry in passed.items() if name not in FLOORS and entry["of"]}
    if not own:
        return Check(question, OPEN, "No map was checked.", "explanations")
    best = max(own, key=lambda name: own[name]["passed"] / own[name]["of"])
    title = titles(facts).get(best, best)
    share = own[best]["passed"] / own[best]["of"]
    rows = next(iter(found.values())).get("card", {})
    lesion = [row["passed"] for check in LESION if (row := rows.get(check, {}).get(best)) and row["passed"] is not None]
    there = f" Of the {len(lesion)} that ask whether it lies on the lesion it passes {sum(lesion)}." if lesion else ""
    sentence = (
        f"The best of {len(own)} methods, {title}, passes {own[best]['passed']} of {own[best]['of']} checks, which ask "
        "it to be better than maps that know nothing (a blob in the centre, edges, chance), and to change as it must."
        f"{there}"
    )
    return Check(question, _mark(share > 0.5 and 2 * sum(lesion) >= len(lesion)), sentence, "explanations")


def titles(facts: Facts) -> dict[str, str]:
    """What heat-map methods and floors are called, by key, as the run has written it down."""
    found: dict[str, str] = (facts.metrics["explain"] or {}).get("titles", {})
    return found | FLOORS


def headline(facts: Facts) -> str:
    """How many of the answers are yes, in a sentence."""
    marks = [check.mark for check in checks(facts)]
    parts = [f"{marks.count(YES)} of {len(marks)} checks passed", f"{marks.count(NO)} failed"]
    leaking = facts.verdict is not None and facts.verdict["level"] == LEAKING
    tail = " The split leaks: read no score as one of new patients." if leaking else ""
    return f"{', '.join(parts)}, {marks.count(OPEN)} not shown.{tail}"
