"""A published folder: timm loads it, its example runs, a hub takes it, and nothing goes out that should not."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from typer.testing import CliRunner

from tests.report.world import CLASSES, changed, leakage, world
from tests.run.publish.hub_server import TOKEN, Hub
from tests.tolerance import half_the_digits
from tumorxai import config
from tumorxai.archives.images import Fit
from tumorxai.certify import certificate
from tumorxai.cli import app
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_json, write_text
from tumorxai.networks import classifier, encoders
from tumorxai.result.calibration import rescaled
from tumorxai.run import decode, publish

SPLIT = "5" * 64  # checksum of a split


def finished(root: Path, params: config.Params, **model: Any) -> Path:
    """A made-up run's details, with weights drawn at random."""
    params = changed(params, "model", **model)
    params = changed(params, "data", image_size=32)
    channels, size = params.data.channels, 32
    world(root)
    write_text(root / "params.yaml", yaml.safe_dump(params.model_dump(mode="json")))
    write_json(root / "data" / "audited.json", {"protocol": "patients", "split": SPLIT})
    encoder = encoders.build(params.model, channels, size)
    features = encoders.width(encoder, channels, size)
    network = classifier.Classifier(encoder, features, tuple(CLASSES), 0.3, 0.2)
    torch.nn.init.normal_(network.head.bias)
    card = classifier.card(params.model, channels, size, network)
    encoders.save(network.state_dict(), root / "models" / "finetuned.safetensors", card)
    pretrained = {key: card[key] for key in ("timm", "small_stem", "channels", "size", "mean", "std")}
    pretrained |= {"method": params.method, "data": {"split.csv": SPLIT}}
    other = encoders.build(params.model, channels, size)
    encoders.save(other.state_dict(), root / "models" / "encoder.safetensors", pretrained)
    return root


@pytest.fixture
def root(tmp_path: Path, params: config.Params) -> Path:
    return finished(tmp_path / "run", params)


def shown_code(text: str) -> torch.Tensor:
    """The features that the card's own code computes, beside its files."""
    code = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"pixels": torch.rand(2, 1, 32, 32)}
    exec(code[1], names)
    features: torch.Tensor = names["features"]
    return features


def agree(one: torch.nn.Module, other: torch.nn.Module, channels: int = 1) -> None:
    images = torch.randn(3, channels, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(one(images), other(images), rtol=0, atol=half_the_digits(torch.float32))


@pytest.mark.parametrize(("backbone", "channels"), [("test_resnet", 1), ("test_vit", 1), ("test_efficientnet", 3)])
def test_timm_loads_encoder_and_classifier(tmp_path: Path, params: config.Params, backbone: str, channels: int) -> None:
    root = finished(tmp_path / "run", changed(params, "data", channels=channels), backbone=backbone)
    done = publish.write(root, tmp_path / "out")
    assert done.not_timm == {}
    encoder = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    agree(encoder, encoders.load(root / "models" / "encoder.safetensors")[0], channels)
    network = timm.create_model(f"local-dir:{tmp_path / 'out' / 'classifier'}", pretrained=True).eval()
    agree(network, classifier.load(root / "models" / "finetuned.safetensors"), channels)
    assert list(network.pretrained_cfg["label_names"]) == CLASSES
    assert tuple(network.pretrained_cfg["mean"]) == (0.3,) * channels
    assert tuple(network.pretrained_cfg["input_size"]) == (channels, 32, 32)
    # What its users do first: another head on the encoder.
    other = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=7)
    assert other(torch.zeros(2, channels, 32, 32)).shape == (2, 7)
    # Our own loader reads the same file.
    agree(encoders.load(tmp_path / "out" / "model.safetensors")[0], encoder, channels)


