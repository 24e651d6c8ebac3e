"""The workspace, commits and experiments of a project, and the files that DVC has kept of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from tqdm import tqdm

from tumorxai.errors import UserError
from tumorxai.inputs.identity import digest, file_digest, on_disk
from tumorxai.run.compare.lock import Hash, Lock


class Store:
    """DVC's cache, by content.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self._cache: Any = dvc.api.DVCFileSystem(str(root)).repo.cache.local
        self._listings: dict[str, Mapping[str, str] | None] = {}
        self._on_disk: dict[Path, str] = {}

    def read(self, name: str) -> bytes | None:
        """The content of that digest; None: it is not there, or damaged."""
        try:
            content = Path(self._cache.oid_to_path(name)).read_bytes()
        except OSError:
            return None
        return content if digest(content) == name.removesuffix(".dir") else None

    def listing(self, name: str) -> Mapping[str, str] | None:
        """Digests of the files of a folder by their paths in it; None: its list is not there."""
        if name not in self._listings:
            content = self.read(name) if name.endswith(".dir") else None
            files = None if content is None else {each["relpath"]: each["md5"] for each in json.loads(content)}
            self._listings[name] = files
        return self._listings[name]

    def damaged(self, name: str) -> Path | None:
        """Where the content of that digest should lie, if other bytes do; None: they are right, or not there."""
        path = Path(self._cache.oid_to_path(name))
        return path if path.is_file() and file_digest(path) != name.removesuffix(".dir") else None

    def on_disk(self, path: Path) -> str:
        """Digest of a file or folder of the workspace as it lies there."""
        if path not in self._on_disk:
            self._on_disk[path] = on_disk(path)
        return self._on_disk[path]


@dataclass
class Missing:
    """Why something is left out: names of experiments and commits by the reason that they share."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Note that ``name`` is left out."""
        names = self.reasons.setdefault(reason, [])
        if name not in names:
            names.append(name)

    @property
    def lines(self) -> list[str]:
        """For readers, one for each reason."""
        return [f"{', '.join(names)}: {reason}" for reason, names in self.reasons.items()]


@dataclass(frozen=True)
class Revision:
    """The workspace, a commit or an experiment.

    Attributes:
        name: of the experiment, or the commit's short hash or branch.
        root: the project's folder; None: not the workspace.
        files: what DVC and git keep of it.
        lock: what was run.
        store: DVC's cache.
    """

    name: str
    root: Path | None
    files: Any
    lock: Lock
    store: Store

    def read(self, path: str) -> bytes | None:
        """Content of an output as the lock has it, whatever lies in the workspace; None: it was never written.

        Raises:
            FileNotFoundError: it was written, and not kept.
        """
        own, found = self.lock.hash(path), self.lock.out(path)
        if found is None or (own is not None and not own[1]):
            return None
        if own is not None and (content := self.store.read(own[1])) is not None:
            return content
        try:  # kept by git, in a remote or, by DVC 2, elsewhere in the cache
            with self.files.open(path, "rb") as stream:
                content = bytes(stream.read())
        except Exception:  # DVC, the clients of its remotes and their networks each have their own
            if own is None and self._kept(found[0]) and self._stands(*found):
                return None
            raise FileNotFoundError(path) from None
        if not (self._stands(*found) if own is None else own[0] != "md5" or digest(content) == own[1]):
            raise FileNotFoundError(path)
        return content

    def details(self, name: str) -> dict[str, Any] | None:
        """What ``details/NAME.json`` holds; None: it is not kept, or is no JSON object."""
        try:
            content = json.loads(self.read(f"details/{name}.json") or b"null")
        except (FileNotFoundError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def _kept(self, folder: str) -> bool:
        """Whether a folder lies in the workspace, or is git's."""
        repo = self.files.repo
        return bool(repo.fs.isdir(repo.fs.join(repo.root_dir, folder)))

    def _stands(self, folder: str, own: Hash) -> bool:
        """Whether a folder outside the cache is that of the lock: git's is, the workspace's may have been changed."""
        return self.root is None or self.store.on_disk(self.root / folder) == own[1]


def _text(files: Any, path: str) -> str | None:
    try:
        with files.open(path, "rb") as stream:
            return bytes(stream.read()).decode()
    except (OSError, DvcException, UnicodeDecodeError):
        return None


def collect(root: Path, commits: int) -> tuple[list[Revision], Missing]:
    """The workspace, commits and their experiments, as far as something was run for them.

    Args:
        root: the project's folder.
        commits: how many of the last commits are looked at; negative: all.

    Raises:
        UserError: the folder is no DVC project in a git repository.
    """
    try:
        shown = dvc.api.exp_show(str(root), num=commits)
        store = Store(root)
    except DvcException as error:
        raise UserError(f"compare: got {error}; expected a DVC project with commits; run it in your clone") from None
    found, missing = [], Missing()
    for row in tqdm(shown, desc="experiments", unit="experiment"):
        name, state = str(row["Experiment"] or row["rev"]), row["State"]
        if state not in (None, "Success"):
            missing.add(name, f"the experiment is {str(state).lower()}")
            continue
        own = root if row["rev"] == "workspace" else None
        try:
            files = dvc.api.DVCFileSystem(str(root), rev=None if own else row["rev"])
            text = _text(files, "dvc.lock")
        except DvcException as error:
            missing.add(name, f"cannot be read ({error})")
            continue
        if text is None:
            missing.add(name, "nothing was run, or its dvc.lock is not kept")
            continue
        try:
            lock = Lock.parse(text, _text(files, "dvc.yaml"), store.listing)
        except UserError as error:
            missing.add(name, str(error).partition(";")[0])
            continue
        found.append(Revision(name, own, files, lock, store))
    return found, missing
