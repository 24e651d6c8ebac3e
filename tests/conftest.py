"""Fixtures that several tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from playwright.sync_api import Browser, sync_playwright

from tumorxai import config
from tumorxai.base import embedded
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import Predictions
from tumorxai.fetch import phantom
from tumorxai.files import read_array, write_array, write_csv, write_json, write_text
from tumorxai.networks import embed, encoders
from tumorxai.result import calibration
from tumorxai.run.case import Workspace
from tumorxai.search import retrieval
from tumorxai.train import finetune

ROOT = Path(__file__).resolve().parents[1]
PHANTOM = config.Phantom(patients=36, slices=1, sequences=2, copies=0.5, seed=3)
SLOW = {"chromium", "site", "explained", "two_runs"}  # fixtures that take seconds: tests that use them are marked slow


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and SLOW & set(item.fixturenames):
            item.add_marker("slow")
    # Files with slow tests first: side by side, the last file to start decides when all have ended.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def real_archives() -> Path:
    """Folder of OWNER--SLUG.zip archives of real images."""
    folder = os.environ.get("TUMORXAI_TEST_DATA")
    if folder is None:
        pytest.skip("no real images; set TUMORXAI_TEST_DATA to a folder of OWNER--SLUG.zip archives")
    assert Path(folder).is_dir(), folder
    return Path(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium; install it to test the pages in a browser: `sudo apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference inputs and outputs of algorithms: see its `make.py`."""
    return ROOT / "tests/golden"


@pytest.fixture(scope="session")
def phantom_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom of 36 patients, one slice each in two sequences, and half as many planted copies."""
    path = tmp_path_factory.mktemp("phantom") / "tumorxai--phantom.zip"
    phantom.write_archive(path, PHANTOM)
    return path


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def params() -> config.Params:
    """The project's own parameters with SimCLR, made small."""
    return _small()


