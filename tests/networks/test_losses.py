"""Losses: against the reference, against naive loops, and what must hold of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss, VICRegLoss
from lightly.loss.lejepa_loss import SIGReg
from lightly.models.modules.center import Center
from torch import Tensor, multiprocessing, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tolerance import rounding
from tumorxai.networks import losses

Batch = dict[str, Tensor]


def nt_xent(x: Batch, temperature: float = 0.1) -> Tensor:
    return losses.nt_xent(x["z1"], x["z2"], temperature)


def byol(x: Batch) -> Tensor:
    criterion = NegativeCosineSimilarity()
    return 0.5 * (criterion(x["p1"], x["z2"]) + criterion(x["p2"], x["z1"]))


def moco(x: Batch) -> Tensor:
    return losses.moco_v3(x["q1"], x["q2"], x["k1"], x["k2"], 0.2)


def nnclr(x: Batch) -> Tensor:
    queue = losses.Queue(*x["queue"].shape).double()
    queue.rows.copy_(x["queue"])
    return losses.nnclr(queue.nearest(x["z1"]), queue.nearest(x["z2"]), x["p1"], x["p2"], 0.1)


def dino(x: Batch) -> Tensor:
    return losses.cross_view_entropy(F.softmax((x["t"] - x["center"]) / 0.04, dim=-1), x["s"], 0.1)


REFERENCE: list[tuple[str, str, Callable[[Batch], Tensor], list[str]]] = [
    ("ntxent", "tau01_loss", nt_xent, ["z1", "z2"]),
    ("ntxent", "tau05_loss", lambda x: nt_xent(x, 0.5), ["z1", "z2"]),
    ("barlow", "bn_loss", lambda x: losses.barlow_twins(x["z1"], x["z2"], 0.005), ["z1", "z2"]),
    ("byol", "loss", byol, ["p1", "p2"]),
    ("moco", "loss", moco, ["q1", "q2"]),
    ("nnclr", "loss", nnclr, ["p1", "p2"]),
    ("dino", "loss", dino, ["s"]),
]


@pytest.mark.parametrize("case", ["A", "B"])
@pytest.mark.parametrize(("name", "value", "loss", "trained"), REFERENCE, ids=[f"{n}-{v}" for n, v, *_ in REFERENCE])
def test_value_and_gradient_are_those_of_the_reference(
    golden: Path, case: str, name: str, value: str, loss: Callable[[Batch], Tensor], trained: list[str]
) -> None:
    data = np.load(golden / "losses.npz", allow_pickle=False)
    start = f"{name}_{case}_"
    inputs = {
        key.removeprefix(start): torch.from_numpy(data[key])
        for key in data.files
        if key.startswith(start) and "loss" not in key
    }
    for key in trained:
        inputs[key].requires_grad_()
    got = loss(inputs)
    got.backward()
    assert got.item() == pytest.approx(float(data[start + value]), rel=1e-12)
    for key in trained:
        np.testing.assert_allclose(inputs[key].grad, data[f"{start}{value}_grad_{key}"], atol=1e-12)


def test_the_neighbours_and_the_centre_are_those_of_the_reference(golden: Path) -> None:
    data = np.load(golden / "losses.npz", allow_pickle=False)
    for case in "AB":
        x = {key: torch.from_numpy(data[f"nnclr_{case}_{key}"]) for key in ("queue", "z1", "z2", "nn1", "nn2")}
        queue = losses.Queue(32, 16).double()
        queue.rows.copy_(x["queue"])
        assert torch.equal(queue.nearest(x["z1"]), x["nn1"])
        assert torch.equal(queue.nearest(x["z2"]), x["nn2"])
        center = Center((1, 16), momentum=0.9).double()
        center.center.copy_(torch.from_numpy(data[f"dino_{case}_center"]))
        center.update(torch.from_numpy(data[f"dino_{case}_t"]).flatten(0, 1))
        np.testing.assert_allclose(center.value[0], data[f"dino_{case}_center_new_m09"], atol=1e-12)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def _info_nce_by_loops(a: Tensor, b: Tensor, temperature: float) -> float:
    total = 0.0
    for i in range(len(a)):
        s = [_cosine(a[i], b[j]) / temperature for j in range(len(b))]
        total -= s[i] - math.log(sum(map(math.exp, s)))
    return total / len(a)


def _rows(count: int, *shape: int) -> list[Tensor]:
    return [torch.randn(*shape, dtype=torch.float64) for _ in range(count)]


def test_nt_xent_equals_two_loops() -> None:
    z1, z2 = _rows(2, 5, 7)
    z = torch.cat([z1, z2])
    total = 0.0
    for i in range(10):
        s = [_cosine(z[i], z[k]) / 0.5 for k in range(10)]
        total -= s[(i + 5) % 10] - math.log(sum(math.exp(s[k]) for k in range(10) if k != i))
    assert float(nt_xent({"z1": z1, "z2": z2}, 0.5)) == pytest.approx(total / 10, abs=1e-12)


def test_nt_xent_is_lightlys_value_and_gradient_without_a_mask_on_the_way() -> None:
    """A mask's shape is known to a GPU alone: its host would wait at each step."""

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.add(func._schema.name)
            return func(*args, **(kwargs or {}))

    waits = {"aten::nonzero", "aten::index", "aten::_local_scalar_dense", "aten::masked_select"}
    found = []
    for loss in (losses.full_precision(NTXentLoss(0.5)), lambda a, b: losses.nt_xent(a, b, 0.5)):
        torch.manual_seed(0)
        z1, z2 = (z.requires_grad_() for z in _rows(2, 6, 7))
        called = set[str]()
        with Seen():
            value = loss(z1, z2)
            value.backward()
        found.append((value.detach(), z1.grad, z2.grad))
    assert not called & waits
    close = rounding(torch.float64, 12, stages=4)
    torch.testing.assert_close(found[0], found[1], rtol=close, atol=close)


