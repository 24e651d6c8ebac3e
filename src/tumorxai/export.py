"""An encoder as ONNX: one file that holds the weights, the normalisation and the card.

    python -m tumorxai.export models/encoder.safetensors encoder.onnx

Input ``images``: float32 (B, C, S, S), pixels in [0, 1]. Output ``features``: float32 (B, features).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tumorxai import encoders, errors
from tumorxai.errors import UserError
from tumorxai.files import atomic

TOLERANCE = 1e-3  # largest difference from PyTorch, as a share of the features' standard deviation


class Pixels(nn.Module):
    """An encoder that takes pixels in [0, 1]: the normalisation of its card cannot be forgotten."""

    def __init__(self, encoder: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.encoder, self.mean, self.std = encoder, mean, std

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, features)."""
        features: Tensor = self.encoder((images - self.mean) / self.std)
        return features


def run(weights: Path, out: Path) -> float:
    """Write an encoder as ONNX, and run the file beside PyTorch before it gets its name.

    Args:
        weights: ``*.safetensors`` with its card beside it.
        out: ``*.onnx`` to write.

    Returns:
        The largest difference of any feature, as a share of the features' standard deviation.

    Raises:
        UserError: the extra ``export`` is not installed, the encoder does not translate, or the file computes other
            features than PyTorch.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ModuleNotFoundError as error:
        raise UserError(
            f"got no {error.name}; expected the extra `export`; run `pip install 'tumorxai[export]'`"
        ) from None
    encoder, card = encoders.load(weights)
    model = Pixels(encoder, card["mean"], card["std"]).eval()
    shape = (card["channels"], card["size"], card["size"])
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, *shape, generator=generator)
    with atomic(out) as temporary:
        _translate(model, images[:2], temporary)
        described = onnx.load(temporary)
        described.metadata_props.add(key="card", value=json.dumps(card))
        onnx.save(described, temporary)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        with torch.no_grad():
            wanted = model(images).numpy()
        # Other batch sizes than the one that was traced, and one image alone.
        got = np.concatenate([session.run(None, {"images": part.numpy()})[0] for part in (images[:4], images[4:])])
        difference = float(np.abs(got - wanted).max() / wanted.std()) if got.shape == wanted.shape else np.inf
        if not difference <= TOLERANCE:
            raise UserError(
                f"the ONNX file of {weights} computes other features than PyTorch: got a difference of "
                f"{difference:.3g} of their standard deviation; expected at most {TOLERANCE}; the file is not kept"
            )
    return difference


def _translate(model: nn.Module, images: Tensor, path: Path) -> None:
    """Write ``model`` with a free batch size; torch's exporter talks to standard output."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                model, (images,), path, input_names=["images"], output_names=["features"], dynamo=True,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}}, external_data=False,
            )  # fmt: skip
    except Exception as error:  # whatever tracing, translating and writing raise
        raise UserError(f"this encoder does not translate to ONNX: {error}; choose another model.backbone") from None


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="encoder, *.safetensors with its card beside it")
    parser.add_argument("out", type=Path, help="file to write, *.onnx")
    options = parser.parse_args()
    difference = run(options.weights, options.out)
    print(f"{options.out}: differs from PyTorch by {difference:.1g} of the features' standard deviation")


if __name__ == "__main__":
    errors.run(main)
