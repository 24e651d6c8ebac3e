"""The report, and the cards and the checklist beside it."""

from __future__ import annotations

from pathlib import Path

from tumorxai import config
from tumorxai.report import cards, facts, page


def run(params: config.Params, root: Path, out: Path) -> None:
    """Render all of them.

    Args:
        params: the whole experiment.
        root: the project's folder, with ``data/``, ``details/``, ``models/`` and ``plots/``.
        out: folder that receives ``index.html``, ``model_card.md``, ``dataset_card.md`` and ``claim.md``.
    """
    found = facts.gather(root, params)
    page.render(root, out / "index.html", found)
    cards.render(out, found)
