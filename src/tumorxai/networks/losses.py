"""Losses, and the state of losses, that lightly lacks.

Every loss averages over the images of its own process; where other images serve as negatives or as statistics, they
are gathered from all processes, with their gradient. The mean over the processes, which distributed data parallel
takes of the gradients, is then that of one process with the whole batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss
from lightly.utils import dist
from torch import Tensor, nn


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, (world * B, …), in the order of the ranks; gradients flow back to each."""
    return torch.cat(list(dist.gather(rows))) if dist.world_size() > 1 else rows


def own_rows(rows: Tensor, count: int) -> Tensor:
    """The ``count`` rows of this process, out of :func:`gathered` ones."""
    return rows.narrow(0, dist.rank() * count, count)


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    return [_widened(item) for item in value] if isinstance(value, list | tuple) else value


def full_precision(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss computed in single precision inside mixed-precision training: its exponentials need the digits.

    Args:
        loss: takes tensors, or sequences of tensors, by position; the first one names the device.
    """

    @functools.wraps(loss)
    def wrapped(*values: Any) -> Tensor:
        first = values[0] if isinstance(values[0], Tensor) else values[0][0]
        with torch.autocast(first.device.type, enabled=False):
            return loss(*_widened(values))

    return wrapped


def _info_nce(anchors: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Mean over i of -log softmax_j(cos(anchor_i, candidate_j) / temperature) at j = i.

    Args:
        anchors: (B, d).
        candidates: (B, d), row by row the anchors' positives; those of all processes are gathered.
        temperature: tau.
    """
    own = torch.arange(len(anchors), device=anchors.device) + dist.rank() * len(anchors)
    cosines = F.normalize(anchors) @ gathered(F.normalize(candidates)).T  # (B, world * B)
    return F.cross_entropy(cosines / temperature, own)


@full_precision
def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NT-Xent, Eq. 1 of arXiv 2002.05709: a view finds its partner among all other views of the batch.

    lightly's NTXentLoss, but that it takes a view's cosine with itself out by a mask, for which a GPU and its host wait
    for each other at every step; here it goes by places that are known beforehand.

    Args:
        z1: projections of view 1, (B, d).
        z2: of view 2.
        temperature: tau.
    """
    z1, z2 = F.normalize(z1), F.normalize(z2)
    all1, all2 = gathered(z1), gathered(z2)
    own = torch.arange(len(z1), device=z1.device) + dist.rank() * len(z1)
    others = torch.arange(len(all1) - 1, device=z1.device).expand(len(z1), -1)
    others = others + (others >= own[:, None])  # (B, world * B - 1), columns but the own one
    pairs = ((z1, all1), (z1, all2), (z2, all1), (z2, all2))
    s11, s12, s21, s22 = (torch.einsum("nc,mc->nm", *pair) / temperature for pair in pairs)
    s11, s22 = s11.gather(1, others), s22.gather(1, others)
    logits = torch.cat([torch.cat([s12, s11], dim=1), torch.cat([s21, s22], dim=1)])
    return F.cross_entropy(logits, own.repeat(2))


@full_precision
def moco_v3(q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor, temperature: float) -> Tensor:
    """2 tau [ctr(q1, k2) + ctr(q2, k1)]: Eq. 1 and Alg. 1 of arXiv 2104.02057.

    Args:
        q1: predictions of view 1, (B, d).
        q2: of view 2.
        k1: keys of view 1, from the momentum encoder, without gradient.
        k2: of view 2.
        temperature: tau.
    """
    return 2 * temperature * (_info_nce(q1, k2, temperature) + _info_nce(q2, k1, temperature))


@full_precision
def nnclr(nn1: Tensor, nn2: Tensor, p1: Tensor, p2: Tensor, temperature: float) -> Tensor:
    """1/2 [I(nn1, p2) + I(nn2, p1)]: Eq. 3 and Alg. 1 of arXiv 2104.14548.

    lightly's recipe for NNCLR is NT-Xent on these pairs, whose denominator holds other terms as well.

    Args:
        nn1: neighbours of view 1 in the support set, (B, d), without gradient.
        nn2: of view 2.
        p1: predictions of view 1.
        p2: of view 2.
        temperature: tau.
    """
    return 0.5 * (_info_nce(nn1, p2, temperature) + _info_nce(nn2, p1, temperature))


@full_precision
def vicreg(z1: Tensor, z2: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """VICReg (arXiv 2105.04906, Eq. 6), as in its authors' code: the variance halved, the invariance averaged.

    As lightly's loss, but that one picks what is off the diagonal by a mask, which a GPU is waited for to count.

    Args:
        z1: embeddings of the first view, (B, d).
        z2: of the second.
        invariance: weight of the distance of the two.
        variance: of what a feature's standard deviation lacks to 1.
        covariance: of the squared covariances of two different features.
    """
    apart = F.mse_loss(z1, z2)
    both = gathered(z1), gathered(z2)
    narrow, alike = (term(both[0]) + term(both[1]) for term in (_narrow, _covariance))
    return invariance * apart + variance * (0.5 * narrow) + covariance * alike


def _narrow(z: Tensor) -> Tensor:
    """Mean over the features of what their standard deviation lacks to 1 (Eq. 1)."""
    return F.relu(1.0 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()


def _covariance(z: Tensor) -> Tensor:
    """Sum of the squared covariances of two different features, over the number of features (Eq. 4)."""
    z, d = z - z.mean(dim=0), z.shape[1]
    matrix = torch.einsum("bc,bd->cd", z, z) / (len(z) - 1)
    off_diagonal = matrix.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten()
    return off_diagonal.pow(2).sum() / d


@full_precision
def barlow_twins(z1: Tensor, z2: Tensor, redundancy: float) -> Tensor:
    """Eqs. 1-2 of arXiv 2103.03230 on the batch of all processes.

    The features are standardised over that whole batch; lightly's own gathering does so within each process. The
    variances have batch normalisation's 1e-5 added, as in the authors' code.

    Args:
        z1: projections of view 1, (B, d).
        z2: of view 2.
        redundancy: lambda, the weight of the terms off the diagonal.
    """
    value: Tensor = BarlowTwinsLoss(lambda_param=redundancy)(gathered(z1), gathered(z2))
    return value


@full_precision
def cross_view_entropy(targets: Tensor, logits: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean cross-entropy between the targets of some views and the predictions of all other views.

    Eq. 3 of DINO (arXiv 2104.14294) and Eq. 2 with multi-crop, Eq. 6, of SwAV (arXiv 2006.09882); both are averaged
    over their terms, as in the authors' code.

    Args:
        targets: (G, B, K), distributions over K without gradient, of the first G views.
        logits: V tensors (B, K).
        temperature: of the predictions.
    """
    predicted = [F.log_softmax(view / temperature, dim=-1) for view in logits]
    terms = [
        -(target * log_p).sum(dim=-1).mean()
        for g, target in enumerate(targets)
        for v, log_p in enumerate(predicted)
        if v != g
    ]
    return torch.stack(terms).mean()


@full_precision
def supervised_contrastive(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """L_out of arXiv 2004.11362, Eq. 2: each view's mean of -log softmax(cosine / temperature) over its positives.

    Positives are the image's other views and all views of images with its label; the candidates are all views of all
    images but the view itself, those of all processes.

    Args:
        z: (V, B, d), projections of V >= 2 views.
        labels: int64 (B,), -1 where unknown: such an image has its own views alone.
        temperature: tau.
    """
    views, images = len(z), len(labels)
    z = F.normalize(z, dim=-1).flatten(0, 1)  # (V B, d)
    image = torch.arange(images, device=z.device) + dist.rank() * images
    image, label = image.repeat(views), labels.repeat(views)
    everyone, all_images, all_labels = gathered(z), gathered(image), gathered(label)
    own = torch.arange(len(z), device=z.device) + dist.rank() * len(z)
    logits = (z @ everyone.T / temperature).scatter(1, own[:, None], -torch.inf)  # not a view with itself
    positive = (image[:, None] == all_images) | ((label[:, None] == all_labels) & (label[:, None] >= 0))
    positive = positive.scatter(1, own[:, None], False)
    log_p = logits.log_softmax(dim=1)
    value: Tensor = -(log_p.where(positive, 0).sum(dim=1) / positive.sum(dim=1)).mean()
    return value


def partial_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the labelled images of all processes; 0, with a gradient of 0, where there are none.

    Args:
        logits: (B, K).
        labels: int64 (B,), -1 where unknown.
    """
    known = gathered((labels >= 0).sum()[None]).sum().clamp(min=1)
    total = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction="sum")
    value: Tensor = total * dist.world_size() / known
    return value


class Frozen:
    """A switch that holds a parameter still by taking its gradient to zero.

    Its ``requires_grad`` stays as it is: distributed data parallel waits for a gradient of every parameter.
    """

    def __init__(self, parameter: Tensor) -> None:
        self.on = True
        parameter.register_hook(self._stop)  # type: ignore[no-untyped-call]

    def __call__(self, on: bool) -> None:
        """Switch for the backward passes that follow."""
        self.on = on

    def _stop(self, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient) if self.on else gradient


class Queue(nn.Module):
    """The last rows that were pushed, first in, first out; the same in every process, and part of the state.

    Args:
        size: rows that it holds; 0 for none.
        width: of a row.
    """

    rows: Tensor
    place: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, width)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))  # where the next row goes

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Let the rows of all processes, (B, width) each, take the place of the oldest."""
        if not len(self.rows):
            return
        new = gathered(rows.detach()).to(self.rows.dtype)[-len(self.rows) :]
        where = (self.place + torch.arange(len(new), device=new.device)) % len(self.rows)
        self.rows.index_copy_(0, where, new)
        self.place.copy_((self.place + len(new)) % len(self.rows))

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """The row of the queue with the largest cosine to each of (B, width)."""
        with torch.autocast(rows.device.type, enabled=False):
            cosines = F.normalize(rows.to(self.rows.dtype)) @ F.normalize(self.rows).T
        return self.rows[cosines.argmax(dim=1)]
