"""Are images that do not belong ranked first? Foreign ones are planted among a data set's own.

    python benchmarks/isolation.py OWN.zip FOREIGN.zip… [--encoder models/encoder.safetensors] [--planted 5]

Ranks by isolation (single linkage) and by the distance to the k-th neighbour, on the encoder given, on one with random
weights and, where the extra ``imagenet`` is installed, on one with ImageNet's. Prints Markdown; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from tumorxai import config
from tumorxai.base.neighbours import normalised
from tumorxai.errors import UserError
from tumorxai.networks import encoders, published
from tumorxai.networks.embed import embed
from tumorxai.review.isolation import isolation, spanning_tree
from tumorxai.robustness.foreign import distances, fetched
from tumorxai.tools import lite0


def networks(encoder: Path | None, size: int) -> Iterator[tuple[str, torch.nn.Module]]:
    """Encoders to try."""
    if encoder:
        yield str(encoder), encoders.load(encoder)[0]
    torch.manual_seed(0)
    yield "random resnet10t", encoders.build(config.Model(backbone="resnet10t"), 1, size).eval()
    with tempfile.TemporaryDirectory() as folder:
        try:
            lite0.convert(Path(folder) / "w.safetensors")
        except UserError as error:
            print(error)
            return
        network = encoders.build(config.Model(backbone=lite0.BACKBONE), 1, size)
        published.load(network, str(Path(folder) / "w.safetensors"), "w.safetensors")
        yield "ImageNet efficientnet-lite0", network.eval()


def scores(features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """How foreign each image is, by each way of asking."""
    found = {"isolation": isolation(spanning_tree(normalised(features)))}
    for k in (1, 5, 10):
        found[f"distance to neighbour {k}"] = distances(features, features, k + 1)  # the nearest is the image itself
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("own", type=Path)
    parser.add_argument("foreign", type=Path, nargs="+")
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="of the data set's own")
    parser.add_argument("--planted", type=int, default=5, help="of each foreign source")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--draws", type=int, default=5)
    chosen = parser.parse_args()

    data = config.Data(image_size=chosen.size)
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(chosen.draws):
        own, *others = (
            next(iter(fetched([config.PathSource(path=str(path))], data, count, seed).values()))
            for path, count in [(chosen.own, chosen.images), *((path, chosen.planted) for path in chosen.foreign)]
        )
        images = np.concatenate([own, *others])
        planted = np.arange(len(images)) >= len(own)
        for name, network in networks(chosen.encoder, chosen.size):
            for way, score in scores(embed(network, images, own.mean() / 255, own.std() / 255)).items():
                first = np.argsort(-score, kind="stable")[: planted.sum()]
                reached = float(average_precision_score(planted, score)), float(planted[first].mean())
                rows.setdefault((name, way), []).append(reached)
    print(f"{len(own)} images of {chosen.own.stem}; {chosen.planted} planted of each of {len(others)} others;", end=" ")
    print(f"chance {planted.mean():.3f}; mean and SD over {chosen.draws} draws\n")
    print("| encoder | ranked by | average precision | precision among as many as were planted |\n|---|---|---|---|")
    for (name, way), values in rows.items():
        (average, first_ones), (spread, _) = np.mean(values, axis=0), np.std(values, axis=0)
        print(f"| {name} | {way} | {average:.3f} ± {spread:.3f} | {first_ones:.3f} |")
    print(json.dumps({" / ".join(key): np.mean(values, axis=0).round(4).tolist() for key, values in rows.items()}))


if __name__ == "__main__":
    main()
