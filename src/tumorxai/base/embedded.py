"""The embeddings of all images, with a card that says of what: no others of the same shape are taken for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorxai.base.sides import of_sides
from tumorxai.errors import DamagedError
from tumorxai.files import read_array, read_json, sha256, write_array, write_json

LOOKED_AT = 1000  # images of the pack that its fingerprint is made of: all of a large one would be read in every stage
REMEDY = "run `dvc repro embed`"


def fingerprint(images: NDArray[np.uint8]) -> str:
    """SHA-256 of the pack's shape and of up to LOOKED_AT images (N, C, S, S), evenly spread over it."""
    digest = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    for place in np.unique(np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).round().astype(np.int64)):
        digest.update(np.ascontiguousarray(images[place]).tobytes())
    return digest.hexdigest()


def keep(
    path: Path,
    features: NDArray[np.float32],
    images: NDArray[np.uint8],
    encoder: Path,
    trained: Mapping[str, str] | None = None,
) -> None:
    """Write embeddings, and beside them as JSON the checksums of their file and of the encoder, and the images' own.

    Args:
        path: ``.npy`` to write, row = image_id.
        features: (N, D).
        images: the pack (N, C, S, S).
        encoder: file of the weights that made them.
        trained: what the card of the encoder says of the data that it was trained on.
    """
    write_array(path, features)
    describe(path, images, encoder, trained)


def describe(path: Path, images: NDArray[np.uint8], encoder: Path, trained: Mapping[str, Any] | None = None) -> None:
    """Write the card of embeddings that lie at ``path``; the others as of :func:`keep`."""
    card: dict[str, Any] = {"sha256": sha256(path), "encoder": sha256(encoder), "images": fingerprint(images)}
    if trained is not None:
        card["data"] = dict(trained)
    write_json(path.with_suffix(".json"), card)


def read(
    path: Path, images: NDArray[np.uint8], encoder: Path | None = None, data: Path | None = None
) -> NDArray[np.float32]:
    """What :func:`keep` wrote, memory-mapped (N, D).

    Args:
        path: of the embeddings.
        images: the pack that they must be of.
        encoder: file of the weights that must have made them; None where the reader uses none.
        data: folder of the run whose sides the encoder must have been trained on; None for any.

    Raises:
        UserError: a file is missing or damaged, or they are of other images, of another encoder or of other sides.
    """
    features: NDArray[np.float32] = read_array(path, np.float32, (len(images), None), REMEDY)
    card = read_json(path.with_suffix(".json"), "sha256", "encoder", "images", remedy=REMEDY)
    if card["sha256"] != sha256(path):
        raise DamagedError(f"{path}: got other bytes than its card states; expected those that were written; {REMEDY}")
    if card["images"] != fingerprint(images):
        raise DamagedError(f"{path}: got embeddings of other images; expected those of the pack; {REMEDY}")
    if encoder is not None and card["encoder"] != sha256(encoder):
        raise DamagedError(f"{path}: got embeddings of another encoder; expected those of {encoder}; {REMEDY}")
    of_sides(path, card, data, REMEDY)
    if not np.isfinite(features).all():
        raise DamagedError(
            f"{path}: got values that are not finite; expected numbers; look at the pretraining curves, for the "
            "encoder has diverged"
        )
    return features
