"""Are the bytes those that were recorded? DVC compares times and sizes, and restores from its cache what lies there.

Every output that ``dvc.lock`` records is read and hashed, in the workspace and in DVC's cache: one flipped bit shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tumorxai.errors import UserError
from tumorxai.run.compare.lock import Lock
from tumorxai.run.compare.revisions import Store


class Wrong(NamedTuple):
    """A file that is not what was recorded.

    Attributes:
        path: of the file, relative to the project's folder where it lies in it.
        found: what is there instead.
        advice: what to do.
    """

    path: str
    found: str
    advice: str


def recorded(root: Path) -> dict[str, str]:
    """Digests of the outputs of all stages, as DVC names them, by path.

    Raises:
        UserError: there is no ``dvc.lock``, or it is none.
    """
    try:
        text, pipeline = (
            (root / name).read_text(encoding="utf-8", errors="replace") for name in ("dvc.lock", "dvc.yaml")
        )
    except FileNotFoundError as error:
        raise UserError(
            f"got no {error.filename}; expected a pipeline that has run; run from the project's folder"
        ) from None
    stages = Lock.parse(text, pipeline, lambda _: None).stages.values()
    return {path: name for stage in stages for path, (_, name) in stage.outs.items() if name}


def verify(root: Path) -> list[Wrong]:
    """Hash what ``dvc.lock`` records.

    Args:
        root: the project's folder.

    Returns:
        What is wrong; a file that is only missing from the cache is not, since a remote may have it.

    Raises:
        UserError: there is nothing recorded.
    """
    outs = recorded(root)
    store, wrong = Store(root), list[Wrong]()
    for path, name in tqdm(outs.items(), "checking", unit="output", disable=None):
        for own in (name, *(store.listing(name) or {}).values()):
            if (damaged := store.damaged(own)) is not None:
                advice = f"remove it, then `dvc pull` or `dvc repro --force` makes {path} again"
                wrong.append(Wrong(str(damaged), "other bytes than its name says", advice))
        if not (root / path).exists():
            wrong.append(Wrong(path, "nothing", "`dvc checkout` or `dvc repro` brings it back"))
        elif store.on_disk(root / path) != name:
            advice = f"remove it, then `dvc checkout {path}`; or run `dvc repro` if it was changed on purpose"
            wrong.append(Wrong(path, "other bytes than dvc.lock records", advice))
    return wrong
