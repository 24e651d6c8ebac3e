"""Heat-maps of one classifier by any method, and of the floors that know nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tumorxai.errors import UserError
from tumorxai.explain import attention, cams, floors
from tumorxai.explain.layers import Layer, attention_input, check_finite, encoder_of, target_layer
from tumorxai.explain.occlusion import occlusion
from tumorxai.explain.vit_cx import vit_cx

METHODS = {
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "layer_cam": "LayerCAM",
    "eigen_cam": "EigenCAM",
    "vit_cx": "ViT-CX",
    "occlusion": "occlusion",
    "attention_rollout": "attention rollout",
    "last_attention": "last attention",
}
FLOORS = {"uniform": "uniform map", "random": "random map", "centre": "centre Gaussian", "edges": "edge map"}
NAMES = METHODS | FLOORS


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
            method: a key of ``NAMES``.

        Returns:
            (B, S, S) in [0, 1]. A map that prefers no place (zero gradient, constant features, no positive evidence) is
            zero everywhere: count those with :func:`is_flat`.

        Raises:
            UserError: an unknown method, another shape, a class out of range, or values that are not finite.
            NotApplicableError: the method asks for another kind of encoder.
        """
        if method not in NAMES:
            raise UserError(f"got the method {method!r}; expected one of {', '.join(NAMES)}")
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
        if method in cams.GRADIENT:
            score = cams.class_score(targets)
            return cams.GRADIENT[method](*cams.activations_and_gradients(self.model, images, self.layer, score))
        if method == "eigen_cam":
            return cams.eigen_cam(cams.activations(self.model, images, self.layer))
        if method == "vit_cx":
            return _from_zero(vit_cx(self.model, images, targets, self.features, self.seed, self.masks))
        if method == "occlusion":
            return occlusion(self.model, images, targets, self.windows)
        if method == "attention_rollout":
            return attention.attention_rollout(self.model, images)
        if method == "last_attention":
            return attention.last_attention(self.model, images)
        if method == "random":
            return floors.random(images, self.layer.grid, self.seed)
        return {"uniform": floors.uniform, "centre": floors.centre, "edges": floors.edges}[method](images)


def _from_zero(maps: Tensor) -> Tensor:
    """Shifted so that the least is 0: causal scores can be negative altogether, and only their differences tell."""
    return maps - maps.amin(dim=(1, 2), keepdim=True)


def is_flat(maps: Tensor) -> Tensor:
    """Which of the maps (B, S, S) prefer no place, shape (B,)."""
    return maps.amax(dim=(1, 2)) == maps.amin(dim=(1, 2))
