"""A method's own settings, looked at before any stage runs: its file, which knows them, imports PyTorch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tumorxai import config
from tumorxai.files import write_text
from tumorxai.inputs import unfinished

SEEN = Path(".tumorxai/settings")  # fingerprint of what was found right last: PyTorch takes seconds to load


def check(params: config.Params, root: Path) -> None:
    """Refuse what the method would refuse when it is built, hours later.

    Args:
        params: the whole experiment.
        root: the project's folder. What is found right is noted there, and looked at again only when it has changed.

    Raises:
        UserError: the block ``methods.NAME`` of the active method holds an unknown key or a value that is not allowed,
            or there is no such optimiser.
    """
    seen = root / SEEN
    causes = unfinished.causes(__name__, params.method, settings=params.methods[params.method])
    now = unfinished.fingerprint(causes)
    if seen.is_file() and seen.read_bytes() == f"{now}\n".encode():
        return

    from torch import nn

    from tumorxai import methods
    from tumorxai.networks import schedules

    settings = methods.settings(params.method, params.methods[params.method])
    optimizer = getattr(settings, "optimizer", None)
    if optimizer is not None:
        schedules.optimizer(nn.Linear(1, 1), optimizer, params.pretrain.batch_size)
    with suppress(OSError):  # of a run that may only be read all is looked at every time
        write_text(seen, f"{now}\n")
