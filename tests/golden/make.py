"""Reference inputs and outputs of algorithms, written from the papers' equations: `python tests/golden/make.py`.

Plain loops and small NumPy expressions in float64; nothing of the project's own code, and no library that has the
algorithm. What comes out lies beside this file as `*.npz` without pickle. Gradients are taken by a complex step
(Squire and Trapp, SIAM Rev. 40:110, 1998): Im f(x + ih) / h has no subtraction in it, so it is exact to rounding, and
it shares nothing with automatic differentiation. Inputs are draws of Python's `random.random`, which repeats in every
version, put on a grid of 1/1024, which float32 holds exactly.
"""

from __future__ import annotations

import cmath
import heapq
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
Arrays = dict[str, Any]


def on_grid(x: Any) -> np.ndarray:
    return np.round(np.asarray(x, dtype=np.float64) * 1024) / 1024


def normal(seed: str, *shape: int) -> np.ndarray:
    """Standard normal draws, by Box and Muller's formula, not yet on the grid."""
    uniform = random.Random(seed).random
    draws = [
        math.sqrt(-2 * math.log(1 - uniform())) * math.cos(2 * math.pi * uniform()) for _ in range(math.prod(shape))
    ]
    return np.array(draws).reshape(shape)


# --- Losses ---------------------------------------------------------------------------------------------------------
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


# --- Accuracies without labels --------------------------------------------------------------------------------------
def decisions(matrix: np.ndarray) -> tuple[int, int]:
    """How many rows and columns have their largest entry, the first among equals, on the diagonal; and their number."""
    right = 0
    for square in (matrix, matrix.T):
        for b, row in enumerate(square.tolist()):
            right += row.index(max(row)) == b
    return right, 2 * len(matrix)


