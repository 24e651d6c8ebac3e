"""What the experiments and commits of this project have reached, and which differences are real.

Every score is computed anew from the predictions that each experiment has kept in DVC's cache, by one and the same
definition, and belongs to the parameters that its stages were run with, as ``dvc.lock`` has them. Only classifiers that
were tested on the same images are compared: a table, tests and a diagram for each test side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from tumorxai.base import drawing
from tumorxai.errors import UserError
from tumorxai.files import write_csv, write_json, write_text
from tumorxai.run.compare import entrants, figures, folds, overlay, page, revisions, tables
from tumorxai.run.compare.judge import judge, over_seeds, rows

FOLDER = "leaderboard"


def write(root: Path, commits: int, protocols: Sequence[str]) -> pd.DataFrame:
    """Write the leaderboard into the folder ``leaderboard``.

    Args:
        root: the project's folder.
        commits: how many of the last commits are looked at; negative: all.
        protocols: keys of :data:`tumorxai.base.protocols.PROTOCOLS` that take part.

    Returns:
        The leaderboard.

    Raises:
        UserError: no experiment has kept predictions.
    """
    compared, missing = revisions.collect(root, commits)
    found = entrants.collect(compared, protocols, missing)
    if not found.entrants:
        raise UserError(
            f"compare: got no kept predictions ({'; '.join(missing.lines[:3]) or 'no experiment'}); expected some; run "
            "`dvc repro` or `dvc exp run` first, or `dvc pull` to fill the cache"
        )
    by_side = entrants.by_side(folds.pool(compared, found, missing))
    sides = [judge(name, own) for name, own in tqdm(by_side.items(), desc="test sides", unit="side")]
    board, seeds = rows(sides), over_seeds(sides)
    folder = root / FOLDER
    write_csv(folder / "leaderboard.csv", board)
    write_csv(folder / "pairs.csv", pd.concat([side.pairs for side in sides]).round(6))
    drawing.save(figures.score_figure(sides), folder / "scores.png", figures.DPI)
    drawing.save(figures.rank_figure(sides), folder / "ranks.png", figures.DPI)
    definitions = root / overlay.DEFINED
    text = definitions.read_text(encoding="utf-8") if definitions.exists() else ""
    overlays = overlay.draw(text, compared, found, sides, missing)
    write_json(folder / "leaderboard.json", tables.content(board, sides, seeds, missing.lines))
    write_text(folder / "leaderboard.md", tables.markdown(board, sides, seeds, missing.lines))
    page.render(folder, board, sides, seeds, overlays, missing.lines)
    return board
