"""The stage: which images are explained, what is written, and that a trained classifier passes where it should."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tumorxai import config
from tumorxai.base import embedded, jackknife
from tumorxai.base.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.explain import heatmaps, overview, sheets, subject
from tumorxai.explain.card import CHECKS, judge
from tumorxai.explain.methods import FLOORS, METHODS
from tumorxai.files import read_json, write_array, write_csv
from tumorxai.networks import encoders
from tumorxai.networks.classifier import Classifier, card
from tumorxai.probe import linear

SMALL = {
    "methods": ["grad_cam", "occlusion", "attention_rollout"],
    "images": 4,
    "perturbed": 20,
    "steps": 5,
    "removals": 12,
    "draws": 1,
    "stages": 2,
    "random_labels": 60,
    "masks": 4,
    "windows": 5,
}


def entry(values: dict[str, list[float]], check: str = "energy", others: dict[str, list[float]] | None = None) -> Any:
    arrays = {name: np.array(own, dtype=np.float64) for name, own in values.items()}
    drawn = jackknife.draw(np.arange(len(next(iter(arrays.values())))), seed=0)
    rest = {name: np.array(own, dtype=np.float64) for name, own in (others or {}).items()}
    return judge(CHECKS[check], arrays, drawn, rest)


def test_a_check_is_passed_by_beating_every_floor() -> None:
    generator = np.random.default_rng(0)
    low, high = generator.uniform(0.1, 0.2, (2, 40)), generator.uniform(0.5, 0.6, 40)
    own = generator.uniform(0.3, 0.4, 40)
    rows = entry({"grad_cam": [*own], "random": [*low[0]], "centre": [*low[1]]})
    assert rows["grad_cam"]["passed"] is True
    assert rows["grad_cam"]["lead"]["low"] > 0.1
    assert rows["random"]["passed"] is None
    rows = entry({"grad_cam": [*own], "random": [*low[0]], "centre": [*high]})
    assert rows["grad_cam"]["passed"] is False
    assert rows["grad_cam"]["floor"] == "centre"
    assert rows["grad_cam"]["lead"]["value"] == pytest.approx((own - high).mean())
    lower = entry({"grad_cam": [*own], "random": [*high]}, "deletion_blur")
    assert lower["grad_cam"]["passed"] is True
    assert lower["grad_cam"]["lead"]["low"] > 0


def test_a_few_images_are_no_evidence() -> None:
    own, floor = [0.5, 0.1, 0.4], [0.3, 0.2, 0.3]
    assert entry({"grad_cam": own, "random": floor})["grad_cam"]["passed"] is False
    assert entry({"grad_cam": own * 200, "random": floor * 200})["grad_cam"]["passed"] is True


def test_the_other_kinds_of_checks() -> None:
    rows = entry({"grad_cam": [0.1, 0.2] * 9, "edges": [0.9, 1.0] * 9, "uniform": [np.nan] * 18}, "weights")
    assert [rows[name]["passed"] for name in rows] == [True, False, None]
    assert rows["uniform"]["value"] is None
    others = {"grad_cam": [0.9, 1.0] * 9, "random": [0.5, 0.6] * 9}
    rows = entry({"grad_cam": [0.1, 0.2] * 9, "random": [0.5, 0.6] * 9}, "max_sensitivity", others)
    assert [rows[name]["passed"] for name in rows] == [True, False]
    with_gaps = entry({"grad_cam": [0.1, np.nan] * 9, "edges": [1.0] * 18}, "weights")
    assert with_gaps["grad_cam"]["value"] == pytest.approx(0.1)


def test_cases_come_from_every_class_right_and_wrong() -> None:
    truth = np.array([0] * 20 + [1] * 20 + [2] * 20)
    predicted = truth.copy()
    predicted[[3, 25, 26]] = 2  # one of class 0 and two of class 1 are wrong, none of class 2
    chosen = subject.choose(truth, predicted, 6, seed=1)
    cases = [(int(truth[i]), bool(truth[i] == predicted[i])) for i in chosen]
    assert cases == [(0, True), (0, True), (0, False), (1, True), (1, False), (2, True)]
    assert len(set(chosen.tolist())) == 6


def test_heads_are_aligned_before_maps_are_averaged() -> None:
    images, maps = np.zeros((2, 1, 32, 32), dtype=np.uint8), np.zeros((2, 32, 32), dtype=np.float32)
    for i, (top, left, side) in enumerate(((2, 4, 24), (14, 10, 12))):
        images[i, 0, top : top + side, left : left + side] = 200
        maps[i, top : top + side // 2, left : left + side // 2] = 1
    boxes = [heatmaps.brain_box(image) for image in images]
    assert boxes == [(2, 26, 4, 28), (14, 26, 10, 22)]
    for one in heatmaps.aligned(maps, boxes):
        assert one[:15, :15].min() > 0.9
        assert one[18:].max() < 0.1
        assert one[:, 18:].max() < 0.1
    assert heatmaps.brain_box(np.zeros((1, 8, 8), dtype=np.uint8)) == (0, 8, 0, 8)


def test_a_tile_shows_the_image_where_there_is_no_evidence_and_the_outline() -> None:
    image = np.full((1, 32, 32), 100, dtype=np.uint8)
    heat = np.zeros((32, 32), dtype=np.float32)
    heat[:16] = 1
    mask = np.zeros((32, 32), dtype=bool)
    mask[20:28, 8:24] = True
    pixels = heatmaps.tile(image, mask, heat)
    assert pixels.shape == (heatmaps.TILE, heatmaps.TILE, 3)
    np.testing.assert_allclose(pixels[-1, -1], [100 / 255] * 3, atol=1e-6)
    assert np.ptp(pixels[0, 0]) > 0.3
    cyan = np.array(heatmaps.OUTLINE) / 255
    outlined = (np.abs(pixels - cyan) < 1e-6).all(axis=2)
    assert 2 * (24 + 48) * 0.9 < outlined.sum() < 2 * (24 + 48) * 1.3
    assert not outlined[: heatmaps.TILE // 2].any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark discs somewhere in noise, with their masks, and a classifier that tells them from nothing."""
    root = tmp_path_factory.mktemp("lesions")
    generator = np.random.default_rng(0)
    n, size = 240, 64
    label = np.arange(n) % 3
    y, x = np.mgrid[:size, :size]
    images, masks = generator.normal(110, 15, (n, size, size)), np.zeros((n, size, size), dtype=np.uint8)
    for i in range(n):
        cx, cy = generator.uniform(10, 54, 2)
        if label[i]:
            masks[i] = (x - cx) ** 2 + (y - cy) ** 2 < 8**2
            images[i][masks[i] > 0] += 90 if label[i] == 1 else -90
    pack = images.clip(0, 255).astype(np.uint8)[:, None]
    write_array(root / "data" / "pack.npy", pack)
    write_array(root / "data" / "masks.npy", masks[label > 0])
    names = np.array(["nothing", "bright", "dark"])[label]
    ids, row = np.arange(n), np.where(label > 0, np.cumsum(label > 0) - 1, -1)
    side = np.where(ids < 150, "train", np.where(ids < 180, "validation", "test"))
    catalogue = {"image_id": ids, "source": "toy", "path": names, "label": names, "patient": "", "mask": row}
    catalogue |= dict.fromkeys(("fold", "sequence", "group_label", "native_label", "pixels_sha256"), "")
    catalogue["mask_kind"] = np.where(row >= 0, "mask", "")
    groups = {"image_id": ids, "group": ids, "label": names}
    write_csv(root / "data" / "catalogue.csv", pd.DataFrame(catalogue))
    write_csv(root / "data" / "groups.csv", pd.DataFrame({**groups, "status": "keep"}))
    rank = np.where(side == "train", 0.5, np.nan)
    write_csv(root / "data" / "split.csv", pd.DataFrame({**groups, "side": side, "label_rank": rank}))

    torch.manual_seed(0)
    model = config.Model(backbone="test_resnet")
    encoder = encoders.build(model, 1, size)
    classes = ("bright", "dark", "nothing")
    classifier = Classifier(encoder, encoders.width(encoder, 1, size), classes, 110 / 255, 40 / 255).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    target = torch.tensor([classes.index(name) for name in names])
    for step in range(60):
        batch = torch.from_numpy(np.random.default_rng(step).integers(0, 150, 32))
        loss = torch.nn.functional.cross_entropy(
            classifier(classifier.normalise(torch.from_numpy(pack[batch.numpy()]))), target[batch]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval()
    models = root / "models"
    described = card(model, 1, size, classifier)
    encoders.save(classifier.state_dict(), models / "finetuned.safetensors", described)
    encoders.save(classifier.encoder.state_dict(), models / "encoder.safetensors", described)
    with torch.no_grad():
        parts = torch.from_numpy(pack).split(60)
        features = torch.cat([classifier.encoder(classifier.normalise(x)) for x in parts]).numpy()
    embedded.keep(models / "embeddings.npy", features, pack, models / "encoder.safetensors")
    linear.run(
        config.load(Path(__file__).parents[2] / "params.yaml"),
        root / "data",
        models / "embeddings.npy",
        encoder=models / "encoder.safetensors",
        out=models / "linear.safetensors",
        predictions=models / "predictions_linear.csv",
    )
    return root


def run(root: Path, params: config.Params, out: Path, **explain: Any) -> dict[str, Any]:
    changed = params.model_copy(update={"explain": config.Explain(**{**SMALL, **explain})})
    overview.run(
        changed,
        root / "data",
        finetuned=root / "models" / "finetuned.safetensors",
        encoder=root / "models" / "encoder.safetensors",
        embeddings=root / "models" / "embeddings.npy",
        linear=root / "models" / "linear.safetensors",
        details=out / "explain.json",
        metrics=out / "shown.json",
        report_card=out / "report_card.csv",
        pictures=out / "cams",
        page=out / "report" / "explanations.html",
    )
    return read_json(out / "explain.json")


@pytest.fixture(scope="module")
def explained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview, "PER_CLASS", 2)
        run(trained, config.load(Path(__file__).parents[2] / "params.yaml"), out)
    return out


