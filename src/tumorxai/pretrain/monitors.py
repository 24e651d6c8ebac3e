"""Signals of a self-supervised run: does it discriminate, and does it collapse?"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MONITORED = 512  # images whose features tell the spread and the rank: the last ones of each epoch
R_ACC = ("r_acc", "r_acc_nan_wins", "dead_features")  # what correlation_accuracy gives

# A run collapses when one of these signals is below its bound, and below a quarter of what it was before the first
# step: a network without batch normalisation starts with features that hardly differ, and spreads them as it learns.
# docs/pretraining.md holds the measurements.
BOUNDS = {"feature_std": 0.05, "effective_rank": 2.0, "projection_std": 0.2}
FALLEN = 0.25


def _on_diagonal(matrix: Tensor) -> Tensor:
    """Share of rows and columns whose largest entry is on the diagonal; NaN counts as wrong, the first of ties wins."""
    matrix = matrix.nan_to_num(nan=-torch.inf)
    index = torch.arange(len(matrix), device=matrix.device)
    finite = matrix.diagonal().isfinite()
    # Along the columns of memory, argmax takes four times as long as a transposed copy.
    rows, columns = (((m.argmax(dim=1) == index) & finite).sum() for m in (matrix, matrix.T.contiguous()))
    return (rows + columns).double() / (2 * len(matrix))


def _right_if_nan_wins(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows that find the diagonal when each goes through ``best >= next ? best : next``, as XLA's argmax does.

    A NaN takes the place of what came before it and yields to whatever comes next. So only the entries after a row's
    last NaN count; where that is the last entry, it is what is found.

    Args:
        matrix: (d, d), NaN in some whole rows and columns.
        rows: which rows, (d,).
        columns: which columns, (d,).
    """
    index = torch.arange(len(matrix), device=matrix.device)
    last = torch.where(columns, index, -1).amax()
    found = matrix.masked_fill(index <= last, -torch.inf).argmax(dim=1)
    return ((found == index) & (index > last) & ~rows).sum() + (rows[-1] | columns[-1])


def contrastive_accuracy(f1: Tensor, f2: Tensor) -> Tensor:
    """c_acc: share of views whose most similar feature of the other view is their partner's. Chance is 1/B.

    Args:
        f1: encoder features of the first view, (B, d).
        f2: of the second view, row by row of the same images.
    """
    return _on_diagonal(F.normalize(f1, eps=1e-6) @ F.normalize(f2, eps=1e-6).T)