def test_moco_equals_loops() -> None:
    q1, q2, k1, k2 = _rows(4, 5, 7)
    expected = 2 * 0.3 * (_info_nce_by_loops(q1, k2, 0.3) + _info_nce_by_loops(q2, k1, 0.3))
    assert float(losses.moco_v3(q1, q2, k1, k2, 0.3)) == pytest.approx(expected, abs=1e-12)


def test_nnclr_equals_loops() -> None:
    nn1, nn2, p1, p2 = _rows(4, 5, 7)
    expected = (_info_nce_by_loops(nn1, p2, 0.3) + _info_nce_by_loops(nn2, p1, 0.3)) / 2
    assert float(losses.nnclr(nn1, nn2, p1, p2, 0.3)) == pytest.approx(expected, abs=1e-12)


def test_barlow_twins_equals_loops() -> None:
    z1, z2 = _rows(2, 6, 4)
    s1, s2 = ((z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + 1e-5).sqrt() for z in (z1, z2))
    total = 0.0
    for i in range(4):
        for j in range(4):
            c = sum(float(s1[b, i] * s2[b, j]) for b in range(6)) / 6
            total += (1 - c) ** 2 if i == j else 0.01 * c**2
    assert float(losses.barlow_twins(z1, z2, 0.01)) == pytest.approx(total, abs=1e-9)


def test_vicreg_equals_loops() -> None:
    z1, z2 = _rows(2, 6, 4)
    total = 25 * float(((z1 - z2) ** 2).mean())
    for z in (z1, z2):
        centred = z - z.mean(dim=0)
        for i in range(4):
            total += 25 * max(0.0, 1 - math.sqrt(float(centred[:, i] @ centred[:, i]) / 5 + 1e-4)) / 4 / 2
            total += sum((float(centred[:, i] @ centred[:, j]) / 5) ** 2 for j in range(4) if j != i) / 4
    assert float(losses.vicreg(z1, z2, 25.0, 25.0, 1.0)) == pytest.approx(total, abs=1e-12)


def test_vicreg_is_that_of_lightly() -> None:
    z1, z2 = (x.float().requires_grad_() for x in _rows(2, 16, 12))
    both = losses.vicreg(z1, z2, 25.0, 25.0, 1.0), VICRegLoss()(z1, z2)
    torch.testing.assert_close(*both)
    torch.testing.assert_close(*(torch.autograd.grad(loss, (z1, z2)) for loss in both))


def test_cross_view_entropy_equals_loops() -> None:
    targets, logits = torch.rand(2, 3, 5, dtype=torch.float64).softmax(dim=-1), _rows(4, 3, 5)
    terms = []
    for g in range(2):
        for v in (v for v in range(4) if v != g):
            for b in range(3):
                scaled = [float(x) / 0.3 for x in logits[v][b]]
                norm = math.log(sum(map(math.exp, scaled)))
                terms.append(-sum(float(targets[g, b, k]) * (scaled[k] - norm) for k in range(5)))
    assert float(losses.cross_view_entropy(targets, logits, 0.3)) == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_supervised_contrast_equals_loops() -> None:
    z, labels = torch.stack(_rows(2, 6, 5)), [0, -1, 1, 0, -1, 1]
    flat, total = [*z[0], *z[1]], 0.0
    for i in range(12):
        s = [_cosine(flat[i], flat[k]) / 0.3 for k in range(12)]
        norm = math.log(sum(math.exp(s[k]) for k in range(12) if k != i))
        same = [k for k in range(12) if k != i and (k % 6 == i % 6 or labels[k % 6] == labels[i % 6] >= 0)]
        total -= sum(s[k] - norm for k in same) / len(same)
    found = losses.supervised_contrastive(z, torch.tensor(labels), 0.3)
    assert float(found) == pytest.approx(total / 12, abs=1e-12)


