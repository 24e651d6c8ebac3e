"""Hold data against a certificate: decode every image again and name what differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tumorxai.archives.archives import open_zip
from tumorxai.archives.images import Fit, pack
from tumorxai.archives.sources import archive_name
from tumorxai.archives.workers import mapped
from tumorxai.catalogue.listing import NO_CLASS, list_archive
from tumorxai.certify import certificate, sides
from tumorxai.certify.certificate import Image
from tumorxai.certify.gather import block, opened, passed_over
from tumorxai.errors import UserError

SMALL = Fit(16, 1, "stretch")  # nothing but the checksum is used

Key = tuple[str, str]  # identity of the source, and file


class Seen(NamedTuple):
    """An image as it is now."""

    label: str
    pixels: str


class Verified(NamedTuple):
    """The outcome.

    Attributes:
        differences: one sentence each; none where everything is as certified.
        images: that the certificate names.
        sides_checked: false where the sides came from a table that was not given.
    """

    differences: list[str]
    images: int
    sides_checked: bool


def verify(
    path: Path,
    data: Path,
    split: Path | None = None,
    columns: tuple[str, str] | None = None,
    expected: str | None = None,
    workers: int | None = None,
) -> Verified:
    """Decode the data again and compare.

    Args:
        path: the certificate.
        data: the folder or zip; of several sources the folder of their archives.
        split: table of the sides, where the certificate's came from one.
        columns: names of the table's columns of files and sides, where they differ.
        expected: digest that the certificate must have, as it was published.
        workers: processes; one per core if None.

    Raises:
        UserError: a file cannot be used at all.
    """
    own, found = certificate.load(path)
    differences = []
    if found != own.sha256:
        differences.append(f"the certificate was edited: its content gives sha256 {found}, it says {own.sha256}")
    if expected and expected.strip().casefold() != found:
        differences.append(f"another certificate: its content gives sha256 {found}, expected was {expected}")
    differences += certificate.contradictions(own)
    with opened(_places(own.sources, data)) as (folder, names):
        archives = {source: folder / archive_name(name) for source, name in zip(own.sources, names, strict=True)}
        now, unreadable, outside = _look(archives, workers)
    images = {(one.source, one.file): one for one in own.images}
    if len(images) < len(own.images):
        differences.append("the certificate contradicts itself: it names a file twice")
    differences += _compare(images, {(one.source, one.file) for one in own.left_out}, now, unreadable, outside)
    checked = own.split == "folders" or split is not None
    if checked:
        differences += _sides(images, now, split, columns)
    return Verified(differences, len(own.images), checked)


def _places(sources: Sequence[str], data: Path) -> list[Path]:
    """Where each source is: in a folder of archives, or, of one source, the folder or zip itself."""
    inside = [data / archive_name(source) for source in sources]
    if all(path.is_file() for path in inside):
        return inside
    if len(sources) == 1:
        return [data]
    lost = [path.name for path in inside if not path.is_file()]
    raise UserError(
        f"{data}: got no {lost[: sides.FIRST]}; expected a folder of the archives of {len(sources)} sources; correct it"
    )


def _look(archives: dict[str, Path], workers: int | None) -> tuple[dict[Key, Seen], dict[Key, str], set[Key]]:
    """Every image as it is now, what cannot be read with the reason, and what lies outside the class folders."""
    now: dict[Key, Seen] = {}
    unreadable: dict[Key, str] = {}
    outside: set[Key] = set()
    for source, archive in archives.items():
        open_zip(archive).close()
        listed = list_archive(archive, source, block(source))
        tasks = [candidate.task for candidate in listed.candidates]
        packed_all = mapped(partial(pack, fit=SMALL), tasks, workers, chunk=32)
        bar = tqdm(packed_all, total=len(tasks), desc="decoding", unit="image")
        for candidate, packed in zip(listed.candidates, bar, strict=True):
            if isinstance(packed, str):
                unreadable[source, candidate.path] = packed
            else:
                label = packed.native_label or candidate.native_label
                now[source, candidate.path] = Seen(label, packed.pixels_sha256)
        unreadable |= {(source, file): reason for file, _, reason in listed.refused}
        outside |= {(source, file) for file, _ in passed_over(archive, source)}
    return now, unreadable, outside


def _compare(
    images: dict[Key, Image], left_out: set[Key], now: dict[Key, Seen], unreadable: dict[Key, str], outside: set[Key]
) -> Iterator[str]:
    """What differs between the certified images and those of now, in the order of the files."""
    added, lost = sorted(set(now) - set(images)), sorted(set(images) - set(now))
    fresh: dict[str, list[Key]] = defaultdict(list)
    for key in added:
        fresh[now[key].pixels].append(key)
    for key in lost:
        if key in unreadable:
            yield f"{key[1]}: cannot be read: {unreadable[key]}"
        elif fresh[images[key].pixels]:
            there = fresh[images[key].pixels].pop(0)
            added.remove(there)
            yield f"{key[1]}: moved to {there[1]} (it was on the side {images[key].side or 'none'})"
        else:
            yield f"{key[1]}: missing"
    for key in added:
        yield f"{key[1]}: added" + (" (it could not be used when it was certified)" if key in left_out else "")
    for key in sorted((set(unreadable) | outside) - set(images) - left_out):
        yield f"{key[1]}: added: {unreadable.get(key, NO_CLASS)}"
    for key in sorted(left_out - set(now) - set(unreadable) - outside):
        yield f"{key[1]}: missing (it could not be used when it was certified)"
    for key in sorted(set(images) & set(now)):
        one, seen = images[key], now[key]
        if one.pixels != seen.pixels:
            yield f"{key[1]}: other pixels: sha256 {seen.pixels[:12]}…, certified {one.pixels[:12]}…"
        if one.label != seen.label:
            yield f"{key[1]}: of class {seen.label!r}, certified {one.label!r}"


def _sides(
    images: dict[Key, Image], now: dict[Key, Seen], split: Path | None, columns: tuple[str, str] | None
) -> Iterator[str]:
    """Where the sides differ from the certified ones; files that are gone are named elsewhere."""
    keys = sorted(set(images) & set(now))
    if not keys:
        return
    paths = [file for _, file in keys]
    given = sides.by_table(paths, split, columns) if split else sides.by_folders(paths)
    for key in keys:
        if (side := given.side[key[1]]) != images[key].side:
            yield f"{key[1]}: on the side {side or 'none'}, certified {images[key].side or 'none'}"
