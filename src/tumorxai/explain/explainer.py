"""Heat-maps of one classifier by any method, and of the floors that know nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tumorxai.errors import UserError, known
from tumorxai.explain import cams, floors, methods
from tumorxai.explain.layers import Layer, attention_input, check_finite, encoder_of, target_layer
from tumorxai.explain.methods import METHODS, NAMES


@dataclass(frozen=True)
class Explainer:
    """A classifier and where its heat-maps are read off, found once.

    Attributes:
        model: the classifier, in evaluation mode.
        shape: of one image (C, S, S).
        classes: their number.
        layer: that CAMs are read off.
        features: that the masks of ViT-CX are made of.
        masks: most masks of ViT-CX for an image; None leaves their number to its threshold.
        windows: of occlusion, on a side.
        seed: of the noise in ViT-CX and of the random floor.
        batch: images explained at once.
    """

    model: nn.Module
    shape: tuple[int, ...]
    classes: int
    layer: Layer
    features: Layer
    masks: int | None = None
    windows: int = 8
    seed: int = 0
    batch: int = 32

    @classmethod
    def of(
        cls,
        model: nn.Module,
        example: Tensor,
        layer: str | None = None,
        masks: int | None = None,
        windows: int = 8,
        seed: int = 0,
    ) -> Explainer:
        """Find the layers.

        Args:
            model: normalised images (B, C, S, S) to logits; has ``encoder``, a timm model. Set to evaluation mode.
            example: one normalised image (1, C, S, S).
            layer: name of the module inside the encoder to read CAMs off; None finds it.
            masks: see the attributes.
            windows: see the attributes.
            seed: see the attributes.

        Raises:
            UserError: the model refuses such images, or has no layer whose output has places.
        """
        model.eval()
        try:
            with torch.no_grad():
                classes = model(example).shape[1]
        except (AssertionError, RuntimeError) as error:
            raise UserError(
                f"got images of shape {tuple(example.shape[1:])}, which the classifier refuses: {error}; expected the "
                "channels and size that it was trained on"
            ) from None
        found = target_layer(model, example, layer)
        features = found if layer else attention_input(model, example) or found
        return cls(model, tuple(example.shape[1:]), classes, found, features, masks, windows, seed)

    def of_copy(self, model: nn.Module) -> Explainer:
        """The same for a copy of the classifier with other weights."""
        modules = dict(encoder_of(model).named_modules())
        layer, features = (replace(one, module=modules[one.name]) for one in (self.layer, self.features))
        return replace(self, model=model, layer=layer, features=features)

    def maps(self, images: Tensor, targets: Tensor, method: str) -> Tensor:
        """Where the evidence for a class lies.

        Each map is stretched to [0, 1] on its own: values compare within an image only.

        Args:
            images: normalised, (B, C, S, S).
            targets: class to explain for each image (B,).
            method: a key of ``methods.NAMES``.

        Returns:
            (B, S, S) in [0, 1]. A map that prefers no place (zero gradient, constant features, no positive evidence) is
            zero everywhere: count those with :func:`is_flat`.

        Raises:
            UserError: an unknown method, another shape, a class out of range, or values that are not finite.
            NotApplicableError: the method asks for another kind of encoder.
        """
        known("method", method, NAMES)
        if tuple(images.shape[1:]) != self.shape:
            raise UserError(f"got images of shape {tuple(images.shape[1:])}; expected {self.shape}; resize them")
        if len(targets) != len(images) or not bool(((targets >= 0) & (targets < self.classes)).all()):
            raise UserError(
                f"got the classes {targets.tolist()[:8]} for {len(images)} images; expected one of 0 to "
                f"{self.classes - 1} for each"
            )
        size = (self.shape[1], self.shape[2])
        parts = [
            cams.stretch(check_finite(self._raw(x, y, method), NAMES[method]), size)
            for x, y in zip(torch.split(images, self.batch), torch.split(targets, self.batch), strict=True)
        ]
        return torch.cat(parts) if parts else images.new_zeros(0, *size)

    def _raw(self, images: Tensor, targets: Tensor, method: str) -> Tensor:
        """Maps (B, h, w) of any scale."""
        if method == "random":
            return floors.random(images, self.layer.grid, self.seed)
        if method not in METHODS:
            return {"uniform": floors.uniform, "centre": floors.centre, "edges": floors.edges}[method](images)
        row = METHODS[method]
        given: tuple[object, ...]
        if row.needs == "gradients":
            score = methods.load(row.score)(targets)
            given = cams.activations_and_gradients(self.model, images, self.layer, score)
        elif row.needs == "activations":
            given = (cams.activations(self.model, images, self.layer),)
        elif row.needs == "attention":
            given = (self.model, images)
        else:
            given = (self, images, targets)
        maps: Tensor = methods.load(row.function)(*given)
        return maps


def is_flat(maps: Tensor) -> Tensor:
    """Which of the maps (B, S, S) prefer no place, shape (B,)."""
    return maps.amax(dim=(1, 2)) == maps.amin(dim=(1, 2))
