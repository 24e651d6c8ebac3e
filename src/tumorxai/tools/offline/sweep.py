"""Many small runs at once on this machine: the runner, side by side, and what it left taken into DVC's cache."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from tumorxai.errors import UserError
from tumorxai.inputs import provenance
from tumorxai.tools.offline import bring_back, plan, runner, side
from tumorxai.tools.offline.records import identity


def sweep(
    root: Path, asked: Sequence[plan.Asked], side_by_side: int, minutes: float | None = None
) -> tuple[runner.Outcome, bring_back.Brought]:
    """Run what is asked for, and take in what has ended.

    Args:
        root: the project's folder, whose files and parameters stay as they are, unless a run has just these.
        asked: the runs; the same ones again go on where they were.
        side_by_side: runs at once; 0: as many as fit into the memory.
        minutes: after which all has stopped; None: no limit.

    Returns:
        How the runs ended, and what was taken in. A stage that DVC's cache knows already is run again.

    Raises:
        UserError: a run is not valid, or a stage at home fails.
    """
    folder = (root / side.FOLDER / "sweep").resolve()
    planned = plan.prepare(root, asked, folder / "files", offline=False)
    names = ",".join(f"{name}:{identity(planned, name)}" for name in planned["runs"])
    own = folder / hashlib.sha256(names.encode()).hexdigest()[:16]
    source = provenance.code_root(root)
    started = runner.Runner(
        planned, root, folder / "files", own / "runs", own / "result", runner.environment(source), side_by_side
    )
    with redirect_stdout(sys.stderr):  # progress; what is printed stays what the command found
        runner.say(f"logs: {own / 'result'}/RUN/log/STAGE.txt")
        outcome = started.run(minutes)
    try:
        brought = bring_back.bring(root, own / "result")
    except UserError:
        if outcome.done:
            raise
        brought = bring_back.Brought()  # no stage has ended
    return outcome, brought


def failed(outcome: runner.Outcome, brought: bring_back.Brought) -> dict[str, str]:
    """Why a run has not come to its end, by name; one that only lacks time is not among them."""
    return {name: f"{stage} failed" for name, stage in outcome.failed.items()} | brought.refused
