"""The online probe: a linear classifier that learns beside the encoder and tells how well its features classify."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Probe:
    """A linear classifier on features that carry no gradient back into the encoder.

    Each feature vector is normalised (layer normalisation without parameters), because the scale of features differs
    between methods and drifts as they learn. Adam, as in the reference of p_acc (github.com/beresandras/
    contrastive-classification-keras, commit c32077d0, models.py), which takes the features as they are.

    Args:
        features: width of the features.
        classes: number of classes.
        device: where the features are.
        normalise: whether features are normalised.
    """

    def __init__(self, features: int, classes: int, device: torch.device, normalise: bool = True) -> None:
        self.normalise = normalise
        self.linear = nn.Linear(features, classes).to(device)
        self.optimizer = torch.optim.Adam(self.linear.parameters(), lr=1e-3, fused=device.type in ("cpu", "cuda"))

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of features (B, d)."""
        features = features.float()
        logits: Tensor = self.linear(F.layer_norm(features, features.shape[1:]) if self.normalise else features)
        return logits

    def learn(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step on the labelled images of a batch.

        Args:
            features: (B, d), detached.
            labels: int64 (B,), -1 where there is none.

        Returns:
            How many of them were classified rightly before the step, and how many they are, on the device.
        """
        logits = self(features)
        count = (labels >= 0).sum()
        loss = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / count.clamp(min=1)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return (logits.argmax(dim=1) == labels).sum(), count

    def state_dict(self) -> dict[str, Any]:
        """Weights and the state of their optimiser."""
        return {"linear": self.linear.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.linear.load_state_dict(state["linear"])
        self.optimizer.load_state_dict(state["optimizer"])
