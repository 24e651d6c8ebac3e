"""Predictions for many images: files, folders, zips and patterns, read by several processes, and resumed.

With a run at hand, each answer says what speaks against believing it; a classifier alone (``*.safetensors`` with its
card) gives its own probabilities, which are not calibrated.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai.archives import folders, packing, scans, text
from tumorxai.archives.archives import MAX_BYTES as MOST
from tumorxai.archives.archives import UnreadableError, is_image, open_zip, read
from tumorxai.archives.images import Fit
from tumorxai.archives.tables import TABLES
from tumorxai.archives.workers import BATCH, mapped, opened
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256, write_csv
from tumorxai.inputs import unfinished
from tumorxai.networks import classifier, engine
from tumorxai.run import decode
from tumorxai.run.case import Prediction, Workspace
from tumorxai.run.lookup import Copy, Lookup

UNUSABLE = (OSError, UnreadableError)  # what reading and decoding an image raise


class File(NamedTuple):
    """An image to ask about.

    Attributes:
        name: as it is shown: its path, safe to print and to open in a spreadsheet, and no other file's.
        path: of the file, or of the zip that holds it.
        inside: its path in the zip; empty for a file.
        refused: why it must not be read; empty for what is.
    """

    name: str
    path: Path
    inside: str = ""
    refused: str = ""


def files(given: Iterable[Path], said: list[str] | None = None) -> list[File]:
    """All images that some paths stand for: files, folders with what lies below, zips, and patterns such as ``*.png``.

    Files that are named are taken whatever they are called; of folders and zips what a run would take or refuse.

    Args:
        given: the paths.
        said: receives what of folders and zips was passed over, a sentence each.

    Raises:
        UserError: a folder, a zip or a pattern without an image; a folder that cannot be read.
    """
    found: dict[tuple[Path, str], File] = {}
    passed: list[str] = []
    for path in given:
        before = len(passed)
        if glob.has_magic(str(path)) and not path.exists():
            matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
            own = [file for match in matches for file in _below(match, passed)]
        else:
            own = _below(path, passed)
        if not own:
            held = "".join(f"; {line}" for line in passed[before:])
            raise UserError(f"got {path}, in which there is no image; expected at least one (JPEG, PNG, TIFF, …){held}")
        for file in own:
            found.setdefault((file.path, file.inside), file)
    if said is not None:
        said += passed
    names = text.paths(file.name for file in found.values())
    return [file._replace(name=name) for name, file in zip(names, found.values(), strict=True)]


def _below(path: Path, passed: list[str]) -> list[File]:
    """What a run would look at of a path; ``passed`` receives what it would not."""
    if path.is_dir():
        survey = folders.look_through(path)
        listed = [(file.name, file.refused) for file in survey.files]
        own = [File(str(path / name), path / name, refused=refused) for name, refused in listed if not _table(name)]
    elif path.is_file() and not is_image(path.name) and zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            items, _, survey = packing.look_into(archive)
        inside = [*((item.name, item.refused) for item in items), *survey.refused]
        own = [File(f"{path}/{name}", path, name, refused) for name, refused in inside if not _table(name)]
        first = {file.inside: file for file in reversed(own)}  # of two of one name the one that counts
        own = [file for file in own if first[file.inside] is file]
    else:
        return [File(str(path), path)]
    passed += [f"{text.clean(str(path))}: {line}" for line in packing.remarks(survey)]
    return own


def _table(name: str) -> bool:
    return name.replace("\\", "/").rsplit("/", 1)[-1].casefold() in TABLES


def contents(file: File) -> bytes:
    """The bytes of an image file, never many more than are refused anyway; of a DICOM or NIfTI file its middle slice.

    Raises:
        OSError: it cannot be read.
        UnreadableError: it is refused, the archive that it lies in does not give it, or a DICOM or NIfTI file has no
            such slice.
    """
    if file.refused:
        raise UnreadableError(file.refused)
    name = file.inside or file.path.name
    if file.inside:
        archive = opened(file.path)
        return scans.picture(read(archive, archive.getinfo(file.inside)), name)
    with file.path.open("rb") as stream:
        data = stream.read(decode.MAX_BYTES + 1)
        if scans.is_scan(data, name):
            data += stream.read(MOST - len(data))
        return scans.picture(data, name)


def unusable(file: File, error: Exception) -> str:
    """What to say of a file that one of UNUSABLE was raised for."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return f"got {file.name}, which cannot be read ({reason}); expected an image"


