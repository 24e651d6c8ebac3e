"""How the phantom's images get their grey levels: tissue painted over tissue, then what a scanner adds.

Contrast is drawn per tissue at random, as in SynthSeg (Billot et al., Medical Image Analysis 2023, section 3.1), but
within ranges that keep T1, T1C+ and T2 recognisable. The template is skull-stripped, so skull, scalp and face are drawn
from the distance to the intracranial surface and from ellipsoids.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tumorxai.fetch.anatomy import ORIGIN, SELLA, Anatomy, Array, Head, column, depth_voxels, read

STEP = 4  # pixels between the points at which smooth fields are evaluated
SEQUENCES = ("T1", "T1C+", "T2")

# Range of each tissue's signal in the SEQUENCES' order; 1 is about the white of the exported image.
Range = tuple[float, float]
SIGNAL: Mapping[str, tuple[Range, Range, Range]] = {
    "air": ((0.00, 0.02), (0.00, 0.02), (0.00, 0.02)),
    "bone": ((0.04, 0.12), (0.04, 0.12), (0.03, 0.10)),
    "marrow": ((0.45, 0.75), (0.35, 0.55), (0.30, 0.50)),
    "fat": ((0.80, 1.00), (0.50, 0.75), (0.60, 0.80)),
    "skin": ((0.45, 0.60), (0.50, 0.70), (0.30, 0.45)),
    "muscle": ((0.32, 0.42), (0.38, 0.48), (0.16, 0.28)),
    "mucosa": ((0.35, 0.45), (0.65, 0.85), (0.65, 0.85)),
    "vitreous": ((0.12, 0.20), (0.12, 0.20), (0.80, 0.95)),
    "dura": ((0.30, 0.42), (0.55, 0.80), (0.12, 0.25)),
    "blood": ((0.10, 0.25), (0.70, 0.95), (0.05, 0.15)),
    "csf": ((0.10, 0.20), (0.10, 0.20), (0.75, 0.92)),
    "grey": ((0.40, 0.50), (0.42, 0.52), (0.46, 0.56)),
    "white": ((0.58, 0.70), (0.58, 0.70), (0.32, 0.40)),
    "gland": ((0.45, 0.55), (0.68, 0.88), (0.42, 0.54)),
}
LESION_SIGNAL: Mapping[str, tuple[Range, Range, Range]] = {
    "oedema": ((0.32, 0.42), (0.34, 0.44), (0.70, 0.86)),
    "necrosis": ((0.08, 0.20), (0.10, 0.26), (0.88, 1.05)),
    "glioma_rim": ((0.26, 0.38), (0.90, 1.15), (0.64, 0.82)),
    "glioma_low": ((0.12, 0.26), (0.16, 0.30), (0.84, 1.05)),
    "meningioma": ((0.22, 0.34), (0.95, 1.20), (0.70, 0.90)),
    "adenoma": ((0.24, 0.36), (0.85, 1.10), (0.68, 0.88)),
}


def draw_signal(sequence: str, conspicuity: float, rng: np.random.Generator) -> dict[str, float]:
    """Draw every tissue's signal; ``conspicuity`` scales the contrast of lesions to grey matter."""
    place = SEQUENCES.index(sequence)
    signal = {tissue: float(rng.uniform(*ranges[place])) for tissue, ranges in SIGNAL.items()}
    for tissue, ranges in LESION_SIGNAL.items():
        contrast = float(rng.uniform(*ranges[place])) - signal["grey"]
        signal[tissue] = signal["grey"] + conspicuity * contrast
    return signal


