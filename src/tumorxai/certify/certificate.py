"""A certificate: which images, by their decoded pixels, stood on which side when a split was judged.

It proves that data are the same, not that somebody is honest: whoever writes one can write another. So its digest,
which covers all of its content, is what belongs into a paper.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, ValidationError

from tumorxai.audit import subjects, verdict
from tumorxai.base.dataset import is_fold
from tumorxai.certify import judge
from tumorxai.config import Block, describe
from tumorxai.errors import UserError
from tumorxai.files import write_text

FORMAT = "tumorxai-certificate-1"
AGAINST = "the certificate contradicts itself"
MAX_BYTES = 256 * 2**20  # of a certificate; an image takes about 250
MAX_DEPTH = 8  # of its brackets; it has 4
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=0)]
Identity = Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]  # of a source; it becomes part of a file name


class Image(Block):
    """One image."""

    source: Identity
    file: str
    label: str  # its class folder
    side: Literal["train", "unlabelled", "validation", "test", ""]
    group: Number  # of copies: images of one number are copies of each other
    subject: str  # the patient, or a fold of patients that stands in; empty where unknown
    series: str  # empty where unknown
    known: Literal["known", "likely", "unknown"]  # how well the patient is
    pixels: Sha256  # of mode, size and decoded, upright pixels


class LeftOut(Block):
    """A file that promises an image and was not used."""

    source: Identity
    file: str
    reason: str


class Second(Block):
    """What the second search for copies, by keypoints, adds."""

    missed: Number  # test images with a copy that it alone found
    explained: Number  # how many of these its false accepts may explain


class Certificate(Block):
    """What the file holds; ``sha256`` covers the rest."""

    format: Literal["tumorxai-certificate-1"]
    verdict: Literal[
        "patients apart", "copies apart, patients partly known", "copies apart, patients unknown", "leaking"
    ]
    crossings: dict[str, dict[str, Number]]
    second: Second
    split: Literal["folders", "table", "pipeline"]
    detector: dict[str, Any]
    versions: dict[str, str]
    images: Annotated[list[Image], Field(min_length=1)]
    left_out: list[LeftOut]
    sha256: Sha256

    @property
    def sources(self) -> list[str]:
        """Identities of the sources, in order."""
        return list(dict.fromkeys([*(one.source for one in self.images), *(one.source for one in self.left_out)]))


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a certificate's content without its own ``sha256``, in one spelling: keys sorted, no spaces, ASCII."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def make(
    table: pd.DataFrame,
    left_out: pd.DataFrame,
    summary: Mapping[str, Any],
    split: Literal["folders", "table", "pipeline"],
) -> dict[str, Any]:
    """A certificate's content.

    Args:
        table: N images with ``source``, ``path``, ``native_label``, ``side``, ``group``, ``patient``,
            ``pixels_sha256``, and ``subject``, ``series`` and ``known`` where somebody looked.
        left_out: ``source``, ``path`` and ``reason``.
        summary: with ``verdict``, ``crossings``, ``second``, ``detector`` and ``versions``.
        split: where the sides came from.
    """
    columns = {"path": "file", "native_label": "label", "pixels_sha256": "pixels"}
    told = table.drop(columns="label").rename(columns=columns).assign(**subjects.findings(table))
    images = told[list(Image.model_fields)]
    lost = left_out.rename(columns={"path": "file"})[list(LeftOut.model_fields)]
    content = {
        "format": FORMAT,
        **{key: summary[key] for key in ("verdict", "crossings", "detector", "versions")},
        "second": {key: summary["second"][key] for key in Second.model_fields},
        "split": split,
        "images": images.to_dict(orient="records"),
        "left_out": lost.to_dict(orient="records"),
    }
    return content | {"sha256": digest(content)}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a certificate, one line for each image."""
    lines = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def load(path: Path) -> tuple[Certificate, str]:
    """Read a certificate, and the digest of what it says, which should be its ``sha256``.

    Raises:
        UserError: it is missing, too large, too deep, or no certificate.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"got no certificate {path} ({error.strerror}); expected a file; correct the path") from None
    wanted = "expected a certificate as `tumorxai audit` writes one; get the file again"
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: got more than {MAX_BYTES} bytes; {wanted}")
    if (deep := _depth(data)) > MAX_DEPTH:
        raise UserError(f"{path}: got brackets {deep} deep; {wanted}")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: got {error}; {wanted}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: got a {type(content).__name__}; {wanted}")
    try:
        return Certificate.model_validate(content, strict=True), digest(content)
    except ValidationError as error:
        raise UserError("\n".join(describe(error, str(path)).splitlines()[:21])) from None


def _depth(data: bytes) -> int:
    """Deepest nesting of brackets outside texts; every byte is looked at once."""
    depth = deepest = 0
    for token in TOKEN.finditer(data):
        if token[0] in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in (b"]", b"}"):
            depth -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key twice among {[key for key, _ in pairs][:8]}")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name}, which is no number")


def contradictions(own: Certificate) -> Iterator[str]:
    """What a certificate says against itself: its verdict against its own groups, pixels, patients and sides."""
    table = pd.DataFrame([one.model_dump() for one in own.images]).rename(columns={"pixels": "pixels_sha256"})
    table["patient"] = table["subject"].mask(is_fold(table["subject"]), "")
    groups = table.groupby("pixels_sha256")["group"]
    apart = groups.transform("min") != groups.transform("max")
    if (apart & table["group"].duplicated(keep=False)).any():  # blank images have no group: each is alone in its own
        yield f"{AGAINST}: images of the same pixels are in several groups"
    none = pd.DataFrame({"image_a": [], "image_b": []}, dtype="int64")  # of pairs: the groups tell enough
    crossed = judge.crossings(table, none)
    for name in sorted(set(crossed) | set(own.crossings)):
        for key in ("images", "copies", "exact_copies", "shared_groups", "shared_patients"):
            said, found = own.crossings.get(name, {}).get(key), crossed.get(name, {}).get(key)
            if said != found:
                yield f"{AGAINST}: {name}.{key} says {said}, its own images give {found}"
    level = verdict.judge(judge.evidence(table, none, own.second.missed, own.second.explained))["level"]
    if own.verdict != level:
        yield f"{AGAINST}: its verdict is {own.verdict!r}, its own images give {level!r}"
