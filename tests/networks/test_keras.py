"""The Keras examples' heads and losses against plain loops in float64, and where they part from the papers'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.methods.test_methods import batch, build, labels
from tumorxai.networks import keras, losses

TAU = 0.1


def drawn(count: int = 2, rows: int = 7, width: int = 5) -> list[Tensor]:
    return [torch.randn(rows, width, dtype=torch.float64) for _ in range(count)]


def unit(z: Tensor) -> Tensor:
    return z / z.norm(dim=1, keepdim=True)


def cross_entropy(logits: np.ndarray) -> float:
    """Of rows whose class is their own number."""
    return float(np.mean([np.log(np.exp(row - row[i]).sum()) for i, row in enumerate(logits)]))


def test_info_nce() -> None:
    z1, z2 = drawn()
    a, b = unit(z1).numpy(), unit(z2).numpy()
    expected = 0.5 * (cross_entropy(a @ b.T / TAU) + cross_entropy(b @ a.T / TAU))
    assert keras.info_nce(z1, z2, TAU).item() == pytest.approx(expected, rel=1e-12)


def test_nnclr() -> None:
    nn1, nn2, z1, z2 = (unit(z) for z in drawn(4))
    n1, n2, p1, p2 = (z.numpy() for z in (nn1, nn2, z1, z2))
    terms = [n1 @ p2.T, p2 @ n1.T, n2 @ p1.T, p1 @ n2.T]
    expected = np.mean([cross_entropy(term / TAU) for term in terms])
    assert keras.nnclr(nn1, nn2, z1, z2, TAU).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_passes_straight_through_a_neighbour() -> None:
    """With the projection in the neighbour's place it is that of a loss of the projections alone."""
    z1, z2 = (unit(z).requires_grad_() for z in drawn())
    keras.nnclr(z1.detach(), z2.detach(), z1, z2, TAU).backward()
    through = z1.grad
    a = z1.detach().clone().requires_grad_()
    own = torch.arange(len(a))
    rows = [a @ z2.detach().T, z2.detach() @ a.T]
    torch.stack([nn.functional.cross_entropy(row / TAU, own) for row in rows]).mean().backward()
    torch.testing.assert_close(through, a.grad)


def test_barlow_twins() -> None:
    z1, z2 = drawn()
    s1, s2 = ((z - z.mean(axis=0)) / z.std(axis=0) for z in (z1.numpy(), z2.numpy()))
    correlation, on, off = s1.T @ s2 / len(s1), [], []
    for i in range(5):
        for j in range(5):
            (on if i == j else off).append((float(i == j) - correlation[i, j]) ** 2)
    assert keras.barlow_twins(z1, z2).item() == pytest.approx(np.mean(on) + 10 * np.mean(off), rel=1e-12)


def test_barlow_twins_is_the_papers_with_another_lambda() -> None:
    z1, z2 = drawn(rows=64)
    ours = losses.barlow_twins(1e4 * z1, 1e4 * z2, 10 / 4) / 5  # large variances: their 1e-5 is lost in rounding
    torch.testing.assert_close(keras.barlow_twins(z1, z2), ours)


def test_the_head_has_two_layers_and_no_batch_normalisation() -> None:
    head = keras.head(6, 4, 3)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert not head[0].bias.any()
    assert head[0].weight.abs().max() <= (6 / (6 + 4)) ** 0.5  # Glorot and Bengio 2010, Eq. 16


@pytest.mark.parametrize("name", ["simclr", "nnclr", "barlow_twins", "joint"])
def test_each_method_has_the_variant(name: str) -> None:
    method = build(name, keras=True).eval().double()
    views = [view.double() for view in batch(method)]
    loss = method.loss(views, labels(), 0.5)
    loss.backward()
    assert [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    outside = [layer for name, child in method.named_children() if name != "encoder" for layer in child.modules()]
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in outside)
    z1, z2 = (getattr(method, "head", getattr(method, "projector", None))(method.encoder(view)) for view in views)
    expected = {
        "simclr": lambda: keras.info_nce(z1, z2, method.settings.temperature),
        "joint": lambda: keras.info_nce(z1, z2, method.settings.temperature) + method.signals["cross_entropy"],
        "barlow_twins": lambda: keras.barlow_twins(z1, z2),
        "nnclr": lambda: loss,
    }[name]()
    torch.testing.assert_close(loss, expected)