class Canvas:
    """An image in the making.

    Args:
        nodes: template points of every STEP-th pixel, shape (3, h, w).
        head: the patient, for the random field and the thickness of skull and scalp.
        anatomy: the template.
        signal: signal of every tissue.

    Attributes:
        points: template points of the pixels, mm, shape (3, STEP (h - 1), STEP (w - 1)).
        depth: their distance to the intracranial surface, mm, negative inside.
        image: the signal painted so far.
        head: as given.
        anatomy: as given.
    """

    def __init__(self, nodes: Array, head: Head, anatomy: Anatomy, signal: Mapping[str, float]) -> None:
        self._nodes = nodes.astype(np.float32)
        self.points = refine(self._nodes)
        self.depth = read(anatomy.depth, depth_voxels(self.points))
        self.head = head
        self.anatomy = anatomy
        self.signal = signal
        self.image: Array = np.full(self.depth.shape, signal["air"], dtype=np.float32)

    def paint(self, tissue: str, share: Array) -> None:
        """Cover the image by a tissue that takes the given share of every pixel."""
        self.image += share * (self.signal[tissue] - self.image)

    def noise(self, scale: float) -> Array:
        """The patient's random field, of unit variance, with structures of about ``scale`` mm."""
        return refine(read(self.head.noise, self._nodes * (2.0 / scale), mode="grid-wrap"))

    def ellipsoid(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
        """Approximate signed distance to an ellipsoid and its mirror image in x, mm, negative inside."""
        x, y, z = self.points
        squares = ((np.abs(x) - centre[0]) / radii[0]) ** 2
        squares += ((y - centre[1]) / radii[1]) ** 2
        squares += ((z - centre[2]) / radii[2]) ** 2
        distance: Array = (np.sqrt(squares) - 1.0) * min(radii)
        return distance


def refine(coarse: Array) -> Array:
    """Linear interpolation of the last two axes from every STEP-th pixel to every pixel."""
    weight = np.arange(STEP, dtype=np.float32) / STEP
    for axis in (-2, -1):
        nodes = np.moveaxis(coarse, axis, -1)
        fine = nodes[..., :-1, None] * (1 - weight) + nodes[..., 1:, None] * weight
        coarse = np.moveaxis(fine.reshape(*nodes.shape[:-1], -1), -1, axis)
    return coarse


def cover(distance: Array, softness: float = 1.0) -> Array:
    """Share of a pixel that lies inside a surface, from its signed distance in mm: the partial-volume effect."""
    share: Array = np.clip(0.5 - distance / softness, 0.0, 1.0)
    return share


def union(a: Array, b: Array, width: float = 10.0) -> Array:
    """Signed distance to the union of two bodies with a rounded seam (polynomial smooth minimum, Quilez)."""
    blend = np.clip(0.5 + 0.5 * (b - a) / width, 0.0, 1.0)
    distance: Array = b + (a - b) * blend - width * blend * (1.0 - blend)
    return distance


def paint_head(canvas: Canvas) -> None:
    """Everything outside the dura."""
    coarse, fine = canvas.noise(18.0), canvas.noise(5.0)
    _paint_scalp_and_skull(canvas, coarse, fine)
    _paint_skull_base(canvas, coarse, fine)
    _paint_orbits(canvas, fine)
    _paint_cavities(canvas, coarse, fine)


def _paint_scalp_and_skull(canvas: Canvas, coarse: Array, fine: Array) -> None:
    x, y, z = canvas.points
    head, depth = canvas.head, canvas.depth
    temporalis = 8.0 * np.exp(-((np.abs(x) - 60.0) ** 2 + (y - 18.0) ** 2 + (z + 18.0) ** 2) / (2 * 20.0**2))
    skull = head.skull + coarse + 4.0 * np.clip((-30.0 - z) / 20.0, 0.0, 1.0)
    cranium = depth - skull - head.scalp - coarse - temporalis
    face = canvas.ellipsoid((0.0, 24.0, -70.0), (66.0, 62.0, 88.0))
    nose = canvas.ellipsoid((0.0, 82.0, -60.0), (13.0, 26.0, 20.0))
    neck = np.maximum(np.hypot(x, (y + 22.0) * (58.0 / 62.0)) - 58.0, z + 45.0)
    surface = union(union(cranium, neck), union(face, nose))
    canvas.paint("skin", cover(surface))
    canvas.paint("fat", cover(surface + 1.5 + 0.5 * fine))
    canvas.paint("muscle", cover(surface + head.scalp + 2.0 + 2.5 * coarse, 2.0) * cover(fine - 1.0, 1.5))
    canvas.paint("bone", cover(depth - skull))
    canvas.paint("marrow", cover(np.abs(depth - skull / 2) - 0.22 * skull - 0.4 * fine, 1.5))


def _paint_skull_base(canvas: Canvas, coarse: Array, fine: Array) -> None:
    base = canvas.ellipsoid((0.0, 4.0, -46.0), (30.0, 30.0, 15.0))  # sphenoid and clivus
    canvas.paint("bone", cover(base + coarse))
    canvas.paint("marrow", cover(base + 2.5 - fine, 2.0) * 0.8)
    canvas.paint("blood", cover(canvas.ellipsoid((12.0, 2.0, -36.0), (5.0, 12.0, 7.0))) * 0.7)  # cavernous sinus
    canvas.paint("air", cover(canvas.ellipsoid((12.0, 4.0, -38.0), (2.5, 7.0, 2.5))))  # the carotid's flow void
    canvas.paint("air", cover(canvas.ellipsoid((52.0, -30.0, -45.0), (9.0, 11.0, 11.0))) * cover(fine, 0.8))  # mastoid


def _paint_orbits(canvas: Canvas, fine: Array) -> None:
    orbit = canvas.ellipsoid((28.0, 44.0, -35.0), (19.0, 30.0, 18.0))
    canvas.paint("bone", cover(orbit) * cover(canvas.points[1] - 66.0, 6.0))
    canvas.paint("fat", cover(orbit + 2.0) * 0.9)
    canvas.paint("muscle", cover(np.abs(orbit + 6.0) - 1.5) * cover(-fine))
    canvas.paint("muscle", cover(canvas.ellipsoid((24.0, 38.0, -34.0), (2.5, 20.0, 2.5))))  # optic nerve
    eye = canvas.ellipsoid((31.0, 57.0, -36.0), (12.5, 12.5, 12.5))
    canvas.paint("skin", cover(eye))
    canvas.paint("vitreous", cover(eye + 1.0))
    canvas.paint("muscle", cover(canvas.ellipsoid((31.0, 66.0, -36.0), (5.0, 2.0, 5.0))))  # lens


def _paint_cavities(canvas: Canvas, coarse: Array, fine: Array) -> None:
    cavities = [
        ((0.0, 50.0, -50.0), (14.0, 32.0, 20.0)),  # nose
        ((27.0, 46.0, -60.0), (13.0, 16.0, 16.0)),  # maxillary sinuses
        ((0.0, 24.0, -44.0), (13.0, 11.0, 9.0)),  # sphenoid sinus
        ((9.0, 77.0, -12.0), (11.0, 4.0, 9.0)),  # frontal sinuses
        ((0.0, 8.0, -82.0), (13.0, 7.0, 26.0)),  # throat
    ]
    for centre, radii in cavities:
        wall = canvas.ellipsoid(centre, radii) + 1.5 * coarse
        canvas.paint("mucosa", cover(wall))
        canvas.paint("air", cover(wall + 2.0))
    turbinates = cover(0.55 - np.abs(np.sin(canvas.points[0] / 3.2)) - 0.3 * fine, 0.5)
    canvas.paint("mucosa", cover(canvas.ellipsoid((0.0, 48.0, -52.0), (12.0, 28.0, 17.0))) * turbinates)


def paint_brain(canvas: Canvas, before: Array) -> tuple[Array, Array]:
    """Dura, CSF, grey and white matter, falx, sagittal sinus and the normal pituitary gland.

    Args:
        canvas: what to paint on.
        before: template points at which the tissue of each pixel stood before a lesion pushed it away.

    Returns:
        Shares of brain tissue and of white matter, shape (height, width), in [0, 1].
    """
    depth, signal = canvas.depth, canvas.signal
    grey, white, csf = _fractions(canvas, before)
    inside = cover(depth + 1.5)
    texture = 1.0 + 0.03 * canvas.noise(3.0)
    brain = (grey * signal["grey"] + white * signal["white"]) * texture + csf * signal["csf"]
    canvas.paint("dura", cover(depth))
    canvas.image += inside * (brain - canvas.image)
    x, y, z = canvas.points
    canvas.paint("dura", cover(np.abs(x) - 0.6) * inside * csf * cover(-z - 5.0, 6.0))  # falx
    sinus = np.maximum(np.abs(x) - 5.0 * (1.0 + depth / 8.0), depth - 1.0)
    canvas.paint("blood", cover(sinus) * cover(-10.0 - z, 4.0) * cover(y - 70.0, 4.0))
    sx, sy, sz = SELLA.tolist()
    canvas.paint("dura", cover(canvas.ellipsoid((sx, sy, sz), (9.0, 7.0, 5.5))))
    canvas.paint("gland", cover(canvas.ellipsoid((sx, sy, sz), (7.0, 5.5, 4.0))))
    canvas.paint("gland", cover(canvas.ellipsoid((sx, sy - 1.0, sz + 8.0), (1.5, 1.5, 7.0))))  # its stalk
    return inside * (grey + white), inside * white


def _fractions(canvas: Canvas, points: Array) -> tuple[Array, Array, Array]:
    """Grey matter, white matter and CSF at template points; they sum to 1."""
    voxels = points + column(ORIGIN)
    grey, white = read(canvas.anatomy.grey, voxels) / 255, read(canvas.anatomy.white, voxels) / 255
    folds = np.exp(0.6 * canvas.noise(7.0))  # sulci of one's own: the template's are an average
    csf = np.clip(1.0 - grey - white, 0.0, 1.0) * folds
    # Squares sharpen the blurred average into one tissue per place.
    grey, white, csf = grey**2, white**2, csf**2 + 1e-6
    total = grey + white + csf
    return grey / total, white / total, csf / total


def scan(image: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What scanner and export do: blur, bias field, Rician noise, grey-level window and gamma."""
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.8))
    bias = rng.normal(0.0, rng.uniform(0.02, 0.10), (4, 4))
    nodes = [length // STEP + 1 for length in image.shape]
    image = image * np.exp(refine(ndimage.zoom(bias, np.divide(nodes, bias.shape), order=3)))
    real, imaginary = rng.uniform(0.006, 0.03) * rng.standard_normal((2, *image.shape), np.float32)
    image = np.hypot(image + real, imaginary)
    white = np.quantile(image, rng.uniform(0.990, 0.999)) * rng.uniform(0.95, 1.15)
    levels = np.clip(image / white, 0.0, 1.0) ** rng.uniform(0.85, 1.2)
    pixels: NDArray[np.uint8] = np.rint(levels * 255).astype(np.uint8)
    return pixels
