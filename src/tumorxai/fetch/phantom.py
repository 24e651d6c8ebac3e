"""The embedded default source: real anatomy, simulated lesions, and copies whose truth is known.

A patient is one affine and elastic deformation of the MNI152 template and at most one lesion, seen in neighbouring
slices of one plane and in several sequences. Points of an image are mapped into the template and the template is read
there: no volume is deformed.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from tumorxai import config
from tumorxai.archives.workers import mapped
from tumorxai.fetch import anatomy, lesions
from tumorxai.fetch.anatomy import Anatomy, Array, Head
from tumorxai.fetch.lesions import CLASSES, Lesion
from tumorxai.fetch.painting import SEQUENCES, STEP, Canvas, draw_signal, paint_brain, paint_head, scan
from tumorxai.files import atomic

Case = tuple[int, str, list[str]]  # a patient's number, class, and per image the kind of copy to plant or ""

KINDS = ("exact", "reencoded", "resized", "flipped", "rotated", "intensity")
COLUMNS = ("file", "patient", "sequence", "plane", "mask", "copy_of", "copy_kind", "true_patient")

SHARES = (0.1, 0.65, 0.25)  # of SEQUENCES among a patient's: most published sets are contrast-enhanced
VISIBLE = 0.003  # least share of an image that its lesion takes
NEAR_SELLA = 0.45  # share of the other classes' patients whose slices show the sella, where all adenomas lie


class Plane(NamedTuple):
    """A viewing plane.

    ``axis`` is that of its normal, ``right`` and ``down`` are the image's unit vectors, ``near`` is the range of slice
    positions that show the sella and ``far`` that of the others, ``window`` is left, right, top and bottom of the head
    in image axes, mm from the head's centre.
    """

    axis: int
    right: tuple[int, int, int]
    down: tuple[int, int, int]
    near: tuple[float, float]
    far: tuple[float, float]
    window: tuple[float, float, float, float]


PLANES: Mapping[str, Plane] = {
    "axial": Plane(2, (1, 0, 0), (0, -1, 0), (-32.0, -18.0), (-15.0, 40.0), (-86.0, 86.0, -112.0, 106.0)),
    "coronal": Plane(1, (1, 0, 0), (0, 0, -1), (-1.0, 13.0), (-55.0, 40.0), (-86.0, 86.0, -98.0, 92.0)),
    "sagittal": Plane(0, (0, -1, 0), (0, 0, -1), (-6.0, 6.0), (-42.0, 42.0), (-116.0, 106.0, -98.0, 96.0)),
}


@dataclass(frozen=True)
class Picture:
    """One encoded image with what annotations.csv says about it.

    ``number`` counts the patient's images; a copy has its original's. ``kind`` is that of a copy, empty for originals.
    """

    patient: int
    number: int
    label: str
    sequence: str
    plane: str
    kind: str
    suffix: str
    content: bytes
    mask: bytes | None


def _patient(template: Anatomy, settings: config.Phantom, case: Case) -> list[Picture]:
    """All images of one patient, followed by the planted copies of them.

    Args:
        template: the template.
        settings: numbers of slices and sequences, seed.
        case: whom to draw.
    """
    number, label, kinds = case
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, number]))
    head = anatomy.draw_head(rng)
    name = str(rng.choice(list(PLANES)))
    plane = PLANES[name]
    pictures: list[Picture] = []
    while len(pictures) < len(kinds):  # a lesion that hides in one of the slices is drawn anew
        # Slices of every class go through the sella often, or their position would give the adenomas away.
        near = label == "pituitary" or rng.random() < NEAR_SELLA
        position = rng.uniform(*(plane.near if near else plane.far))
        lesion = lesions.draw(label, plane.axis, position, template, rng)
        pictures = list(_series(number, name, head, lesion, template, settings, rng))
    return pictures + [_copy(picture, kind, rng) for picture, kind in zip(pictures, kinds, strict=True) if kind]


def _series(
    number: int,
    name: str,
    head: Head,
    lesion: Lesion,
    template: Anatomy,
    settings: config.Phantom,
    rng: np.random.Generator,
) -> Iterator[Picture]:
    """The patient's images; ends early where the lesion takes less than VISIBLE of an image."""
    plane = PLANES[name]
    mirrored = bool(rng.random() < 0.5)
    offsets = np.linspace(-0.5, 0.5, settings.slices) * lesion.radius if settings.slices > 1 else np.zeros(1)
    count = 0
    for sequence in sorted(rng.choice(SEQUENCES, settings.sequences, replace=False, p=SHARES)):
        # Between two sequences the patient moves and the field of view is planned anew.
        turn = Rotation.from_euler("xyz", rng.normal(0.0, 1.5, 3), degrees=True).as_matrix()
        posed = replace(head, linear=head.linear @ turn)
        through = anatomy.from_template(posed, lesion.centre)[plane.axis]
        signal = draw_signal(str(sequence), lesion.conspicuity, rng)
        nodes = _field_of_view(plane, mirrored, rng)
        for offset in offsets:
            nodes[plane.axis] = through + offset
            canvas = Canvas(anatomy.to_template(posed, nodes), posed, template, signal)
            paint_head(canvas)
            brain, white = paint_brain(canvas, lesions.before(lesion, canvas.points))
            mask = lesions.paint(canvas, lesion, brain, white) >= 0.5
            if lesion.label != "no_tumor" and mask.mean() < VISIBLE:
                return
            image = Image.fromarray(scan(canvas.image, rng))
            suffix = ".png" if rng.random() < 0.25 else ".jpg"
            image = image.convert("RGB") if rng.random() < 0.3 else image
            yield Picture(
                patient=number,
                number=count,
                label=lesion.label,
                sequence=str(sequence),
                plane=name,
                kind="",
                suffix=suffix,
                content=_encode(image, suffix, int(rng.integers(60, 96))),
                mask=_encode(Image.fromarray(mask.astype(np.uint8) * 255), ".png") if mask.any() else None,
            )
            count += 1


