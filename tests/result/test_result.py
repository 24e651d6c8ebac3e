"""From kept predictions to every figure, and the proof that the test labels decide nothing."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from tests.conftest import ROOT
from tests.intervals import outside
from tumorxai import config
from tumorxai.base import embedded
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import Predictions, keep
from tumorxai.base.protocols import PROTOCOLS
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256, write_csv, write_json
from tumorxai.networks import encoders
from tumorxai.probe import baselines, frozen, linear
from tumorxai.result import hierarchy, ranking, result
from tumorxai.train import finetune, labels


def small(params: config.Params) -> config.Params:
    quick = {
        "frozen": config.Frozen(neighbours=[1, 5], shots=[1, 3], shot_draws=5, fractions=[0.25, 1.0], draws=2),
        "labels": config.Labels(fractions=[0.25, 1.0], draws=2, steps=8),
        "finetune": params.finetune.model_copy(update={"epochs": 6, "lr": 3e-3, "backbone_lr": 3e-3}),
        "supervised": params.supervised.model_copy(update={"epochs": 3, "lr": 3e-3, "backbone_lr": 3e-3}),
    }
    return params.model_copy(update=quick)


def everything(params: config.Params, data: Path, encoder: Path, embeddings: Path, out: Path) -> None:
    """All stages from the embedding to the scores."""
    models = out / "models"
    linear.run(params, data, embeddings, encoder, models / "linear.safetensors", models / "predictions_linear.csv")
    frozen.run(
        params, data, embeddings, models / "predictions_knn.csv", models / "shots.csv", models / "curve_linear.csv"
    )
    names = ("predictions_majority", "predictions_pixel_neighbour", "predictions_random_linear", "curve_random_linear")
    baselines.run(params, data, *(models / f"{name}.csv" for name in names))
    for name, recipe, start in (("finetune", params.finetune, encoder), ("supervised", params.supervised, None)):
        weights, kept = models / f"{name}.safetensors", models / f"predictions_{name}.csv"
        with chdir(out):  # where their checkpoints lie
            finetune.run(params, recipe, data, start, weights, kept, out / "plots" / "training" / f"{name}.csv")
            labels.run(params, recipe, data, start, models / f"curve_{name}.csv")
    result.run(params, models, out / "details", out / "metrics", out / "plots")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, toy: Path) -> tuple[Path, Path]:
    """A whole evaluation, and the same with the test labels shuffled."""
    root = tmp_path_factory.mktemp("runs")
    shuffled = root / "data"
    shuffled.mkdir()
    for path in toy.iterdir():
        (shuffled / path.name).write_bytes(path.read_bytes())
    for name in ("groups.csv", "split.csv"):
        table = pd.read_csv(toy / name, keep_default_na=False)
        table.loc[96:, "label"] = np.random.default_rng(0).permutation(table.loc[96:, "label"])
        write_csv(shuffled / name, table)
    loaded = config.load(ROOT / "params.yaml")
    params = small(loaded.model_copy(update={"model": config.Model(backbone="test_resnet")}))
    params = params.model_copy(
        update={key: getattr(params, key).model_copy(update={"batch_size": 16}) for key in ("finetune", "supervised")}
    )
    encoder = root / "encoder.safetensors"
    card = {"timm": "test_resnet", "small_stem": False, "channels": 1, "size": 32, "mean": 0.3, "std": 0.2}
    encoders.save(encoders.build(params.model, 1, 32).state_dict(), encoder, card)
    features = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    features[np.arange(120), Dataset.load(toy).labels] += 2.5
    embedded.keep(root / "embeddings.npy", features, Dataset.load(toy).images, encoder)
    for name, data in (("one", toy), ("other", shuffled)):
        everything(params, data, encoder, root / "embeddings.npy", root / name)
    return root / "one", root / "other"


def test_test_labels_change_no_choice(two_runs: tuple[Path, Path]) -> None:
    """Penalty, neighbours, epochs, temperature, threshold, weights and every prediction stay; the scores do not."""
    one, other = two_runs
    assert {path.name for path in (one / "models").iterdir()} == {path.name for path in (other / "models").iterdir()}
    for path in sorted((one / "models").iterdir()):
        twin = other / "models" / path.name
        if path.suffix == ".csv":
            tables = [pd.read_csv(file).drop(columns="label") for file in (path, twin)]
            pd.testing.assert_frame_equal(*tables)
        elif path.suffix == ".json":  # but for the checksums of tables, which hold the labels
            cards = [{**read_json(file), "sha256": "", "data": {}} for file in (path, twin)]
            assert cards[0] == cards[1], path.name
        else:
            assert path.read_bytes() == twin.read_bytes(), path.name
    for name in PROTOCOLS:
        a, b = (read_json(run / "details" / f"{name}.json") for run in two_runs)
        assert a["chosen"] == b["chosen"]
        assert a["validation"] == b["validation"]
        if name != "majority":
            assert a["test"] != b["test"]  # one score of two labellings may be the same by chance
    a, b = (read_json(run / "details" / "calibration.json") for run in two_runs)
    for name in PROTOCOLS:
        assert a[name]["temperature"] == b[name]["temperature"]
        assert a[name]["selective"]["threshold"] == b[name]["selective"]["threshold"]


def test_everything_is_written_and_is_json(two_runs: tuple[Path, Path]) -> None:
    one, _ = two_runs
    names = {path.stem for path in (one / "details").iterdir()}
    assert names == {*PROTOCOLS, "calibration", "comparisons", "labels"}
    assert outside(one / "details") == []
    for path in (one / "details").iterdir():
        assert "NaN" not in path.read_text()
        json.loads(path.read_text())
    for name in result.PLOTTED:
        assert {path.stem for path in (one / "plots" / name).iterdir()} == {
            "predictions", "roc", "precision_recall", "reliability", "risk_coverage",
        }  # fmt: skip
    for picture in ("curves", "label_efficiency"):
        assert (one / "plots" / "scores" / f"{picture}.png").stat().st_size < 300_000
    shown = {path.stem: read_json(path) for path in (one / "metrics").iterdir()}
    assert set(shown) == {*result.SHOWN, *result.ASKED}
    assert all(isinstance(value, float | None) for file in shown.values() for value in file.values())
    for name in result.SHOWN:
        found = read_json(one / "details" / f"{name}.json")["test"]
        assert shown[name]["accuracy"] == found["accuracy"]["value"]
        assert shown[name]["auroc"] == found["macro_auroc"]["value"]
    linear = read_json(one / "details" / "linear.json")
    assert linear["images"] == {"train": 72, "validation": 24, "test": 24}
    assert linear["clusters"] == {"test": 4}  # four patients
    assert 0 < linear["detectable_accuracy_difference"] < 1
    pairs = pd.read_csv(one / "plots" / "linear" / "predictions.csv")
    assert (pairs["actual"] == pairs["predicted"]).mean() == linear["test"]["accuracy"]["value"]
    comparisons = read_json(one / "details" / "comparisons.json")
    assert list(comparisons) == [f"{a} - {b}" for a, b in result.PLANNED]
    for pair in comparisons.values():
        for score in ("accuracy", "balanced_accuracy"):
            own = pair[score]
            assert (own["p"] < 0.05) == (not own["low"] <= 0 <= own["high"])
    scores = [read_json(one / "details" / f"{name}.json")["test"]["accuracy"]["value"] for name in ("linear", "knn")]
    assert comparisons["knn - linear"]["accuracy"]["value"] == pytest.approx(scores[1] - scores[0])
    labels = read_json(one / "details" / "labels.json")
    assert set(labels) == {"shots", *result.CURVES}
    repeated = {fraction: own for fraction, own in labels["linear"].items() if own["draws"] > 1}
    assert repeated
    for fraction, own in repeated.items():
        gain, random = own["over_random"], labels["random_linear"][fraction]
        assert gain["value"] == pytest.approx(own["accuracy"]["value"] - random["accuracy"]["value"])
        assert gain["low"] <= gain["value"] <= gain["high"]


def world(toy: Path, **columns: Any) -> Dataset:
    dataset = Dataset.load(toy)
    return Dataset(dataset.images, dataset.table.assign(**columns), dataset.classes)


def test_predictions_read_back_as_they_were_written(toy: Path, tmp_path: Path) -> None:
    dataset = world(toy, fold="1", sequence="T2")
    said = np.random.default_rng(0).dirichlet(np.ones(3), 120)
    keep(dataset, said, {"penalty": 0.1}, 72, tmp_path / "p.csv")
    found = Predictions.read(tmp_path / "p.csv")
    assert found.classes == dataset.classes
    assert np.array_equal(found.truth, dataset.labels)
    np.testing.assert_allclose(found.probabilities, said, rtol=1e-15)
    assert np.array_equal(found.clusters, dataset.clusters(np.arange(120)))
    assert set(found.table["fold"]) == {"1"}
    assert read_json(tmp_path / "p.json") == {
        "labelled": 72, "chosen": {"penalty": 0.1}, "sha256": sha256(tmp_path / "p.csv"),
    }  # fmt: skip


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n"])
def test_a_file_that_is_no_table_of_predictions_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "p.csv").write_text(content)
    with pytest.raises(UserError, match="expected"):
        Predictions.read(tmp_path / "p.csv")


DAMAGE: list[tuple[str, str, str]] = [  # column, value of the fifth row, words
    ("p_bar", "nan", "not in \\[0, 1\\]"),
    ("p_bar", "-0.1", "not in \\[0, 1\\]"),
    ("p_bar", "7", "not in \\[0, 1\\]"),
    ("p_bar", "x", "could not convert"),
    ("p_bar", "0", "do not sum to 1"),
    ("predicted", "nothing", "the class .nothing."),
    ("predicted", "ring", "not the most probable"),
    ("label", "nothing", "the class .nothing."),
    ("image_id", "3", "twice or out of order"),
    ("image_id", "-4", "twice or out of order"),
    ("cluster", "x", "no number"),
    ("side", "tets", "a side that is none of"),
]


@pytest.mark.parametrize(("column", "value", "words"), DAMAGE)
def test_predictions_out_of_range_are_refused(toy: Path, tmp_path: Path, column: str, value: str, words: str) -> None:
    path = tmp_path / "p.csv"
    said = np.tile([0.5, 0.3, 0.2], (120, 1))
    keep(Dataset.load(toy), said, {}, 72, path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[4, column] = value
    write_csv(path, table)
    with pytest.raises(UserError, match="other bytes than its card"):
        Predictions.read(path)
    write_json(path.with_suffix(".json"), {"labelled": 72, "chosen": {}, "sha256": sha256(path)})
    with pytest.raises(UserError, match=f"p.csv: got .*({words}).*; expected a table of predictions"):
        Predictions.read(path)


def test_predictions_of_other_images_are_refused(toy: Path, tmp_path: Path) -> None:
    dataset, path = Dataset.load(toy), tmp_path / "p.csv"
    keep(dataset, np.full((120, 3), 1 / 3), {}, 72, path)
    assert Predictions.read(path).of(dataset, path)
    others = [
        Dataset(dataset.images[:100], dataset.table.iloc[:100], dataset.classes),
        Dataset(dataset.images, dataset.table.assign(path=dataset.table["path"].to_numpy()[::-1]), dataset.classes),
        Dataset(dataset.images, dataset.table.assign(side="test"), dataset.classes),
        Dataset(dataset.images, dataset.table, ("bar", "disc", "star")),
    ]
    for other in others:
        with pytest.raises(UserError, match="predictions of other images or classes"):
            Predictions.read(path).of(other, path)


@pytest.mark.parametrize("name", ["predictions_knn", "shots", "curve_linear"])
def test_scores_of_different_images_are_not_put_side_by_side(
    two_runs: tuple[Path, Path], params: config.Params, tmp_path: Path, name: str
) -> None:
    models = tmp_path / "models"
    shutil.copytree(two_runs[0] / "models", models)
    for ending in ("csv", "json"):  # the same images, of which other labels are known
        shutil.copy(two_runs[1] / "models" / f"{name}.{ending}", models)
    with pytest.raises(UserError, match=f"{name}.csv: got what is said of other images or classes"):
        result.run(params, models, tmp_path / "details", tmp_path / "metrics", tmp_path / "plots")


def coarse(toy: Path, tmp_path: Path) -> Predictions:
    """Classes bar and disc are one tumour group on two sequences; ring is normal."""
    group = np.where(Dataset.load(toy).table["label"] == "ring", "normal", "glioma")
    sequence = np.where(Dataset.load(toy).table["label"] == "bar", "T1", "T2")
    dataset = world(toy, group_label=group, sequence=sequence)
    keep(dataset, np.random.default_rng(1).dirichlet(np.ones(3), 120), {}, 72, tmp_path / "p.csv")
    return Predictions.read(tmp_path / "p.csv")


def test_coarser_questions_equal_scikit_learn(toy: Path, tmp_path: Path) -> None:
    predictions = coarse(toy, tmp_path)
    test, found = predictions.on("test"), hierarchy.summarise(predictions, 0)
    assert predictions.classes == ("bar", "disc", "ring")
    assert hierarchy.parents(predictions, "group_label") == ("glioma", "glioma", "normal")
    tumour = 1 - test.probabilities[:, 2]
    truth, said = test.truth != 2, tumour > 0.5
    binary = found["tumour_against_normal"]
    assert binary["sensitivity"]["value"] == pytest.approx(metrics.recall_score(truth, said), abs=1e-9)
    assert binary["specificity"]["value"] == pytest.approx(metrics.recall_score(~truth, ~said), abs=1e-9)
    assert binary["ppv"]["value"] == pytest.approx(metrics.precision_score(truth, said), abs=1e-9)
    assert binary["npv"]["value"] == pytest.approx(metrics.precision_score(~truth, ~said), abs=1e-9)
    assert binary["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(truth, tumour), abs=1e-9)
    assert binary["auprc"]["value"] == pytest.approx(metrics.average_precision_score(truth, tumour), abs=1e-9)
    assert found["tumour_group"]["accuracy"]["value"] == pytest.approx((truth == said).mean(), abs=1e-9)
    t1 = test.probabilities[:, 0] > 0.5
    assert found["sequence"]["accuracy"]["value"] == pytest.approx((t1 == (test.truth == 0)).mean(), abs=1e-9)


def test_questions_that_the_classes_do_not_tell_are_left_out(toy: Path, tmp_path: Path) -> None:
    keep(Dataset.load(toy), np.full((120, 3), 1 / 3), {}, 72, tmp_path / "p.csv")
    assert hierarchy.summarise(Predictions.read(tmp_path / "p.csv"), 0) == {}
    mixed = world(toy, sequence=np.where(np.arange(120) % 2, "T1", "T2"), group_label="glioma")
    keep(mixed, np.full((120, 3), 1 / 3), {}, 72, tmp_path / "p.csv")
    assert hierarchy.summarise(Predictions.read(tmp_path / "p.csv"), 0) == {}


def test_scores_by_source_add_up(toy: Path, tmp_path: Path) -> None:
    dataset = world(toy, source=np.where(np.arange(120) % 5 == 0, "one", "two"))
    keep(dataset, np.random.default_rng(1).dirichlet(np.ones(3), 120), {}, 72, tmp_path / "p.csv")
    predictions = Predictions.read(tmp_path / "p.csv")
    found = result.table(predictions, {"labelled": 72, "chosen": {}}, 0)["test"]
    parts = found["by_source"]
    assert list(parts) == ["one", "two"]
    total = sum(part["images"] * part["accuracy"]["value"] for part in parts.values())
    assert total / 24 == pytest.approx(found["accuracy"]["value"])
    assert found["by_sequence"] == {}


def test_curves_pass_through_scikit_learns_points(toy: Path, tmp_path: Path) -> None:
    test = coarse(toy, tmp_path).on("test")
    roc, both = ranking.roc(test), ranking.precision_recall(test)
    for k, name in enumerate(test.classes):
        fpr, tpr, _ = metrics.roc_curve(test.truth == k, test.probabilities[:, k])
        np.testing.assert_allclose(roc[name][1:], np.interp(roc["fpr"][1:], fpr, tpr), atol=1e-6)
        precision, recall, _ = metrics.precision_recall_curve(test.truth == k, test.probabilities[:, k])
        for wanted in (0.0, 0.2, 0.5, 1.0):
            best = precision[:-1][recall[:-1] >= wanted].max()
            assert both[name][round(wanted * 100)] == pytest.approx(best, abs=1e-6)
    np.testing.assert_allclose(roc["macro"], roc[list(test.classes)].mean(axis=1), atol=1e-6)