class Predictor(Protocol):
    """What is asked: a finished run, or a classifier alone."""

    fit: Fit
    lookup: Lookup | None
    fingerprint: str

    def answers(self, pixels: NDArray[np.uint8], copies: Sequence[Copy | None]) -> list[dict[str, Any]]:
        """What is said of each image (n, C, S, S)."""


class Run:
    """A finished run.

    Args:
        root: the project's folder.
        copies: whether copies of the run's images are looked for, which takes longer than all else.
    """

    def __init__(self, root: Path, copies: bool = True) -> None:
        self._workspace = Workspace.open(root)
        self.fit = self._workspace.fit
        self.lookup: Lookup | None = self._workspace.lookup if copies else None
        weights = sha256(root / "models" / "finetuned.safetensors")
        self.fingerprint = f"{weights} {self._workspace.fingerprint} {self._workspace.temperature} {copies}"

    def answers(self, pixels: NDArray[np.uint8], copies: Sequence[Copy | None]) -> list[dict[str, Any]]:
        """What is said of each image (n, C, S, S)."""
        return [described(one) for one in self._workspace.predictions(pixels, copies)]


class Alone:
    """A classifier without its run.

    Args:
        model: ``*.safetensors`` with its card beside it.
        fit: how images become squares: ``data.fit`` of the run that it comes from.

    Raises:
        UserError: there is none, or it is broken.
    """

    lookup: Lookup | None = None

    def __init__(self, model: Path, fit: str) -> None:
        self._network = classifier.load(model).to("cuda" if torch.cuda.is_available() else "cpu")
        card = read_json(model.with_suffix(".json"))
        self.fit = Fit(card["size"], card["channels"], "stretch" if fit == "stretch" else "pad")
        self.fingerprint = f"{sha256(model)} {fit}"

    def answers(self, pixels: NDArray[np.uint8], copies: Sequence[Copy | None]) -> list[dict[str, Any]]:
        """What is said of each image (n, C, S, S)."""
        shares = self._network.probabilities(pixels).tolist()
        named = [dict(zip(self._network.classes, row, strict=True)) for row in shares]
        return [{"predicted": max(row, key=lambda name: row[name]), "uncalibrated_probabilities": row} for row in named]


def described(prediction: Prediction) -> dict[str, Any]:
    """A prediction as plain values."""
    return {"predicted": prediction.predicted, **dataclasses.asdict(prediction), "unlike": prediction.unlike}


@dataclass(frozen=True)
class _Seen:
    """What a process found out about a file."""

    digest: str = ""
    pixels: NDArray[np.uint8] | None = None
    copy: Copy | None = None
    error: str = ""


# What the processes need and what is too large to be sent to each: they are forked after it is set.
_shared: dict[str, Any] = {}


def _look(batch: list[File]) -> list[_Seen]:
    return [_look_at(file) for file in batch]


def _look_at(file: File) -> _Seen:
    try:
        content = contents(file)
        digest = hashlib.sha256(content).hexdigest()
        if digest == _shared["known"].get(file.name):
            return _Seen(digest)
        pixels, small = decode.read(content, _shared["fit"])
        lookup = _shared["lookup"]
        return _Seen(digest, pixels, lookup.find(small) if lookup else None)
    except UNUSABLE as error:
        return _Seen(error=unusable(file, error))


