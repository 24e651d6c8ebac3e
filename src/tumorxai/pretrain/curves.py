"""Live curves of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tumorxai.errors import UserError
from tumorxai.pretrain.loggers import Loggers


def _refusals() -> tuple[type[Exception], ...]:
    """What DVCLive raises in a repository without a commit; none where DVC is not installed, as in a bundle."""
    try:
        from scmrepo.exceptions import SCMError
    except ModuleNotFoundError:
        return ()
    return (SCMError,)


class Curves:
    """DVCLive's curves of a run, one point an epoch, live, and what :mod:`tumorxai.pretrain.loggers` adds.

    Args:
        folder: where they go; None (all processes but the first) draws nothing.
        history: the points of the epochs before a resumed run.

    Raises:
        UserError: git holds the folder, but nothing has been committed yet; or of :class:`Loggers`.
    """

    def __init__(self, folder: Path | None, history: Sequence[Mapping[str, float]]) -> None:
        self.live: Any = None
        if folder:
            from dvclive import Live  # a loop that draws nothing, as in a benchmark on a bare GPU, does without

            try:
                self.live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None)
            except _refusals() as error:
                raise UserError(
                    f"got a repository of git that DVCLive cannot ask for its last commit ({error}); expected one, "
                    "which experiments are compared with; run `git add -A . && git commit -m 'A new project'`, "
                    "and again"
                ) from None
        self.others = Loggers() if folder else None
        for signals in history:
            self.add(signals)

    def __enter__(self) -> Curves:
        return self

    def add(self, signals: Mapping[str, float]) -> None:
        """Draw the point of the next epoch."""
        if self.live and self.others:
            self.others.add(signals, self.live.step)
            for name, value in signals.items():
                self.live.log_metric(name, value)
            self.live.next_step()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.live and self.others:
            self.others.close(kind is None)
            self.live.end()
