"""The audit: planted leaks are counted exactly, planted shortcuts are found, and nothing is found where nothing is."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestNeighbors

from tumorxai import config, files
from tumorxai.audit.audit import audit, crossing, run
from tumorxai.audit.canary import canary, random_labels, score
from tumorxai.audit.figures import figure, title
from tumorxai.audit.leak import Neighbours
from tumorxai.audit.shortcuts import probe
from tumorxai.base.dataset import Dataset
from tumorxai.base.pixels import nearest, pixels
from tumorxai.config import Audit, Split
from tumorxai.errors import UserError
from tumorxai.split.split import draw

SMALL = Audit(canary_size=8, leak_seeds=2)
NO_PAIRS = pd.DataFrame({"image_a": [], "image_b": []}, dtype=np.int64)


def noise(n: int = 300, seed: int = 0, copies: int = 0, **columns: Any) -> Dataset:
    """Images of noise in three classes; the last ``copies`` are exact copies of the first, in their groups."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 1, 16, 16), dtype=np.uint8)
    label, group = rng.permutation(np.arange(n) % 3), np.arange(n)
    if copies:
        images[-copies:], label[-copies:], group[-copies:] = images[:copies], label[:copies], group[:copies]
    given = {
        "source": "s", "path": "a.png", "sequence": "", "patient": "", "fold": "", "official_split": "", "width": 16,
        "height": 16, "mode": "L", "format": "PNG", "bytes": 100, "status": "keep",
    }  # fmt: skip
    table = pd.DataFrame(given | columns, index=pd.RangeIndex(n, name="image_id"))
    table = table.assign(label=np.array(["a", "b", "c"])[label], group=group, pixels_sha256=[f"{g:x}" for g in group])
    return Dataset(images, table, ("a", "b", "c"))


