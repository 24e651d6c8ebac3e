"""The command: known answers, JSON that parses, and one message with a status for every mistake."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.tolerance import TEST_RESNET
from tumorxai.audit.verdict import Evidence, judge
from tumorxai.cli import app
from tumorxai.files import write_json
from tumorxai.run.case import Workspace
from tumorxai.tools import doctor

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def root(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of its own, so that its index is free."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture(scope="module")
def images(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files to ask about, good and bad."""
    folder = tmp_path_factory.mktemp("images")
    pack = np.load(root / "data" / "pack.npy")
    paths = {name: folder / f"{name}.png" for name in ("scan", "copy", "stripes", "text", "nothing", "bomb", "lost")}
    Image.fromarray(pack[110, 0]).save(paths["scan"])
    Image.fromarray(pack[66, 0]).save(paths["copy"])
    y, x = np.mgrid[:90, :90]
    Image.fromarray((127 * (1 + np.sin(x + 2 * y))).astype(np.uint8)).save(paths["stripes"])
    paths["text"].write_text("patient,label\n")
    paths["nothing"].touch()
    Image.new("1", (9000, 9000)).save(paths["bomb"])
    return paths


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def refused(message: str, *arguments: object) -> None:
    """The command ends with status 1, one message and nothing else."""
    done = call(*arguments)
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.output


def answers(*arguments: object) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_predictions_are_those_of_the_workspace(root: Path, images: dict[str, Path]) -> None:
    opened = Workspace.open(root)
    scan, stripes = answers("predict", images["scan"], images["stripes"], "--root", root)
    wanted = opened.predict(opened.read(images["scan"].read_bytes()))
    assert scan["image"] == str(images["scan"])
    assert scan["predicted"] == wanted.predicted
    assert scan["probabilities"] == pytest.approx(wanted.probabilities)
    assert (scan["unlike"], stripes["unlike"]) == (False, True)
    assert scan["copy_of"] == {"image_id": 110, "side": "test", "orientation": "as is", "correlation": 1.0}
    assert stripes["copy_of"] is None

    text = call("predict", images["scan"], images["stripes"], "--root", root)
    assert text.exit_code == 0
    assert "already in the data: a copy of image 110 (side test)" in text.stdout
    assert text.stdout.count("unlike the training images") == 1
    assert f"{wanted.predicted} {100 * max(wanted.probabilities.values()):.1f}%" in text.stdout
    assert "Not a medical device" in text.stdout


