"""The phantom's simulated tumours: where they grow, what they push away and how they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tumorxai.fetch.anatomy import SELLA, Anatomy, Array, column
from tumorxai.fetch.painting import Canvas, cover, union

CLASSES = ("glioma", "meningioma", "pituitary", "no_tumor")


@dataclass(frozen=True)
class Lesion:
    """One lesion; of a healthy patient only ``centre`` and ``radius`` count, as the place that the slices go through.

    Attributes:
        label: one of CLASSES.
        centre: MNI place, mm, shape (3,).
        radius: mm.
        mass: share of the radius by which tissue is pushed away.
        stretch: rotation and anisotropic scaling of the shape, shape (3, 3).
        inward: from the dural base into the brain, shape (3,); meningioma only.
        rim: thickness of the enhancing rim, share of the radius; glioma only.
        halo: outer end of the oedema, multiples of the radius; 1 is none.
        variant: glioma: low grade, without enhancement; adenoma: partly cystic.
        conspicuity: factor of the lesion's contrast to grey matter.
    """

    label: str
    centre: Array
    radius: float
    mass: float
    stretch: Array
    inward: Array
    rim: float
    halo: float
    variant: bool
    conspicuity: float


def draw(label: str, axis: int, position: float, anatomy: Anatomy, rng: np.random.Generator) -> Lesion:
    """Draw a lesion near a slice.

    Args:
        label: one of CLASSES.
        axis: the slice's normal: 0, 1 or 2.
        position: the slice's MNI coordinate along it, mm; an adenoma lies at the sella wherever that is.
        anatomy: the template.
        rng: source of randomness.
    """
    radius = float(rng.uniform(10.0, 15.0) if label == "pituitary" else rng.uniform(15.0, 26.0))
    inward = np.zeros(3)
    if label == "pituitary":
        centre = SELLA + rng.normal(0.0, 1.5, 3) + np.array([0.0, 0.0, radius - 6.0])
    elif label == "meningioma":
        choice = _choose(anatomy.dura[:, axis], position, rng)
        inward = anatomy.inward[choice]
        centre = anatomy.dura[choice] + inward * radius * rng.uniform(0.3, 0.7)
    else:
        centre = anatomy.inner[_choose(anatomy.inner[:, axis], position, rng)]
    elongation = 0.25 if label == "glioma" else 0.12
    turn = Rotation.from_quat(rng.normal(size=4)).as_matrix()  # uniform over all rotations
    oedema = label == "glioma" or rng.random() < 0.4
    return Lesion(
        label=label,
        centre=centre,
        radius=radius,
        mass=float(rng.uniform(0.3, 0.6) if label == "glioma" else rng.uniform(0.7, 0.9)),
        stretch=np.diag(np.exp(rng.uniform(-elongation, elongation, 3))) @ turn,
        inward=inward,
        rim=float(rng.uniform(0.25, 0.5)),
        halo=float(rng.uniform(1.2, 2.0)) if oedema else 1.0,
        variant=bool(rng.random() < 0.2),
        conspicuity=float(rng.uniform(0.85, 1.15)),
    )


def _choose(positions: Array, target: float, rng: np.random.Generator) -> int:
    """Index of a random position near the target: within 3 mm, or else the nearest."""
    distance = np.abs(positions - target)
    return int(rng.choice(np.flatnonzero(distance <= max(3.0, float(distance.min())))))


def before(lesion: Lesion, points: Array) -> Array:
    """Where the tissue at each point stood before the lesion grew.

    Tissue moves along the radius and keeps its volume: r_before^3 = r^3 - (mass radius)^3.
    """
    if lesion.label == "no_tumor":
        return points
    local = points - column(lesion.centre)
    distance = np.sqrt((local**2).sum(axis=0)) + 1e-6
    original = np.cbrt(np.maximum(distance**3 - (lesion.mass * lesion.radius) ** 3, 0.0))
    moved: Array = column(lesion.centre) + local * (original / distance)
    return moved


def paint(canvas: Canvas, lesion: Lesion, brain: Array, white: Array) -> Array:
    """Paint the lesion; return its share of every pixel, oedema not counted.

    Args:
        canvas: an image with head and brain.
        lesion: what to paint.
        brain: share of brain tissue, shape (height, width).
        white: share of white matter, shape (height, width).
    """
    if lesion.label == "glioma":
        return _paint_glioma(canvas, lesion, brain, white)
    if lesion.label == "meningioma":
        return _paint_meningioma(canvas, lesion, white)
    if lesion.label == "pituitary":
        return _paint_adenoma(canvas, lesion)
    return np.zeros_like(canvas.depth)


def _radius(canvas: Canvas, lesion: Lesion) -> Array:
    """Distance to the lesion's centre in its own, stretched space, mm."""
    stretch = lesion.stretch.astype(np.float32)
    local = np.einsum("ij,jhw->ihw", stretch, canvas.points - column(lesion.centre))
    distance: Array = np.sqrt((local**2).sum(axis=0))
    return distance


