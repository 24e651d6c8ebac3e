"""One embedding of every image, which all frozen protocols share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from tumorxai.base import embedded
from tumorxai.errors import UserError
from tumorxai.files import growing, read_array
from tumorxai.networks import encoders
from tumorxai.networks.store import Ahead, AsTheyAre

BATCH = 256
HELD = 64  # batches whose features are held before they come to the host: it waits for a GPU each time


def embed(encoder: nn.Module, images: NDArray[np.uint8], mean: float, std: float) -> NDArray[np.float32]:
    """All :func:`features` of an encoder that need not be :func:`ready`, shape (N, features)."""
    return np.concatenate(list(features(ready(encoder), images, mean, std)))


def ready(encoder: nn.Module) -> nn.Module:
    """The encoder where and as :func:`features` wants it: on a GPU where there is one. It is moved, not copied."""
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu").to(memory_format=torch.channels_last)


@torch.no_grad()
def features(encoder: nn.Module, images: NDArray[np.uint8], mean: float, std: float) -> Iterator[NDArray[np.float32]]:
    """Features of images, in the encoder's present mode.

    Args:
        encoder: float (B, C, S, S) to (B, features), made :func:`ready`: for one image that takes longer than it does.
        images: uint8 (N, C, S, S).
        mean: of the pixels that the encoder was trained on, on the scale [0, 1].
        std: their standard deviation.

    Yields:
        Those of up to HELD * BATCH images, one row an image, in their order.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    held = Ahead(images, device) if device.type == "cuda" else AsTheyAre(images, device)
    parts: list[Tensor] = []
    batches = np.split(np.arange(len(images)), range(BATCH, len(images), BATCH))
    for i, ids in enumerate(tqdm(batches, desc="embed", unit="batch", disable=len(batches) == 1)):
        fetched = held.fetch(ids, batches[i + 1] if i + 1 < len(batches) else None)
        x = held.pixels(fetched).float() / 255.0
        parts.append(encoder(((x - mean) / std).contiguous(memory_format=torch.channels_last)).float())
        if len(parts) == HELD or i + 1 == len(batches):
            yield torch.cat(parts).cpu().numpy()  # only here the host waits
            parts = []


def run(pack: Path, encoder: Path, out: Path) -> None:
    """Embed the whole pack.

    Args:
        pack: uint8 (N, C, S, S).
        encoder: a pretrained encoder and its card.
        out: ``.npy`` to write, float32 (N, features), row = image_id; its card goes beside it.

    Raises:
        UserError: the encoder was trained on images of another shape.
    """
    model, card = encoders.load(encoder)
    images = read_array(pack, np.uint8, (None, None, None, None))
    if images.shape[1:] != (card["channels"], card["size"], card["size"]):
        raise UserError(
            f"got images of shape {images.shape[1:]}; expected {card['channels']} channels of {card['size']} px as the "
            f"encoder {encoder} was trained on; run `dvc repro`"
        )
    width = encoders.width(model, card["channels"], card["size"])
    with growing(out, np.float32, (width,)) as add:
        for part in features(ready(model), images, card["mean"], card["std"]):
            add(part)
    embedded.describe(out, images, encoder, card.get("data"))
