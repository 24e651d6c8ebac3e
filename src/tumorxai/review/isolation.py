"""Images that do not belong: how alone each one is among the others, by the encoder, without any label.

After SelfClean (Gröger et al., arXiv 2305.17048): images off topic merge late with the rest when clusters are joined by
their nearest members, be they alone or a few of a kind. A distance to the k-th neighbour misses the latter as soon as
they are more than k (benchmarks/isolation.py). What merges first, of images that are no known copies, may be one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
Ids = NDArray[np.int64]


class Tree(NamedTuple):
    """A shortest tree that spans N images: N - 1 edges, the shortest first; arrays of shape (N - 1,)."""

    a: Ids
    b: Ids
    length: Scores


def spanning_tree(unit: Floats) -> Tree:
    """Prim's algorithm ("Shortest connection networks", 1957), in the memory of N numbers.

    Args:
        unit: N embeddings of length 1, shape (N, D), N at least 1; an edge is as long as the two are apart, in [0, 2].
    """
    count = len(unit)
    outside = np.ones(count, dtype=bool)
    nearest, square = np.zeros(count, dtype=np.int64), np.full(count, np.inf)
    a, b, length = np.zeros(count - 1, np.int64), np.zeros(count - 1, np.int64), np.zeros(count - 1)
    last = 0
    for edge in range(count - 1):
        outside[last] = False
        new = 2 - 2 * (unit @ unit[last]).astype(np.float64)
        closer = outside & (new < square)
        nearest[closer], square[closer] = last, new[closer]
        last = int(np.argmin(np.where(outside, square, np.inf)))
        a[edge], b[edge], length[edge] = nearest[last], last, np.sqrt(max(square[last], 0.0))
    order = np.argsort(length, kind="stable")
    return Tree(a[order], b[order], length[order])


def isolation(tree: Tree) -> Scores:
    """How alone each of N images is: 0 within the bulk, towards 1 for one that stays alone until the last.

    Let images within reach t of each other, step by step, be one cluster (single linkage, whose merges are the edges of
    the shortest tree). The score is the share of all images outside an image's own cluster, averaged over t from 0 to
    the last merge; SelfClean weighs the same dendrogram by shares of each parent instead.

    Args:
        tree: see :func:`spanning_tree`.

    Returns:
        Shape (N,), in [0, 1).
    """
    count = len(tree.length) + 1
    if count == 1 or tree.length[-1] == 0:
        return np.zeros(count)
    # The dendrogram: images are nodes 0 to N - 1, merges the following ones.
    parent, size, height = np.arange(2 * count - 1), np.ones(2 * count - 1), np.zeros(2 * count - 1)
    height[count:] = tree.length
    top = np.arange(count)  # of the shortest tree's parts, by a member that stands for each
    head = np.arange(count)

    def member(image: int) -> int:
        while head[image] != image:
            head[image] = head[head[image]]
            image = int(head[image])
        return image

    for merge, (one, other) in enumerate(zip(tree.a.tolist(), tree.b.tolist(), strict=True), start=count):
        one, other = member(one), member(other)
        parent[[top[one], top[other]]] = merge
        size[merge] = size[top[one]] + size[top[other]]
        head[other], top[one] = one, merge
    score = np.zeros(2 * count - 1)
    for node in range(2 * count - 3, -1, -1):  # parents before their children
        above = parent[node]
        score[node] = score[above] + (height[above] - height[node]) * (1 - size[node] / count)
    found: Scores = score[:count] / tree.length[-1]
    return found
