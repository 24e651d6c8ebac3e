"""Tests, in folders as the packages. Processes that they start find bytecode.

Without any, each of them would compile torch anew, which takes longer than what it is started for: installers may leave
bytecode out, and PYTHONDONTWRITEBYTECODE keeps Python from making it.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

_torch = importlib.util.find_spec("torch")
if _torch is not None and _torch.origin and not Path(importlib.util.cache_from_source(_torch.origin)).exists():
    _bytecode = Path(__file__).resolve().parents[1] / ".pytest_cache/bytecode"
    shutil.rmtree(_bytecode / tempfile.gettempdir().lstrip("/"), ignore_errors=True)  # of folders that are no more
    os.environ["PYTHONPYCACHEPREFIX"] = str(_bytecode)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
