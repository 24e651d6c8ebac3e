"""The picture of the views: small, the same each time, and without a trace in the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tumorxai import config
from tumorxai.pretrain import view_sheet


@pytest.mark.parametrize(("method", "columns"), [("simclr", 3), ("dino", 7)])
def test_the_sheet(toy: Path, params: config.Params, tmp_path: Path, method: str, columns: int) -> None:
    asked = params.model_copy(update={"method": method})
    state = torch.random.get_rng_state()
    for name in ("a.png", "b.png"):
        view_sheet.run(asked, toy, tmp_path / name)
    assert torch.equal(state, torch.random.get_rng_state())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").stat().st_size < 300_000
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert picture.shape[1] == pytest.approx(115 * columns, abs=2)
    assert (picture[60:] < 128).mean() > 0.2  # the images are there