def predict(
    asked: Sequence[File], predictor: Predictor, part: Path | None = None, workers: int | None = None
) -> list[dict[str, Any]]:
    """What is said of each image, in the order asked; one that cannot be read has an ``error`` instead.

    Args:
        asked: the images.
        predictor: what answers.
        part: file that keeps answers as they come, one JSON object a line. What it holds already is not computed
            again, if the same predictor gave it, with the same code, packages and threads, and the image is still the
            same.
        workers: processes; one per core if None.

    Raises:
        UserError: ``part`` cannot be written.
    """
    kept = _kept(part, _made_by(predictor)) if part else {}
    _shared.update(
        fit=predictor.fit, lookup=predictor.lookup, known={name: row["sha256"] for name, row in kept.items()}
    )
    try:
        batches = [list(asked[start : start + BATCH]) for start in range(0, len(asked), BATCH)]
        found: list[dict[str, Any]] = []
        with tqdm(total=len(asked), unit="image", disable=None if len(asked) > 1 else True) as bar:
            for batch, seen in zip(batches, mapped(_look, batches, workers), strict=True):
                new = [one for one in seen if one.pixels is not None]
                stack = np.stack([one.pixels for one in new if one.pixels is not None]) if new else None
                answers = iter(predictor.answers(stack, [one.copy for one in new]) if stack is not None else [])
                rows = []
                for file, one in zip(batch, seen, strict=True):
                    if one.error:
                        rows.append({"image": file.name, "error": one.error})
                    elif one.pixels is None:
                        rows.append(kept[file.name])
                    else:
                        rows.append({"image": file.name, "sha256": one.digest, **next(answers)})
                if part:
                    _keep(part, [row for row in rows if "error" not in row and kept.get(row["image"]) is not row])
                found += rows
                bar.update(len(batch))
    finally:
        _shared.clear()
    return found


def _made_by(predictor: Predictor) -> dict[str, Any]:
    """All that answers hang on beside the images: the predictor, and what it computes with."""
    machine = engine.machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"), "32-true")
    return {"predictor": predictor.fingerprint, "causes": unfinished.causes(__name__, **machine)}


def _kept(part: Path, made: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers of an earlier, interrupted call by image; the file is begun anew, in words, if they were made otherwise.

    Args:
        part: the file.
        made: :func:`_made_by` of the present call.
    """
    try:
        lines = part.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # cut off when the call ended
            break
        if not isinstance(row, dict) or not ({"image", "sha256"} if rows else {"predictor"}) <= row.keys():
            break
        rows.append(row)
    same = bool(rows) and rows[0] == made
    kept = {row["image"]: row for row in rows[1:]} if same else {}
    if rows and not same:
        why = unfinished.differing(rows[0].get("causes", {}), made["causes"])
        if rows[0].get("predictor") != made["predictor"]:
            why = "another run or classifier gave them, or other copies were looked for"
        held = len({row["image"] for row in rows[1:]})
        print(f"{part}: begins anew without the {held} answers that it held, for {why}", file=sys.stderr)
    _keep(part, [dict(made), *kept.values()], "w")
    return kept


def _keep(part: Path, rows: Sequence[dict[str, Any]], mode: str = "a") -> None:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open(mode, encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    except OSError as error:
        raise UserError(f"--out: got {part}, and writing there failed ({error.strerror}); choose another") from None


def write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write answers as a table: one row an image, one column a class.

    Args:
        out: CSV to write.
        rows: of :func:`predict`.
    """
    import pandas as pd

    table = []
    for row in rows:
        shares = row.get("probabilities") or row.get("uncalibrated_probabilities") or {}
        copy = row.get("copy_of") or {}
        plain = {name: row[name] for name in ("distance", "threshold", "percentile", "unlike") if name in row}
        table.append(
            {"image": row["image"], "predicted": row.get("predicted", "")}
            | {f"{'p' if 'probabilities' in row else 'uncalibrated_p'}:{name}": share for name, share in shares.items()}
            | plain
            | ({"copy_of": copy.get("image_id"), "copy_side": copy.get("side")} if "copy_of" in row else {})
            | {"error": row.get("error", "")}
        )
    content = pd.DataFrame(table)
    if "copy_of" in content:
        content["copy_of"] = content["copy_of"].astype("Int64")
    write_csv(out, content[[name for name in content if name != "error"] + ["error"]])