@pytest.fixture
def data(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data, free to be spoilt, with no copies in it."""
    folder = Path(shutil.copytree(toy, tmp_path_factory.mktemp("audit") / "data"))
    files.write_csv(folder / "pairs.csv", NO_PAIRS)
    return folder


def split(dataset: Dataset, settings: Split, seed: int = 0) -> Dataset:
    drawn = draw(dataset.table, dataset.table, settings, seed).set_index("image_id")
    return Dataset(
        dataset.images, dataset.table.assign(side=drawn["side"], label_rank=drawn["label_rank"]), dataset.classes
    )


def test_planted_crossings_are_counted_exactly() -> None:
    side = ["train"] * 4 + ["unlabelled"] + ["test"] * 5 + ["validation"] + ["dropped"]
    table = pd.DataFrame(
        {"side": side, "group": range(12), "patient": "", "pixels_sha256": [f"{i}" for i in range(12)]}
    )
    table.loc[5, ["group", "pixels_sha256"]] = [0, "0"]  # identical to a training image
    table.loc[6, "group"] = 1  # similar to one, see the pairs
    table.loc[7, "group"] = 1  # only chained to it
    table.loc[8, ["patient"]] = table.loc[4, ["patient"]] = "p"  # another image of an unlabelled image's patient
    table.loc[11, ["group", "pixels_sha256"]] = [9, "9"]  # dropped images leak nothing
    pairs = pd.DataFrame({"image_a": [0, 1, 6, 9, 2], "image_b": [5, 6, 7, 11, 3]})
    assert crossing(table, pairs, ("train", "unlabelled"), "test") == {
        "images": 5,
        "shared_groups": 2,
        "shared_patients": 1,
        "exact_copies": 1,
        "near_copies": 1,
        "copies": 3,
    }
    assert crossing(table, pairs, ("validation",), "test")["copies"] == 0


def test_pairs_count_in_either_direction() -> None:
    table = pd.DataFrame({"side": ["test", "train"], "group": [0, 1], "patient": "", "pixels_sha256": ["a", "b"]})
    pairs = pd.DataFrame({"image_a": [0], "image_b": [1]})
    assert crossing(table, pairs, ("train",), "test")["near_copies"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_random_leaks_what_grouped_does_not(seed: int) -> None:
    found = audit(split(noise(240, seed, copies=80), Split(), seed), NO_PAIRS, Split(), SMALL, seed)
    grouped, leaky = (found["protocols"][name] for name in ("grouped", "random"))
    assert found["in_force"] == grouped
    assert grouped["crossings"]["train_test"]["copies"] == 0
    assert leaky["crossings"]["train_test"]["exact_copies"] >= 8
    assert leaky["canary"]["all"]["accuracy"] > grouped["canary"]["all"]["accuracy"] + 0.1
    without = leaky["canary"]["no_copy"]
    assert without["accuracy_low"] < without["majority"] + 0.1
    assert without["images"] == leaky["canary"]["all"]["images"] - leaky["crossings"]["train_test"]["copies"]
    assert "no official split" in found["protocols"]["official"]["unavailable"]


def audited(params: config.Params, data: Path, out: Path) -> None:
    """Run the stage's work."""
    params = params.model_copy(update={"split": Split(), "audit": SMALL, "seed": 0})
    run(params, data, out / "leakage.json", out / "metrics", out, out / "audited.json")


def test_a_fold_is_audited_beside_folds_drawn_by_other_protocols() -> None:
    dataset = noise(copies=40, official_split=np.where(np.arange(300) % 5, "train", "test"))
    settings = Split(protocol="grouped", folds=5, fold=3)
    found = audit(split(dataset, settings), NO_PAIRS, settings, SMALL, 0)
    assert found["in_force"]["crossings"]["train_test"]["copies"] == 0
    assert found["protocols"]["random"]["crossings"]["train_test"]["copies"] > 0
    assert "unavailable" not in found["protocols"]["official"]  # which has a test side of its own, and no folds


def test_a_leaking_grouped_split_stops_and_writes_nothing(params: config.Params, data: Path, tmp_path: Path) -> None:
    files.write_csv(data / "pairs.csv", pd.DataFrame({"image_a": [0], "image_b": [119]}))
    with pytest.raises(
        UserError, match=r"got 1 near copies from train to test under split.protocol patients; expected none"
    ):
        audited(params, data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_patient_whom_only_the_registry_knows_stops_a_split_by_patients_and_no_other() -> None:
    """A series whose place is known counts as one patient."""
    for protocol in ("patients", "grouped"):
        settings = Split(protocol=protocol)
        made = split(noise(), settings)
        series = np.full(300, "", dtype=object)
        for side in ("train", "test"):
            series[np.flatnonzero(made.table["side"] == side)[0]] = "s:series1"
        known = np.where(series != "", "known", "unknown")
        told = Dataset(made.images, made.table.assign(subject="", series=series, known=known), made.classes)
        if protocol == "patients":
            with pytest.raises(UserError, match="got 1 test images of patients who are learned from"):
                audit(told, NO_PAIRS, settings, SMALL, 0)
        else:
            assert audit(told, NO_PAIRS, settings, SMALL, 0)["verdict"]["level"] == "leaking"


def test_a_class_coded_in_the_width_is_caught() -> None:
    plain = noise(300)
    coded = plain.table.assign(width=np.where(plain.table["label"] == "a", 20, 16))
    found = audit(split(Dataset(plain.images, coded, plain.classes), Split()), NO_PAIRS, Split(), SMALL, 0)
    probes = found["probes"]
    assert probes["size"]["gives_classes_away"]
    assert probes["size"]["balanced_accuracy"] == pytest.approx(2 / 3, abs=0.02)
    assert not probes["border"]["gives_classes_away"]
    assert probes["format"] is None
    assert probes["source"] is None
    assert "given away by size" in title(found)


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("format", "format", ("PNG", "JPEG")),
        ("format", "path", ("a.jpeg", "a.jpg")),
        ("source", "source", ("s", "t")),
        ("sequence", "sequence", ("T1", "T2")),
        ("bytes", "bytes", (900, 100)),
    ],
)
def test_every_shortcut_has_its_probe(name: str, column: str, values: tuple[Any, Any]) -> None:
    plain = noise(240)
    coded = plain.table.assign(**{column: np.where(plain.table["label"] == "b", *values)})
    dataset = split(Dataset(plain.images, coded, plain.classes), Split())
    ids = np.arange(240)
    found = probe(dataset, dataset.table["side"].to_numpy(), dataset.labels, ids, 0)
    assert [key for key, value in found.items() if value and value.get("gives_classes_away")] == [name]


