"""Graded damage does what its name says, and foreign images are told from the project's own."""

from __future__ import annotations

import io
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from tests.tolerance import rounding
from tumorxai import config
from tumorxai.base.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.files import read_json
from tumorxai.inputs import fingerprint
from tumorxai.networks import classifier, embed, encoders
from tumorxai.robustness import corruptions, foreign, robustness


def blob(channels: int = 1, size: int = 64) -> torch.Tensor:
    """A smooth image with an edge, four times."""
    y, x = np.mgrid[:size, :size] / size
    picture = 90 + 80 * np.sin(5 * x) * np.cos(3 * y) + 60 * ((x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.03)
    return torch.from_numpy(np.tile(picture.clip(0, 255).astype(np.uint8), (4, channels, 1, 1)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", corruptions.GRADED)
def test_damage_grows_with_the_grade_and_repeats(kind: str, channels: int) -> None:
    images = blob(channels)
    lost = []
    for grade in corruptions.GRADES:
        damaged = corruptions.corrupt(images, kind, grade, 0)
        assert damaged.dtype == torch.uint8
        assert damaged.shape == images.shape
        lost.append(float((damaged.float() - images.float()).abs().mean()))
        assert torch.equal(damaged, corruptions.corrupt(images, kind, grade, 0))
    assert lost[0] > 0
    assert all(a < b for a, b in pairwise(lost)), lost


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_damage_of_nothing_is_nothing() -> None:
    x = blob().float() / 255
    transforms = rounding(torch.float32, 2, stages=4 * 6 + 2)  # fast ones, there and back, over two axes of 2^6 pixels
    for change, nothing in (
        (corruptions.noise, 0.0), (corruptions.bias_field, 0.0), (corruptions.contrast, 1.0),
        (corruptions.rotation, 0.0), (corruptions.down_sampling, 1.0), (corruptions.ghosting, 0.0),
        (corruptions.motion, 0.0),
    ):  # fmt: skip
        torch.testing.assert_close(change(x, nothing, generator()), x, atol=transforms, rtol=0)


def test_blur_equals_scipy() -> None:
    x = blob().float() / 255
    expected = gaussian_filter(x[0, 0].numpy(), 1.5, mode="mirror", truncate=3)
    ours = corruptions.blur(x, 1.5, generator())[0, 0].numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-3)  # scipy cuts the kernel off at another pixel


def test_noise_is_rician() -> None:
    dark = torch.zeros(4, 1, 128, 128)
    assert float(corruptions.noise(dark, 0.1, generator()).mean()) == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.02)
    bright = torch.full((4, 1, 128, 128), 0.9)
    assert float(corruptions.noise(bright, 0.02, generator()).std()) == pytest.approx(0.02, rel=0.05)


def test_the_bias_field_is_smooth_and_peaks_at_its_strength() -> None:
    gain = corruptions.bias_field(torch.ones(8, 1, 64, 64), 0.7, generator()).log()
    assert gain.abs().amax(dim=(1, 2, 3)) == pytest.approx(np.full(8, 0.7), abs=rounding(torch.float32, 64, stages=2))
    assert float((gain[:, :, 1:] - gain[:, :, :-1]).abs().max()) < 0.15


def test_ghosts_stand_a_third_of_the_image_apart() -> None:
    x = torch.zeros(1, 1, 60, 60)
    x[0, 0, 30, 30] = 1
    rows = corruptions.ghosting(x, 0.6, generator())[0, 0, :, 30]
    assert set(torch.topk(rows, 3).indices.tolist()) == {10, 30, 50}


def test_a_rotation_by_a_right_angle_is_one() -> None:
    x = blob().float() / 255
    turned = corruptions.rotation(x, 90, generator())
    close = 64 / 2 * rounding(torch.float32, 4)  # of the place, in pixels, that a pixel is taken from
    for image, own in zip(turned, x, strict=True):
        assert any(torch.allclose(image, torch.rot90(own, k, (1, 2)), atol=close, rtol=0) for k in (1, 3))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    settings = config.Model(backbone="test_resnet")
    encoder = encoders.build(settings, 1, 32)
    found = classifier.Classifier(encoder, encoders.width(encoder, 1, 32), ("bar", "disc", "ring"), 0.3, 0.2)
    path = tmp_path / "model.safetensors"
    encoders.save(found.state_dict(), path, classifier.card(settings, 1, 32, found))
    return path


def test_a_classifier_is_measured_under_every_damage(
    params: config.Params, toy: Path, model: Path, tmp_path: Path
) -> None:
    params = params.model_copy(update={"robustness": config.Robustness(images=20, grades=[1, 5])})
    robustness.run(params, toy, model, tmp_path / "d.json", tmp_path / "m.json", tmp_path / "plots")
    found, shown = (read_json(tmp_path / f"{name}.json") for name in "dm")
    assert found["images"] == 20
    assert set(found["corruptions"]) == set(corruptions.GRADED)
    dataset = Dataset.load(toy)
    ids = robustness.chosen(dataset, 20, params.seed)
    assert set(ids) <= set(dataset.indices("test"))
    said = classifier.load(model).probabilities(dataset.images[ids]).argmax(axis=1)
    assert found["clean"]["accuracy"]["value"] == pytest.approx((said == dataset.labels[ids]).mean())
    cells = [grade["accuracy"]["value"] for kind in found["corruptions"].values() for grade in kind.values()]
    assert found["mean"]["accuracy"]["value"] == pytest.approx(np.mean(cells))
    assert shown == {"accuracy_at_grade_3": None}  # which was not asked for
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"by_grade.csv", "accuracy.png", "samples.png"}


