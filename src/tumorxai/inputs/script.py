"""How a stage's script begins and ends.

A script imports this first: PyTorch and timm are imported in a quarter less time when Python does not look a thousand
times whether any of the million objects made is garbage.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import tumorxai
from tumorxai import errors
from tumorxai.errors import UserError
from tumorxai.inputs.stage import by_hand, guarded, reminding

gc.set_threshold(100_000, 20, 20)


def _own_code() -> None:
    """Start anew with the project's own code, where another copy of it is installed, as for ``dvc exp run --temp``.

    An experiment in a copy of the project would otherwise run what was edited in the original since.
    """
    own, used = Path("src").resolve(), Path(tumorxai.__file__).resolve().parents[1]
    if own == used or not (own / "tumorxai").is_dir():
        return
    paths = [str(own), *filter(None, [os.environ.get("PYTHONPATH")])]
    if os.environ.get("PYTHONPATH", "").split(os.pathsep)[0] == str(own):
        raise UserError(f"got the code of {used}; expected that of {own}; run `make setup` in the project's folder")
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this very script, by this very Python


def _end(status: int) -> NoReturn:
    """Exit as Python does, but for freeing every object, which after PyTorch takes longer than a second."""
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run(main: Callable[[], None]) -> NoReturn:
    """Run the stage whose script this process is, and exit: see :func:`tumorxai.errors.run`.

    By hand, outside of DVC, nothing is recorded, and so only what it reads is looked at.
    """

    def stage() -> None:
        _own_code()
        name = Path(sys.argv[0]).stem
        if "DVC_STAGE" in os.environ:
            reminding(lambda: guarded(main, name), name)
        else:
            reminding(lambda: by_hand(main, name), name)

    try:
        errors.run(stage)
    except SystemExit as end:
        _end(int(end.code or 0))
