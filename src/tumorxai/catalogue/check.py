"""What a run would make of somebody's folder or zip, found without running anything."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tumorxai.archives.images import Fit, Task, pack
from tumorxai.archives.packing import zip_folder, zip_zip
from tumorxai.archives.sources import archive_name, identity
from tumorxai.catalogue import shown
from tumorxai.catalogue.listing import Listing, list_archive
from tumorxai.config import PathSource
from tumorxai.errors import UserError
from tumorxai.files import atomic

SHEET, SIDE, ACROSS = 32, 96, 8  # images of a class that are drawn, their side in pixels, and how many in a row


@contextmanager
def listed(data: Path) -> Iterator[Listing]:
    """The files of a folder or zip, sorted as a run would sort them; the archive lasts as long as the context.

    Raises:
        UserError: there is no such folder or zip, or a run would not take it.
    """
    if not data.exists():
        raise UserError(f"got no {data}; expected a folder or a zip of class folders; correct the path")
    name = identity(PathSource(path=str(data)))
    with tempfile.TemporaryDirectory(prefix="tumorxai-") as folder:
        archive = Path(folder) / archive_name(name)
        if data.is_dir():
            zip_folder(data, archive)
        else:
            zip_zip(data, archive)
        yield list_archive(archive, name, None, str(data))


def check(data: Path, taxonomy: str, out: Path | None) -> dict[str, Any]:
    """Sort the files of a folder or zip, and draw some images of each class.

    Args:
        data: the folder or zip.
        taxonomy: as ``data.taxonomy``.
        out: folder to write ``CLASS.png`` to, one for each class; None draws nothing.

    Returns:
        ``source``, ``layout`` (see :func:`tumorxai.catalogue.shown.described`), ``run_ends`` (why a run would refuse
        the whole; empty if it would not), ``refused`` (files that cannot be used, with the reason), ``pictures`` by
        class, and ``unseen``, a sentence for each class of whose drawn images some cannot be used. Images are decoded
        only to be drawn.

    Raises:
        UserError: see :func:`listed`.
    """
    with listed(data) as listing:
        layout = shown.described(listing, taxonomy)
        refused = [{"path": path, "reason": reason} for path, _, reason in listing.refused]
        taken = {one.native_label for one in listing.candidates} | {""}
        lost = {label: reason for _, label, reason in reversed(listing.refused) if label not in taken}
        pictures: dict[str, str] = {}
        unseen: list[str] = []
        if out is not None:
            for number, name in enumerate(sorted(layout["classes"])):
                tasks = [one.task for one in listing.candidates if one.native_label == name]
                path = out / f"{number:02d}_{_file_name(name)}.png"
                if bad := draw(tasks, path):
                    unseen.append(f"{len(bad)} of the images of {name} that are drawn cannot be used: {bad[0]}")
                pictures[name] = str(path)
    labels = {label for entry in layout["classes"].values() for label in entry["labels"]}
    return {
        "source": listing.name,
        "layout": layout,
        "run_ends": shown.none_readable(listing.name, lost, next(iter(lost.values())))
        if lost
        else shown.too_few(labels, [layout], taxonomy, least=2),
        "refused": refused,
        "pictures": pictures,
        "unseen": unseen,
    }


def draw(tasks: list[Task], path: Path) -> list[str]:
    """Draw a contact sheet of some images, evenly spread over the files.

    Returns:
        Why some of them cannot be used; these stay black.
    """
    chosen = [tasks[i] for i in np.unique(np.linspace(0, len(tasks) - 1, SHEET).astype(int))]
    rows = -(-len(chosen) // ACROSS)
    sheet = np.zeros((rows * SIDE, ACROSS * SIDE, 3), dtype=np.uint8)
    bad = list[str]()
    for number, task in enumerate(chosen):
        packed = pack(task, Fit(SIDE, 3, "pad"))
        if isinstance(packed, str):
            bad.append(packed)
        else:
            top, left = number // ACROSS * SIDE, number % ACROSS * SIDE
            sheet[top : top + SIDE, left : left + SIDE] = packed.pixels.transpose(1, 2, 0)
    with atomic(path) as temporary:
        Image.fromarray(sheet).save(temporary)
    return bad


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)[:60] or "class"


def lines(found: dict[str, Any], taxonomy: str) -> list[str]:
    """The answer in words, a line each."""
    told = shown.lines(found["source"], found["layout"], taxonomy)
    told += [f"  cannot be used: {one['path']}: {one['reason']}" for one in found["refused"][: shown.SHOWN]]
    if (more := len(found["refused"]) - shown.SHOWN) > 0:
        told.append(f"  and {more} more that cannot be used")
    if found["run_ends"]:
        told.append(f"  note: a run of this source alone would end: {found['run_ends']}")
    told += [f"  note: {line}" for line in found["unseen"]]
    told.append("  note: images are decoded only to be drawn (--out): a run also leaves out damaged and blank ones")
    return [*told, *(f"  pictures of {name}: {path}" for name, path in found["pictures"].items())]
