"""Questions to git, where it is installed and the project is a repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def ask(root: Path, *arguments: str) -> str | None:
    """What git says, None where it is not installed or fails."""
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout if done.returncode == 0 else None