def test_supervised_contrast_without_labels_is_nt_xent() -> None:
    z1, z2 = _rows(2, 5, 7)
    found = losses.supervised_contrastive(torch.stack([z1, z2]), torch.full((5,), -1), 0.5)
    torch.testing.assert_close(found, nt_xent({"z1": z1, "z2": z2}, 0.5))


def test_the_gaussian_of_lejepa_is_the_statistic_of_epps_and_pulley() -> None:
    """arXiv 2511.08544: N times the integral of |phi_N(t) - exp(-t^2/2)|^2 exp(-t^2/2), over -3 to 3 in 33 points."""
    (z,) = _rows(1, 6, 4)
    torch.manual_seed(0)
    value = float(SIGReg(num_vectors=3)(z.float()))
    torch.manual_seed(0)
    directions = F.normalize(torch.randn(4, 3), dim=0).double()
    total = terms = 0.0
    for k in range(3):
        points = [float(row @ directions[:, k]) for row in z]
        for place in range(-16, 17):
            t = place * 3 / 16
            wave = sum(complex(math.cos(t * x), math.sin(t * x)) for x in points) / 6
            weight = 3 / 16 * (0.5 if abs(place) == 16 else 1) * math.exp(-(t**2) / 2)
            gaussian = math.exp(-(t**2) / 2)
            total += 6 * weight * abs(wave - gaussian) ** 2 / 3
            terms += 6 * weight * (abs(wave) + gaussian) ** 2 / 3
    assert value == pytest.approx(total, abs=terms * rounding(torch.float32, 33 * 6, stages=3))


def test_swapped_prediction_is_that_of_lightly() -> None:
    from lightly.loss.swav_loss import sinkhorn

    scores = [F.normalize(x) for x in _rows(4, 8, 6)]
    codes = torch.stack([sinkhorn(scores[0]), sinkhorn(scores[1])])
    got = losses.cross_view_entropy(codes, scores, 0.1)
    torch.testing.assert_close(got[None], SwaVLoss()(scores[:2], scores[2:]))


SYMMETRIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: nt_xent({"z1": a, "z2": b}),
    "barlow_twins": lambda a, b: losses.barlow_twins(a, b, 0.005),
    "moco_v3": lambda a, b: losses.moco_v3(a, b, a.detach(), b.detach(), 0.2),
    "nnclr": lambda a, b: losses.nnclr(a.detach(), b.detach(), a, b, 0.1),
    "supcon": lambda a, b: losses.supervised_contrastive(torch.stack([a, b]), torch.full((len(a),), -1), 0.1),
    "vicreg": lambda a, b: losses.vicreg(a, b, 25.0, 25.0, 1.0),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_views_may_swap_and_images_may_change_places(name: str) -> None:
    loss = SYMMETRIC[name]
    a, b = _rows(2, 8, 5)
    order = torch.randperm(8)
    torch.testing.assert_close(loss(a, b), loss(b, a))
    torch.testing.assert_close(loss(a, b), loss(a[order], b[order]))


@pytest.mark.parametrize("name", ["nt_xent", "moco_v3", "nnclr", "supcon"])
def test_lengths_do_not_matter(name: str) -> None:
    loss = SYMMETRIC[name]
    a, b = _rows(2, 8, 5)
    torch.testing.assert_close(loss(a, b), loss(3 * a, 0.1 * b))


def test_barlow_twins_does_not_see_scale_or_offset_of_a_feature() -> None:
    a, b = (100 * x for x in _rows(2, 8, 5))  # large, so that batch normalisation's 1e-5 is nothing
    torch.testing.assert_close(
        losses.barlow_twins(a, b, 0.005), losses.barlow_twins(a * 3 + 7, b * 2 - 1, 0.005), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("name", SYMMETRIC)
def test_agreeing_views_cost_less(name: str) -> None:
    a, b = _rows(2, 8, 5)
    assert SYMMETRIC[name](a, a) < SYMMETRIC[name](a, b)


def test_targets_pay_their_entropy_at_least() -> None:
    targets, logits = torch.rand(2, 3, 5, dtype=torch.float64).softmax(dim=-1), _rows(4, 3, 5)
    entropy = torch.special.entr(targets).sum(dim=-1).mean()
    assert losses.cross_view_entropy(targets, logits, 0.1) > entropy
    same = targets[:1].expand(2, -1, -1)
    fitted = losses.cross_view_entropy(same, [same[0].log() * 0.1] * 4, 0.1)
    torch.testing.assert_close(fitted, torch.special.entr(same).sum(dim=-1).mean())


def test_partial_cross_entropy_takes_the_labelled_images_alone() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    value = losses.partial_cross_entropy(logits, torch.tensor([-1, 2, -1, 0]))
    torch.testing.assert_close(value, F.cross_entropy(logits[[1, 3]], torch.tensor([2, 0])))
    nothing = losses.partial_cross_entropy(logits, torch.full((4,), -1))
    nothing.backward()
    assert nothing == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


def test_half_precision_does_not_reach_a_loss() -> None:
    z = torch.randn(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = F.linear(z, torch.eye(16))
        assert rough.dtype == torch.bfloat16
        value = losses.barlow_twins(rough, rough, 0.005)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, losses.barlow_twins(rough.float(), rough.float(), 0.005))


def test_the_queue_keeps_the_last_rows_in_turn() -> None:
    queue = losses.Queue(5, 2)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(5))
    rows = torch.arange(24.0).view(12, 2)
    for start in range(0, 12, 3):
        queue.push(rows[start : start + 3])
    assert sorted(queue.rows[:, 0].tolist()) == rows[-5:, 0].tolist()
    again = losses.Queue(5, 2)
    again.load_state_dict(queue.state_dict())
    for one in (queue, again):
        one.push(rows[:3])
    assert torch.equal(queue.rows, again.rows)
    queue.push(rows)  # more than it holds
    assert sorted(queue.rows[:, 0].tolist()) == rows[-5:, 0].tolist()
    losses.Queue(0, 2).push(rows)


