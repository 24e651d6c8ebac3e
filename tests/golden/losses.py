"""Losses, their gradients, the nearest neighbours of NNCLR and the centre of DINO's teacher."""

from __future__ import annotations

import cmath
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.golden.draws import Arrays, normal, on_grid


def cosine(u: np.ndarray, v: np.ndarray) -> Any:
    """Without conjugation and without an absolute value, so that a complex step goes through."""
    return (u * v).sum() / (cmath.sqrt((u * u).sum()) * cmath.sqrt((v * v).sum()))


def nt_xent(z1: np.ndarray, z2: np.ndarray, temperature: float) -> Any:
    """SimCLR, arXiv 2002.05709, equation 1: all 2B vectors but i itself stand in the denominator."""
    z, total = [*z1, *z2], 0
    for i in range(len(z)):
        s = [cmath.exp(cosine(z[i], z[k]) / temperature) if k != i else 0 for k in range(len(z))]
        total -= cmath.log(s[(i + len(z1)) % len(z)] / sum(s))
    return total / len(z)


def barlow(z1: np.ndarray, z2: np.ndarray, weight: float) -> Any:
    """Barlow Twins, arXiv 2103.03230, equations 1 and 2, standardised as batch normalisation does, with its 1e-5."""
    n, d = z1.shape
    scaled = []
    for z in (z1, z2):
        centred = z - z.sum(axis=0) / n
        scaled.append(centred / np.sqrt((centred * centred).sum(axis=0) / n + 1e-5))
    total = 0
    for i in range(d):
        for j in range(d):
            c = (scaled[0][:, i] * scaled[1][:, j]).sum() / n
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def byol(p1: np.ndarray, p2: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> Any:
    """BYOL, arXiv 2006.07733, equation 2 up to scale, and SimSiam, arXiv 2011.10566, equations 1 and 2."""
    n = len(p1)
    return sum(-0.5 * (cosine(p1[b], z2[b]) + cosine(p2[b], z1[b])) for b in range(n)) / n


def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> Any:
    total = 0
    for i in range(len(a)):
        s = [cmath.exp(cosine(a[i], b[k]) / temperature) for k in range(len(b))]
        total -= cmath.log(s[i] / sum(s))
    return total / len(a)


def moco(q1: np.ndarray, q2: np.ndarray, k1: np.ndarray, k2: np.ndarray) -> Any:
    """MoCo v3, arXiv 2104.02057, equation 1 and algorithm 1, temperature 0.2: both directions are summed."""
    return 2 * 0.2 * (info_nce(q1, k2, 0.2) + info_nce(q2, k1, 0.2))


def nearest(z: np.ndarray, queue: np.ndarray) -> np.ndarray:
    """For each row of z the row of the queue at the largest cosine."""
    return np.stack([queue[max(range(len(queue)), key=lambda k: cosine(row, queue[k]).real)] for row in z])


def nnclr(p1: np.ndarray, p2: np.ndarray, nn1: np.ndarray, nn2: np.ndarray) -> Any:
    """NNCLR, arXiv 2104.14548, equation 2, temperature 0.1, the views averaged."""
    return (info_nce(nn1, p2, 0.1) + info_nce(nn2, p1, 0.1)) / 2


def dino(s: np.ndarray, t: np.ndarray, center: np.ndarray) -> Any:
    """DINO, arXiv 2104.14294, equations 1 to 3 with centring: the mean over pairs of different views."""
    terms = []
    for g in range(len(t)):
        for v in range(len(s)):
            if v == g:
                continue
            total = 0
            for b in range(s.shape[1]):
                teacher, student = np.exp((t[g, b] - center) / 0.04), np.exp(s[v, b] / 0.1)
                total -= (teacher / teacher.sum() * np.log(student / student.sum())).sum()
            terms.append(total / s.shape[1])
    return sum(terms) / len(terms)


# Loss: name of its value, inputs that have a gradient, the others, and the formula of both.
LOSSES: list[tuple[str, str, tuple[str, ...], tuple[str, ...], Callable[..., Any]]] = [
    ("ntxent", "tau01_loss", ("z1", "z2"), (), lambda z1, z2: nt_xent(z1, z2, 0.1)),
    ("ntxent", "tau05_loss", ("z1", "z2"), (), lambda z1, z2: nt_xent(z1, z2, 0.5)),
    ("barlow", "bn_loss", ("z1", "z2"), (), lambda z1, z2: barlow(z1, z2, 0.005)),
    ("byol", "loss", ("p1", "p2"), ("z1", "z2"), byol),
    ("moco", "loss", ("q1", "q2"), ("k1", "k2"), moco),
    ("nnclr", "loss", ("p1", "p2"), ("nn1", "nn2"), nnclr),
    ("dino", "loss", ("s",), ("t", "center"), dino),
]


def gradient(f: Callable[..., Any], given: Arrays, name: str) -> np.ndarray:
    found = np.zeros(given[name].shape)
    for place in np.ndindex(*found.shape):
        stepped = given[name].astype(complex)
        stepped[place] += 1e-30j
        found[place] = f(**{**given, name: stepped}).imag / 1e-30
    return found


def losses(inputs: Arrays) -> Arrays:
    """Values, gradients, neighbours and the teacher's new centre, from the inputs of both cases."""
    found: Arrays = {}
    for case in "AB":
        for side in "12":
            found[f"nnclr_{case}_nn{side}"] = nearest(inputs[f"nnclr_{case}_z{side}"], inputs[f"nnclr_{case}_queue"])
        teacher = inputs[f"dino_{case}_t"].reshape(-1, inputs[f"dino_{case}_t"].shape[-1])
        mean = teacher.sum(axis=0) / len(teacher)
        found[f"dino_{case}_center_new_m09"] = 0.9 * inputs[f"dino_{case}_center"] + 0.1 * mean
        for name, value, trained, fixed, f in LOSSES:
            every = inputs | found
            given = {key: np.asarray(every[f"{name}_{case}_{key}"], dtype=np.float64) for key in (*trained, *fixed)}
            found[f"{name}_{case}_{value}"] = np.float64(f(**given).real)
            for key in trained:
                found[f"{name}_{case}_{value}_grad_{key}"] = gradient(f, given, key)
    return found


def loss_inputs() -> Arrays:
    """Case A: views that have nothing to do with each other; B: views that agree but for noise. Norms are uneven."""
    found: Arrays = {}
    for case in "AB":
        for name, keys in {
            "ntxent": ("z1", "z2"), "barlow": ("z1", "z2"), "byol": ("p1", "p2", "z1", "z2"),
            "moco": ("q1", "q2", "k1", "k2"), "nnclr": ("z1", "z2", "p1", "p2"),
        }.items():  # fmt: skip
            common, norms = normal(f"{name}{case}", 8, 16), np.exp(normal(f"{name}{case}norms", 8, 1) / 3)
            if name == "barlow":  # features, too, have scales and offsets of their own
                norms = norms * np.exp(normal(f"{case}scale", 16) / 2)
                common = common + normal(f"{case}offset", 16)
            for key in keys:
                own = normal(f"{name}{case}{key}", 8, 16)
                found[f"{name}_{case}_{key}"] = on_grid((own if case == "A" else common + 0.4 * own) * norms)
        queue = normal(f"{case}queue", 32, 16)
        if case == "B":
            queue[:8] = found["nnclr_B_z1"] + 0.3 * queue[:8]
        found[f"nnclr_{case}_queue"] = queue / np.sqrt((queue**2).sum(axis=1, keepdims=True))
        common = normal(f"dino{case}", 1, 8, 16)
        for key, views in (("s", 4), ("t", 2)):
            own = normal(f"dino{case}{key}", views, 8, 16)
            found[f"dino_{case}_{key}"] = on_grid(0.1 * (own if case == "A" else common + 0.4 * own))
        found[f"dino_{case}_center"] = on_grid(0.05 * normal(f"center{case}", 16))
    return found