def _field_of_view(plane: Plane, mirrored: bool, rng: np.random.Generator) -> Array:
    """Points of every STEP-th pixel in the plane through the head's centre, mm: varied crop, matrix and aspect."""
    left, right, top, bottom = np.array(plane.window) + rng.uniform(-4.0, 14.0, 4) * [-1, 1, -1, 1]
    if rng.random() < 0.4:  # exported as a square
        half = max(right - left, bottom - top) / 2
        left, right = (left + right) / 2 - half, (left + right) / 2 + half
        top, bottom = (top + bottom) / 2 - half, (top + bottom) / 2 + half
    pitch = STEP * max(right - left, bottom - top) / rng.integers(180, 321)
    u, v = np.meshgrid(np.arange(left, right, pitch), np.arange(top, bottom, pitch))
    u = -u if mirrored else u
    points: Array = anatomy.column(anatomy.CENTRE) + u * anatomy.column(plane.right) + v * anatomy.column(plane.down)
    return points


def _encode(image: Image.Image, suffix: str, quality: int = 90) -> bytes:
    stream = io.BytesIO()
    if suffix == ".png":
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _copy(original: Picture, kind: str, rng: np.random.Generator) -> Picture:
    """A re-upload of an image, made from its encoded bytes; the mask follows its geometry."""
    image: Image.Image = Image.open(io.BytesIO(original.content))
    if kind == "exact":
        if rng.random() < 0.5:
            return replace(original, kind=kind)
        return replace(original, kind=kind, suffix=".png", content=_encode(image, ".png"))
    suffix = ".jpg" if kind == "reencoded" or rng.random() < 0.7 else ".png"
    quality = int(rng.integers(30, 96)) if kind == "reencoded" else int(rng.integers(75, 96))
    mask: Image.Image | None = Image.open(io.BytesIO(original.mask)) if original.mask else None
    if kind == "intensity":
        brightness, contrast = rng.uniform(0.8, 1.2, 2)
        image = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(brightness)).enhance(contrast)
    elif kind == "resized":
        factor = 2.0 ** (rng.uniform(0.1, 1.0) * rng.choice([-1, 1]))
        size = (round(image.width * factor), round(image.height * factor))
        image = image.resize(size, Image.Resampling.BICUBIC)
        mask = mask and mask.resize(size, Image.Resampling.NEAREST)
    elif kind in ("flipped", "rotated"):
        turns = [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM]
        if kind == "rotated":
            turns = [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270]
        turn = turns[rng.integers(len(turns))]
        image = image.transpose(turn)
        mask = mask and mask.transpose(turn)
    return replace(
        original,
        kind=kind,
        suffix=suffix,
        content=_encode(image, suffix, quality),
        mask=_encode(mask, ".png") if mask else None,
    )


