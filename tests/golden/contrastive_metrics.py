"""Accuracies without labels."""

from __future__ import annotations

import numpy as np

from tests.golden.draws import Arrays, normal, on_grid


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
