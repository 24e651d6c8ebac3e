"""Files of weights, with a card beside each that says what they are of and holds their checksum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from tumorxai.errors import UserError
from tumorxai.files import atomic, read_json, reading, sha256, write_json

LARGEST = 4096  # side of an image that a card can ask for, pixels


def save(state: Mapping[str, Tensor], path: Path, card: Mapping[str, Any]) -> None:
    """Write weights as safetensors, and what is needed to use them as JSON beside them, with their SHA-256."""
    with atomic(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary)
    write_json(path.with_suffix(".json"), {**card, "sha256": sha256(path)})


def card(path: Path, what: str, remedy: str, *keys: str) -> dict[str, Any]:
    """The card of a file of weights: what every network needs is there and makes sense.

    Args:
        path: of the weights.
        what: they are, for messages.
        remedy: what to do if one of the files is missing or damaged.
        keys: that it must have besides.

    Raises:
        UserError: the weights or the card are missing, or it is no such card.
    """
    place = path.with_suffix(".json")
    for file in (path, place):
        if not file.exists():
            raise UserError(f"got no {file}; expected {what} there; {remedy}")
    described = read_json(place, "timm", "small_stem", "channels", "size", "mean", "std", *keys, remedy=remedy)
    with reading(place, f"the card of {what}", remedy):
        if type(described["timm"]) is not str or type(described["small_stem"]) is not bool:
            raise ValueError("no name of a network")
        if described["channels"] not in (1, 3) or not 1 <= int(described["size"]) <= LARGEST:
            raise ValueError(f"images of {described['channels']} channels and {described['size']} px")
        if not (math.isfinite(described["mean"]) and 0 < described["std"] < math.inf):
            raise ValueError(f"pixels of mean {described['mean']} and standard deviation {described['std']}")
    return described


def read(path: Path, described: Mapping[str, Any], remedy: str) -> dict[str, Tensor]:
    """The weights, if they are those that their card is of.

    Args:
        path: of the weights.
        described: their card.
        remedy: what to do if they are not.

    Raises:
        UserError: they are damaged or others, or the card has no checksum.
    """
    with reading(path, "weights as safetensors", remedy):
        found = sha256(path)
        if described.get("sha256") is None:
            raise UserError(
                f"got a card of {path} without its SHA-256; expected one, so that no others are taken for them; "
                f'if the card is theirs, add "sha256": "{found}" to it, else {remedy}'
            )
        if described["sha256"] != found:
            raise UserError(
                f"got {path} with the SHA-256 {found}; expected {described['sha256']}, as its card says; put back the "
                f"file that the card is of, or {remedy}"
            )
        state: dict[str, Tensor] = load_file(path)
    return state
