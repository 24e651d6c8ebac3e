"""The flow of the images from the archives to the sides, in the manner of a CONSORT diagram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH, COLUMN, GAP = 680, 320, 34
ASIDE = 390  # where the boxes of what is left out begin
USES = {
    "train": "to learn from",
    "unlabelled": "to pretrain on",
    "validation": "to choose on",
    "test": "scored once",
}


@dataclass(frozen=True)
class Box:
    """A box of the flow diagram: its place, and lines of text of which the first is the heading."""

    x: int
    y: int
    width: int
    lines: list[str]
    muted: bool = False

    @property
    def height(self) -> int:
        """In the units of the drawing."""
        return 20 + 18 * len(self.lines)

    @property
    def middle(self) -> int:
        """Horizontal centre."""
        return self.x + self.width // 2


@dataclass(frozen=True)
class Flow:
    """A drawing.

    Attributes:
        width: of the drawing.
        height: of the drawing.
        boxes: to draw.
        arrows: SVG paths.
        summary: all of it in words.
    """

    width: int
    height: int
    boxes: list[Box]
    arrows: list[str]
    summary: str


def flow(catalogue: Mapping[str, Any], dedupe: Mapping[str, Any] | None, split: Mapping[str, Any]) -> Flow:
    """Draw the way from the archives to the sides, with the number of images at each step.

    Args:
        catalogue: ``details/catalogue.json``.
        dedupe: ``details/dedupe.json``, if there is one.
        split: ``details/split.json``.
    """
    sources = [f"{name}: {entry['images']:,} readable" for name, entry in catalogue["sources"].items()]
    archives = Box(0, 1, WIDTH, ["Archive" if len(sources) == 1 else f"{len(sources)} archives", *sources])
    readable = Box(0, archives.y + archives.height + GAP, COLUMN, [f"{catalogue['images']:,} images in the catalogue"])
    quarantined = Box(ASIDE, readable.y, WIDTH - ASIDE, _not_read(catalogue), muted=True)
    found = [] if dedupe is None else [f"{dedupe['groups_of_copies']:,} groups of copies found"]
    below = readable.y + max(readable.height, quarantined.height) + GAP
    groups = Box(0, below, COLUMN, ["Sorted by copies and patients", *found, f"{split['units']:,} units kept together"])
    left_out = Box(ASIDE, below, WIDTH - ASIDE, _dropped(split), muted=True)
    sides = {name: side for name, side in split["sides"].items() if side["images"] and name != "dropped"}
    ends = _ends(sides, below + max(groups.height, left_out.height) + 2 * GAP)
    boxes = [archives, readable, quarantined, groups, left_out, *ends]
    height = max(box.y + box.height for box in boxes) + 1
    summary = ". ".join(", ".join(box.lines) for box in boxes)
    return Flow(WIDTH, height, boxes, _arrows(archives, readable, groups, ends), summary)


def _not_read(catalogue: Mapping[str, Any]) -> list[str]:
    outside = sum(entry.get("outside_taxonomy", 0) for entry in catalogue["sources"].values())
    lines = [f"{catalogue['quarantined']:,} quarantined as unreadable"]
    return [*lines, f"{outside:,} of classes that are not asked for"] if outside else lines


def _dropped(split: Mapping[str, Any]) -> list[str]:
    dropped = split["sides"].get("dropped", {"images": 0})["images"]
    lines = [f"{dropped:,} left out"]
    lines += [f"{split['label_conflicts']:,} under two labels", f"{split['bridging_folds']:,} across published folds"]
    if split.get("external"):
        lines += [f"{split['external_overlaps']:,} with a copy in the external test"]
        lines += [f"{split['external_unknown_class']:,} of classes not trained on"]
    if split.get("unlabelled_sources"):
        lines += [f"{split['unlabelled_overlaps']:,} unlabelled, of units held out"]
    return lines


def _ends(sides: Mapping[str, Any], y: int) -> list[Box]:
    each = (WIDTH - 12 * (len(sides) - 1)) // max(len(sides), 1)
    ends = []
    for i, (name, side) in enumerate(sides.items()):
        lines = [name.capitalize(), f"{side['images']:,} images", f"{side['units']:,} units", USES[name]]
        ends.append(Box(i * (each + 12), y, each, lines))
    return ends


def _arrows(archives: Box, readable: Box, groups: Box, ends: list[Box]) -> list[str]:
    spine = readable.middle
    down = [
        f"M{spine} {archives.y + archives.height} V{readable.y}",
        f"M{spine} {readable.y + readable.height} V{groups.y}",
    ]
    aside = [f"M{COLUMN} {box.y + box.height // 2} H{ASIDE}" for box in (readable, groups)]
    branches = [f"M{spine} {groups.y + groups.height} V{end.y - GAP} H{end.middle} V{end.y}" for end in ends]
    return down + aside + branches
