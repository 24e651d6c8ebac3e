"""Heads and losses of the Keras examples that Firildak, Celik and Talu built on, in the place of the papers' own.

github.com/beresandras/contrastive-classification-keras (algorithms.py and train.py) and the examples "Semi-supervised
image classification using contrastive pretraining with SimCLR" and "Self-supervised contrastive learning with NNCLR" of
keras.io, by the same author. They depart from the papers of the methods as each function says. Every loss is the mean
over its rows. A batch of 525 is 500 unlabelled and 25 labelled images, and the online probe, a plain dense layer,
learns from views of these 25 that are its own (train_step in models.py).

What is not as there: the probe's views are the image or its mirror, Firildak et al.'s only augmentation, where train.py
has weak crops and changes of colour; the encoder's weights start as PyTorch draws them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightly.utils import dist
from torch import Tensor, nn

from tumorxai.networks.losses import full_precision, gathered
from tumorxai.networks.views import FIRILDAK

REDUNDANCY = 10.0  # redundancy_reduction_weight of train.py
LABELLED = 25 / 525  # share of a batch that is drawn from the labelled images, in both examples of keras.io
PROBE = FIRILDAK  # what the online probe is shown of them


def head(features: int, hidden: int, width: int) -> nn.Sequential:
    """Two dense layers with a ReLU between them, (B, features) to (B, width), as Keras starts them.

    The papers' heads have batch normalisation, and those of Barlow Twins and NNCLR three layers.
    """
    layers = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, width))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return layers


def _rows(anchors: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Mean over i of -log softmax_j(anchor_i . candidate_j / temperature) at j = i; candidates of all processes."""
    own = torch.arange(len(anchors), device=anchors.device) + dist.rank() * len(anchors)
    return F.cross_entropy(anchors @ gathered(candidates).T / temperature, own)


@full_precision
def info_nce(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """SimCLR there: each view against those of the other kind alone, B candidates, in both directions.

    Equation 1 of arXiv 2002.05709 has the 2 B - 1 views of both kinds in the denominator.

    Args:
        z1: projections of view 1, (B, d).
        z2: of view 2.
        temperature: tau.
    """
    z1, z2 = F.normalize(z1), F.normalize(z2)
    return 0.5 * (_rows(z1, z2, temperature) + _rows(z2, z1, temperature))


@full_precision
def nnclr(nn1: Tensor, nn2: Tensor, z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NNCLR there: neighbours against the projections of the other view, and these against them.

    No prediction head, and the gradient passes straight through a neighbour to the projection that it is of. Equation 3
    of arXiv 2104.14548 has a prediction head, a stopped gradient and the first two of the four terms.

    Args:
        nn1: neighbours in the queue of the projections of view 1, (B, d), of length 1.
        nn2: of view 2.
        z1: projections of view 1, of length 1.
        z2: of view 2.
        temperature: tau.
    """
    nn1, nn2 = z1 + (nn1 - z1).detach(), z2 + (nn2 - z2).detach()
    pairs = ((nn1, z2), (z2, nn1), (nn2, z1), (z1, nn2))
    return torch.stack([_rows(*pair, temperature) for pair in pairs]).mean()


@full_precision
def barlow_twins(z1: Tensor, z2: Tensor) -> Tensor:
    """Barlow Twins there: the mean squared error on the diagonal, and ten times that off it.

    It is equation 1 of arXiv 2103.03230 divided by the d features, with lambda = 10 / (d - 1) instead of 0.005, and
    without batch normalisation's 1e-5 beside the variances.

    Args:
        z1: projections of view 1, (B, d).
        z2: of view 2.
    """
    s1, s2 = ((z - z.mean(dim=0)) / z.std(dim=0, correction=0) for z in (gathered(z1), gathered(z2)))
    correlation = s1.T @ s2 / len(s1)
    count = len(correlation)
    errors = (torch.eye(count, device=z1.device) - correlation).square()
    diagonal = errors.diagonal().sum()
    return diagonal / count + REDUNDANCY * (errors.sum() - diagonal) / (count * (count - 1))
