"""Which archives hold which others' images: their copies of each other, counted and drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from tumorxai.archives.words import squash
from tumorxai.base import drawing
from tumorxai.certify.assess import SETTINGS, versions
from tumorxai.certify.gather import Gathered, gather, opened
from tumorxai.files import write_csv, write_json

MOST = 0.5  # share of an archive's images in another from which it is drawn as descending from it


def write(paths: Sequence[Path], out: Path, workers: int | None = None) -> dict[str, Any]:
    """Compare archives; write ``family.png``, ``family.csv`` and ``family.json`` to a folder, and return the latter.

    Args:
        paths: folders or zips of class folders, at least one.
        out: the folder.
        workers: processes; one per core if None.

    Raises:
        UserError: one of them cannot be used.
    """
    with opened(paths) as (archives, names), gather(archives, names, SETTINGS, workers=workers) as found:
        members, edges = archives_of(found), kinship(found)
    content = {
        "images": len(found.table),
        "different": int(found.table["group"].nunique()),
        "archives": members.to_dict(orient="records"),
        "kinship": edges.to_dict(orient="records"),
        "detector": SETTINGS.model_dump(),
        "versions": versions(),
    }
    drawing.save(figure(members, edges), out / "family.png", dpi=110)
    write_csv(out / "family.csv", edges)
    write_json(out / "family.json", content)
    return content


def archives_of(found: Gathered) -> pd.DataFrame:
    """``source``, ``images``, ``distinct``, ``groups`` and ``left_out`` of each archive, in their order."""
    rows = found.table.groupby("source", sort=False)
    counted = rows.agg(images=("path", "size"), distinct=("pixels_sha256", "nunique"), groups=("group", "nunique"))
    lost = found.left_out["source"].value_counts()
    return counted.assign(left_out=[int(lost.get(name, 0)) for name in counted.index]).reset_index()


def kinship(found: Gathered) -> pd.DataFrame:
    """Every two archives with copies of each other.

    Returns:
        ``a`` and ``b``, with ``a`` the one of whose images the larger share has a copy in the other; ``a_in_b`` and
        ``b_in_a``, images with a copy in the other, and these as shares of the archives (``a_share``, ``b_share``);
        ``exact`` and ``near``, pairs of copies; ``shared``, groups of copies in both; ``two_labels``, those of them
        whose images mean different classes; and ``wider``, the median width of b's images over that of a's in these
        pairs. The widest overlap comes first.
    """
    table = found.table.reset_index(drop=True)
    meaning = table["group_label"].where(table["group_label"] != "", table["native_label"].map(squash))
    table = table.assign(meaning=meaning)
    source, group, width = (table[name].to_numpy() for name in ("source", "group", "width"))
    first, second = (found.pairs[end].to_numpy() for end in ("image_a", "image_b"))
    exact = (found.pairs["kind"] == "exact").to_numpy()
    names = list(dict.fromkeys(source))
    groups = {name: set(group[source == name]) for name in names}
    size = {name: int((source == name).sum()) for name in names}
    rows = []
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            shared = groups[one] & groups[other]
            if not shared:
                continue
            inside = np.isin(group, list(shared))
            copies = {name: int((inside & (source == name)).sum()) for name in (one, other)}
            a, b = sorted((one, other), key=lambda name: -copies[name] / size[name])
            straight = (source[first] == a) & (source[second] == b)
            turned = (source[first] == b) & (source[second] == a)
            of_a = np.concatenate([first[straight], second[turned]])
            of_b = np.concatenate([second[straight], first[turned]])
            own = table[inside & np.isin(source, [a, b])]
            kinds = np.concatenate([exact[straight], exact[turned]])
            rows.append(
                {
                    "a": a,
                    "b": b,
                    "a_in_b": copies[a],
                    "a_share": round(copies[a] / size[a], 4),
                    "b_in_a": copies[b],
                    "b_share": round(copies[b] / size[b], 4),
                    "exact": int(kinds.sum()),
                    "near": int((~kinds).sum()),
                    "shared": len(shared),
                    "two_labels": int((own.drop_duplicates(["group", "meaning"])["group"].value_counts() > 1).sum()),
                    "wider": round(float(np.median(width[of_b] / width[of_a])), 3) if len(of_a) else None,
                }
            )
    columns = [
        "a", "b", "a_in_b", "a_share", "b_in_a", "b_share", "exact", "near", "shared", "two_labels", "wider",
    ]  # fmt: skip
    edges = pd.DataFrame(rows, columns=columns)
    return edges.sort_values(["a_share", "a_in_b"], ascending=False, kind="stable", ignore_index=True)


def figure(members: pd.DataFrame, edges: pd.DataFrame) -> Figure:
    """Archives on a circle, as large as they are; what they share between them. Those that share nothing are named.

    An arrow leads to the archive that holds at least MOST of the other's images; a dashed line is a lesser overlap.
    """
    related = members["source"].isin({*edges["a"], *edges["b"]})
    alone = members[~related] if related.any() else members[:0]
    members = members.drop(alone.index)
    count = len(members)
    drawn = Figure(figsize=(10.5, 7.4), layout="constrained")
    axes = drawn.subplots()
    angle = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    at = dict(zip(members["source"], np.stack([np.cos(angle), np.sin(angle)], axis=1), strict=True))
    radius = dict(
        zip(members["source"], 0.05 + 0.13 * np.sqrt(members["images"] / members["images"].max()), strict=True)
    )
    for row in edges.to_dict(orient="records"):
        a, b = at[row["a"]], at[row["b"]]
        along = (b - a) / np.hypot(*(b - a))
        mostly = row["a_share"] >= MOST
        arrow = FancyArrowPatch(
            a + along * radius[row["a"]],
            b - along * (radius[row["b"]] + 0.02),
            arrowstyle="-|>" if mostly else "-",
            mutation_scale=18,
            linewidth=1 + 6 * row["a_share"],
            linestyle="-" if mostly else (0, (4, 2)),
            color=drawing.VERMILION if mostly else drawing.GREY,
            alpha=0.85,
            shrinkA=0,
            shrinkB=0,
        )
        axes.add_patch(arrow)
        text = f"{row['a_share']:.1%} / {row['b_share']:.1%}"
        x, y = a * 0.74 + b * 0.26  # off the middle and the golden section, where lines cross
        axes.text(
            x,
            y,
            text,
            fontsize=7.5,
            ha="center",
            va="center",
            parse_math=False,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )
    for row in members.to_dict(orient="records"):
        x, y = at[row["source"]]
        size = radius[row["source"]]
        axes.add_patch(Circle((x, y), size, facecolor=drawing.SKY, edgecolor=drawing.BLUE, linewidth=1.5, zorder=3))
        owner, _, name = row["source"].rpartition("/")
        lines = [owner, *textwrap.wrap(name, 24), f"{row['images']} images,", f"{row['groups']} different"]
        beside = abs(y) < 0.5  # else above or below
        axes.text(
            x + beside * np.sign(x) * (size + 0.05),
            y + (not beside) * np.sign(y) * (size + 0.04),
            "\n".join(filter(None, lines)),
            fontsize=8.5,
            ha="center" if not beside else "left" if x > 0 else "right",
            va="center" if beside else "bottom" if y > 0 else "top",
            parse_math=False,
        )
    axes.set_xlim(-2.0, 2.0)
    axes.set_ylim(-1.75 if len(alone) else -1.5, 1.6)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(
        "Copies between archives: share of the first's images that the second has / of the second's in the first.\n"
        "An arrow leads from the first to an archive that holds at least half of its images.",
        fontsize=9.5,
    )
    if len(alone):
        names = textwrap.fill(f"No image in common with the others: {', '.join(alone['source'])}", 120)
        axes.text(0, -1.62, names, fontsize=8.5, ha="center", va="top", parse_math=False)
    return drawn