def test_one_bad_image_does_not_hide_the_others(root: Path, images: dict[str, Path]) -> None:
    bad = [images[name] for name in ("text", "nothing", "bomb", "lost")]
    done = call("predict", *bad, images["scan"], "--root", root, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    reasons = ("no image of a known format", "empty, 0 bytes", "9000 x 9000 pixels; at most", "No such file")
    for one, reason in zip(found, reasons, strict=False):
        assert reason in one["error"]
        assert one["error"] in done.stderr
    assert found[-1]["predicted"]
    assert done.stderr.count("error: ") == 4


def test_heat_maps_and_pictures(root: Path, images: dict[str, Path], tmp_path: Path) -> None:
    given = ("--method", "vit_cx", "--method", "grad_cam", "--class", "ring", "--masks", 4, "--root", root)
    found = answers("explain", images["scan"], images["copy"], *given, "--out", tmp_path)
    assert [one["explained"] for one in found] == ["ring"] * 2
    assert all(Path(one["picture"]).exists() for one in found)
    assert np.load(tmp_path / "copy.grad_cam.npy").shape == (32, 32)

    like = ("--like", images["copy"], "--root", root, "--out", tmp_path)
    (pair,) = answers("explain", images["scan"], *like)
    assert Path(pair["picture"]).exists()
    assert -1 <= pair["cosine"] <= 1
    refused("expected one image", "explain", images["scan"], images["stripes"], *like)
    refused("got the class 'rign'; expected one of bar, disc, ring; did you mean ring?",
            "explain", images["scan"], "--class", "rign", "--root", root, "--out", tmp_path)  # fmt: skip
    refused("got the method 'vitcx'; expected one of grad_cam",
            "explain", images["scan"], "--method", "vitcx", "--root", root, "--out", tmp_path)  # fmt: skip


def test_similar_cases(root: Path, images: dict[str, Path]) -> None:
    by_file, by_id = answers("search", images["copy"], "--id", 66, "--count", 3, "--root", root)
    for one, other in zip(by_file["hits"], by_id["hits"], strict=True):  # the last digit depends on the CPU
        assert one.pop("similarity") == pytest.approx(other.pop("similarity"), abs=TEST_RESNET)
        assert one == other
    assert len(by_id["hits"]) == 3
    assert not {hit["image_id"] for hit in by_id["hits"]} & set(range(66, 72))
    (kept,) = answers("search", images["copy"], "--copies", "--class", "disc", "--count", 1, "--root", root)
    assert kept["hits"][0]["image_id"] == 66
    assert kept["hits"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    text = call("search", "--id", 66, "--count", 3, "--sequence", "T2", "--root", root).stdout
    assert text.startswith("image 66: 3 similar cases")
    assert text.count("T2, toy") == 3

    refused("got no image; expected image files, or `--id NUMBER`", "search", "--root", root)
    refused("got the class 'rinng'; expected one of bar, disc, ring; did you mean ring?",
            "search", "--id", 1, "--class", "rinng", "--root", root)  # fmt: skip
    refused("got the image 120; expected one of 0 to 119", "search", "--id", 120, "--root", root)


def test_what_is_missing_is_named(root: Path, images: dict[str, Path], tmp_path: Path) -> None:
    refused("run from the project's folder", "predict", images["scan"], "--root", tmp_path)
    shutil.copytree(root, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "models" / "index")
    assert call("predict", images["scan"], "--root", tmp_path / "run").exit_code == 0
    refused("dvc repro search", "search", "--id", 1, "--root", tmp_path / "run")
    (tmp_path / "run" / "models" / "finetuned.safetensors").unlink()
    refused("dvc repro finetune", "predict", images["scan"], "--root", tmp_path / "run")
    refused("dvc repro finetune", "explain", images["scan"], "--root", tmp_path / "run")


def test_a_command_that_does_not_exist_is_a_mistake_of_usage(images: dict[str, Path]) -> None:
    assert call("predcit", images["scan"]).exit_code == 2
    assert call("predict").exit_code == 2
    assert call("search", "--id", "x").exit_code == 2


def test_presets(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert "sartaj" in answers("preset", "--root", tmp_path)
    assert answers("preset", "sartaj", "--root", tmp_path) == {"preset": "sartaj"}
    assert "preset: sartaj" in (tmp_path / "params.yaml").read_text()
    refused("got the preset 'demmo'; expected one of", "preset", "demmo", "--root", tmp_path)


def test_a_leaderboard_needs_a_project(tmp_path: Path) -> None:
    refused("got the protocol 'finetun'; expected one of finetune", "compare", "--protocol", "finetun")
    refused("expected a DVC project", "compare", "--root", tmp_path)


def test_exports(root: Path, tmp_path: Path) -> None:
    found = answers("export", tmp_path / "encoder.pt2", "--root", root)
    assert found["difference"] < 1e-3
    assert found["bytes"] == (tmp_path / "encoder.pt2").stat().st_size
    assert "copy.safetensors: differs" in call("export", tmp_path / "copy.safetensors", "--root", root).stdout
    refused("expected a name that ends in", "export", tmp_path / "encoder.pkl", "--root", root)


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(f"got 127.0.0.1:{port}, which cannot be listened at", "serve", "--port", port, "--root", tmp_path)


def test_help_is_quick() -> None:
    slow = ("torch", "numpy", "pandas", "pydantic", "tqdm", "matplotlib", "uvicorn")
    code = f"""
import sys
from tumorxai.cli import main
try:
    main()
except SystemExit as end:
    sys.exit(end.code or ' '.join(set({slow}) & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("predict", "explain", "search", "serve", "compare", "preset", "doctor", "export"):
        assert name in done.stdout


def test_the_shell_completes_classes_and_presets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(words: str) -> list[str]:
        asked = {"_TUMORXAI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(app, [], prog_name="tumorxai", env=asked).stdout.split()

    monkeypatch.chdir(root)
    assert complete("tumorxai explain a.png --class di") == ["disc"]
    monkeypatch.chdir(ROOT)
    assert "sartaj" in complete("tumorxai preset sa")


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No key and no mirror; a project that wants an archive from Kaggle."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "TUMORXAI_MIRROR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("TUMORXAI_CACHE", str(tmp_path / "cache"))
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "dvc.yaml").touch()
    text = (ROOT / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("sources: [phantom]", "sources: [someone/some-mri]"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(project)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "all"], check=True)
    return project


def diagnosis(project: Path) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(call("doctor", "--root", project, "--json").stdout)}


def test_the_doctor_says_what_to_do(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(surroundings)
    assert list(found) == [
        "split", "python", "packages", "torch", "gpu", "git", "dvc", "params", "kaggle", "mirror", "versions", "disk",
    ]  # fmt: skip
    assert found["python"]["state"] == found["torch"]["state"] == found["git"]["state"] == "ok"
    assert found["kaggle"]["state"] == "fail"
    assert "someone--some-mri.zip" in found["kaggle"]["found"]
    assert all(check["advice"] for check in found.values() if check["state"] != "ok")
    assert call("doctor", "--root", surroundings).exit_code == 1

    monkeypatch.setenv("TUMORXAI_MIRROR", "archives")
    assert "absolute" in diagnosis(surroundings)["mirror"]["advice"]
    mirror = surroundings.parent / "archives"
    mirror.mkdir()
    monkeypatch.setenv("TUMORXAI_MIRROR", str(mirror))
    assert "lacks someone--some-mri.zip" in diagnosis(surroundings)["mirror"]["found"]
    (mirror / "someone--some-mri.zip").touch()
    found = diagnosis(surroundings)
    assert found["mirror"]["state"] == found["kaggle"]["state"] == "ok"

    (surroundings / "params.yaml").write_text("seed: many\n")
    assert "seed" in diagnosis(surroundings)["params"]["found"]


def test_the_doctor_begins_with_the_verdict(surroundings: Path) -> None:
    assert diagnosis(surroundings)["split"]["found"] == "not audited yet"
    for evidence, state in ((Evidence(90, unknown=600), "ok"), (Evidence(90, copies=3), "warn")):
        verdict = judge(evidence)
        write_json(surroundings / "details" / "leakage.json", {"verdict": verdict})
        found = diagnosis(surroundings)["split"]
        assert found["state"] == state
        assert found["found"] == f"{verdict['level']}. {verdict['sentence']}"
        assert bool(found["advice"]) == (state == "warn")
    (surroundings / "details" / "leakage.json").write_text("[]")
    assert "dvc repro audit" in diagnosis(surroundings)["split"]["advice"]


def test_the_doctor_finds_a_key_and_never_shows_it(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = surroundings.parent / "keys" / "kaggle.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"username": "someone", "key": "5ec4e7"}))
    file.chmod(0o644)
    assert "chmod 600" in diagnosis(surroundings)["kaggle"]["advice"]
    file.chmod(0o600)
    assert diagnosis(surroundings)["kaggle"]["state"] == "ok"
    file.write_text('{"username": "5ec4e7"')
    assert "no username and key" in diagnosis(surroundings)["kaggle"]["advice"]
    monkeypatch.setenv("KAGGLE_API_TOKEN", "5ec4e7")
    assert diagnosis(surroundings)["kaggle"]["found"] == "a key in KAGGLE_API_TOKEN"
    assert "5ec4e7" not in call("doctor", "--root", surroundings).output


def test_the_doctor_works_without_torch(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = diagnosis(surroundings)
    assert (found["torch"]["state"], found["gpu"]["state"]) == ("fail", "warn")
    assert "make setup" in found["torch"]["advice"]


def test_the_doctor_judges_python_and_the_disk(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PYTHON", ((3, 4), (3, 5)))
    monkeypatch.setattr(doctor, "LITTLE", 1e9)
    monkeypatch.setattr(doctor, "ENOUGH", 1e9)
    found = diagnosis(surroundings)
    assert (found["python"]["state"], found["disk"]["state"]) == ("fail", "fail")
