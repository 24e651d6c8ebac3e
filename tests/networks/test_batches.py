"""Batches: each image once an epoch, and views that do not depend on who draws them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tolerance import rounding
from tumorxai.networks import store, views
from tumorxai.networks.batches import BLOCK, Batches

CPU = torch.device("cpu")
EVERY = replace(
    views.BYOL_2, crop=(0.3, 1.0), rotation=20.0, jitter=0.8, shift=0.1, blur=0.6, solarise=0.3, blur_sigma=(1.0, 14.0)
)  # but gamma, whose slope at black has no bound


def batches(images: np.ndarray, recipes: list[views.View], size: int) -> Batches:
    labels = torch.full((len(images),), -1)
    return Batches(images, np.arange(len(images)), labels, recipes, 0.0, 1.0, size, 0, torch.device("cpu"))


def test_each_epoch_sees_each_image_once() -> None:
    drawn = batches(np.zeros((40, 1, 1, 1), np.uint8), [], 8)
    for epoch in range(3):
        seen = np.concatenate([drawn.at(epoch * 5 + i) for i in range(5)])
        assert sorted(seen) == list(range(40))
    assert not np.array_equal(drawn.at(0), drawn.at(5))


def test_labelled_images_have_their_share_of_every_part_of_a_batch() -> None:
    """25 of 525 there, 4 of 12 here: drawn apart, each once before any a second time."""
    labels = torch.where(torch.arange(60) % 3 == 0, 1, -1)  # 20 labelled images, 40 others
    drawn = Batches(np.zeros((60, 1, 4, 4), np.uint8), np.arange(60), labels, [], 0.0, 1.0, 12, 0, CPU, labelled=4)
    assert drawn.per_epoch == 5  # passes over what has no label
    steps = [drawn.at(step) for step in range(10)]
    known = labels[np.stack(steps)] >= 0
    assert (known.reshape(10, 4, 3).sum(dim=2) == 1).all()  # of four processes or parts each has one
    for epoch in (steps[:5], steps[5:]):
        assert sorted(np.concatenate(epoch)) == list(range(60))  # 20 labelled images last five steps too
    assert not np.array_equal(steps[0], steps[5])
    for step in (0, 7):
        assert torch.equal(drawn.labels_at(step) >= 0, known[step])
        assert list(steps[step][known[step].numpy()]) == list(drawn.labelled_at(step))


def test_the_probes_views_are_those_of_the_labelled_images() -> None:
    images = pictures(30, 1, 8)
    labels = torch.where(torch.arange(30) < 10, torch.arange(30) % 3, -1)
    drawn = Batches(images, np.arange(30), labels, [views.SIMCLR], 0.5, 0.25, 12, 0, CPU, labelled=3)
    shown, known = drawn.apart(1, views.FIRILDAK)
    own = drawn.plain(drawn.labelled_at(1))
    assert torch.equal(known, labels[drawn.labelled_at(1)])
    for view, image in zip(shown, own, strict=True):
        assert min((view - other).abs().max() for other in (image, image.flip(-1))) < rounding(torch.float32, 9, 4)
    again, _ = drawn.apart(1, views.FIRILDAK)
    assert torch.equal(shown, again)


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("parts", [2, 3, 12])
def test_the_views_of_an_image_do_not_depend_on_who_draws_them(
    parts: int, on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batches, "on_host", on_host)
    images = np.random.default_rng(0).integers(0, 256, (240, 1, 8, 8), dtype=np.uint8)
    recipes = [views.SIMCLR, replace(views.BYOL_2, noise=0.1), replace(EVERY, size=0.5)]
    drawn = batches(images, recipes, 3 * BLOCK // 2)
    whole = drawn.draw(1, range(drawn.size))
    own = drawn.size // parts
    shared = [drawn.draw(1, range(start, start + own)) for start in range(0, drawn.size, own)]
    for i, view in enumerate(whole):
        assert view.shape == (drawn.size, 1, *[4 if i == 2 else 8] * 2)
        # Who convolves fewer images at a time may round otherwise; what was drawn is the same.
        room = 0.0 if on_host else rounding(torch.float32, 9, stages=2)
        torch.testing.assert_close(torch.cat([part[i] for part in shared]), view, rtol=0, atol=room)
    assert not torch.equal(whole[0], drawn.draw(1 + drawn.per_epoch, range(drawn.size))[0])


def pictures(count: int, channels: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_whole_batch_at_once_has_the_views_of_its_blocks(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws, and the same pixels but for rounding, one of whose sources is where a pixel lies."""
    side = 32
    recipes = [EVERY, views.SIMCLR, replace(EVERY, size=0.5), views.FIRILDAK]
    drawn = batches(pictures(200, channels, side), recipes, BLOCK + 20)
    blocks = drawn.draw(1, range(10, drawn.size))
    monkeypatch.setattr(Batches, "on_host", False)
    at_once = drawn.draw(1, range(10, drawn.size))
    # A place is a sum of three terms up to 1, on a scale where half the side is 1; neighbours differ by 1 at most.
    place = 3 * rounding(torch.float32, 3) * side / 2
    room = 2 * 2 * (place + rounding(torch.float32, 2 * side, stages=8))  # brightness and contrast may double it
    for whole, parts in zip(at_once, blocks, strict=True):
        torch.testing.assert_close(whole, parts, rtol=0, atol=room)


