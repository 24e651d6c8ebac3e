"""Published weights in a file of the user's own, which a method starts from: an input as the sources are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumorxai.files import sha256


def fingerprint(settings: Mapping[str, Any]) -> dict[str, str | None]:
    """SHA-256 of the file that a method's block names as its ``weights``; None where it names none that is here."""
    given = settings.get("weights")
    file = Path(str(given)).expanduser() if given else None
    return {"sha256": sha256(file) if file is not None and file.is_file() else None}
