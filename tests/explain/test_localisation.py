"""Localisation scores by hand, against scikit-learn, and on a classifier that has learned something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from tumorxai import config, encoders
from tumorxai.evaluate.classifier import Classifier, card
from tumorxai.evaluate.statistics import mean_interval
from tumorxai.explain import localisation, overview
from tumorxai.files import read_json, write_array, write_csv

MASK = np.zeros((1, 4, 4), dtype=bool)
MASK[0, :2, :2] = True


def test_energy_by_hand() -> None:
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 0, 0], maps[0, 3, 3] = 0.75, 0.25
    assert localisation.energy(maps, MASK) == pytest.approx([0.75])


def test_pointing_shares_tied_maxima() -> None:
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 1, 1] = maps[0, 2, 2] = 1
    assert localisation.pointing(maps, MASK) == pytest.approx([0.5])


def test_pixel_auroc_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 5, (6, 8, 8)).astype(np.float32)  # with ties
    masks = generator.random((6, 8, 8)) < 0.3
    expected = [roc_auc_score(mask.ravel(), image.ravel()) for mask, image in zip(masks, maps, strict=True)]
    np.testing.assert_allclose(localisation.pixel_auroc(maps, masks), expected)


def test_a_zero_map_scores_as_the_uniform_floor() -> None:
    zero, uniform = np.zeros((1, 4, 4), dtype=np.float32), np.ones((1, 4, 4), dtype=np.float32)
    for score in localisation.SCORES.values():
        assert score(zero, MASK) == pytest.approx(score(uniform, MASK))
    assert localisation.energy(uniform, MASK) == pytest.approx([0.25])


def test_floors_know_nothing_of_the_place() -> None:
    drawn = localisation.floors(400, 32, (4, 4), seed=0)
    mask = np.zeros((400, 32, 32), dtype=bool)
    mask[:, 2:10, 20:28] = True
    area = 64 / 1024
    assert localisation.energy(drawn["uniform"], mask).mean() == pytest.approx(area)
    assert localisation.energy(drawn["random"], mask).mean() == pytest.approx(area, abs=0.006)
    assert localisation.pixel_auroc(drawn["random"], mask).mean() == pytest.approx(0.5, abs=0.04)
    assert drawn["centre"][0].argmax() in (15 * 32 + 15, 15 * 32 + 16, 16 * 32 + 15, 16 * 32 + 16)


def test_an_interval_is_wider_when_images_hang_together() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=30), 10)
    together = mean_interval(values, np.repeat(np.arange(30), 10), seed=0)
    apart = mean_interval(values, np.arange(300), seed=0)
    assert together["value"] == apart["value"] == pytest.approx(values.mean())
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])


def test_cases_come_from_every_class_right_and_wrong() -> None:
    truth = np.array([0] * 20 + [1] * 20 + [2] * 20)
    predicted = truth.copy()
    predicted[[3, 25, 26]] = 2  # one of class 0 and two of class 1 are wrong, none of class 2
    chosen = overview.choose(truth, predicted, 6, seed=1)
    cases = [(int(truth[i]), bool(truth[i] == predicted[i])) for i in chosen]
    assert cases == [(0, True), (0, True), (0, False), (1, True), (1, False), (2, True)]
    assert len(set(chosen.tolist())) == 6


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
    catalogue = {"image_id": ids, "source": "toy", "label": names, "patient": "", "mask": row}
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
    path = root / "finetuned.safetensors"
    encoders.save(classifier.state_dict(), path, card(model, 1, size, classifier))
    return root


def run(root: Path, params: config.Params, out: Path) -> dict[str, object]:
    overview.run(
        params,
        root / "data",
        root / "finetuned.safetensors",
        metrics=out / "explain.json",
        picture=out / "grid.png",
    )
    return read_json(out / "explain.json")


def test_a_trained_classifier_looks_at_the_lesion(trained: Path, params: config.Params, tmp_path: Path) -> None:
    metrics = run(trained, params, tmp_path)
    assert metrics["lesion_images"] == metrics["scored_images"] == 40
    assert metrics["mask_kinds"] == {"mask": 40}
    assert metrics["scored_correct"] > 30
    scores = metrics["localisation"]
    for name in ("energy", "pointing", "pixel_auroc"):
        floor = max(scores[name][source]["high"] for source in ("uniform", "random"))
        assert scores[name]["map"]["low"] > floor, (name, scores[name])
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 500
        assert np.asarray(picture.convert("RGB")).std() > 20


def test_the_same_seed_gives_the_same_figures(trained: Path, params: config.Params, tmp_path: Path) -> None:
    few = params.model_copy(update={"explain": config.Explain(images=2, scored=10)})
    first, second = run(trained, few, tmp_path / "a"), run(trained, few, tmp_path / "b")
    assert first == second
    assert first["scored_images"] == 10
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()


def test_without_masks_the_pictures_remain(toy: Path, params: config.Params, tmp_path: Path) -> None:
    model = config.Model(backbone="test_resnet")
    encoder = encoders.build(model, 1, 32)
    classifier = Classifier(encoder, encoders.width(encoder, 1, 32), ("bar", "disc", "ring"), 0.3, 0.2)
    path = tmp_path / "finetuned.safetensors"
    encoders.save(classifier.state_dict(), path, card(model, 1, 32, classifier))
    overview.run(params, toy, path, metrics=tmp_path / "explain.json", picture=tmp_path / "grid.png")
    metrics = read_json(tmp_path / "explain.json")
    assert metrics["scored_images"] == 0
    assert "localisation" not in metrics
    assert (tmp_path / "grid.png").exists()