def correlation_accuracy(f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r_acc: share of features that correlate most with themselves across views. Chance is 1/d.

    A feature that is constant over the batch, as one that a ReLU has turned off for good, has no correlation (0/0). It
    counts as wrong, alone. The code that Firildak et al. built on does not say what becomes of it: where NaN wins the
    comparison, no feature before the last dead one is right, and the share tells where that one stands, no more. With
    128 features 1/128 is the 0.78% of their table 1, and 46/128 its 35.94%.

    Args:
        f1: encoder features of the first view, (B, d).
        f2: of the second view.

    Returns:
        The share; the same where NaN wins; and the share of dead features, constant in one of the views or in both.
    """
    s1, s2 = ((f - f.mean(dim=0)) / f.std(dim=0, correction=0) for f in (f1, f2))
    dead1, dead2 = s1[0].isnan(), s2[0].isnan()
    correlation = s1.T @ s2 / len(f1)
    right = _right_if_nan_wins(correlation, dead1, dead2) + _right_if_nan_wins(correlation.T.contiguous(), dead2, dead1)
    return _on_diagonal(correlation), right.double() / (2 * len(correlation)), (dead1 | dead2).double().mean()


def accuracies(f1: Tensor, f2: Tensor) -> dict[str, Tensor]:
    """What the features of two views of a batch tell by themselves, by name: c_acc and the three of ``R_ACC``.

    Args:
        f1: encoder features of the first view, (B, d).
        f2: of the second view, row by row of the same images.
    """
    return {"c_acc": contrastive_accuracy(f1, f2), **dict(zip(R_ACC, correlation_accuracy(f1, f2), strict=True))}


def feature_std(features: Tensor) -> Tensor:
    """Mean standard deviation of the L2-normalised features, times sqrt(d): 1 spread out, 0 collapsed.

    Source: SimSiam (arXiv 2011.10566, section 4.1 and figure 2).

    Args:
        features: (B, d).
    """
    return F.normalize(features).std(dim=0).mean() * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> Tensor:
    """RankMe: exponential of the entropy of the singular values, in [1, min(B, d)] (arXiv 2210.02885, Eqs. 1-2).

    Args:
        features: (B, d).
    """
    values = torch.linalg.svdvals(features.double())
    p = values / values.sum().clamp(min=1e-12) + 1e-7
    return torch.exp(-(p * p.log()).sum())


def bounds(initial: Mapping[str, float]) -> dict[str, float]:
    """Bound of each signal below which a run with these ``initial`` signals is said to collapse."""
    return {name: min(BOUNDS[name], FALLEN * value) for name, value in initial.items()}


def collapsing(
    history: Sequence[Mapping[str, float]], bounds: Mapping[str, float], skip: float
) -> tuple[str | None, int]:
    """The signal that has been below its bound for the most epochs in a row up to the last, and how many these are.

    Args:
        history: the signals of each epoch.
        bounds: of some of them.
        skip: first epochs that do not count, while the learning rate rises.
    """
    counts: dict[str | None, int] = {None: 0}
    for name, bound in bounds.items():
        values = [signals[name] for signals in history[math.ceil(skip) :]]
        counts[name] = next((i for i, value in enumerate(reversed(values)) if value >= bound), len(values))
    return max(counts.items(), key=lambda item: item[1])


class Seen:
    """What a method's loss computes on its way, so that watching it costs no pass of its own.

    Args:
        method: the first of its modules beside encoders that turns features into rows with a gradient is its
            projection.
        encoder: the network that is watched. Its first call within a loss has view 1 as its first rows, and view 2
            follows there or in the next call.
    """

    def __init__(self, method: nn.Module, encoder: nn.Module) -> None:
        self.encoded: list[Tensor] = []
        self.projected: Tensor | None = None
        encoder.register_forward_hook(self._encode)
        for child in method.children():
            if child not in (encoder, method.encoder):
                child.register_forward_hook(self._project)

    def _encode(self, encoder: nn.Module, _: object, output: Tensor) -> None:
        if encoder.training:
            self.encoded.append(output.detach())

    def _project(self, module: nn.Module, _: object, output: object) -> None:
        if self.projected is None and isinstance(output, Tensor) and output.ndim == 2 and output.requires_grad:
            self.projected = output.detach()

    def take(self, count: int) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
        """What the last loss saw of ``count`` images, float32; None for what it did not compute.

        Returns:
            Features of two views, (count, d) each, and the projection of the first, (count, p).
        """
        features = torch.cat(self.encoded).float() if self.encoded else torch.empty(0)
        projected = self.projected[:count].float() if self.projected is not None else None
        self.encoded.clear()
        self.projected = None
        return (features[:count], features[count : 2 * count]) if len(features) >= 2 * count else None, projected


class Epoch:
    """What one epoch gathers, on the device: nothing here waits for it before :meth:`signals`.

    Args:
        steps: of the epoch.
        device: where the losses and the features are.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.losses = torch.zeros(steps, dtype=torch.float64, device=device)
        self.sums: dict[str, Tensor] = {}  # of each signal: the sum of its values and that of their weights
        self.features: deque[Tensor] = deque()

    def add(self, name: str, total: Tensor, weight: Tensor | float = 1.0) -> None:
        """Count in a value, given as value times weight."""
        sums = self.sums.setdefault(name, self.losses.new_zeros(2))
        sums[0] += total
        sums[1] += weight

    def watch(self, f1: Tensor, f2: Tensor) -> None:
        """Count in the features of two views of a batch, (B, d) each."""
        for name, value in accuracies(f1, f2).items():
            self.add(name, value * len(f1), len(f1))
        self.keep(f1)

    def keep(self, f1: Tensor) -> None:
        """Features of a batch, (B, d): those of the last images of the epoch stay until its end."""
        self.features.append(f1)
        while sum(map(len, self.features)) - len(self.features[0]) >= MONITORED:
            self.features.popleft()

    def share(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Put the mean over all processes in the place of what each has gathered alone.

        Args:
            mean: takes a tensor to its mean over all processes.
        """
        self.losses = mean(self.losses)
        self.sums = {name: mean(sums) for name, sums in self.sums.items()}

    def signals(self) -> dict[str, float]:
        """Means over the epoch, and the spread and the rank of its last features."""
        found = {"loss": float(self.losses.mean())}
        for name, sums in self.sums.items():
            total, weight = sums.tolist()
            if weight:
                found[name] = total / weight
        features = torch.cat(tuple(self.features))
        return {**found, "feature_std": float(feature_std(features)), "effective_rank": float(effective_rank(features))}

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors."""
        return {"losses": self.losses, "sums": dict(self.sums), "features": list(self.features)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        device = self.losses.device
        self.losses.copy_(state["losses"])
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.features = deque(value.to(device) for value in state["features"])