@pytest.mark.parametrize("model", [{"backbone": "firildak_cnn"}, {"backbone": "resnet10t", "small_stem": True}])
def test_what_timm_cannot_load_is_told_and_ours_loads_it(
    tmp_path: Path, params: config.Params, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]
) -> None:
    root = finished(tmp_path / "run", params, **model)
    done = publish.write(root, tmp_path / "out")
    assert done.not_timm.keys() == {"encoder", "classifier"}
    assert not [name for name in done.files if name.endswith("config.json") or name == "example.py"]
    agree(encoders.load(tmp_path / "out/model.safetensors")[0], encoders.load(root / "models/encoder.safetensors")[0])
    one, other = tmp_path / "out/classifier/model.safetensors", root / "models/finetuned.safetensors"
    agree(classifier.load(one), classifier.load(other))
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"timm does not load the encoder: {done.not_timm['encoder']}" in text.replace("\\", "")
    assert ModelCard(text).data.library_name == "tumorxai"
    monkeypatch.chdir(tmp_path / "out")
    assert len(shown_code(text)) == 2


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_the_example_and_the_card_run_beside_the_files(
    tmp_path: Path, params: config.Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fit: str
) -> None:
    root = finished(tmp_path / "run", changed(params, "data", fit=fit))
    publish.write(root, tmp_path / "out")
    image = tmp_path / "scan.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 45), dtype=np.uint8)).save(image)
    monkeypatch.setattr(sys, "argv", ["example.py", str(image)])
    runpy.run_path(str(tmp_path / "out" / "example.py"), run_name="__main__")
    told = json.loads(capsys.readouterr().out)
    network = classifier.load(root / "models" / "finetuned.safetensors")
    pixels, _ = decode.read(image.read_bytes(), Fit(32, 1, "stretch" if fit == "stretch" else "pad"))
    temperature = read_json(root / "details" / "calibration.json")["finetune"]["temperature"]
    wanted = rescaled(network.probabilities(pixels[None]), temperature)[0]
    assert told["probabilities"] == pytest.approx(
        dict(zip(CLASSES, wanted.tolist(), strict=True)), abs=half_the_digits(torch.float32)
    )
    text = (tmp_path / "out" / "README.md").read_text()
    monkeypatch.chdir(tmp_path / "out")
    assert len(shown_code(text)) == 2


def test_the_cards_lead_nowhere_else(root: Path, tmp_path: Path) -> None:
    done = publish.write(root, tmp_path / "out", "someone/encoder")
    for name in ("README.md", "dataset_card.md", "claim.md"):
        text = (tmp_path / "out" / name).read_text()
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            assert re.match(r"https?:", link) or link in done.files, (name, link)
        assert "not for diagnosis" in " ".join(text.split())
        assert str(tmp_path) not in text
    card = ModelCard((tmp_path / "out" / "README.md").read_text())
    assert (card.data.library_name, card.data.pipeline_tag) == ("timm", "image-feature-extraction")
    assert 'timm.create_model("hf-hub:someone/encoder"' in card.text
    assert set(done.files) <= set(publish.WRITTEN)


