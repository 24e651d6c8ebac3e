"""What the leak is made of, and an audit of next to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tumorxai import config, files
from tumorxai.audit import leak
from tumorxai.audit.audit import run
from tumorxai.audit.figures import part_rows, parts
from tumorxai.audit.leak import Neighbours, take_apart
from tumorxai.base.dataset import Dataset
from tumorxai.base.pixels import nearest, pixels
from tumorxai.config import Audit, Split
from tumorxai.split.split import draw


def planted(count: int = 240, copies: int = 80) -> tuple[pd.DataFrame, np.ndarray[Any, Any], Neighbours]:
    """Images of noise, the last ``copies`` of them those of the first: only a copy tells the class."""
    rng = np.random.default_rng(0)
    features, label, group = rng.normal(size=(count, 40)).astype(np.float32), np.arange(count) % 3, np.arange(count)
    features[-copies:], label[-copies:], group[-copies:] = features[:copies], label[:copies], group[:copies]
    given = {"source": "s", "patient": "", "fold": "", "official_split": "", "status": "keep", "group": group}
    table = pd.DataFrame(given | {"label": np.array(["a", "b", "c"])[label]}, index=pd.RangeIndex(count))
    return table, label.astype(np.int64), Neighbours(features)


def test_the_leak_of_planted_copies_is_all_copies() -> None:
    found = take_apart(*planted(), Split(), 8, 0)
    assert found is not None
    part = found["parts"]
    chance = 1 / 3
    spread = 3 * np.sqrt(chance * (1 - chance) / 36 / 8)  # of the mean of 8 draws of 36 test images
    assert part["random"]["accuracy"] > 0.5
    assert part["others_removed"]["accuracy"] > 0.5
    assert part["copies_removed"]["accuracy"] == pytest.approx(chance, abs=2 * spread)
    assert part["grouped"]["accuracy"] == pytest.approx(chance, abs=2 * spread)
    assert part["copies_removed"]["train_groups"] == part["others_removed"]["train_groups"]
    assert part["copies_removed"]["train_groups"] < part["random"]["train_groups"]
    assert part["random"]["sd"] > 0
    assert list(part_rows(found)["part"]) == list(part)
    assert len(parts(found).axes) == 2


def test_one_seed_has_no_spread_and_no_split_no_leak() -> None:
    found = take_apart(*planted(), Split(), 1, 0)
    assert found is not None
    assert found["parts"]["random"]["sd"] is None
    table, labels, neighbours = planted(12, 2)
    assert take_apart(table.assign(label=table.index.astype(str)), labels, neighbours, Split(), 1, 0) is None


@pytest.mark.parametrize("depth", [1, 5, 64])
def test_ordered_neighbours_are_the_nearest(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak, "DEPTH", depth)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(700, 30)).astype(np.float32)
    train, test = np.arange(0, 200), np.arange(200, 700)
    assert np.array_equal(Neighbours(features).nearest(train, test), nearest(features, train, test))


def test_six_images_a_class_are_audited(params: config.Params, toy: Path, tmp_path: Path) -> None:
    data = Dataset.load(toy)
    ids = np.concatenate([np.flatnonzero(data.labels == label)[:6] for label in range(len(data.classes))])
    table = data.table.iloc[ids].reset_index(drop=True).rename_axis("image_id")
    table = table.assign(group=np.arange(len(table)), patient="", fold="", status="keep")
    drawn = draw(table, table, Split(), 0)
    columns = [name for name in table if name not in ("group", "status", "side", "label_rank")]
    files.write_array(tmp_path / "pack.npy", data.images[ids])
    files.write_csv(tmp_path / "catalogue.csv", table[columns].reset_index())
    files.write_csv(tmp_path / "groups.csv", table[["group", "label", "status"]].reset_index())
    files.write_csv(tmp_path / "split.csv", drawn)
    files.write_csv(tmp_path / "pairs.csv", pd.DataFrame({"image_a": [], "image_b": []}, dtype=np.int64))
    small = params.model_copy(update={"split": Split(), "audit": Audit(canary_size=8, leak_seeds=2), "seed": 0})
    out = tmp_path / "out"
    run(small, tmp_path, out / "leakage.json", out / "metrics", out, out / "audited.json")
    found = files.read_json(out / "leakage.json")
    assert found["verdict"]["level"] == "copies apart, patients unknown"
    assert found["in_force"]["canary"]["with_series"] is None
    assert found["second"]["estimate"]["total"] is None
    assert files.read_json(out / "metrics" / "leakage.json") == {
        "copies_across_sides": 0, "missed_copies": 0, "patients_across_sides": None, "series_across_sides": 0,
        "patient_unknown": 18,
    }  # fmt: skip
    assert pixels(data, 8).shape == (len(data.images), 64)
