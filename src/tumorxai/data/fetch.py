"""Archives from wherever they come: simulated, from a mirror folder, from Kaggle, or a user's own."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import platformdirs

from tumorxai.config import Data, PathSource, Phantom
from tumorxai.data import kaggle, phantom, sources
from tumorxai.data.archives import open_zip, zip_folder
from tumorxai.errors import UserError
from tumorxai.files import atomic

MIRROR = "TUMORXAI_MIRROR"  # folder of OWNER--SLUG.zip files that stands in for Kaggle
CACHE = "TUMORXAI_CACHE"  # folder that keeps downloads between runs and projects


def fetch(settings: Data, out: Path) -> None:
    """Put one archive per source into a folder, all or none.

    Raises:
        UserError: a source is not where it should be, is no zip, or two sources have one name.
    """
    names = [sources.identity(source) for source in settings.sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"data.sources: got {twice} more than once; expected different sources; remove one, or give your own a "
            "`name`"
        )
    with atomic(out) as folder:
        folder.mkdir()
        for source, name in zip(settings.sources, names, strict=True):
            _fetch_one(source, settings.phantom, folder / sources.archive_name(name))
        if out.exists():
            shutil.rmtree(out)


def _fetch_one(source: str | PathSource, settings: Phantom, out: Path) -> None:
    if isinstance(source, PathSource):
        _take_local(source, out)
    elif source == "phantom":
        phantom.write_archive(out, settings)
    else:
        archive = _mirrored(out.name) if os.environ.get(MIRROR) else _downloaded(source, out.name)
        open_zip(archive).close()
        shutil.copyfile(archive, out)


def _take_local(source: PathSource, out: Path) -> None:
    """A user's folder, zipped, or zip, copied."""
    path = Path(source.path).expanduser()
    if path.is_dir():
        zip_folder(path, out)
    elif path.exists():
        open_zip(path).close()
        shutil.copyfile(path, out)
    else:
        raise UserError(
            f"data.sources: got path {source.path!r}, and {path.absolute()} does not exist; expected a folder or a "
            "zip of class folders; correct the path, best as an absolute one, for queued experiments run in another "
            "folder"
        )


def _mirrored(name: str) -> Path:
    """An archive of the mirror folder."""
    folder = Path(os.environ[MIRROR])
    if not folder.is_absolute() or not folder.is_dir():
        raise UserError(
            f"{MIRROR}: got {folder}; expected the absolute path of a folder of OWNER--SLUG.zip files; correct or "
            "unset it"
        )
    archive = folder / name
    if not archive.is_file():
        there = ", ".join(sorted(path.name for path in folder.glob("*.zip"))) or "none"
        raise UserError(
            f"{MIRROR}: got no {name} in {folder}, but {there}; expected one of these; correct data.sources or the "
            "folder"
        )
    return archive


def _downloaded(slug: str, name: str) -> Path:
    """An archive of the shared cache, downloaded when it is not there; runs that want the same one wait for it."""
    folder = Path(os.environ.get(CACHE) or platformdirs.user_cache_path("tumorxai")) / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / name
    with open(folder / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.is_file():
            kaggle.download(slug, archive)
    return archive
