"""A classifier: an encoder with a linear head, its normalisation inside, and the files that hold one.

A file holds both, or the head alone: then its card names the file of the encoder, beside it, with its checksum.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tumorxai import config
from tumorxai.base.sides import of_sides
from tumorxai.errors import UserError
from tumorxai.files import reading, sha256
from tumorxai.networks import encoders, weights


class Classifier(nn.Module):
    """Normalised images (B, C, S, S) to logits (B, K).

    Args:
        encoder: (B, C, S, S) to (B, features).
        features: width of the encoder's output.
        classes: names of the K classes.
        mean: of the training pixels, on the scale [0, 1].
        std: their standard deviation.
    """

    def __init__(self, encoder: nn.Module, features: int, classes: tuple[str, ...], mean: float, std: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(features, len(classes))
        self.classes = classes
        self.mean = mean
        self.std = std

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels as 0 to 255 (uint8) or 0 to 1 (float), to what ``forward`` takes."""
        scaled = images.float() / 255.0 if images.dtype == torch.uint8 else images
        return ((scaled - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalised images."""
        logits: Tensor = self.head(self.encoder(x))
        return logits

    @torch.no_grad()
    def probabilities(self, images: NDArray[np.uint8], batch: int = 256) -> NDArray[np.float64]:
        """Class probabilities (n, K) of uint8 images (n, C, S, S), in evaluation mode."""
        training = self.training
        if training:
            self.eval()  # walks through all modules, as does the way back
        device = self.head.weight.device
        parts = [
            self(self.normalise(torch.from_numpy(np.array(images[start : start + batch])).to(device)))
            .double()
            .softmax(dim=1)
            for start in range(0, len(images), batch)
        ]
        if training:
            self.train()
        return torch.cat(parts).cpu().numpy()


def card(model: config.Model, channels: int, size: int, classifier: Classifier) -> dict[str, Any]:
    """What :func:`load` needs beside the weights."""
    return {
        "timm": model.backbone,
        "small_stem": model.small_stem,
        "channels": channels,
        "size": size,
        "mean": classifier.mean,
        "std": classifier.std,
        "features": classifier.head.in_features,
        "classes": list(classifier.classes),
    }


def load(path: Path, data: Path | None = None) -> Classifier:
    """Read a classifier that ``finetune``, ``supervised`` or ``linear`` wrote; it is in evaluation mode.

    Args:
        path: of the weights.
        data: folder of the run whose sides they must have been trained on; None for any.

    Raises:
        UserError: a file is missing or damaged, or the weights are not those of the card, or of another run.
    """
    stage = path.stem if path.stem in ("linear", "supervised") else "finetune"
    remedy = f"run `dvc repro {stage}`"
    described = weights.card(path, "a trained classifier", remedy, "features", "classes")
    of_sides(path, described, data, remedy)
    with reading(path.with_suffix(".json"), "the card of a classifier", remedy):
        classes = tuple(map(str, described["classes"]))
        if len(set(classes)) < max(2, len(described["classes"])):
            raise ValueError(f"the classes {', '.join(classes)}")
        model = config.Model(backbone=described["timm"], small_stem=described["small_stem"])
        encoder = encoders.build(model, described["channels"], described["size"])
        classifier = Classifier(encoder, described["features"], classes, described["mean"], described["std"])
    state = weights.read(path, described, remedy)
    if "encoder" in described:
        below = {f"encoder.{name}": weight for name, weight in _below(path, described["encoder"]).items()}
        state = below | {f"head.{name}": weight for name, weight in state.items()}
    try:
        classifier.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit its card: {error}") from None
    return classifier.eval()


def _below(path: Path, named: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights of the encoder that a head was fitted on.

    Args:
        path: of the head.
        named: ``file`` and ``sha256`` of the encoder, as the head's card has them.
    """
    remedy = "put that one beside it, or run `dvc repro linear`"
    with reading(path.with_suffix(".json"), "the name and the checksum of the encoder", remedy):
        file, wanted = path.with_name(Path(named["file"]).name), str(named["sha256"])
    if not file.exists():
        raise UserError(f"got no {file}; expected the encoder that {path} was fitted on; keep both in one folder")
    if (found := sha256(file)) != wanted:
        raise UserError(
            f"got {file} with the SHA-256 {found}; expected the encoder that {path} was fitted on, {wanted}; {remedy}"
        )
    return weights.read(file, {"sha256": found}, remedy)
