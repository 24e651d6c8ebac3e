"""The scores for readers: what each is called, means and is measured in, and where it is shown. Nothing else says so.

:mod:`tumorxai.base.scores` computes them. No stage that trains imports this, so that another title trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

# Where a score is shown.
PARTS = "parts"  # of each source and sequence in details/PROTOCOL.json, of the validation side, and in the model card
REPORT = "report"  # the report's table of scores, or, of a score of each class, its table of classes
HEAD = "head"  # the model card's metadata, and the leaderboard's tables
SERVER = "server"  # the page of results
BOARD = "board"  # leaderboard.csv
EVERYWHERE = (PARTS, REPORT, HEAD, SERVER, BOARD)


@dataclass(frozen=True)
class Score:
    """A row of the table.

    Attributes:
        key: in ``details/PROTOCOL.json``.
        title: within a sentence.
        meaning: in one line.
        where: it is shown; nowhere but in ``details/`` by default.
        percent: shown as a percentage; otherwise as it is.
        higher: is more of it better?
        of_class: one value for each class, against the others.
    """

    key: str
    title: str
    meaning: str
    where: tuple[str, ...] = ()
    percent: bool = True
    higher: bool = True
    of_class: bool = False

    @property
    def heading(self) -> str:
        """The title with a capital."""
        return self.title[0].upper() + self.title[1:]

    def text(self, value: float) -> str:
        """A value for readers, without a sign for the unit."""
        return f"{100 * value:.1f}" if self.percent else f"{value:.3f}"


TABLE = (
    Score("accuracy", "accuracy", "share of images whose class is right", EVERYWHERE),
    Score("balanced_accuracy", "balanced accuracy", "mean over the classes of the recall", EVERYWHERE),
    Score("macro_precision", "macro precision", "mean over the classes of the share of right calls", (REPORT,)),
    Score("macro_recall", "macro recall", "the same as balanced accuracy", (REPORT,)),
    Score("macro_f1", "macro F1", "mean over the classes of precision and recall in one", EVERYWHERE),
    Score("mcc", "MCC", "correlation of truth and calls, -1 to 1, 0 is chance", (BOARD,), percent=False),
    Score("kappa", "Cohen's kappa", "agreement beyond chance, up to 1", percent=False),
    Score("macro_auroc", "macro AUROC", "mean over the classes of the AUROC", (HEAD, SERVER, BOARD)),
    Score("macro_auprc", "macro AUPRC", "mean over the classes of the average precision"),
    Score(
        "nll", "negative log-likelihood", "of the true class; punishes being sure and wrong", (SERVER, BOARD),
        percent=False, higher=False,
    ),
    Score("brier", "Brier score", "squared distance from the truth, 0 to 2", percent=False, higher=False),
    Score("recall", "sensitivity", "share of a class that is found", (REPORT,), of_class=True),
    Score("specificity", "specificity", "share of the others not taken for the class", (REPORT,), of_class=True),
    Score("ppv", "PPV", "share of the calls of a class that are right", of_class=True),
    Score("npv", "NPV", "share of the calls of others that are right", of_class=True),
    Score("auroc", "AUROC", "chance that an image of the class gets more of it than another", (REPORT,), of_class=True),
    Score("auprc", "AUPRC", "average precision over the recalls", of_class=True),
)  # fmt: skip
SCORES = {own.key: own for own in TABLE}


def shown(where: str, of_class: bool = False) -> dict[str, Score]:
    """The scores of one place, by key, in the table's order."""
    return {own.key: own for own in TABLE if where in own.where and own.of_class == of_class}
