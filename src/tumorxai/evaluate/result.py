"""What every classifier leaves behind: scores, all its predictions, and the pairs for DVC's confusion plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.data.dataset import Dataset
from tumorxai.evaluate import scores
from tumorxai.files import write_csv, write_json


def write(
    dataset: Dataset,
    probabilities: NDArray[np.float64],
    chosen: dict[str, float],
    labelled: int,
    seed: int,
    metrics: Path,
    predictions: Path,
    plot: Path,
) -> None:
    """Score validation and test once and write it all.

    Args:
        dataset: the images; their labels are looked at here, after every choice has been made.
        probabilities: (N, K) for all images of the pack.
        chosen: what was chosen on the validation side, for the record.
        labelled: number of images that the classifier was trained on.
        seed: of the bootstrap.
        metrics: JSON to write.
        predictions: CSV to write: image, group, side, label and all class probabilities.
        plot: CSV to write: actual and predicted class of each test image.
    """
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    used = dataset.indices(("train", "validation", "test"))
    names = np.array(dataset.classes)
    table = pd.DataFrame(
        {
            "image_id": used,
            "group": dataset.table["group"].to_numpy()[used],
            "side": dataset.table["side"].to_numpy()[used],
            "label": names[dataset.labels[used]],
            "predicted": names[predicted[used]],
        }
    )
    for k, name in enumerate(dataset.classes):
        table[f"p_{name}"] = probabilities[used, k]
    content: dict[str, object] = {}
    for side in ("validation", "test"):
        ids = dataset.indices(side)
        if len(ids):
            content[side] = scores.summarise(
                dataset.labels[ids], predicted[ids], dataset.clusters(ids), dataset.classes, seed
            )
    test, train = dataset.labels[dataset.indices("test")], dataset.labels[dataset.indices("train")]
    content["majority_accuracy"] = float((test == np.bincount(train).argmax()).mean())
    content["images"] = {"train": labelled, "validation": len(dataset.indices("validation")), "test": len(test)}
    content["chosen"] = chosen
    write_csv(predictions, table)
    on_test = table[table["side"] == "test"]
    write_csv(plot, pd.DataFrame({"actual": on_test["label"], "predicted": on_test["predicted"]}))
    write_json(metrics, content)
