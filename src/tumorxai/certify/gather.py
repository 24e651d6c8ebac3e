"""Images of a folder or zip that is not part of the project: catalogued and searched for copies, as a run would."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.archives import sources
from tumorxai.archives.archives import open_zip
from tumorxai.archives.packing import zip_folder, zip_zip
from tumorxai.archives.sources import Source, archive_name, identity
from tumorxai.base.dataset import Dataset, read_pairs, read_table
from tumorxai.catalogue import catalogue, listing
from tumorxai.config import Data, Dedupe, PathSource
from tumorxai.dedupe import groups
from tumorxai.errors import UserError
from tumorxai.files import read_array, read_csv, write_csv
from tumorxai.patients import patients

SIZE = 96  # side of the packed square, pixels; keypoints are looked for on it


class Gathered(NamedTuple):
    """What is known of N images.

    Attributes:
        table: the catalogue's rows with ``group``, the smallest image of each one's copies, and ``subject`` (the
            patient, or the fold that stands in), ``series`` and ``known`` as the stage ``patients`` finds them.
        images: packed, uint8 (N, 1, SIZE, SIZE).
        pairs: of copies: ``image_a``, ``image_b``, ``kind``, ``orientation`` and ``correlation``.
        left_out: ``source``, ``path`` and ``reason`` of every file that promises an image and is none of the N.
        archives: folder of the archives.
    """

    table: pd.DataFrame
    images: NDArray[np.uint8]
    pairs: pd.DataFrame
    left_out: pd.DataFrame
    archives: Path

    def dataset(self, side: Sequence[str]) -> Dataset:
        """The images on the sides of a split; an empty side is none."""
        table = self.table.assign(side=list(side))
        return Dataset(self.images, table, tuple(sorted(set(table["label"][table["side"] != ""]))))


def named(path: Path) -> str | PathSource:
    """A known source by the file name of its archive, such as OWNER--SLUG.zip; any other by its path."""
    known = next((name for name in sources.load() if archive_name(name) == path.name), None)
    return known or PathSource(path=str(path))


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Archives of folders and zips, in a folder for as long as the context lasts, and their identities.

    Raises:
        UserError: there is nothing, no zip, or two have one name.
    """
    wanted = [named(path.expanduser().absolute()) for path in paths]
    names = [identity(source) for source in wanted]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"got {twice} more than once; expected different names; rename a folder or zip")
    with tempfile.TemporaryDirectory(prefix="tumorxai-") as folder:
        for path, name, source in zip(paths, names, wanted, strict=True):
            path, archive = path.expanduser().absolute(), Path(folder) / archive_name(name)
            if path.is_dir():
                zip_folder(path, archive)
            elif path.exists() and isinstance(source, PathSource):
                zip_zip(path, archive)  # by the rules of folders
            elif path.exists():
                open_zip(path).close()
                archive.symlink_to(path)
            else:
                raise UserError(f"got no {path}; expected a folder or a zip of class folders; correct the path")
        yield Path(folder), names


def listed(archives: Path, names: Sequence[str]) -> list[str]:
    """Paths of what should be images, before any is read.

    Raises:
        UserError: an archive holds no class folder.
    """
    return [
        candidate.path
        for name in names
        for candidate in listing.list_archive(archives / archive_name(name), name, block(name)).candidates
    ]


@contextmanager
def gather(
    archives: Path,
    names: Sequence[str],
    dedupe: Dedupe,
    patient: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> Iterator[Gathered]:
    """Read images and find the copies among them.

    Args:
        archives: see :func:`opened`.
        names: identities of the sources.
        dedupe: what counts as a copy.
        patient: of images by their paths, where somebody states them; before what the sources say.
        workers: processes; one per core if None.

    Raises:
        UserError: a source holds no readable image of a class.
    """
    with tempfile.TemporaryDirectory(prefix="tumorxai-") as folder:
        root = Path(folder)
        known = [name if not name.startswith("local/") else _local(name) for name in names]
        settings = Data(sources=known, taxonomy="native", image_size=SIZE)
        catalogue.build(archives, settings, root, root / "catalogue.json", root, workers)
        if patient:
            _state(root / "catalogue.csv", patient)
        groups.run(dedupe, root, archives, root / "dedupe.json", root, workers)
        patients.run(root, archives, root / "patients.json", workers)
        table, copies, told = (read_table(root / f"{name}.csv") for name in ("catalogue", "groups", "patients"))
        left_out = read_csv(root / "quarantine.csv", dtype=str, keep_default_na=False)
        passed = [(name, *own) for name in names for own in passed_over(archives / archive_name(name), name)]
        outside = pd.DataFrame(passed, columns=["source", "path", "reason"])
        yield Gathered(
            table.assign(group=copies["group"], subject=told["patient"], series=told["series"], known=told["known"]),
            read_array(root / "pack.npy"),
            read_pairs(root / "pairs.csv", len(table)),
            pd.concat([left_out, outside], ignore_index=True),
            archives,
        )


def _state(path: Path, patient: Mapping[str, str]) -> None:
    """Write stated patients into the catalogue; as there, no two sources' are alike."""
    table = read_table(path)
    rows = zip(table["source"], table["path"], table["patient"], strict=True)
    told = [f"{source}:{patient[file]}" if file in patient else own for source, file, own in rows]
    write_csv(path, table.assign(patient=told).reset_index())


def _local(name: str) -> PathSource:
    own = name.removeprefix("local/")
    return PathSource(path=own, name=own)


def block(name: str) -> Source | None:
    """What is known of a source; None without a block."""
    return sources.load().get(name)


def passed_over(archive: Path, name: str) -> list[tuple[str, str]]:
    """Files of an archive that promise an image and are none of the data set, each with the reason."""
    left_out = listing.list_archive(archive, name, block(name)).left_out
    return sorted((path, listing.NO_CLASS if reason == listing.OUTSIDE else reason) for path, reason in left_out)
