"""The phantom's anatomy: the MNI152 template, the head that is built around it, and each patient's deformation of it.

The template is MNI152 ICBM 2009a (Fonov et al., NeuroImage 2011), whose skull-stripped brain and whose grey- and
white-matter maps ship with nilearn. All coordinates are MNI millimetres: x to the right, y to the front, z up.
Arrays of points have shape (3, height, width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Array = NDArray[np.floating[Any]]

ORIGIN = np.array([98, 134, 72], dtype=np.float32)  # voxel of the template at (0, 0, 0) mm; its voxels are 1 mm
MARGIN = ((24, 24), (24, 24), (80, 24))  # mm around the template in the distance map; below it for neck and face
CENTRE = np.array([0.0, -18.0, 0.0])  # centre of the deformations
SELLA = np.array([0.0, 6.0, -33.0])


@dataclass(frozen=True)
class Anatomy:
    """What images are read from.

    Attributes:
        grey: fraction of grey matter x 255, 1 mm voxels.
        white: fraction of white matter x 255, 1 mm voxels.
        depth: distance to the intracranial surface, mm, negative inside; 2 mm voxels with MARGIN around.
        inner: places in the inner white matter, mm, shape (n, 3).
        dura: places on the dura of the vault and on the falx, mm, shape (m, 3).
        inward: unit normals of ``dura`` towards the brain, shape (m, 3).
    """

    grey: NDArray[np.uint8]
    white: NDArray[np.uint8]
    depth: NDArray[np.float32]
    inner: Array
    dura: Array
    inward: Array


@dataclass(frozen=True)
class Head:
    """One patient's head.

    Attributes:
        linear: about CENTRE, from the patient to the template, shape (3, 3).
        warp: displacements added to it, mm, at nodes 8 mm apart, shape (3, 36, 36, 36).
        noise: a random field of unit variance, read at several scales, shape (64, 64, 64).
        skull: mean thickness of the skull, mm.
        scalp: mean thickness of the scalp, mm.
    """

    linear: Array
    warp: Array
    noise: Array
    skull: float
    scalp: float


def load() -> Anatomy:
    """Read the template and measure it (a few seconds, most of them the import)."""
    from nilearn import datasets  # here, because processes that are handed an Anatomy need not wait for it

    brain = datasets.load_mni152_template(resolution=1).get_fdata(dtype=np.float32) > 0.1
    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    depth = _intracranial_depth(brain)
    inner = np.argwhere(ndimage.gaussian_filter(white, 3.0)[::3, ::3, ::3] > 0.6) * 3.0 - ORIGIN
    vault, vault_normals = _vault(depth)
    falx, falx_normals = _falx(depth)
    return Anatomy(
        grey=np.rint(grey * 255).astype(np.uint8),
        white=np.rint(white * 255).astype(np.uint8),
        depth=depth,
        inner=inner,
        dura=np.concatenate([vault, falx]),
        inward=np.concatenate([vault_normals, falx_normals]),
    )


def _intracranial_depth(brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Signed distance to the brain's closed hull: closing by 12 mm fills the fissures and cisterns that CSF fills."""
    coarse = np.pad(brain[::2, ::2, ::2], [(low // 2, high // 2) for low, high in MARGIN])
    bottom = MARGIN[2][0] // 2
    coarse[:, :, :bottom] = coarse[:, :, bottom : bottom + 1]  # the template ends in the medulla: the cord goes on
    dilated = ndimage.distance_transform_edt(~coarse) <= 6
    hull = ndimage.distance_transform_edt(dilated) > 6
    distance = 2.0 * (ndimage.distance_transform_edt(~hull) - ndimage.distance_transform_edt(hull))
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(distance, 1.0).astype(np.float32)
    return smooth


def _vault(depth: NDArray[np.float32]) -> tuple[Array, Array]:
    """Places on the intracranial surface above the neck, and their inward normals."""
    gradient = np.stack([np.gradient(depth, axis=axis) for axis in range(3)], axis=-1)
    steepness = np.linalg.norm(gradient, axis=-1)
    voxels = np.argwhere((np.abs(depth + 1.0) < 1.0) & (steepness > 0.5))
    normals = -gradient[tuple(voxels.T)] / steepness[tuple(voxels.T)][:, None]
    places = voxels * 2.0 - ORIGIN - [low for low, _ in MARGIN]
    above = places[:, 2] > -50.0
    return places[above], normals[above]


def _falx(depth: NDArray[np.float32]) -> tuple[Array, Array]:
    """Places in the midline above the corpus callosum or in front of it, each towards both hemispheres."""
    y, z = np.mgrid[-70:60:3, -10:66:3]
    places = np.stack([np.zeros(y.size), y.ravel(), z.ravel()], axis=1)
    within = read(depth, depth_voxels(places.T)) < -6.0
    places = places[within & ((places[:, 2] > 28.0) | (places[:, 1] > 38.0))]
    right = np.tile([1.0, 0.0, 0.0], (len(places), 1))
    # Twice, because the vault has far more places than the falx: so an eighth of the places are on the falx.
    return np.tile(places, (4, 1)), np.concatenate([right, -right, right, -right])


def read(volume: ArrayLike, voxels: Array, mode: str = "nearest") -> Array:
    """Interpolate a volume linearly at voxel coordinates, shape (3, ...)."""
    values: Array = ndimage.map_coordinates(volume, voxels, np.float32, order=1, mode=mode)
    return values


def column(vector: ArrayLike) -> Array:
    """A vector in the shape that arrays of points broadcast with, (3, 1, 1)."""
    return np.asarray(vector, dtype=np.float32).reshape(3, 1, 1)


def depth_voxels(points: Array) -> Array:
    """Voxel coordinates of MNI points, shape (3, ...), in the distance map."""
    shift = ORIGIN + np.array([low for low, _ in MARGIN], dtype=np.float32)
    voxels: Array = (points + shift.reshape(3, *[1] * (points.ndim - 1))) / 2.0
    return voxels


def draw_head(rng: np.random.Generator) -> Head:
    """Draw a patient: posture, proportions, elastic deformation, thickness of skull and scalp."""
    rotation = Rotation.from_euler("xyz", rng.normal(0.0, 3.0, 3), degrees=True).as_matrix()
    scale = np.diag(rng.uniform(0.95, 1.05) * rng.uniform(0.97, 1.03, 3))
    return Head(
        linear=rotation @ scale @ (np.eye(3) + rng.normal(0.0, 0.015, (3, 3))),
        warp=np.stack([2.2 * _random_field(36, 3.0, rng) for _ in range(3)]),
        noise=_random_field(64, 1.5, rng),
        skull=float(rng.uniform(5.0, 8.0)),
        scalp=float(rng.uniform(4.0, 7.0)),
    )


def _random_field(side: int, sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A periodic Gaussian random field of unit variance; ``sigma`` in nodes."""
    field = ndimage.gaussian_filter(rng.standard_normal((side, side, side), np.float32), sigma, mode="wrap")
    unit: NDArray[np.float32] = field / field.std()
    return unit


def to_template(head: Head, points: Array) -> Array:
    """Template coordinates of points in the patient's space."""
    local = points - column(CENTRE)
    displacement = np.stack([read(component, (local + 140.0) / 8.0) for component in head.warp])
    mapped: Array = np.tensordot(head.linear, local, 1) + column(CENTRE) + displacement
    return mapped


def from_template(head: Head, place: Array) -> Array:
    """The patient's point at a template place, of shape (3,): fixed-point iteration, for the map is near identity."""
    target = column(place)
    guess: Array = target.copy()
    for _ in range(10):
        guess = guess + target - to_template(head, guess)
    return guess.ravel()