def _small() -> config.Params:
    loaded = config.load(ROOT / "params.yaml")
    small = loaded.model_copy(
        update={
            "method": "simclr",
            "model": config.Model(backbone="test_resnet"),
            "pretrain": loaded.pretrain.model_copy(update={"epochs": 3, "batch_size": 16, "warmup_epochs": 1}),
            "finetune": loaded.finetune.model_copy(update={"epochs": 4, "batch_size": 16, "backbone_lr": 1e-3}),
            "supervised": loaded.supervised.model_copy(update={"epochs": 4, "batch_size": 16}),
        }
    )
    return config.Params.model_validate(small.model_dump())


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as the stages up to `split` leave it: 120 grey 32-pixel images, three kinds of shape."""
    folder = tmp_path_factory.mktemp("toy") / "data"
    generator = np.random.default_rng(0)
    n, size = 120, 32
    label = np.arange(n) % 3
    y, x = np.mgrid[:size, :size]
    images = generator.normal(60, 12, (n, 1, size, size))
    for i in range(n):
        cx, cy, r = *generator.uniform(10, 22, 2), generator.uniform(5, 8)
        disc = (x - cx) ** 2 + (y - cy) ** 2 < r**2
        ring = disc & ((x - cx) ** 2 + (y - cy) ** 2 > (r - 2.5) ** 2)
        bar = (abs(x - cx) < 2) & (abs(y - cy) < r)
        images[i, 0][[disc, ring, bar][label[i]]] += 120
    write_array(folder / "pack.npy", images.clip(0, 255).astype(np.uint8))
    names = np.array(["disc", "ring", "bar"])[label]
    ids = np.arange(n)
    empty = np.full(n, "")
    write_csv(
        folder / "catalogue.csv",
        pd.DataFrame(
            {
                "image_id": ids,
                "source": "toy",
                "path": [f"{i}.png" for i in ids],
                "native_label": names,
                "label": names,
                "group_label": empty,
                "sequence": empty,
                "patient": [f"toy:{i // 6}" for i in ids],
                "fold": empty,
                "official_split": empty,
                "width": size,
                "height": size,
                "mode": "L",
                "format": "PNG",
                "bytes": 1,
                "pixels_sha256": [f"{i:064x}" for i in ids],
                "mask": -1,
                "mask_kind": empty,
            }
        ),
    )
    write_csv(folder / "groups.csv", pd.DataFrame({"image_id": ids, "group": ids, "label": names, "status": "keep"}))
    side = np.array(["train", "validation", "test"])[np.select([ids < 72, ids < 96], [0, 1], 2)]
    rank = np.where(side == "train", (ids // 3) / 24, np.nan)
    write_csv(
        folder / "split.csv",
        pd.DataFrame({"image_id": ids, "group": ids, "label": names, "side": side, "label_rank": rank}),
    )
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, toy: Path) -> Path:
    """The root of a finished run on the toy images: sequences T1 and T2, image 69 the mirrored copy of image 66."""
    root = tmp_path_factory.mktemp("finished")
    data, models = root / "data", root / "models"
    shutil.copytree(toy, data)
    images = read_array(data / "pack.npy").copy()
    images[69] = images[66, :, :, ::-1]
    write_array(data / "pack.npy", images)
    for name in ("groups", "split"):
        table = pd.read_csv(data / f"{name}.csv")
        table.loc[69, "group"] = 66
        write_csv(data / f"{name}.csv", table)
    catalogue = pd.read_csv(data / "catalogue.csv", keep_default_na=False)
    write_csv(data / "catalogue.csv", catalogue.assign(sequence=np.where(np.arange(len(catalogue)) % 2, "T2", "T1")))

    params = _small()
    params = params.model_copy(update={"data": params.data.model_copy(update={"image_size": 32})})
    write_text(root / "params.yaml", yaml.safe_dump(params.model_dump(mode="json")))
    torch.manual_seed(0)
    encoder = encoders.build(params.model, 1, 32)
    card = {"timm": params.model.backbone, "small_stem": False, "channels": 1, "size": 32, "mean": 0.3, "std": 0.2}
    encoders.save(encoder.state_dict(), models / "encoder.safetensors", card)
    embed.run(data / "pack.npy", models / "encoder.safetensors", models / "embeddings.npy")
    with chdir(root):  # where its checkpoints lie
        finetune.run(
            params,
            params.finetune,
            data,
            models / "encoder.safetensors",
            models / "finetuned.safetensors",
            models / "predictions_finetune.csv",
            root / "plots" / "training" / "finetune.csv",
        )
    predictions = Predictions.read(models / "predictions_finetune.csv")
    found, _ = calibration.summarise(predictions, None, params.calibration, params.seed)
    write_json(root / "details" / "calibration.json", {"finetune": found})
    retrieval.run(
        params,
        data,
        models / "embeddings.npy",
        models / "encoder.safetensors",
        models / "index",
        root / "details" / "search.json",
        root / "metrics" / "search.json",
        root / "plots" / "search" / "neighbours.png",
    )
    return root


@pytest.fixture(scope="session")
def workspace(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A copy of the finished run, opened: its index belongs to nobody else."""
    root = tmp_path_factory.mktemp("workspace") / "run"
    shutil.copytree(finished, root)
    opened = Workspace.open(root)
    yield opened
    opened.close()


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A small encoder with random weights, as pretraining leaves one."""
    path = tmp_path / "encoder.safetensors"
    model = config.Model(backbone="test_resnet")
    card = {"timm": model.backbone, "small_stem": False, "channels": 1, "size": 32, "mean": 0.3, "std": 0.2}
    encoders.save(encoders.build(model, 1, 32).state_dict(), path, card)
    return path


@pytest.fixture
def separable(toy: Path, tmp_path: Path, encoder: Path) -> Path:
    """Embeddings of the toy images in which the classes lie apart, though not quite."""
    dataset = Dataset.load(toy)
    features = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    features[np.arange(120), dataset.labels] += 4
    embedded.keep(tmp_path / "embeddings.npy", features, dataset.images, encoder)
    return tmp_path / "embeddings.npy"
