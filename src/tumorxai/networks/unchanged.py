"""What share of the views each augmentation leaves as the image is: drawn and counted, not read off the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tumorxai.networks.views import View, draw, side

# The fields of a view that switch each augmentation off.
OFF: Mapping[str, Mapping[str, Any]] = {
    "crop": {"crop": (1.0, 1.0), "size": 1.0},
    "mirror": {"horizontal_flip": 0.0},
    "rotation": {"rotation": 0.0},
    "intensity": {"jitter": 0.0},
    "blur": {"blur": 0.0},
    "solarise": {"solarise": 0.0},
    "noise": {"noise": 0.0},
}
LEVEL = 0.5 / 255  # half a grey level: what changes no pixel by more would be stored as the same image


def share(view: View, images: Tensor, seed: int = 0) -> float:
    """Share of the views that equal their image, in [0, 1]; the state of torch's generator stays.

    Args:
        view: what to draw; a view smaller than the image equals none.
        images: uint8 (B, C, S, S).
        seed: of the draws.
    """
    size = side(view, images.shape[-1])
    if size != images.shape[-1]:
        return 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = draw(images, view, size)
    changed = (drawn - images / 255).abs().amax(dim=(1, 2, 3))
    return float((changed <= LEVEL).float().mean())


def shares(view: View, images: Tensor) -> dict[str, float]:
    """For each augmentation the share of the views that it alone leaves unchanged, and that of the whole view.

    Args:
        view: what to draw.
        images: uint8 (B, C, S, S).

    Returns:
        A share in [0, 1] under each name of OFF, and under "all".
    """
    found = {}
    for name in OFF:
        others = {field: value for other, fields in OFF.items() if other != name for field, value in fields.items()}
        found[name] = share(replace(view, **others), images)
    return {**found, "all": share(view, images)}