def test_a_border_that_gives_the_class_away_is_caught() -> None:
    plain = noise(240)
    plain.images[plain.table["label"] == "c", :, 0, :] //= 4
    dataset = split(plain, Split())
    found = probe(dataset, dataset.table["side"].to_numpy(), dataset.labels, np.arange(240), 0)
    assert found["border"]["gives_classes_away"]


def test_a_rare_trait_that_only_rules_a_class_out_is_caught() -> None:
    plain = noise(1500)
    width = np.where((np.arange(1500) % 8 == 0) & (plain.table["label"] != "a"), 20, 16)
    dataset = split(Dataset(plain.images, plain.table.assign(width=width), plain.classes), Split())
    found = probe(dataset, dataset.table["side"].to_numpy(), dataset.labels, np.arange(1500), 0)
    assert found["size"]["gives_classes_away"]


@pytest.mark.parametrize("protocol", ["grouped", "random"])
def test_labels_drawn_at_random_are_told_where_copies_cross_and_nowhere_else(protocol: str) -> None:
    dataset = split(noise(240, 1, copies=80), Split(protocol=protocol))
    neighbours, units = Neighbours(pixels(dataset, 16)), dataset.table["group"].to_numpy()
    found = random_labels(dataset.table["side"].to_numpy(), neighbours, units, 3, 0)
    assert found is not None
    assert found["above_chance"] == (protocol == "random")
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    if protocol == "grouped":
        assert found["accuracy"] == pytest.approx(1 / 3, abs=0.03)  # SD of the mean of 200 draws of 36 units: 0.006
    else:
        assert found["accuracy"] > 0.5


def test_a_patients_class_is_recognised_under_random() -> None:
    plain = noise(300)
    patient = [f"s:{label}{i % 100 // 2}" for i, label in enumerate(plain.table["label"])]
    dataset = split(Dataset(plain.images, plain.table.assign(patient=patient), plain.classes), Split())
    found = audit(dataset, NO_PAIRS, Split(), SMALL, 0)["protocols"]
    assert found["grouped"]["crossings"]["train_test"]["shared_patients"] == 0
    assert found["grouped"]["patient"] is None
    assert found["random"]["crossings"]["train_test"]["shared_patients"] > 10
    assert found["random"]["patient"]["accuracy"] == 1.0


def test_nearest_is_the_exact_nearest_neighbour() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1500, 40)).astype(np.float32)
    train, test = np.arange(0, 1500, 2), np.arange(1, 1500, 2)
    peer = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(features[train])
    assert np.array_equal(nearest(features, train, test), train[peer.kneighbors(features[test])[1][:, 0]])


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    found = score(truth, said, np.arange(200), 0)
    assert found["accuracy"] == pytest.approx((truth == said).mean(), abs=1e-6)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said), abs=1e-6)


def test_the_interval_covers_and_clusters_widen_it() -> None:
    rng = np.random.default_rng(0)
    covered, narrow, wide = 0, [], []
    for seed in range(60):
        cluster = np.repeat(np.arange(60), 5)
        right = np.repeat(rng.random(60) < 0.7, 5)  # all five images of a cluster are right or wrong together
        truth = np.zeros(300, dtype=np.int64)
        found = score(truth, np.where(right, 0, 1), cluster, seed)
        single = score(truth, np.where(right, 0, 1), np.arange(300), seed)
        covered += found["accuracy_low"] <= 0.7 <= found["accuracy_high"]
        wide.append(found["accuracy_high"] - found["accuracy_low"])
        narrow.append(single["accuracy_high"] - single["accuracy_low"])
    assert covered >= 52
    assert np.mean(wide) / np.mean(narrow) == pytest.approx(np.sqrt(5), rel=0.1)


def test_contrast_is_no_evidence_and_even_images_stay_finite() -> None:
    dataset = noise(3)
    dataset.images[1] = dataset.images[0] // 2 + 40
    dataset.images[2] = 90
    small = pixels(dataset, 16)
    assert small[0] @ small[1] / 256 == pytest.approx(1, abs=0.001)
    assert not small[2].any()


