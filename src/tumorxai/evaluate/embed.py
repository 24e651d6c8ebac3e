"""One embedding of every image, which all frozen protocols share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tumorxai import encoders
from tumorxai.errors import UserError
from tumorxai.files import read_array, write_array

BATCH = 256


@torch.no_grad()
def run(pack: Path, encoder: Path, out: Path) -> None:
    """Embed the whole pack.

    Args:
        pack: uint8 (N, C, S, S).
        encoder: a pretrained encoder and its card.
        out: ``.npy`` to write, float32 (N, features), row = image_id.

    Raises:
        UserError: the encoder was trained on images of another shape.
    """
    model, card = encoders.load(encoder)
    images = read_array(pack)
    if images.shape[1:] != (card["channels"], card["size"], card["size"]):
        raise UserError(
            f"got images of shape {images.shape[1:]}; expected {card['channels']} channels of {card['size']} px as the "
            f"encoder {encoder} was trained on; run `dvc repro`"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).to(memory_format=torch.channels_last)
    parts = []
    for start in tqdm(range(0, len(images), BATCH), desc="embed", unit="batch"):
        x = torch.from_numpy(np.array(images[start : start + BATCH])).to(device).float() / 255.0
        parts.append(
            model(((x - card["mean"]) / card["std"]).contiguous(memory_format=torch.channels_last)).float().cpu()
        )
    write_array(out, torch.cat(parts).numpy())
