"""Live curves of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dvclive import Live


class Curves:
    """DVCLive's curves of a run, one point an epoch, live.

    Args:
        folder: where they go; None (all processes but the first) draws nothing.
        history: the points of the epochs before a resumed run.
    """

    def __init__(self, folder: Path | None, history: Sequence[Mapping[str, float]]) -> None:
        self.live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None) if folder else None
        for signals in history:
            self.add(signals)

    def __enter__(self) -> Curves:
        return self

    def add(self, signals: Mapping[str, float]) -> None:
        """Draw the point of the next epoch."""
        if self.live:
            for name, value in signals.items():
                self.live.log_metric(name, value)
            self.live.next_step()

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.end()
