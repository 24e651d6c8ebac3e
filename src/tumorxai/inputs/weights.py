"""Published weights in files of the user's own, which a run starts from: inputs as the sources are."""

from __future__ import annotations

from pathlib import Path

from tumorxai import config
from tumorxai.files import sha256


def fingerprint(params: config.Params) -> dict[str, str | None]:
    """SHA-256 of the files that the method's block, as ``weights``, and ``pretrain.init`` name; None where none is."""
    given = {"sha256": params.methods[params.method].get("weights"), "init": params.pretrain.init}
    return {name: _of_file(own) for name, own in given.items()}


def _of_file(given: object) -> str | None:
    file = Path(str(given)).expanduser() if given else None
    return sha256(file) if file is not None and file.is_file() else None
