"""An archive that holds what a bundle's own never does is refused, with nothing written outside."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tumorxai.tools.offline import unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "wrong",
    [
        entry("../outside"),
        entry("src/../../../outside"),
        entry("/tmp/outside"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("link", tarfile.LNKTYPE, "../outside"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("folder", tarfile.DIRTYPE),
    ],
    ids=lambda one: f"{one.name} {one.type.decode()}",
)
def test_what_is_no_file_of_the_project_is_refused(
    wrong: tarfile.TarInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, work = tmp_path / "bundle", tmp_path / "below" / "work"
    bundle.mkdir()
    work.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    with tarfile.open(bundle / "project.tar.xz", "w:xz") as archive:
        archive.addfile(entry("src/fine.py"), io.BytesIO(b"fine"))
        archive.addfile(wrong, io.BytesIO(b"evil"))
    monkeypatch.setattr(unpack, "HERE", bundle)
    with pytest.raises(SystemExit, match="1"):
        unpack.unpack({}, work)
    assert f"error: got {wrong.name!r} in project.tar.xz" in capsys.readouterr().err
    assert [path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()] == ["project/src/fine.py"]
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "below"}
    assert not (work / "bundle").exists()  # so that the next try unpacks anew
