"""An encoder as one file for other programs, and the proof that it computes what PyTorch computes.

ONNX and ``torch.export`` files hold the weights, the normalisation and the card. Input ``images``: float32
(B, C, S, S), pixels in [0, 1]. Output ``features``: float32 (B, features).
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tumorxai.errors import UserError
from tumorxai.files import atomic, write_json
from tumorxai.networks import encoders

TOLERANCE = 1e-3  # largest difference from PyTorch, as a share of the features' standard deviation

Run = Callable[[Tensor], NDArray[np.float32]]  # images (B, C, S, S) to features (B, features)


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
    """Write an encoder in the format that the ending of ``out`` names, and run the file before it gets its name.

    Args:
        weights: ``*.safetensors`` with its card beside it.
        out: ``*.safetensors`` (a copy, the card beside it), ``*.onnx``, or ``*.pt2`` for ``torch.export.load``.

    Returns:
        The largest difference of any feature from PyTorch, as a share of the features' standard deviation.

    Raises:
        UserError: another ending, a package that is not installed, an encoder that does not translate, or a file that
            computes other features than PyTorch.
    """
    endings = (".safetensors", *WRITERS)
    if out.suffix not in endings:
        raise UserError(f"got {out}; expected a name that ends in {', '.join(endings)}; choose one of these formats")
    encoder, card = encoders.load(weights)
    model = Pixels(encoder, card["mean"], card["std"]).eval()
    if out.suffix == ".safetensors":
        if out.resolve() == weights.resolve():
            raise UserError(f"got {out}, which is the encoder itself; expected another name")
        with atomic(out) as temporary:
            shutil.copyfile(weights, temporary)
        write_json(out.with_suffix(".json"), card)
        return 0.0
    shape = (card["channels"], card["size"], card["size"])
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(images).numpy()
    with atomic(out) as temporary:
        written = WRITERS[out.suffix](model, images[:2], card, temporary)
        # Other batch sizes than the one that was traced, and one image alone.
        got = np.concatenate([written(images[:4]), written(images[4:])])
        difference = float(np.abs(got - wanted).max() / wanted.std()) if got.shape == wanted.shape else np.inf
        if not difference <= TOLERANCE:
            raise UserError(
                f"the {out.suffix} file of {weights} computes other features than PyTorch: got a difference of "
                f"{difference:.3g} of their standard deviation; expected at most {TOLERANCE}; the file is not kept"
            )
    return difference


def _onnx(model: nn.Module, images: Tensor, card: dict[str, Any], path: Path) -> Run:
    """Write ONNX with a free batch size, the card in its metadata; gives what runs the file."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ModuleNotFoundError as error:
        raise UserError(
            f"got no {error.name}; expected the extra `export`; run `uv pip install --editable '.[export]'` in a clone"
        ) from None
    _translate(model, images, path)
    described = onnx.load(path)
    described.metadata_props.add(key="card", value=json.dumps(card))
    onnx.save(described, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: np.asarray(session.run(None, {"images": pixels.numpy()})[0])


def _exported(model: nn.Module, images: Tensor, card: dict[str, Any], path: Path) -> Run:
    """Write a ``torch.export`` program with a free batch size, the card as ``card.json``; gives what runs the file."""
    try:
        program = torch.export.export(model, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    except Exception as error:  # whatever tracing raises
        raise UserError(f"torch.export does not take this encoder: {error}; choose another model.backbone") from None
    torch.export.save(program, path, extra_files={"card.json": json.dumps(card)})
    loaded = torch.export.load(path).module()

    def features(pixels: Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = loaded(pixels).numpy()
        return found

    return features


def _translate(model: nn.Module, images: Tensor, path: Path) -> None:
    """Write ``model``; torch's exporter talks to standard output."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                model, (images,), path, input_names=["images"], output_names=["features"], dynamo=True,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}}, external_data=False,
            )  # fmt: skip
    except Exception as error:  # whatever tracing, translating and writing raise
        raise UserError(f"this encoder does not translate to ONNX: {error}; choose another model.backbone") from None


WRITERS = {".onnx": _onnx, ".pt2": _exported}
