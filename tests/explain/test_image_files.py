"""Image files in, heat-maps out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tolerance import TEST_RESNET
from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.explain.image_files import explain_images, explain_similarity
from tumorxai.networks import encoders
from tumorxai.networks.classifier import Classifier, card

MAP = 10 * TEST_RESNET  # the terms of a map cancel: together they are several times as large as its range
CLASSES = ("glioma", "meningioma", "pituitary")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    settings = config.Model(backbone="test_resnet")
    encoder = encoders.build(settings, 1, 64)
    classifier = Classifier(encoder, encoders.width(encoder, 1, 64), CLASSES, 0.3, 0.2)
    folder = tmp_path_factory.mktemp("models")
    described = card(settings, 1, 64, classifier)
    encoders.save(classifier.state_dict(), folder / "finetuned.safetensors", described)
    encoders.save(encoder.state_dict(), folder / "encoder.safetensors", described)
    return folder / "finetuned.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of several sizes and formats, two of the same name."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    paths = [folder / "a" / "scan.png", folder / "b" / "scan.jpg", folder / "tall.bmp"]
    for path, shape in zip(paths, ((90, 70), (64, 64, 3), (200, 40)), strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, shape).astype(np.uint8)).save(path)
    return paths


def test_several_images_and_methods(model: Path, files: list[Path], tmp_path: Path) -> None:
    found = explain_images(files, ["grad_cam", "occlusion"], "meningioma", model, tmp_path / "out", windows=4)
    assert [one.path for one in found] == files
    for one in found:
        assert one.explained == "meningioma"
        assert one.predicted == max(one.probabilities, key=lambda name: one.probabilities[name])
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert {method: heat.shape for method, heat in one.maps.items()} == {
            "grad_cam": (64, 64),
            "occlusion": (64, 64),
        }
        assert one.flat == [method for method, heat in one.maps.items() if not heat.any()]
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    names = ("scan_1", "scan_2", "tall")
    assert written == sorted(f"{name}{end}" for name in names for end in (".png", ".grad_cam.npy", ".occlusion.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "tall.grad_cam.npy"), found[2].maps["grad_cam"])
    with Image.open(found[0].picture or "") as picture:
        assert picture.width > 250


def test_one_image_alone_is_explained_as_among_others(model: Path, files: list[Path]) -> None:
    together = explain_images(files, ["grad_cam"], None, model)
    alone = explain_images(files[1:2], ["grad_cam"], None, model)[0]
    np.testing.assert_allclose(alone.maps["grad_cam"], together[1].maps["grad_cam"], atol=MAP)
    assert alone.explained == alone.predicted == together[1].predicted
    assert alone.picture is None


def test_similarity_of_two_files(model: Path, files: list[Path], tmp_path: Path) -> None:
    encoder = model.with_name("encoder.safetensors")
    cosine, maps = explain_similarity(files[0], files[2], encoder=encoder, out=tmp_path / "pair.png")
    back, swapped = explain_similarity(files[2], files[0], encoder=encoder)
    assert cosine == pytest.approx(back, abs=TEST_RESNET)
    np.testing.assert_allclose(maps, swapped[::-1], atol=MAP)
    assert (tmp_path / "pair.png").exists()


def test_mistakes_are_told(model: Path, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'meningoma'; expected one of glioma.*did you mean meningioma"):
        explain_images(files, ["grad_cam"], "meningoma", model)
    with pytest.raises(UserError, match=r"'vitcx'; expected one of"):
        explain_images(files, ["vitcx"], None, model)
    with pytest.raises(UserError, match=r"expected a transformer"):
        explain_images(files, ["attention_rollout"], None, model)
    with pytest.raises(UserError, match=r"no\.png, which cannot be read"):
        explain_images([tmp_path / "no.png"], ["grad_cam"], None, model)
    text = tmp_path / "text.png"
    text.write_text("no image")
    with pytest.raises(UserError, match=r"text\.png, which cannot be read \(no image"):
        explain_images([text], ["grad_cam"], None, model)
    with pytest.raises(UserError, match="got no image"):
        explain_images([], ["grad_cam"], None, model)
    with pytest.raises(UserError, match=r"expected a trained classifier there"):
        explain_images(files, ["grad_cam"], None, tmp_path / "nothing.safetensors")
