"""Pictures of what deduplication found."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tumorxai.archives.archives import read
from tumorxai.archives.images import Fit, decode, fit_image
from tumorxai.base import drawing
from tumorxai.dedupe.weakest import weakest_link

ROWS, COLUMNS = 6, 7  # of the contact sheet
TILE = 80  # pixels


def overlap(matrix: dict[str, dict[str, int]], images: dict[str, int], out: Path) -> None:
    """Draw, for each two sources, the share of the first one's images that have a copy in the second.

    Args:
        matrix: images of the first source that have a copy in the second.
        images: of each source.
        out: the PNG.
    """
    names = list(matrix)
    counts = np.array([[matrix[row][column] for column in names] for row in names])
    shares = counts / np.array([images[name] for name in names])[:, None]
    side = 1.3 * len(names) + 3.2
    figure = Figure(figsize=(side, side * 0.75), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    short = [name.split("/")[-1][:22] for name in names]
    axes.set_xticks(range(len(names)), short, rotation=30, ha="right")
    axes.set_yticks(
        range(len(names)), [f"{label}\n{images[name]} images" for label, name in zip(short, names, strict=True)]
    )
    axes.set_xlabel("… have a copy in this source")
    axes.set_ylabel("Images of this source …")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{counts[row, column]}\n{share:.0%}", ha="center", va="center", color=colour)
    drawing.save(figure, out)


def contact_sheet(
    catalogue: pd.DataFrame,
    group: NDArray[np.int64],
    pairs: pd.DataFrame,
    files: Sequence[tuple[Path, str]],
    out: Path,
) -> None:
    """Draw groups of copies: the largest, those with a label conflict, with turned copies and across sources, in turn.

    Of a group of three or more, the weakest link is drawn first, framed in red.

    Args:
        catalogue: of N images.
        group: of N images.
        pairs: the copies.
        files: archive and path inside it, of N images.
        out: the PNG.
    """
    names = _choose(catalogue, group, pairs)
    links = {name: weakest_link(pairs, group, name) for name, size in names.items() if size > 2}
    ends = {name: [link["image_a"], link["image_b"]] for name, link in links.items()}
    chosen = {name: _spread(np.flatnonzero(group == name), catalogue, ends.get(name, [])) for name in names}
    width = max((len(shown) for shown in chosen.values()), default=1)
    beside = max(1, COLUMNS // width)  # small groups stand side by side
    rows = max(1, -(-len(chosen) // beside))
    figure = Figure(figsize=(beside * (width * 1.35 + 0.3), 0.5 + rows * 1.72), layout="constrained")
    figure.suptitle("Groups of copies" if chosen else "No copies were found", fontsize=10)
    grid = figure.subplots(rows, beside * (width + 1), squeeze=False, width_ratios=([0.2] + [1.0] * width) * beside)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, (name, shown) in enumerate(chosen.items()):
        row, first = grid[place // beside], place % beside * (width + 1)
        size = int((group == name).sum())
        note = f"{size} images"
        if name in links:
            one, other = links[name]["parts"]
            note += f"\nweakest link {links[name]['correlation']:.2f}\njoins {one} and {other}"
        row[first].text(0.5, 0.5, note, fontsize=6, rotation=90, ha="center", va="center")
        for axes, image in zip(row[first + 1 :], shown, strict=False):
            axes.imshow(_tile(*files[image]), cmap="gray", vmin=0, vmax=255)
            source, label = catalogue.loc[image, ["source", "label"]]
            axes.set_title(f"{str(source).split('/')[-1][:16]}\n{str(label)[:16]}", fontsize=6, pad=2)
            if image in ends.get(name, []):
                axes.set_axis_on()
                axes.set_xticks([])
                axes.set_yticks([])
                for side in axes.spines.values():
                    side.set(color=drawing.VERMILION, linewidth=1.5)
    drawing.save(figure, out, dpi=85, colours=64)


def _choose(catalogue: pd.DataFrame, group: NDArray[np.int64], pairs: pd.DataFrame) -> dict[int, int]:
    """Groups to draw, with their sizes, the largest first."""
    rows = catalogue.assign(group=group).groupby("group")
    table = rows.agg(size=("label", "size"), labels=("label", "nunique"), sources=("source", "nunique"))
    turned = group[pairs["image_a"][pairs["orientation"] > 0]]
    table["turned"] = table.index.isin(turned)
    table = table[table["size"] > 1].sort_values("size", ascending=False, kind="stable")
    queues = [table, table[table["labels"] > 1], table[table["turned"]], table[table["sources"] > 1]]
    chosen: dict[int, int] = {}
    for _ in range(ROWS):
        for queue in queues:
            fresh = [name for name in queue.index if name not in chosen]
            if fresh and len(chosen) < ROWS:
                chosen[int(fresh[0])] = int(queue.loc[fresh[0], "size"])
    return dict(sorted(chosen.items(), key=lambda item: -item[1]))


def _spread(members: NDArray[np.int64], catalogue: pd.DataFrame, first: list[int]) -> list[int]:
    """At most COLUMNS members: those that come first, then one of each source and label first."""
    others = members[~np.isin(members, first)]
    rank = catalogue.loc[others].groupby(["source", "label"]).cumcount().to_numpy()
    return first + sorted(others[np.argsort(rank, kind="stable")][: COLUMNS - len(first)].tolist())


def _tile(archive: Path, path: str) -> NDArray[np.uint8]:
    with zipfile.ZipFile(archive) as opened:
        image = decode(read(opened, opened.getinfo(path))).image
    pixels: NDArray[np.uint8] = fit_image(image, Fit(TILE, 1, "pad"))[0]
    return pixels
