"""What every training shares on its device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tumorxai.networks import engine


def test_threads_count_where_they_add_up_sums() -> None:
    here = engine.machine(torch.device("cpu"), "32-true")
    assert here == {"device": "cpu", "precision": "32-true", "threads": torch.get_num_threads()}
    assert engine.machine(torch.device("cuda", 0), "bf16-mixed") == {"device": "cuda", "precision": "bf16-mixed"}


@pytest.mark.parametrize(("gpu", "fast", "expected"), [(False, False, "32-true"), (True, False, "32-true"),
                                                       (True, True, "bf16-mixed")])  # fmt: skip
def test_bf16_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch, gpu: bool, fast: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: fast)
    assert engine.precision("auto") == expected
    assert engine.precision("32-true") == "32-true"


def test_what_goes_to_a_device_is_a_tensor_of_the_same_numbers() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1]
    found = engine.on_device(images, torch.device("cpu"))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), images)


def test_a_loss_that_is_not_finite_is_told_with_its_step() -> None:
    text = "the loss of byol is inf at step 3 of 12; expected a finite number; lower the rate"
    assert str(engine.not_finite("byol", float("inf"), 3, 12, "lower the rate")) == text