def test_a_frozen_weight_stands_still_with_a_gradient() -> None:
    layer = nn.Linear(2, 2)
    frozen = losses.Frozen(layer.weight)
    for on in (True, False):
        frozen(on)
        layer.zero_grad()
        layer(torch.ones(1, 2)).sum().backward()
        assert bool((layer.weight.grad == 0).all()) == on
        assert bool((layer.bias.grad != 0).all())


# What must not depend on how many processes share a batch: name, loss of (z1, z2, labels).
DISTRIBUTED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b, y: losses.nt_xent(a, b, 0.5),
    "barlow_twins": lambda a, b, y: losses.barlow_twins(a, b, 0.005),
    "vicreg": lambda a, b, y: losses.vicreg(a, b, 25.0, 25.0, 1.0),
    "moco_v3": lambda a, b, y: losses.moco_v3(a, b, a.detach(), b.detach(), 0.2),
    "nnclr": lambda a, b, y: losses.nnclr(a.detach(), b.detach(), a, b, 0.2),
    "partial_cross_entropy": lambda a, b, y: losses.partial_cross_entropy(a, y),
    "supcon": lambda a, b, y: losses.supervised_contrastive(torch.stack([a, b]), y.clamp(max=1), 0.2),
    "sigreg": lambda a, b, y: _gaussian(torch.stack([a, b])),
}
ROWS, WIDTH, PROCESSES = 8, 4, 2


def _gaussian(z: Tensor) -> Tensor:
    torch.manual_seed(0)
    value: Tensor = SIGReg(num_vectors=16, gather_distributed=True).double()(z)
    return value


def _given() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, ROWS, WIDTH, generator=generator, dtype=torch.float64)
    return z[0], z[1], torch.tensor([0, -1, 1, 2, -1, -1, -1, 3])


def _in_a_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    own = slice(rank * ROWS // PROCESSES, (rank + 1) * ROWS // PROCESSES)
    z1, z2, labels = (x[own] for x in _given())
    found: dict[str, Any] = {}
    for name, loss in DISTRIBUTED.items():
        a, b = z1.clone().requires_grad_(), z2.clone().requires_grad_()
        value = loss(a, b, labels)
        value.backward()
        found[name] = (value.detach(), a.grad, b.grad)
    torch.manual_seed(0)
    queue = losses.Queue(6, WIDTH)
    queue.push(z1)
    found["queue"] = queue.rows
    found["own_rows"] = losses.own_rows(losses.gathered(z1), len(z1)).equal(z1)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    # not forked: autograd refuses that once other tests have used it, or a GPU, in this process
    multiprocessing.start_processes(_in_a_process, (str(tmp_path),), nprocs=PROCESSES, start_method="spawn")
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    z1, z2, labels = _given()
    for name, loss in DISTRIBUTED.items():
        a, b = z1.clone().requires_grad_(), z2.clone().requires_grad_()
        value = loss(a, b, labels)
        value.backward()
        torch.testing.assert_close(sum(f[name][0] for f in found) / PROCESSES, value.detach(), msg=name)
        for i, x in enumerate((a, b), start=1):
            if x.grad is not None:  # data-parallel training takes the mean of the processes' gradients
                torch.testing.assert_close(torch.cat([f[name][i] for f in found]) / PROCESSES, x.grad, msg=name)
    torch.manual_seed(0)
    queue = losses.Queue(6, WIDTH)
    queue.push(z1)
    assert all(torch.equal(f["queue"], queue.rows) for f in found)
    assert all(f["own_rows"] for f in found)
