"""Do maps depend on what the classifier has learned? (Adebayo et al., "Sanity Checks for Saliency Maps").

arXiv 1810.03292. A map that stays the same when the weights, the labels or the class change shows the image, not the
classifier.
"""

from __future__ import annotations

import copy
import math
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from tumorxai.base import logistic
from tumorxai.explain.layers import encoder_of

BATCH = 256
ITERATIONS = 100  # of the regression on random labels, which has no solution worth waiting for


def units(model: nn.Module) -> list[nn.Module]:
    """Parts of the encoder that hold weights, from the input to the output; stages are taken apart into blocks."""
    parts: list[nn.Module] = []
    for child in encoder_of(model).children():
        parts += list(child) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return [part for part in parts if any(True for _ in part.parameters())]


@torch.no_grad()
def shuffle_weights(part: nn.Module, generator: torch.Generator) -> None:
    """Permute the entries of each weight tensor: the same values, without what they had learned."""
    for weight in part.parameters():
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        weight.copy_(weight.flatten()[order].view_as(weight))


def cascade(model: nn.Module, stages: int, seed: int = 0) -> list[tuple[str, nn.Module]]:
    """Copies of a classifier whose weights are randomised from the head downwards, each further than the one before.

    Args:
        model: with ``encoder`` and ``head``.
        stages: after the head, the encoder's parts are randomised in so many steps of equal numbers of parts.
        seed: of the permutations.

    Returns:
        Name of the last thing randomised, and the model, ``stages + 1`` times.
    """
    generator = torch.Generator().manual_seed(seed)
    current: nn.Module = copy.deepcopy(model)
    shuffle_weights(current.get_submodule("head"), generator)
    made = [("head", current)]
    parts = len(units(current))
    bounds = [math.ceil(parts * stage / stages) for stage in range(stages + 1)]
    for stage in range(stages):
        current = copy.deepcopy(current)
        for part in units(current)[::-1][bounds[stage] : bounds[stage + 1]]:
            shuffle_weights(part, generator)
        if stage == stages - 1:
            shuffle_weights(encoder_of(current), generator)  # tokens and position embeddings belong to no part
        made.append((f"{bounds[stage + 1]} of {parts} parts", current))
    return made


def random_labels(model: nn.Module, images: Tensor, classes: int, seed: int = 0) -> nn.Module:
    """A copy whose head has learned random labels, on the frozen features of the same encoder.

    Cheaper than the paper's test, which trains the whole network on random labels, and weaker: the features keep what
    they had learned.

    Args:
        model: with ``encoder`` and ``head``, a linear layer.
        images: normalised training images, (n, C, S, S).
        classes: number of classes.
        seed: of the labels.
    """
    with torch.no_grad():
        features = torch.cat([encoder_of(model)(x) for x in torch.split(images, BATCH)]).double().cpu().numpy()
    mean, scale = features.mean(axis=0), features.std(axis=0).clip(min=1e-9)
    labels = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed)) % classes
    fitted = LogisticRegression(max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit((features - mean) / scale, labels.numpy())
    weight, bias = (torch.from_numpy(each).float() for each in logistic.layer(fitted, mean, scale, classes))
    changed = copy.deepcopy(model)
    changed.get_submodule("head").load_state_dict({"weight": weight, "bias": bias})
    return changed


def runner_up(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The most probable class besides the explained one, for each image (B,)."""
    with torch.no_grad():
        logits = torch.cat([model(x) for x in torch.split(images, BATCH)])
    return logits.scatter(1, targets[:, None], -torch.inf).argmax(dim=1)
