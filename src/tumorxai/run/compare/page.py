"""The leaderboard as one self-contained page, with the curves of the runs over each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tumorxai.base.drawing import data_uri
from tumorxai.base.glossary import HEAD, shown
from tumorxai.files import write_text
from tumorxai.report import words
from tumorxai.run.compare.judge import Side, shared, size
from tumorxai.run.compare.overlay import SIDES, Group
from tumorxai.run.compare.tables import SAME, long, pairs_sentence, percent, short


def render(
    folder: Path,
    board: pd.DataFrame,
    sides: Sequence[Side],
    seeds: pd.DataFrame,
    overlays: Sequence[Group],
    missing: Sequence[str],
) -> None:
    """Write ``index.html``.

    Args:
        folder: where it goes, and where ``scores.png`` and ``ranks.png`` are.
        board: see :func:`tumorxai.run.compare.judge.rows`.
        sides: the test sides.
        seeds: see :func:`tumorxai.run.compare.judge.over_seeds`.
        overlays: the curves.
        missing: what is left out, and why.
    """
    heads, listed = shown(HEAD), []
    for side in sides:
        own = board[board["test_side"] == side.name]
        table = [
            {
                "model": row["model"],
                "experiments": row["experiments"],
                "made": short(row["experiments"]),
                "rank": f"{row['rank']:.3g}",
                "ranks": f"{row['rank_low']:.3g} to {row['rank_high']:.3g}",
                "scores": [percent(row, name) for name in heads],
            }
            for _, row in own.iterrows()
        ]
        listed.append(
            {
                "name": side.name,
                "size": size(side),
                "shared": shared(side, sides),
                "rows": table,
                "long": long(own),
                "pairs": pairs_sentence(side),
            }
        )
    content = words.fill(
        "leaderboard.html.j2",
        sides=listed,
        scores=[score.title for score in heads.values()],
        seeds=seeds.to_dict("records"),
        same=SAME,
        pictures={name: data_uri((folder / f"{name}.png").read_bytes()) for name in ("scores", "ranks")},
        overlays=overlays,
        undrawn=max(len(sides) - SIDES, 0),
        missing=missing,
    )
    write_text(folder / "index.html", content)