def _plan(settings: config.Phantom, rng: np.random.Generator) -> list[Case]:
    """Each patient's class and the copies to plant: classes and kinds in equal numbers, at random places."""
    labels = rng.permutation([CLASSES[i % len(CLASSES)] for i in range(settings.patients)])
    images = settings.slices * settings.sequences
    total = settings.patients * images
    kinds = [KINDS[i % len(KINDS)] for i in range(round(settings.copies * total))]
    kinds = list(rng.permutation(kinds + [""] * (total - len(kinds))))
    return [
        (number, str(label), [str(kind) for kind in kinds[number * images : (number + 1) * images]])
        for number, label in enumerate(labels)
    ]


def _annotate(pictures: list[Picture], rng: np.random.Generator) -> pd.DataFrame:
    """One row per picture: its place in the archive and the truth about it.

    Every third patient of a class is in Testing; copies land on either side, as careless re-uploads do. File names are
    numbered at random within their class, so that they tell nothing of patients and copies.
    """
    order: dict[str, list[int]] = {label: [] for label in CLASSES}
    for picture in pictures:
        if picture.patient not in order[picture.label]:
            order[picture.label].append(picture.patient)
    names = {label: iter(rng.permutation(sum(p.label == label for p in pictures)) + 1) for label in CLASSES}
    originals: dict[tuple[int, int], str] = {}
    rows = []
    for picture in pictures:
        testing = rng.random() < 0.5 if picture.kind else order[picture.label].index(picture.patient) % 3 == 1
        name = f"{picture.label}/{next(names[picture.label]):04d}"
        file = f"{'Testing' if testing else 'Training'}/{name}{picture.suffix}"
        key = (picture.patient, picture.number)
        patient = f"P{picture.patient + 1:03d}"
        rows.append(
            {
                "file": file,
                "patient": "" if picture.kind else patient,
                "sequence": picture.sequence,
                "plane": picture.plane,
                "mask": f"masks/{name}.png" if picture.mask else "",
                "copy_of": originals[key] if picture.kind else "",
                "copy_kind": picture.kind,
                "true_patient": patient,
            }
        )
        originals.setdefault(key, file)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _entries(pictures: list[Picture], table: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the archive's members, sorted by name."""
    members = {"annotations.csv": table.sort_values("file").to_csv(index=False, lineterminator="\n").encode()}
    for picture, file, mask in zip(pictures, table["file"], table["mask"], strict=True):
        members[file] = picture.content
        if picture.mask:
            members[mask] = picture.mask
    yield from sorted(members.items())


def write_archive(path: Path, settings: config.Phantom, workers: int | None = None) -> None:
    """Write the phantom archive.

    Layout: ``Training/CLASS/NAME.jpg|png`` and ``Testing/…`` as in a Kaggle archive, ``masks/CLASS/NAME.png`` (0 or
    255, as large as its image, absent without a tumour) and ``annotations.csv`` with COLUMNS. ``patient`` is empty for
    planted copies; ``copy_of``, ``copy_kind`` and ``true_patient`` are the truth to score duplicate detection against.

    Equal settings give equal bytes on one CPU, whatever the number of workers. Another CPU's vector instructions may
    compute another last digit, and round a few of the float32 values to the neighbouring grey level.

    Args:
        path: the zip to write; appears whole or not at all.
        settings: size, share of copies and seed.
        workers: processes; all cores if None.
    """
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, settings.patients]))
    plan = _plan(settings, rng)
    make = partial(_patient, anatomy.load(), settings)
    workers = min(workers or os.cpu_count() or 1, settings.patients)
    # The template travels with each chunk of patients: few chunks, but enough to keep all workers busy to the end.
    chunk = max(1, min(8, len(plan) // (2 * workers)))
    done = tqdm(mapped(make, plan, workers, chunk), "phantom", len(plan), unit="patient")
    pictures = [picture for patient in done for picture in patient]
    table = _annotate(pictures, rng)
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in _entries(pictures, table):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # the same bytes on every platform
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