def test_distances_are_those_to_the_kth_neighbour() -> None:
    rng = np.random.default_rng(0)
    features, train = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(50, 5)).astype(np.float32)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, train)]
    expected = np.sort(np.linalg.norm(unit[0][:, None] - unit[1], axis=2), axis=1)
    close = rounding(torch.float32, 5, stages=3) / expected[:, 2].min()  # of a cosine; a distance is its root
    np.testing.assert_allclose(foreign.distances(features, train, 3), expected[:, 2], rtol=0, atol=close)


def test_the_auroc_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.normal(0, 1, 80), rng.normal(1, 1, 40)
    found = foreign.summarise(own, np.arange(80) // 2, other, 100 + np.arange(40), 0)
    assert found["auroc"]["value"] == pytest.approx(
        roc_auc_score(np.arange(120) >= 80, np.append(own, other)), abs=1e-9
    )
    assert found["false_alarms"] == (own >= np.quantile(other, 0.05)).mean()


@pytest.mark.parametrize("channels", [1, 3])
def test_synthetic_images_are_of_the_packs_shape_and_differ(channels: int) -> None:
    made = foreign.synthetic(6, channels, 50, 0)
    for kind, pixels in made.items():
        assert pixels.shape == (6, channels, 50, 50), kind
        assert pixels.dtype == np.uint8
        assert pixels.std() > 20, kind
        assert len({image.tobytes() for image in pixels}) == 6, kind


def archive(path: Path) -> Path:
    """A zip of five images, one damaged file and one table."""
    with zipfile.ZipFile(path, "w") as zipped:
        for number in range(5):
            buffer = io.BytesIO()
            pixels = np.random.default_rng(number).integers(0, 255, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(buffer, "PNG")
            zipped.writestr(f"cells/{number}.png", buffer.getvalue())
        zipped.writestr("cells/broken.png", b"no image")
        zipped.writestr("list.csv", b"a,b")
    return path


def test_own_and_foreign_sources_are_compared(params: config.Params, toy: Path, encoder: Path, tmp_path: Path) -> None:
    """Sources that are given, and those on the test side that were not trained on."""
    source = config.PathSource(path=str(archive(tmp_path / "cells.zip")))
    data = params.data.model_copy(update={"image_size": 32})
    settings = config.Foreign(images=8, sources=[source])
    params = params.model_copy(update={"data": data, "foreign": settings})
    embed.run(toy / "pack.npy", encoder, tmp_path / "e.npy")
    foreign.run(params, toy, tmp_path / "e.npy", encoder, tmp_path / "d.json", tmp_path / "m.json", tmp_path / "plots")
    found, shown = (read_json(tmp_path / f"{name}.json") for name in "dm")
    assert found["own_images"] == 48
    assert found["foreign"]["local--cells"]["images"] == 5
    assert found["foreign"]["noise"]["images"] == 8
    assert shown == {"auroc": min(kind["auroc"]["value"] for kind in found["foreign"].values())}
    dataset = Dataset.load(toy)
    elsewhere = np.where(dataset.table["side"] == "test", "elsewhere", "here")
    held_out = foreign.unseen(Dataset(dataset.images, dataset.table.assign(source=elsewhere), dataset.classes))
    assert np.array_equal(held_out["elsewhere"], dataset.indices("test"))
    assert foreign.unseen(dataset) == {}


def test_a_foreign_source_that_changes_while_it_is_read(params: config.Params, tmp_path: Path) -> None:
    source = config.PathSource(path=str(archive(tmp_path / "cells.zip")))
    seen = fingerprint.fingerprints([source], {})
    assert list(foreign.fetched([source], params.data, 3, 0, seen)) == ["local--cells"]
    seen["local/cells"] = {"from": "zip", "bytes": 1, "sha256": "0" * 64}
    with pytest.raises(UserError, match="changed while it was read"):
        foreign.fetched([source], params.data, 3, 0, seen)


def test_real_images_that_are_no_mri_come_from_the_mirror(
    params: config.Params, real_archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUMORXAI_MIRROR", str(real_archives))
    data = params.data.model_copy(update={"image_size": 48, "channels": 3})
    found = foreign.fetched(["mehradaria/leukemia"], data, 12, 0)
    assert list(found) == ["mehradaria--leukemia"]
    pixels = found["mehradaria--leukemia"]
    assert pixels.shape == (12, 3, 48, 48)
    assert len({image.tobytes() for image in pixels}) == 12
    assert pixels.mean(axis=(0, 2, 3)).std() > 2  # stained smears are not grey


def test_an_archive_without_images_is_refused(params: config.Params, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as zipped:
        zipped.writestr("a.png", b"no image")
    source = config.PathSource(path=str(tmp_path / "none.zip"))
    with pytest.raises(UserError, match="no readable image in local--none"):
        foreign.fetched([source], params.data, 3, 0)