def test_a_split_that_leaks_goes_out_only_where_that_is_meant(root: Path, tmp_path: Path) -> None:
    write_json(root / "details" / "leakage.json", leakage("grouped", 12))
    with pytest.raises(UserError, match="a split that leaks"):
        publish.write(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert publish.write(root, tmp_path / "out", although_leaking=True).verdict == "leaking"
    text = (tmp_path / "out" / "README.md").read_text()
    assert "**The split: leaking.**" in text
    assert "**The scores are inflated**" in text
    assert "leaking-split" in ModelCard(text).data.tags


def test_a_split_that_nobody_judged_does_not_go_out(root: Path, tmp_path: Path) -> None:
    (root / "details" / "leakage.json").unlink()
    with pytest.raises(UserError, match="without a verdict"):
        publish.write(root, tmp_path / "out", although_leaking=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "byol"}, "the method simclr; expected byol"),
        ({"model": {"backbone": "test_vit", "small_stem": False}}, "the backbone test_resnet; expected test_vit"),
    ],
)
def test_weights_of_another_run_do_not_go_out(root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    given = yaml.safe_load((root / "params.yaml").read_text())
    write_text(root / "params.yaml", yaml.safe_dump(given | change))
    with pytest.raises(UserError, match=message):
        publish.write(root, tmp_path / "out")


def test_weights_of_another_split_do_not_go_out(root: Path, tmp_path: Path) -> None:
    write_json(root / "data" / "audited.json", {"protocol": "patients", "split": "6" * 64})
    with pytest.raises(UserError, match=r"checksum of data/split\.csv 555"):
        publish.write(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty"):
        publish.write(root, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def certified(root: Path, path: Path, test: int = 150) -> None:
    """A certificate of as many images as the made-up split has."""
    counts = {"train": 694, "validation": 150, "test": test}
    images = [
        {"source": "tumorxai/phantom", "file": f"{side}/{i}.png", "label": "glioma", "side": side, "subject": "",
         "group": 1000 * place + i, "series": "", "known": "unknown", "pixels": f"{1000 * place + i:064x}"}
        for place, (side, count) in enumerate(counts.items()) for i in range(count)
    ]  # fmt: skip
    content = {
        "format": certificate.FORMAT, "verdict": "copies apart, patients unknown", "crossings": {},
        "second": {"missed": 0, "explained": 0}, "split": "pipeline", "detector": {}, "versions": {},
        "images": images, "left_out": [],
    }  # fmt: skip
    certificate.write(path, content | {"sha256": certificate.digest(content)})


def test_the_certificate_goes_along_if_it_is_of_this_split(root: Path, tmp_path: Path) -> None:
    assert "certificate.json" not in publish.write(root, tmp_path / "without").files
    certified(root, root / "certificate.json")
    assert "certificate.json" in publish.write(root, tmp_path / "with").files
    assert "`certificate.json`" in (tmp_path / "with" / "README.md").read_text()
    certified(root, root / "certificate.json", test=149)
    with pytest.raises(UserError, match="not of this run's split"):
        publish.write(root, tmp_path / "other")
    certified(root, root / "certificate.json")
    altered = (root / "certificate.json").read_text().replace("test/3.png", "test/33.png", 1)
    write_text(root / "certificate.json", altered)
    with pytest.raises(UserError, match="not of this run's split"):
        publish.write(root, tmp_path / "other")


def test_file_names_of_ones_own_images_go_out_only_where_that_is_asked(root: Path, tmp_path: Path) -> None:
    given = yaml.safe_load((root / "params.yaml").read_text())
    given["data"]["sources"] = [{"path": "/home/someone/scans"}]
    write_text(root / "params.yaml", yaml.safe_dump(given))
    certified(root, root / "certificate.json")
    assert "certificate.json" not in publish.write(root, tmp_path / "one").files
    asked = publish.write(root, tmp_path / "two", certified=root / "certificate.json")
    assert "certificate.json" in asked.files
    for path in (tmp_path / "one").rglob("*.*"):
        assert b"/home/someone" not in path.read_bytes(), path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as running:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        downloads = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", downloads)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # the server has LFS alone
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["publish", *(str(one) for one in arguments)])


def test_a_hub_takes_it_and_gives_it_to_timm(root: Path, tmp_path: Path, hub: Hub) -> None:
    done = call(tmp_path / "out", "--push", "someone/encoder", "--root", root, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["url"].startswith(f"{hub.url}/someone/encoder/commit/")
    own = hub.repositories["someone/encoder"]
    assert own.private
    assert sorted(own.files) == told["files"]
    for name, content in own.files.items():
        assert (tmp_path / "out" / name).read_bytes() == content
    assert [request for request in hub.seen if request.startswith("PUT blob/")], "no large file came by LFS"
    assert TOKEN not in done.output
    encoder = timm.create_model("hf-hub:someone/encoder", pretrained=True, cache_dir=tmp_path / "cache").eval()
    agree(encoder, encoders.load(root / "models" / "encoder.safetensors")[0])
    assert [request for request in hub.seen if request == "GET someone/encoder/resolve/main/model.safetensors"]


def test_what_an_earlier_one_had_goes_and_what_is_not_ours_stays(
    root: Path, tmp_path: Path, params: config.Params, hub: Hub
) -> None:
    assert call(tmp_path / "one", "--push", "someone/encoder", "--root", root).exit_code == 0
    own = hub.repositories["someone/encoder"]
    own.files["thesis.pdf"] = b"theirs"
    other = finished(tmp_path / "other", params, backbone="firildak_cnn")
    done = call(tmp_path / "two", "--push", "someone/encoder", "--root", other)
    assert done.exit_code == 0, done.output
    assert "timm does not load the encoder" in done.stdout
    assert "config.json" not in own.files
    assert "example.py" not in own.files
    assert own.files["thesis.pdf"] == b"theirs"
    assert len(own.messages) == 2


def test_nothing_goes_to_where_everybody_looks_unless_that_is_meant(root: Path, tmp_path: Path, hub: Hub) -> None:
    assert call(tmp_path / "one", "--push", "someone/open", "--public", "--root", root).exit_code == 0
    own = hub.repositories["someone/open"]
    assert not own.private
    before = dict(own.files)
    done = call(tmp_path / "two", "--push", "someone/open", "--root", root)
    assert done.exit_code == 1
    assert "which everybody can see" in done.stderr
    assert own.files == before
    assert len(own.messages) == 1


def test_a_hub_that_refuses_is_told_of_without_the_token(
    root: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_wrong_one")
    done = call(tmp_path / "out", "--push", "someone/encoder", "--root", root)
    assert done.exit_code == 1
    assert "Invalid username or password" in done.stderr
    assert "hf auth login" in done.stderr
    assert f"hf upload someone/encoder {tmp_path / 'out'}" in done.stderr
    assert "hf_a_wrong_one" not in done.output
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_hub_that_is_not_there_is_told_of(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub() as gone:
        url = gone.url
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = call(tmp_path / "out", "--push", "someone/encoder", "--root", root)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: could not send ")
    assert "check the network" in done.stderr


@pytest.mark.parametrize("name", ["encoder", "a/b/c", "some one/encoder", "https://hub/a"])
def test_a_repositorys_name_is_checked_before_anything_is_written(root: Path, tmp_path: Path, name: str) -> None:
    done = call(tmp_path / "out", "--push", name, "--root", root)
    assert done.exit_code == 1
    assert "expected a name on the hub such as OWNER/NAME" in done.stderr
    assert not (tmp_path / "out").exists()
