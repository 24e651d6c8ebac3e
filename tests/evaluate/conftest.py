"""Fixtures of the evaluation's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tumorxai import config, encoders
from tumorxai.data.dataset import Dataset
from tumorxai.files import write_array


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A small encoder with random weights, as pretraining leaves one."""
    path = tmp_path / "encoder.safetensors"
    model = config.Model(backbone="test_resnet")
    card = {"timm": model.backbone, "small_stem": False, "channels": 1, "size": 32, "mean": 0.3, "std": 0.2}
    encoders.save(encoders.build(model, 1, 32).state_dict(), path, card)
    return path


@pytest.fixture
def separable(toy: Path, tmp_path: Path) -> Path:
    """Embeddings of the toy images in which the classes lie apart, though not quite."""
    dataset = Dataset.load(toy)
    features = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    features[np.arange(120), dataset.labels] += 4
    write_array(tmp_path / "embeddings.npy", features)
    return tmp_path / "embeddings.npy"
