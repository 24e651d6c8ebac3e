"""Which packages go along, and their wheels."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.tools.offline.folders import ROOT
from tumorxai.errors import UserError
from tumorxai.tools.offline import wheels

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_what_is_asked_for_and_loaded_goes_along() -> None:
    """pydantic and what it needs; not what the node has, nor what Python has, nor what is not installed."""
    names = {"pydantic", "json", "numpy", "tumorxai.config.blocks", "nobodys_package"}
    found = wheels.needed(names, ["numpy"], "3.12", "x86_64")
    assert {"pydantic", "pydantic-core", "annotated-types", "typing-inspection"} <= set(found)
    assert not {"numpy", "tumorxai", "dvclive"} & set(found)
    assert found["pydantic"] == metadata.version("pydantic")
    assert wheels.needed(names, ["numpy", "pydantic"], "3.12", "x86_64") == {}


@pytest.mark.slow
def test_a_node_with_pytorch_needs_no_dvc() -> None:
    imports = wheels.imported(ROOT, [("pretrain", "simclr"), ("linear", "simclr")])
    assert {"torch", "pydantic", "tumorxai.pretrain.pretrain", "tumorxai.methods.simclr"} <= imports
    found = set(wheels.needed(imports, wheels.BARE, "3.12", "x86_64"))
    assert {"pydantic-core", "lightning-fabric", "lightly", "pandas", "ruamel-yaml"} <= found
    assert not {name for name in found if name.startswith("dvc")}
    assert not found & {"torch", "numpy", "scipy", "pyyaml", "hydra-core", "antlr4-python3-runtime"}


@pytest.mark.parametrize("name", ["pydantic", "numpy", "pandas"])
def test_a_pin_is_taken_with_its_hashes(name: str) -> None:
    version = LOCK.split(f"\n{name}==")[1].split()[0]
    lines = wheels.pinned(LOCK, name, version).splitlines()
    assert lines[0] == f"{name}=={version} \\"
    assert len(lines) > 1
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])
    assert not lines[-1].endswith("\\")
    assert wheels.pinned(LOCK, name, "0.0.1") == ""


@pytest.mark.slow
def test_wheels_are_those_of_the_nodes_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder instead of a registry: for another Python and machine than these here."""
    place = tmp_path / "registry"
    place.mkdir()
    for tag in ("cp313-cp313-manylinux_2_17_aarch64", "cp312-cp312-manylinux_2_17_aarch64"):
        with zipfile.ZipFile(place / f"some_package-1.5-{tag}.whl", "w") as archive:
            archive.writestr("some_package.py", "")
            archive.writestr(
                "some_package-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-package\nVersion: 1.5\n"
            )
            archive.writestr("some_package-1.5.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
            archive.writestr("some_package-1.5.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    asked = {"some-package": "1.5"}
    wheels.download(asked, tmp_path / "no.lock", "3.13", "aarch64", tmp_path / "out")
    (found,) = (tmp_path / "out").iterdir()
    assert "cp313" in found.name
    with pytest.raises(UserError, match=r"(?s)no wheels for Python 3\.11 on aarch64.*another --python"):
        wheels.download(asked, tmp_path / "no.lock", "3.11", "aarch64", tmp_path / "none")