def _paint_oedema(canvas: Canvas, distance: Array, white: Array) -> None:
    """Vasogenic oedema spreads along white matter."""
    spread = np.clip(1.6 * ndimage.gaussian_filter(white, 2.0), 0.0, 1.0)
    canvas.paint("oedema", cover(distance, 5.0) * spread * cover(canvas.depth + 2.0))


def _paint_glioma(canvas: Canvas, lesion: Lesion, brain: Array, white: Array) -> Array:
    """Irregular, inside the brain; a high-grade one has necrosis within a rim that enhances."""
    shape = lesion.radius * (1.0 - 0.20 * canvas.noise(lesion.radius) - 0.08 * canvas.noise(4.0))
    level = _radius(canvas, lesion)
    _paint_oedema(canvas, level - shape - (lesion.halo - 1.0) * lesion.radius, white)
    body = cover(level - shape, 2.0) * cover(canvas.depth + 2.0)
    body *= np.clip(2.0 * ndimage.gaussian_filter(brain, 2.0), 0.0, 1.0)
    if lesion.variant:
        canvas.paint("glioma_low", 0.9 * body)
    else:
        canvas.paint("glioma_rim", body)
        canvas.paint("necrosis", body * cover(level - shape + lesion.rim * lesion.radius, 2.5))
    return body


def _paint_meningioma(canvas: Canvas, lesion: Lesion, white: Array) -> Array:
    """Homogeneous, on the dura with a broad base and a tail along it, a cleft of CSF towards the brain."""
    distance = _radius(canvas, lesion) - lesion.radius * (1.0 - 0.05 * canvas.noise(8.0))
    wall = -canvas.depth  # mm from the dura on which it grows
    if abs(lesion.inward[0]) == 1.0:  # the falx
        wall = np.minimum(wall, float(lesion.inward[0]) * canvas.points[0])
    within = cover(0.5 - wall)
    if lesion.halo > 1.0:
        _paint_oedema(canvas, distance - (lesion.halo - 1.0) * 8.0, white)
    canvas.paint("csf", 0.7 * cover(distance - 1.2) * within)
    canvas.paint("meningioma", 0.8 * cover(np.abs(wall - 1.0) - 1.0) * cover(distance - 0.5 * lesion.radius, 6.0))
    body = cover(distance) * within
    canvas.paint("meningioma", body)
    return body


def _paint_adenoma(canvas: Canvas, lesion: Lesion) -> Array:
    """A sellar ball that grows up through the diaphragm: a snowman with a waist."""
    x, y, z = lesion.centre.tolist()
    lower = _radius(canvas, lesion) - lesion.radius
    size = 0.65 * lesion.radius
    local = canvas.points - column([x, y + 1.0, z + 0.9 * lesion.radius])
    upper = np.sqrt((local**2).sum(axis=0)) - size
    distance = union(lower, upper, 3.0) + 0.8 * canvas.noise(6.0)
    body = cover(distance)
    canvas.paint("adenoma", body)
    if lesion.variant:
        canvas.paint("necrosis", 0.7 * cover(distance + 0.45 * lesion.radius + 2.0 * canvas.noise(5.0), 2.0))
    return body