def test_outputs_are_whole_and_repeat(params: config.Params, data: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        audited(params, data, tmp_path / name)
        contents.append([(tmp_path / name / file).read_bytes() for file in ("leakage.json", "leakage.csv")])
    assert contents[0] == contents[1]
    with Image.open(tmp_path / "one" / "leakage.png") as drawn:
        assert drawn.size[0] > 1000
    found = files.read_json(tmp_path / "one" / "leakage.json")
    assert files.read_json(tmp_path / "one/metrics/leakage.json")["copies_across_sides"] == 0
    shown = files.read_json(tmp_path / "one/metrics/canary.json")
    assert shown["accuracy"] == found["in_force"]["canary"]["all"]["accuracy"]
    assert shown["accuracy_low"] <= shown["accuracy"] <= shown["accuracy_high"]
    passed = files.read_json(tmp_path / "one" / "audited.json")
    assert passed == {"protocol": "patients", "split": files.sha256(data / "split.csv")}
    table = pd.read_csv(tmp_path / "one" / "leakage.csv")
    assert table["score"][table["check"] == "border"].item() == found["probes"]["border"]["auc"]
    grouped = f"grouped {100 * found['protocols']['grouped']['canary']['all']['accuracy']:.0f} %"
    assert grouped in figure(found).get_suptitle()


def test_missing_pairs_are_named(params: config.Params, data: Path, tmp_path: Path) -> None:
    (data / "pairs.csv").unlink()
    with pytest.raises(UserError, match=r"got no .*pairs.csv.*run `dvc repro dedupe`"):
        audited(params, data, tmp_path)


def test_the_canary_on_the_official_split_of_a_real_archive(real_archives: Path) -> None:
    """76.4% on all, 35.0% on the 143 test images without an identical copy, 251 of 394 with one."""
    images, rows = [], []
    with zipfile.ZipFile(real_archives / "sartajbhuvaji--brain-tumor-classification-mri.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".jpg"):
                image = Image.open(io.BytesIO(archive.read(name))).convert("L")
                checksum = hashlib.sha256(str(image.size).encode() + image.tobytes()).hexdigest()
                images.append(np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))[None])
                top, label, _ = PurePosixPath(name).parts
                rows.append(("train" if top == "Training" else "test", label, checksum))
    table = pd.DataFrame(rows, columns=["side", "label", "pixels_sha256"])
    table = table.assign(group=pd.factorize(table["pixels_sha256"])[0], patient="", fold="", source="")
    dataset = Dataset(np.stack(images), table, tuple(sorted(set(table["label"]))))
    assert crossing(table, NO_PAIRS, ("train",), "test")["exact_copies"] == 251
    side, ids = table["side"].to_numpy(), np.arange(len(table))
    found = canary(dataset, side, Neighbours(pixels(dataset, 32)), dataset.labels, ids, 0)
    assert found["all"]["accuracy"] == pytest.approx(0.764, abs=0.0005)
    assert found["no_exact_copy"]["images"] == 143
    assert found["no_exact_copy"]["accuracy"] == pytest.approx(0.350, abs=0.0005)


def test_resamples_that_miss_a_class_leave_the_interval_finite() -> None:
    """Two clusters of one class each: half of the resamples hold one class and have no AUC."""
    truth = np.repeat([0, 1], 4)
    probabilities = np.column_stack([1 - truth, truth]).astype(np.float32)
    found = score(truth, truth, truth, 0, probabilities)
    assert found["auc"] == found["auc_high"] == 1
    assert 0 < found["auc_low"] < 1  # two clusters that agree prove little


def test_a_score_without_images_is_null_in_all_its_figures() -> None:
    nobody, chances = np.empty(0, dtype=np.int64), np.zeros((0, 3), dtype=np.float32)
    whole = score(np.array([0, 1]), np.array([0, 1]), np.arange(2), 0, np.eye(2, dtype=np.float32))
    empty = score(nobody, nobody, nobody, 0, chances)
    assert empty.keys() == whole.keys()
    assert (empty.pop("images"), empty.pop("clusters")) == (0, 0)
    assert set(empty.values()) == {None}


def test_six_images_of_a_class_are_audited_and_drawn() -> None:
    settings = Split(protocol="grouped")
    found = audit(split(noise(18), settings), NO_PAIRS, settings, SMALL, 0)
    assert figure(found).axes
    own = found["in_force"]["canary"]["all"]
    assert own["accuracy_low"] <= own["accuracy"] <= own["accuracy_high"]