def matrices(f1: np.ndarray, f2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines between images, and correlations between features, of two views (B, d)."""
    rows = [f / np.sqrt(np.maximum((f * f).sum(axis=1, keepdims=True), 1e-12)) for f in (f1, f2)]
    columns = [(f - f.mean(axis=0)) / f.std(axis=0) for f in (f1, f2)]
    return rows[0] @ rows[1].T, columns[0].T @ columns[1] / len(f1)


CASES = ("c0", "c1", "c2", "c3", "tie")


def contrastive_metrics(inputs: Arrays) -> Arrays:
    """Contrastive and correlation accuracy as github.com/beresandras/contrastive-classification-keras defines them."""
    found: Arrays = {}
    running = {"c_acc": [0, 0], "r_acc": [0, 0]}
    for case in CASES:
        f1, f2 = (np.asarray(inputs[f"{case}_{key}"], dtype=np.float64) for key in ("f1", "f2"))
        for name, matrix in zip(("c_acc", "r_acc"), matrices(f1, f2), strict=True):
            right, total = decisions(matrix)
            found[f"{case}_{name}"] = np.float64(right / total)
            if case in ("c0", "c1", "c3"):  # an epoch of three batches, weighted by their decisions
                running[name][0] += right
                running[name][1] += total
    return found | {f"running_{name}": np.float64(right / total) for name, (right, total) in running.items()}


def gap(f1: np.ndarray, f2: np.ndarray) -> float:
    """Between the largest and the second largest entry of a row or a column: what rounding must not reach."""
    squares = [square for matrix in matrices(f1, f2) for square in (matrix, matrix.T)]
    return min(float(np.diff(np.sort(square, axis=1)[:, -2:], axis=1).min()) for square in squares)


def contrastive_inputs() -> Arrays:
    """Unrelated views; a strong noise; uneven, non-negative features; features far from zero; exact ties."""

    def views(case: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        def draw(name: str, *shape: int) -> np.ndarray:
            return normal(f"{case}{name}{seed}", *shape)

        if case == "c0":
            return draw("1", 64, 32), draw("2", 64, 32)
        if case == "c1":
            first = draw("1", 64, 32)
            return first, first + 1.6 * draw("2", 64, 32)
        if case == "c2":
            mixed, scale = draw("1", 64, 32) + draw("common", 64, 1), np.exp(draw("scale", 32))
            return abs(mixed) * scale, abs(mixed + 1.5 * draw("2", 64, 32)) * scale
        mix, first = draw("mix", 24, 24), draw("1", 50, 24)
        return first @ mix / 4 + 3, (first + 1.5 * draw("2", 50, 24)) @ mix / 4 + 3

    found: Arrays = {}
    for case in CASES[:-1]:
        pairs = (tuple(map(on_grid, views(case, seed))) for seed in range(1000))
        first = next(pair for pair in pairs if gap(*pair) > 1e-4)
        found |= {f"{case}_{key}": f.astype(np.float32) for key, f in zip(("f1", "f2"), first, strict=True)}
    # Signs of a Hadamard matrix: row norms are 4, means 0, deviations 1, so that ties are ties in any precision. Rows
    # r and r + 16 are the same, and so are the first column and the last.
    signs = [[(-1.0) ** (r & c).bit_count() for c in (*range(1, 16), 1)] for r in range(32)]
    found |= dict.fromkeys(("tie_f1", "tie_f2"), np.array(signs, dtype=np.float32))
    return found


# --- ViT-CX ---------------------------------------------------------------------------------------------------------
def layer_norm(x: np.ndarray, w: Arrays, name: str) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: Arrays, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


erf = np.vectorize(math.erf)


def vit(x: np.ndarray, w: Arrays, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """A plain pre-norm vision transformer (arXiv 2010.11929) on one image (C, H, W).

    Returns:
        Logits, and the first norm of the last block without the class token, (J, h, w).
    """
    kernel = w["patch_embed.proj.weight"]
    width, _, patch, _ = kernel.shape
    side = x.shape[1] // patch
    tokens = [w["cls_token"][0, 0]]
    for r in range(side):
        for c in range(side):
            piece = x[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
            tokens.append((kernel * piece).sum(axis=(1, 2, 3)) + w["patch_embed.proj.bias"])
    y = np.stack(tokens) + w["pos_embed"][0]
    depth = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
    for block in (f"blocks.{b}" for b in range(depth)):
        normed = layer_norm(y, w, f"{block}.norm1")
        q, k, v = np.split(linear(normed, w, f"{block}.attn.qkv"), 3, axis=1)
        mixed = []
        for h in range(heads):
            own = slice(h * width // heads, (h + 1) * width // heads)
            mixed.append(softmax(q[:, own] @ k[:, own].T / math.sqrt(width // heads)) @ v[:, own])
        y = y + linear(np.concatenate(mixed, axis=1), w, f"{block}.attn.proj")
        hidden = linear(layer_norm(y, w, f"{block}.norm2"), w, f"{block}.mlp.fc1")
        y = y + linear(hidden * (1 + erf(hidden / math.sqrt(2))) / 2, w, f"{block}.mlp.fc2")
    return linear(layer_norm(y, w, "norm")[0], w, "head"), normed[1:].T.reshape(width, side, side)


def enlarged(f: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, with half-pixel centres; (J, h, w) to (J, size, size)."""
    cells = f.shape[1]
    weights = np.zeros((size, cells))
    for t in range(size):
        at = max(0.0, (t + 0.5) * cells / size - 0.5)
        left = int(at)
        weights[t, left] += 1 - (at - left)
        weights[t, min(left + 1, cells - 1)] += at - left
    return np.einsum("ac,jcd,bd->jab", weights, f, weights)


def stretched(m: np.ndarray) -> np.ndarray:
    """Each (H, W) to [0, 1]."""
    low, high = m.min(axis=(1, 2), keepdims=True), m.max(axis=(1, 2), keepdims=True)
    return (m - low) / (high - low)


def complete_linkage(distance: np.ndarray, threshold: float) -> tuple[np.ndarray, list[float]]:
    """Merge the two closest clusters, as far apart as their farthest members, again and again.

    Returns:
        Cluster of each channel where merges below the threshold are carried out, and the heights of all merges.
        Clusters are numbered as scikit-learn does, which the authors' code uses and which decides whose noise is
        whose: the tree is cut from the top, its nodes kept in a heap.
    """
    members = {j: [j] for j in range(len(distance))}
    children: list[tuple[int, int]] = []
    heights: list[float] = []
    everything = dict(members)
    while len(members) > 1:
        nodes = sorted(members)
        pairs = [(a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :]]
        far = {(a, b): max(distance[i, j] for i in members[a] for j in members[b]) for a, b in pairs}
        a, b = min(far, key=lambda pair: far[pair])
        heights.append(float(far[a, b]))
        children.append((a, b))
        node = len(distance) + len(children) - 1
        members[node] = everything[node] = members.pop(a) + members.pop(b)
    count = 1 + sum(height >= threshold for height in heights)
    heap = [-max(everything)]
    for _ in range(count - 1):
        one, other = children[-heap[0] - len(distance)]
        heapq.heappush(heap, -one)
        heapq.heappushpop(heap, -other)
    labels = np.empty(len(distance), dtype=np.int64)
    for number, node in enumerate(heap):
        labels[everything[-node]] = number
    return labels, heights


def vit_cx(inputs: Arrays, heads: int, images: int = 3, threshold: float = 0.1) -> Arrays:
    """ViT-CX, arXiv 2211.03064, with what github.com/vaynexie/CausalX-ViT adds to the paper (commit a120d993)."""
    w = {name[2:]: np.asarray(value, dtype=np.float64) for name, value in inputs.items() if name.startswith("w.")}
    found: Arrays = {}
    for i in range(images):
        x, target = np.asarray(inputs[f"i{i}_image"], dtype=np.float64), int(inputs[f"i{i}_target"])
        logits, features = vit(x, w, heads)
        clean = softmax(logits)
        channels = stretched(enlarged(features, x.shape[1]))
        flat = channels.reshape(len(channels), -1)
        norms = np.sqrt((flat**2).sum(axis=1))
        distance = 1 - flat @ flat.T / np.outer(norms, norms)
        labels, heights = complete_linkage(distance, threshold)
        masks = stretched(np.stack([channels[labels == k].sum(axis=0) for k in range(labels.max() + 1)]))
        noise = np.asarray(inputs[f"i{i}_noise"], dtype=np.float64)[: len(masks)]
        p_masked, p_noisy = [], []
        for mask, draw in zip(masks, noise, strict=True):
            error = 0.1 * draw * (1 - mask)
            p_masked.append(softmax(vit(x * mask + error, w, heads)[0]))
            p_noisy.append(softmax(vit(x + error, w, heads)[0]))
        scores = np.array([a[target] - b[target] + clean[target] for a, b in zip(p_masked, p_noisy, strict=True)])
        saliency = sum(s * m for s, m in zip(scores, masks, strict=True)) / masks.sum(axis=0) / len(masks)
        found |= {
            f"i{i}_{name}": value
            for name, value in {
                "p_clean": clean, "features": features, "distance": distance, "merge_heights": np.array(heights),
                "cluster_labels": labels, "masks": masks, "p_masked": np.stack(p_masked),
                "p_noisy": np.stack(p_noisy), "scores": scores, "saliency": saliency,
            }.items()
        }  # fmt: skip
    return found


SIZE, PATCH, WIDTH, DEPTH, HEADS, CLASSES, MOST = 32, 4, 24, 2, 2, 4, 12


def vit_inputs(seed: int) -> Arrays:
    """A network of random weights, three images of bright blobs, and noise for MOST masks.

    Untrained weights say as much as trained ones on whether two programs do the same. They are large, so that what is
    masked matters to the output.
    """

    def matrix(name: str, out: int, within: int, gain: float = 1.0) -> Arrays:
        weight = gain * normal(f"{name}{seed}", out, within) / math.sqrt(within)
        return {f"{name}.weight": weight, f"{name}.bias": 0.1 * normal(f"{name}bias{seed}", out)}

    def norm(name: str) -> Arrays:
        return {f"{name}.weight": 1 + 0.2 * normal(f"{name}{seed}", WIDTH), f"{name}.bias": 0.1 * normal(name, WIDTH)}

    w: Arrays = {
        "cls_token": normal(f"cls{seed}", 1, 1, WIDTH),
        "pos_embed": 0.3 * normal(f"pos{seed}", 1, (SIZE // PATCH) ** 2 + 1, WIDTH),
        **matrix("patch_embed.proj", WIDTH, 3 * PATCH**2, 2.0),
        **norm("norm"),
        **matrix("head", CLASSES, WIDTH, 2.0),
    }
    for b in range(DEPTH):
        at = f"blocks.{b}"
        w |= norm(f"{at}.norm1") | norm(f"{at}.norm2")
        w |= matrix(f"{at}.attn.qkv", 3 * WIDTH, WIDTH) | matrix(f"{at}.attn.proj", WIDTH, WIDTH)
        w |= matrix(f"{at}.mlp.fc1", 4 * WIDTH, WIDTH) | matrix(f"{at}.mlp.fc2", WIDTH, 4 * WIDTH)
    w["patch_embed.proj.weight"] = w["patch_embed.proj.weight"].reshape(WIDTH, 3, PATCH, PATCH)
    found: Arrays = {f"w.{name}": on_grid(value).astype(np.float32) for name, value in w.items()}
    y, x = np.mgrid[:SIZE, :SIZE]
    for i, blobs in enumerate(([(8, 9)], [(23, 20)], [(10, 24), (22, 8)])):
        image = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18) for a, b in blobs)
        grain = 0.1 * normal(f"grain{i}{seed}", 3, SIZE, SIZE)
        found[f"i{i}_image"] = on_grid(1.6 * image - 0.8 + grain).astype(np.float32)
        found[f"i{i}_noise"] = (np.round(normal(f"noise{i}{seed}", MOST, 3, SIZE, SIZE) * 32) / 32).astype(np.float16)
        found[f"i{i}_target"] = np.int64(i)
    return found


def vit_reference() -> Arrays:
    """Of the first network whose channels form a few clusters, none of them by a hair, and whose maps are not flat."""
    for seed in range(1000):
        inputs = vit_inputs(seed)
        found = vit_cx(inputs, HEADS)
        counts = [len(found[f"i{i}_masks"]) for i in range(3)]
        hair = min(float(abs(found[f"i{i}_merge_heights"] - 0.1).min()) for i in range(3))
        spread = min(float(np.ptp(found[f"i{i}_saliency"])) for i in range(3))
        if min(counts) >= 3 and max(counts) <= MOST and hair > 2e-3 and spread > 2e-3:
            for i, count in enumerate(counts):
                inputs[f"i{i}_noise"] = inputs[f"i{i}_noise"][:count]
            return inputs | found
    raise AssertionError("no such network")


REFERENCES: dict[str, Callable[[], Arrays]] = {
    "losses": lambda: (inputs := loss_inputs()) | losses(inputs),
    "contrastive_metrics": lambda: (inputs := contrastive_inputs()) | contrastive_metrics(inputs),
    "vit_cx": vit_reference,
}

if __name__ == "__main__":
    for name, make in REFERENCES.items():
        file = HERE / f"{name}.npz"
        np.savez_compressed(file, **make())
        print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")
