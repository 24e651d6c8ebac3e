"""Slices of a public data set whose patients are known in part: hashes, numbers and folds, but no image.

Public archives hold each other's images without their patients. Where a fold of whole patients was published, as for
Cheng's 3,064 slices, a copy of a slice, under any name in any archive, belongs to a patient of that fold: whether or
not the data set itself is at hand.

The file is text. Its first lines, ``# key: value``, say what it is, its version, whose slices it tells and where they
come from; a table of comma-separated values follows with one row for each slice: ``number`` in the source's order,
``fold``, ``series`` and the two hashes ``whole`` and ``head`` (see :mod:`tumorxai.patients.frames`), 64 hexadecimal
digits each. ``python -m tumorxai.patients.make_registry ARCHIVE`` writes it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import FOLD
from tumorxai.dedupe import hashing
from tumorxai.errors import UserError
from tumorxai.files import write_text
from tumorxai.patients import frames
from tumorxai.patients.names import SERIES

KIND, VERSION = "registry of slices with known patients", 1
COLUMNS = ["number", "fold", "series", "whole", "head"]
CHENG = Path(__file__).with_name("cheng.registry")
# Of 256 bits, in either frame. Images of Sartaj, Shreyag and Dubail are 10 bits or less from the nearest slice, or 34
# and more; of altered copies of Cheng's, 1 in 3,900 comes out in a wrong fold (benchmarks/patients.py registry).
RADIUS = 30
BLOCK = 2_048  # images compared at once

Ids = NDArray[np.int64]


class Match(NamedTuple):
    """The nearest slice of each of N images: its row in the registry, -1 without a copy, and the distance in bits."""

    row: Ids
    distance: Ids


@dataclass(frozen=True)
class Registry:
    """The slices of one source.

    Attributes:
        source: identity of the source whose slices these are.
        citation: whom to cite.
        table: ``number``, ``fold`` and ``series`` of M slices; the series of a person who was examined again are one,
            and may lie in several folds.
        whole: fine hashes of the whole frames, 0 and 1, shape (M, 256).
        head: the same of the head's boxes.
    """

    source: str
    citation: str
    table: pd.DataFrame
    whole: frames.Bits
    head: frames.Bits

    def patients(self, row: Ids) -> NDArray[np.object_]:
        """Fold that stands in for the patient of each slice, as ``SOURCE:foldN``; of row -1 of the last."""
        return np.array([f"{self.source}{FOLD}{number}" for number in self.table["fold"].iloc[row]], dtype=object)

    def series(self, row: Ids) -> NDArray[np.object_]:
        """Series of each slice, as ``SOURCE:seriesN``; of row -1 of the last."""
        return np.array([f"{self.source}{SERIES}{number}" for number in self.table["series"].iloc[row]], dtype=object)

    def match(self, images: frames.Frames, radius: int = RADIUS) -> Match:
        """The slice that each image is a copy of, in any of eight orientations.

        Args:
            images: of N images.
            radius: largest distance of a copy's hash, bits, in the frame where it is nearer.
        """
        row, distance = np.full(len(images.whole), -1), np.full(len(images.whole), frames.BITS)
        for thumbnails, own in zip(images, (self.whole, self.head), strict=True):
            for start in range(0, len(thumbnails), BLOCK):
                part = slice(start, start + BLOCK)
                low = hashing.frequencies(thumbnails[part], frames.FINE)
                for orientation in range(len(hashing.ORIENTATIONS)):
                    bits = distances(frames.fine_hash(hashing.turn_frequencies(low, orientation)), own)
                    nearest = bits.argmin(axis=1)
                    least = bits[np.arange(len(bits)), nearest]
                    better = least < distance[part]
                    row[part], distance[part] = (
                        np.where(better, nearest, row[part]),
                        np.where(better, least, distance[part]),
                    )
        return Match(np.where(distance <= radius, row, -1), distance)


def distances(left: frames.Bits, right: frames.Bits) -> Ids:
    """Hamming distances of all pairs of hashes of 0 and 1, shape (N, M).

    As a product of matrices, which is exact: whole numbers up to 256 stand in float32 without rounding.
    """
    agree = (2.0 * left.astype(np.float32) - 1) @ (2.0 * right.astype(np.float32) - 1).T
    apart: Ids = ((left.shape[1] - agree) / 2).astype(np.int64)
    return apart


def write(path: Path, registry: Registry) -> None:
    """Write a registry's file."""
    heading = {"kind": KIND, "version": VERSION, "source": registry.source, "citation": registry.citation}
    hashes = {
        name: [row.tobytes().hex() for row in np.packbits(getattr(registry, name), axis=1)] for name in COLUMNS[3:]
    }
    table = registry.table.assign(**hashes)[COLUMNS].to_csv(index=False, lineterminator="\n")
    write_text(path, "".join(f"# {key}: {value}\n" for key, value in heading.items()) + table)


def load(path: Path = CHENG) -> Registry:
    """Read a registry's file.

    Raises:
        UserError: it is no such file, or of another version.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: got {error}; expected a {KIND}; install the package again") from None
    heading: dict[str, Any] = dict(
        line[2:].rstrip("\n").split(": ", 1) for line in lines if line.startswith("# ") and ": " in line
    )
    if heading.get("kind") != KIND or heading.get("version") != str(VERSION):
        raise UserError(
            f"{path}: got {heading.get('kind')!r}, version {heading.get('version')}; expected {KIND!r}, version "
            f"{VERSION}; write it anew: `python -m tumorxai.patients.make_registry ARCHIVE`"
        )
    table = pd.read_csv(io.StringIO("".join(line for line in lines if not line.startswith("#"))), dtype=str)
    if list(table) != COLUMNS or not all(table[name].str.fullmatch(r"[0-9a-f]{64}").all() for name in COLUMNS[3:]):
        raise UserError(
            f"{path}: got a table of {list(table)}; expected {COLUMNS}, hashes of 64 hexadecimal digits; write it "
            "anew: `python -m tumorxai.patients.make_registry ARCHIVE`"
        )
    whole, head = (_bits(table[name]) for name in COLUMNS[3:])
    numbers = table[COLUMNS[:3]].astype(np.int64)
    return Registry(str(heading["source"]), str(heading["citation"]), numbers, whole, head)


def _bits(texts: pd.Series[str]) -> frames.Bits:
    packed = np.frombuffer(bytes.fromhex("".join(texts)), dtype=np.uint8).reshape(len(texts), -1)
    return np.unpackbits(packed, axis=1)
