"""What is known about each data source, and what its class folders mean in a common vocabulary."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from tumorxai.archives.words import Group, Sequence, Side, squash
from tumorxai.config import Block, Count, Data, PathSource, describe
from tumorxai.errors import UserError

FOUR = {"glioma": "glioma", "meningioma": "meningioma", "pituitary": "pituitary", "normal": "no_tumor"}
SIX = (
    "glioma",
    "meningioma",
    "neurocytoma",
    "other",
    "schwannoma",
    "normal",
)  # TumorXAI's 17 classes without the sequence
WORDS = {"title", "page", "licence", "note"}  # keys of a block that are only ever shown


class Class(Block):
    """One class folder."""

    count: Count | None = None  # images that the publisher states
    group: Group = ""  # tumour group; empty where the source is not about brain tumours
    histology: str = ""
    sequence: Sequence = ""  # MRI sequence, where the folder tells it


class Source(Block):
    """One block of ``sources.yaml``."""

    title: str
    page: str = ""  # empty: the data set's page on Kaggle
    licence: str = ""  # empty: stated on the page, if anywhere
    images: Count | None = None  # in all, that the publisher states
    note: str = ""  # what a user must know about its labels or copies
    # The folders that hold the class folders, and their official side; an empty name is the archive itself.
    folders: dict[str, Side] = Field({"": ""}, min_length=1)
    classes: Annotated[dict[str, Class], Field(min_length=1)]
    # A CSV with a column `file` and any of patient, fold, sequence, mask, x_center, y_center, width and height.
    annotations: str = ""
    patient: str = ""  # regular expression for the file name whose first group is the patient's id
    order: str = ""  # the same for the slice's number, where neighbouring slices of a patient have neighbouring numbers

    @field_validator("patient", "order")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"got the regular expression {pattern!r} ({error}); expected a valid one") from None
        if pattern and groups != 1:
            raise ValueError(
                f"got {groups} groups in {pattern!r}; expected one, the patient's id or the slice's number"
            )
        return pattern

    @model_validator(mode="after")
    def _folders_differ(self) -> Source:
        names = [squash(name) for name in self.classes]
        if len(set(names)) < len(names):
            raise ValueError(
                f"got class folders {sorted(self.classes)}; expected names that differ in more than case and "
                "punctuation"
            )
        return self

    def place(self, path: str) -> tuple[str, Side] | None:
        """Class folder and official side of an archive's file, or None when it lies outside the declared folders.

        The class is empty where the file lies under a declared folder, but in none of its class folders.
        """
        parents = PurePosixPath(path.replace("\\", "/")).parts[:-1]
        known = {squash(name): name for name in self.classes}
        for depth in range(len(parents) - 1, -1, -1):
            side = self._side(parents[:depth])
            if side is not None and squash(parents[depth]) in known:
                return known[squash(parents[depth])], side
        inside = any(self._side(parents[:depth]) is not None for depth in range(len(parents) + 1))
        return ("", "") if inside else None

    def _side(self, parents: tuple[str, ...]) -> Side | None:
        """Official side of the declared folder that ``parents`` ends with; an archive may wrap everything once more."""
        for folder in sorted(self.folders, key=len, reverse=True):
            parts = PurePosixPath(folder).parts
            if not parts or parents[-len(parts) :] == parts:
                return self.folders[folder]
        return None


CHENG = {name: Class(group=name, sequence="T1C+") for name in ("glioma", "meningioma", "pituitary")}


def load(path: Path | None = None) -> dict[str, Source]:
    """The known sources by identity; ``path`` defaults to the package's ``sources.yaml``.

    Raises:
        UserError: a block is not valid.
    """
    place = path or resources.files("tumorxai.archives") / "sources.yaml"
    try:
        content: Any = yaml.safe_load(place.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{place} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{place}: got {type(content).__name__}; expected one block per source")
    known = {}
    for name, block in content.items():
        try:
            known[name] = Source.model_validate(block)
        except ValidationError as error:
            raise UserError(describe(error, f"{place}, source {name}")) from None
    return known


def layouts(settings: Data) -> dict[str, Any]:
    """What is known of the sources in use, as far as the catalogue acts on it.

    A new note, title, page or licence leaves it as it is, and so does a block of another source.

    Returns:
        By identity, plain JSON; None for a source without a block.
    """
    known = load()
    return {
        name: known[name].model_dump(mode="json", exclude=WORDS) if name in known else None
        for name in map(identity, settings.sources)
    }


def identity(source: str | PathSource) -> str:
    """``phantom``, ``OWNER/SLUG`` or ``local/NAME``."""
    if isinstance(source, str):
        return source
    path = Path(source.path).expanduser().resolve()
    return "local/" + (
        source.name or re.sub(r"[^\w.-]+", "_", path.stem if path.suffix.lower() == ".zip" else path.name)
    )


def archive_name(name: str) -> str:
    """File name of a source's archive."""
    return ("tumorxai--phantom" if name == "phantom" else name.replace("/", "--")) + ".zip"


def order(source: Source, path: str) -> int:
    """Number of an image in its source's order of slices; -1 where the source has none, or the file no number."""
    match = re.search(source.order, PurePosixPath(path).name) if source.order else None
    return int(match.group(1)) if match and match.group(1).isdecimal() else -1


def label(taxonomy: str, native: str, group: str, sequence: str) -> str:
    """Name of a class in a taxonomy, or the empty string where it has no place there.

    ``four_class``: glioma, meningioma, pituitary, no_tumor. ``six_group``: TumorXAI's five tumour groups and normal; a
    pituitary tumour is none of them, nor its "other". ``seventeen``: group and sequence, without a normal T1C+.
    """
    if taxonomy == "native":
        return native
    if taxonomy == "four_class":
        return FOUR.get(group, "")
    if group not in SIX:
        return ""
    if taxonomy == "six_group":
        return group
    return f"{group} {sequence}" if sequence in ("T1", "T1C+", "T2") and (group, sequence) != ("normal", "T1C+") else ""