@pytest.mark.slow
def test_a_trained_classifier_looks_at_the_lesion(explained: Path) -> None:
    metrics = read_json(explained / "explain.json")
    energy = metrics["classifiers"]["finetuned"]["card"]["energy"]
    best = max(row["value"] for name, row in energy.items() if name in METHODS)
    assert read_json(explained / "shown.json") == {"energy_over_centre_blob": best / energy["centre"]["value"]}
    for name in ("finetuned", "linear"):
        own = metrics["classifiers"][name]
        assert own["lesion_images"] == own["scored_images"] == 40
        assert own["mask_kinds"] == {"mask": 40}
        assert own["scored_correct"] > 30
        for check in ("energy", "pixel_auroc", "iou_best"):
            assert own["card"][check]["occlusion"]["passed"], (name, check, own["card"][check])
        for check in ("insertion_mean", "deletion_mean", "road", "sensitivity_n"):
            assert own["card"][check]["occlusion"]["passed"], (name, check, own["card"][check])
        for check in ("weights", "class_swap"):
            assert own["card"][check]["edges"]["passed"] is False
            assert own["card"][check]["occlusion"]["value"] < own["card"][check]["edges"]["value"]
        assert own["passed"]["occlusion"]["passed"] > own["passed"]["edges"]["passed"]


