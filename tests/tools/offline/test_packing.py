"""What is packed comes out as it was, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tumorxai.errors import UserError
from tumorxai.files import sha256
from tumorxai.tools.offline import packing


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    """Images that a compressor of images should know better than one of bytes."""
    y, x = np.mgrid[: shape[2], : shape[3]]
    noise = np.random.default_rng(0).integers(-2, 3, shape)
    base = 120 + 60 * np.sin(x / 9 + np.arange(shape[0])[:, None, None, None]) + 60 * np.cos(y / 7)
    return (base + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "shape", [(1, 1, 8, 8), (70, 1, 32, 32), (33, 3, 28, 28), (3, 1, 1025, 1025), (2, 1, 24, 40), (150, 1, 200, 200)]
)
def test_images_come_out_as_they_were(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Sheets that are full, one row, or the last of several; all values from 0 to 255."""
    images = smooth(shape) if shape[0] > 2 else np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "pack.npy", images)
    kind = packing.pack(tmp_path / "pack.npy", tmp_path / "packed")
    packing.unpack(tmp_path / "packed", kind, tmp_path / "back.npy", sha256(tmp_path / "pack.npy"))
    assert (tmp_path / "back.npy").read_bytes() == (tmp_path / "pack.npy").read_bytes()
    assert kind in ("webp", "raw")
    if shape[0] > 2:
        assert kind == "webp"
        assert (tmp_path / "packed").stat().st_size < images.size / 1.5


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (b"image_id,label\n" * 1000, "xz"),
        (np.random.default_rng(0).bytes(5000), "raw"),
        (b"", "raw"),
        (np.arange(20000, dtype=np.int64), "xz"),
        (np.zeros((40, 2, 16, 16), np.uint8), "xz"),
        (np.zeros((0, 1, 16, 16), np.uint8), "raw"),
    ],
)
def test_everything_else_comes_out_as_it_was(made: object, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    if isinstance(made, np.ndarray):
        with open(file, "wb") as stream:
            np.save(stream, made)
    else:
        file.write_bytes(bytes(made))  # type: ignore[call-overload]
    assert packing.pack(file, tmp_path / "packed") == kind
    packing.unpack(tmp_path / "packed", kind, tmp_path / "back", sha256(file))
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "file", "packed"]


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one" * 100)
    kind = packing.pack(tmp_path / "file", tmp_path / "packed")
    with pytest.raises(UserError, match="copy the bundle again"):
        packing.unpack(tmp_path / "packed", kind, tmp_path / "back", "0" * 64)
    assert not (tmp_path / "back").exists()
