"""Signals of a self-supervised run: does it discriminate, and does it collapse?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _on_diagonal(matrix: Tensor) -> float:
    """Share of rows and columns whose largest entry is on the diagonal; NaN counts as wrong, the first of ties wins."""
    matrix = matrix.nan_to_num(nan=-torch.inf)
    index = torch.arange(len(matrix), device=matrix.device)
    finite = matrix.diagonal().isfinite()
    correct = sum(((matrix.argmax(dim=dim) == index) & finite).sum() for dim in (0, 1))
    return float(correct) / (2 * len(matrix))


def contrastive_accuracy(f1: Tensor, f2: Tensor) -> float:
    """c_acc: share of views whose most similar feature of the other view is their partner's. Chance is 1/B.

    Args:
        f1: encoder features of the first view, (B, d).
        f2: of the second view, row by row of the same images.
    """
    return _on_diagonal(F.normalize(f1, eps=1e-6) @ F.normalize(f2, eps=1e-6).T)


def correlation_accuracy(f1: Tensor, f2: Tensor) -> float:
    """r_acc: share of features that correlate most with themselves across views. Chance is 1/d.

    A feature that is constant over the batch has no correlation and counts as wrong, alone.

    Args:
        f1: encoder features of the first view, (B, d).
        f2: of the second view.
    """
    s1, s2 = ((f - f.mean(dim=0)) / f.std(dim=0, correction=0) for f in (f1, f2))
    return _on_diagonal(s1.T @ s2 / len(f1))


def feature_std(features: Tensor) -> float:
    """Mean standard deviation of the L2-normalised features, times sqrt(d): 1 spread out, 0 collapsed.

    Source: SimSiam (arXiv 2011.10566, section 4.1 and figure 2).

    Args:
        features: (B, d).
    """
    return float(F.normalize(features).std(dim=0).mean()) * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> float:
    """RankMe: exponential of the entropy of the singular values, in [1, min(B, d)] (arXiv 2210.02885, Eqs. 1-2).

    Args:
        features: (B, d).
    """
    values = torch.linalg.svdvals(features.double())
    p = values / values.sum().clamp(min=1e-12) + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))


def all_signals(f1: Tensor, f2: Tensor) -> dict[str, float]:
    """Every signal of two views' features, (B, d) each."""
    return {
        "c_acc": contrastive_accuracy(f1, f2),
        "r_acc": correlation_accuracy(f1, f2),
        "feature_std": feature_std(f1),
        "effective_rank": effective_rank(f1),
    }