def test_what_the_encoder_does_not_admit_is_left_out_with_a_word(explained: Path) -> None:
    own = read_json(explained / "explain.json")["classifiers"]["finetuned"]
    assert list(own["skipped"]) == ["attention_rollout"]
    assert "expected a transformer" in own["skipped"]["attention_rollout"]
    assert "attention_rollout" not in own["card"]["energy"]
    assert set(own["card"]) == set(CHECKS)
    assert set(own["card"]["energy"]) == {"grad_cam", "occlusion", *FLOORS}


def test_the_card_is_a_table_as_well(explained: Path) -> None:
    table = pd.read_csv(explained / "report_card.csv")
    assert len(table) == 2 * len(CHECKS) * 6
    row = table[
        (table["classifier"] == "linear") & (table["check"] == "energy") & (table["method"] == "occlusion")
    ].iloc[0]
    kept = read_json(explained / "explain.json")["classifiers"]["linear"]["card"]["energy"]["occlusion"]
    assert [row[key] for key in ("value", "low", "high")] == pytest.approx(
        [kept[key] for key in ("value", "low", "high")]
    )
    assert str(row["passed"]) == str(kept["passed"])
    assert row["strongest_floor"] in FLOORS
    assert table.loc[table["kind"] == "floor", "strongest_floor"].isna().all()


