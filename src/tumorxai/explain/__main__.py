"""``python -m tumorxai.explain IMAGE… --method vit_cx --class meningioma``: heat-maps of image files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tumorxai.errors import UserError, run
from tumorxai.explain.api import explain_images, explain_similarity
from tumorxai.explain.explainer import NAMES


def main() -> None:
    """Explain and print one JSON object for each image."""
    parser = argparse.ArgumentParser(prog="python -m tumorxai.explain", description="Heat-maps of image files.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--method", nargs="+", default=["grad_cam"], metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="to explain; default: the predicted one")
    parser.add_argument("--model", type=Path, help="default: models/finetuned.safetensors, with --like the encoder")
    parser.add_argument("--out", type=Path, default=Path("explained"), help="folder to write; default: %(default)s")
    parser.add_argument("--layer", help="module of the encoder that CAMs are read off; default: found")
    parser.add_argument("--masks", type=int, help="most masks of ViT-CX for an image; default: no limit")
    parser.add_argument("--windows", type=int, default=8, help="of occlusion, on a side; default: %(default)s")
    parser.add_argument("--fit", choices=("pad", "stretch"), default="pad", help="how images become squares")
    parser.add_argument(
        "--like", type=Path, metavar="IMAGE", help="explain the similarity to this image, by the encoder"
    )
    given = parser.parse_args()
    if given.like is not None:
        _similarity(given)
        return
    found = explain_images(
        given.images,
        given.method,
        given.class_name,
        given.model or Path("models/finetuned.safetensors"),
        given.out,
        given.layer,
        given.masks,
        given.windows,
        given.fit,
    )
    for one in found:
        content = {
            "image": str(one.path),
            "predicted": one.predicted,
            "explained": one.explained,
            "probability": one.probabilities[one.explained],
            "flat": one.flat,
            "picture": str(one.picture),
        }
        print(json.dumps(content))


def _similarity(given: argparse.Namespace) -> None:
    if len(given.images) != 1 or len(given.method) != 1 or given.class_name is not None:
        raise UserError(
            "got --like with several images or methods, or a class; expected one image, one method and no class"
        )
    picture = given.out / f"{given.images[0].stem}_like_{given.like.stem}.png"
    encoder = given.model or Path("models/encoder.safetensors")
    cosine, _ = explain_similarity(given.images[0], given.like, given.method[0], encoder, picture, given.fit)
    content = {"image": str(given.images[0]), "like": str(given.like), "cosine": cosine, "picture": str(picture)}
    print(json.dumps(content))


if __name__ == "__main__":
    run(main)
