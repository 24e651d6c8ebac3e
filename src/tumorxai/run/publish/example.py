"""What a published classifier says of images: ``python example.py IMAGE...``.

Reads what lies beside it, and needs timm, NumPy and Pillow alone. Research use only. Not a medical device, not for
diagnosis.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor

HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "classifier" / "config.json").read_text(encoding="utf-8"))


def pixels(path: str) -> Tensor:
    """An image of 8 bits as the models take it: normalised, float (1, C, S, S).

    Those of more bits, DICOM and NIfTI are read by TumorXAI alone, whose `tumorxai predict` also warns of images that
    are unlike those learned from.
    """
    shown = CONFIG["pretrained_cfg"]
    channels, size, _ = shown["input_size"]
    image = Image.open(path).convert("L" if channels == 1 else "RGB")
    width, height = size, size
    if shown["crop_mode"] == "border":  # the longer side fills the square, black fills the rest
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new(image.mode, (size, size))
    place = ((size - width) // 2, (size - height) // 2)
    square.paste(image.resize((width, height), Image.Resampling.LANCZOS), place)
    values = torch.from_numpy(np.array(square, dtype=np.float32).reshape(size, size, channels)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(shown[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    return ((values - mean) / std)[None]


def main() -> None:
    """Print the calibrated probabilities of each class, and how many features the encoder gives."""
    encoder = timm.create_model(f"local-dir:{HERE}", pretrained=True).eval()
    classifier = timm.create_model(f"local-dir:{HERE / 'classifier'}", pretrained=True).eval()
    for path in sys.argv[1:]:
        with torch.no_grad():
            image = pixels(path)
            shares = (classifier(image)[0] / CONFIG["temperature"]).softmax(dim=0).tolist()
            features = encoder(image)
        told = dict(zip(CONFIG["label_names"], shares, strict=True))
        print(json.dumps({"image": path, "probabilities": told, "features": features.shape[1]}))


if __name__ == "__main__":
    main()