def test_the_page_shows_every_picture(explained: Path) -> None:
    page = explained / "report" / "explanations.html"
    text = page.read_text()
    shown = [base64.b64decode(png) for png in re.findall(r'src="data:image/png;base64,([^"]+)"', text)]
    made = {path.resolve() for path in (explained / "cams").rglob("*.png")}
    assert sorted(shown) == sorted(path.read_bytes() for path in made)
    assert text.count("src=") == len(made)  # so that the file can be sent alone
    assert "href=" not in text
    names = {path.stem for path in (explained / "cams").glob("*.png")}
    classes = {"class_bright", "class_dark", "class_nothing"}
    assert names == {
        "grid",
        "report_card",
        "means",
        "curves",
        "agreement",
        "removal",
        "randomised",
        "similar",
        *classes,
    }
    assert {path.stem for path in (explained / "cams" / "linear").glob("*.png")} == names - {"similar"} - classes
    assert "not for diagnosis" in text
    assert text.count("alt=") == len(made)
    for path in made:
        assert path.stat().st_size < 300_000
        with Image.open(path) as picture:
            assert picture.width > 250
            assert np.asarray(picture.convert("RGB")).std() > 15


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(
    trained: Path, params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PER_CLASS", 1)
    few = {"classifiers": ["finetuned"], "methods": ["vit_cx"], "scored": 4, "perturbed": 3, "images": 2, "stages": 1}
    first, second = run(trained, params, tmp_path / "a", **few), run(trained, params, tmp_path / "b", **few)
    assert first == second
    assert first["scored_images"] == 4
    for path in (tmp_path / "a" / "cams").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "b" / "cams" / path.name).read_bytes(), path.name


def test_without_masks_the_rest_remains(
    toy: Path, params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = config.Model(backbone="test_resnet")
    encoder = encoders.build(model, 1, 32)
    classifier = Classifier(encoder, encoders.width(encoder, 1, 32), ("bar", "disc", "ring"), 0.3, 0.2)
    described = card(model, 1, 32, classifier)
    encoders.save(classifier.state_dict(), tmp_path / "models" / "finetuned.safetensors", described)
    encoders.save(encoder.state_dict(), tmp_path / "models" / "encoder.safetensors", described)
    features = np.random.default_rng(0).normal(size=(120, 64)).astype(np.float32)
    models = tmp_path / "models"
    embedded.keep(models / "embeddings.npy", features, Dataset.load(toy).images, models / "encoder.safetensors")
    (tmp_path / "data").symlink_to(toy)
    few = {"classifiers": ["finetuned"], "methods": ["grad_cam"], "perturbed": 4, "random_labels": 0}
    monkeypatch.setattr(overview, "PER_CLASS", 1)
    metrics = run(tmp_path, params, tmp_path / "out", **few)
    assert metrics["scored_images"] == 0
    assert "localisation" not in metrics
    assert "energy" not in metrics["classifiers"]["finetuned"]["card"]
    assert "labels" not in metrics["classifiers"]["finetuned"]["card"]
    assert (tmp_path / "out" / "cams" / "grid.png").exists()


def test_wrong_settings_are_refused(trained: Path, params: config.Params, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each at most once"):
        config.Explain(methods=["grad_cam", "grad_cam"])
    with pytest.raises(ValueError, match="did you mean grad_cam"):
        config.Explain(methods=["gradcam"])
    with pytest.raises(UserError, match=r"'layer7'; expected a module"):
        run(trained, params, tmp_path, layer="layer7")


def test_names_of_classes_become_names_of_files() -> None:
    assert sheets.slug("Glioma (Astrocitoma, Oligodendroglioma) T1C+") == "Glioma_Astrocitoma_Oligodendroglioma_T1C"
    assert sheets.slug("../etc") == "etc"
