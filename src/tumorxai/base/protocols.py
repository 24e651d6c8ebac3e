"""The protocols of evaluation: what each is called, drawn like and made by. Nothing else says so.

No stage that trains imports this, so that another title or colour trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tumorxai.base.drawing import BLUE, GREEN, GREY, LIGHT, ORANGE, PURPLE, VERMILION


class Learns(IntEnum):
    """What a protocol fits to the labels, from little to much."""

    NOTHING = 0
    RANDOM = 1  # a linear layer on random weights
    FROZEN = 2  # on the pretrained encoder, which stays as it is
    ALL = 3  # all layers


@dataclass(frozen=True)
class Protocol:
    """A row of the table.

    Attributes:
        key: of its files: ``models/predictions_KEY.csv``, ``details/KEY.json``.
        stage: of ``dvc.yaml`` that leaves its predictions.
        title: within a sentence.
        short: in the head of a column.
        colour: in every picture.
        learns: what it fits.
        plotted: is it one of the main results, with the data of DVC's plots, and first in the report?
        drawn: has it curves? A certain guess has none.
        fractions: is it repeated on fractions of the labels, ``models/curve_KEY.csv``?
        shown: does ``dvc metrics show`` show it?
        listed: is it a row of the tables for readers? If not, they name it beside them.
    """

    key: str
    stage: str
    title: str
    short: str
    colour: str
    learns: Learns
    plotted: bool = False
    drawn: bool = False
    fractions: bool = False
    shown: bool = False
    listed: bool = True

    @property
    def heading(self) -> str:
        """The title with a capital."""
        return self.title[0].upper() + self.title[1:]


# In colour what learns from images, in grey and orange what it is held against.
TABLE = (
    Protocol(
        "finetune", "finetune", "fine-tuned", "fine-tuned", BLUE, Learns.ALL,
        plotted=True, drawn=True, fractions=True, shown=True,
    ),
    Protocol(
        "supervised", "supervised", "supervised from scratch", "supervised", VERMILION, Learns.ALL,
        plotted=True, drawn=True, fractions=True, shown=True,
    ),
    Protocol(
        "linear", "linear", "linear probe", "linear", GREEN, Learns.FROZEN,
        plotted=True, drawn=True, fractions=True, shown=True,
    ),
    Protocol("knn", "frozen", "nearest neighbours", "kNN", PURPLE, Learns.FROZEN, drawn=True, shown=True),
    Protocol(
        "random_linear", "baselines", "random encoder, linear probe", "random encoder, linear", GREY,
        Learns.RANDOM, drawn=True, fractions=True,
    ),
    Protocol(
        "pixel_neighbour", "baselines", "pixel nearest neighbour", "pixel nearest neighbour", ORANGE, Learns.NOTHING
    ),
    Protocol(
        "majority", "baselines", "majority class", "majority class", LIGHT, Learns.NOTHING, listed=False
    ),
)  # fmt: skip
PROTOCOLS = {own.key: own for own in TABLE}
TITLES = {own.key: own.title for own in TABLE}
# From what learns least to what learns most: the order of the papers' tables, and of the report's main results.
BY_LEARNING = tuple(sorted(TABLE, key=lambda own: own.learns))
