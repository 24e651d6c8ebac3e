"""ViT-CX on a small vision transformer of random weights."""

from __future__ import annotations

import heapq
import math

import numpy as np

from tests.golden.draws import Arrays, normal, on_grid


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
