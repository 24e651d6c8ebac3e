"""Published weights: timm's for the chosen backbone, or a safetensors file, fitted to the encoder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import load_pretrained
from torch import Tensor, nn

from tumorxai.errors import UserError

HUB = "hub"


def load(encoder: Any, weights: str, key: str) -> None:
    """Load published weights into a timm model, fitted to its channels and its image size as timm does.

    Only safetensors are read, because other files can run code when they are opened.

    Args:
        encoder: without classifier.
        weights: ``hub``, or the path of a file.
        key: the parameter that names them.

    Raises:
        UserError: there are no such weights, the hub cannot be reached, or they are of another network.
    """
    described: dict[str, Any] = dict(getattr(encoder, "pretrained_cfg", None) or {})
    name = ".".join(part for part in (described.get("architecture"), described.get("tag")) if part)
    if not name:
        raise UserError(f"got a {type(encoder).__name__} with {key}; expected a timm model; change model.backbone")
    state = (
        _download(name, described.get("hf_hub_id"), key) if weights == HUB else _read(Path(weights).expanduser(), key)
    )
    adapt = getattr(sys.modules[type(encoder).__module__], "checkpoint_filter_fn", lambda state, _: state)

    def complete(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
        adapted: dict[str, Tensor] = adapt(state, encoder)
        if missing := encoder.state_dict().keys() - adapted.keys():
            raise KeyError(f"{len(missing)} tensors are missing, such as {min(missing)}")
        return adapted

    stem = described.get("first_conv") or ""
    first = encoder.get_submodule(stem if isinstance(stem, str) else stem[0])
    channels = getattr(first, "in_channels", described["input_size"][0])
    source = {**described, "source": "", "state_dict": state}  # for timm, which would read any file format itself
    try:
        load_pretrained(encoder, source, num_classes=0, in_chans=channels, filter_fn=complete)
    except (KeyError, RuntimeError, ValueError, AttributeError) as error:
        raise UserError(
            f"got {key} {weights!r}, which do not fit {name}: {error.args[0]}; expected those of "
            "the same network, with model.small_stem false; change one of them"
        ) from None


def _read(path: Path, key: str) -> dict[str, Tensor]:
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(
            f"got {key} {str(path)!r}; expected `{HUB}` or an existing .safetensors file (other "
            "formats may run code when they are opened); correct the path or convert the file"
        )
    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise UserError(f"got {path}, which is no whole safetensors file: {error}; get it again") from None
    return state


def _download(name: str, address: str | None, key: str) -> dict[str, Tensor]:
    if not address:
        raise UserError(
            f"timm has no published weights for {name}; choose one of `timm.list_models(pretrained=True)` as "
            f"model.backbone, or give a file as {key}"
        )
    repository, _, revision = address.partition("@")
    try:
        file = hf_hub_download(repository, "model.safetensors", revision=revision or None)
    except Exception as error:  # whatever the client's HTTP library raises
        if isinstance(error, LocalEntryNotFoundError):
            reason = "the hub cannot be reached, and nothing was fetched before"
        elif isinstance(error, EntryNotFoundError):
            reason = "there is no such file"
        else:
            reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"could not get model.safetensors of {repository} for {name}: {reason}; check the network, choose another "
            f"model.backbone, or give a .safetensors file as {key}"
        ) from None
    return _read(Path(file), key)