def test_gamma_at_once_is_that_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    view = views.View(jitter=1.0, gamma=1.0, ratio=(1, 1))
    drawn = batches(np.maximum(pictures(80, 1, 16), 64), [view], BLOCK + 16)
    blocks = drawn.draw(0, range(drawn.size))[0]
    monkeypatch.setattr(Batches, "on_host", False)
    room = 2 * (3 * rounding(torch.float32, 3) * 8 + rounding(torch.float32, 4))  # the slope is 2 at most
    torch.testing.assert_close(drawn.draw(0, range(drawn.size))[0], blocks, rtol=0, atol=room)


def test_noise_at_once_is_of_the_strength_that_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batches, "on_host", False)
    plain = views.View(horizontal_flip=0, ratio=(1, 1), noise=0.1)
    drawn = batches(np.full((64, 1, 32, 32), 128, np.uint8), [plain] * 2, 64)
    first, second = (view - 128 / 255 for view in drawn.draw(0, range(64)))
    strength = first.std(dim=(1, 2, 3))
    assert first.mean().abs() < 0.002
    assert strength.min() < 0.02
    assert 0.08 < strength.max() < 0.11
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.05


class Launches(TorchDispatchMode):
    """Counts what would be launched on a device: every operation but views of memory and its reservation."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func._schema.name.startswith(("aten::empty", "aten::detach")))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipes", [[views.SIMCLR] * 2, [views.BYOL_1, views.BYOL_2], [EVERY] * 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_two_views_take_at_most_sixty_launches(
    recipes: list[views.View], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = batches(pictures(256, channels, 32), recipes, 256)
    monkeypatch.setattr(Batches, "on_host", False)
    drawn.__dict__["store"] = store.Resident(drawn.images, CPU)
    loaded = drawn.load(0, range(256))
    with Launches() as counted:
        drawn.make(loaded)
    assert counted.count + len(loaded) <= 60  # each tensor of the host is one copy


@pytest.mark.parametrize("kind", [store.AsTheyAre, store.Resident, store.Ahead])
def test_every_store_has_the_images_that_are_asked_for(kind: Any) -> None:
    images = pictures(50, 1, 4)
    held = kind(images, CPU)
    order = [np.random.default_rng(i).permutation(50)[:8] for i in range(6)]
    for i, ids in enumerate(order):
        then = order[i + 1] if i in (0, 1, 3) else None  # known ahead, wrongly foretold, and not foretold
        fetched = held.fetch(ids, order[0] if i == 2 else then)
        assert torch.equal(held.pixels(fetched), torch.from_numpy(images[ids]))
    larger = np.arange(30)
    assert torch.equal(held.pixels(held.fetch(larger, None)), torch.from_numpy(images[larger]))
    assert torch.equal(held.pixels(held.fetch(order[0], None)), torch.from_numpy(images[order[0]]))


def test_what_was_copied_ahead_stays_until_the_step_after_it() -> None:
    """The device may still look at a batch while the next one is copied."""
    images = pictures(40, 1, 4)
    held = store.Ahead(images, CPU)
    order = [np.arange(8 * i, 8 * i + 8) for i in range(5)]
    last = None
    for ids, then in zip(order, [*order[1:], None], strict=True):
        pixels = held.fetch(ids, then)
        if last is not None:
            assert pixels.data_ptr() != last.data_ptr()
        assert torch.equal(pixels, torch.from_numpy(images[ids]))
        last = pixels


def test_images_go_to_a_gpu_whole_where_they_take_at_most_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 4000))
    gpu = torch.device("cuda")
    assert store.fits(500, gpu)
    assert not store.fits(501, gpu)
    assert isinstance(store.choose(pictures(2, 1, 4), CPU), store.AsTheyAre)
