"""DINOv2 (Oquab et al., arXiv 2304.07193): DINO, and iBOT's prediction of the patches that a large crop lacks."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from lightly.loss import KoLeoLoss
from lightly.models.modules.center import Center
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.networks import losses
from tumorxai.networks.distillation import Distillation, Settings
from tumorxai.networks.views import Crop

ABOUT = config.About(title="DINOv2", authors="Oquab et al.", year=2023, paper="arXiv:2304.07193", vit=True)


class Config(Settings):
    """DINO's settings, and dinov2/configs/ssl_default_config.yaml where it says otherwise.

    (github.com/facebookresearch/dinov2, commit b8931f7b; one head for both losses, as there.) Left out: the weight
    decay's way from 0.04 to 0.4, smaller rates for lower layers, stochastic depth and layer scale, which are the
    backbone's. Their rate of 0.004 at batches of 1,024 follows the square root of the batch; ours, which follows the
    batch, is theirs at 256.
    """

    momentum: config.Fraction = 0.992  # of the teacher at the start, by half a cosine to 1
    patches: config.NotNegative = 1.0  # weight of the loss of hidden patches, beside that of DINO
    koleo: config.NotNegative = 0.1  # weight of the spread of features (section 4), in each large view
    masked: config.Share = 0.5  # share of the large crops that have patches hidden
    mask: Crop = (0.1, 0.5)  # least and most share of the patches that are hidden in them
    local_crop: Crop = (0.05, 0.32)  # least and most share of the area that small crops show
    crop_min: Annotated[float, Field(gt=0, le=1)] = 0.32  # least share that a large crop shows
    optimizer: config.Optimizer = config.Optimizer(name="adamw", lr=2e-3, weight_decay=0.04)


class Method(Distillation):
    """DINO's student and teacher, both vision transformers; the student sees a mask token for a hidden patch."""

    against_collapse = (
        "lower methods.dinov2.teacher_temperature or methods.dinov2.optimizer.lr, or raise methods.dinov2.momentum"
    )
    settings: Config

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        if not isinstance(encoder, VisionTransformer) or encoder.attn_pool is not None:
            raise UserError(
                f"got a {type(encoder).__name__} for method dinov2; expected a plain vision transformer; set "
                "model.backbone to one, such as vit_tiny_patch16_224, or take method dino"
            )
        super().__init__(encoder, features, settings, classes)
        self.mask_token = nn.Parameter(torch.randn(features) * 0.02)
        self.patch_center = Center((1, settings.outputs), momentum=settings.center_momentum)
        self.koleo = losses.full_precision(KoLeoLoss())

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """DINO's loss, iBOT's (arXiv 2111.07832, Eq. 2) and KoLeo (arXiv 1806.03198), weighted and summed."""
        settings = self.settings
        self.frozen(progress < settings.freeze)
        large = torch.cat(views[:2])
        with torch.no_grad():
            features, patches = _encode(self.teacher_encoder, large)
            hidden = self._hidden(len(large), patches.shape[1], large.device)
            teacher, wanted = self.teacher_head(features).float(), self.teacher_head(patches[hidden]).float()
            targets = self.targets(teacher, progress)
            patch_targets = self.sharpened(wanted, self.patch_center, progress)
            self.center.update(teacher)
            self.patch_center.update(wanted)
        seen, patches = _encode(self.encoder, large, (hidden, self.mask_token))
        every = torch.cat([seen] + ([self.encoder(torch.cat(views[2:]))] if len(views) > 2 else []))
        logits = self.head(torch.cat([every, patches[hidden]])).float()
        student = logits[: len(every)].chunk(len(views))
        value = losses.cross_view_entropy(targets.view(2, len(views[0]), -1), student, settings.student_temperature)
        own = (hidden / hidden.sum(dim=1, keepdim=True).clamp(min=1))[hidden]  # every crop counts once
        log_p = (logits[len(every) :] / settings.student_temperature).log_softmax(dim=-1)
        of_patches = -((patch_targets * log_p).sum(dim=-1) * own).sum() / len(large)
        first, second = (self.koleo(view) for view in seen.chunk(2))
        spread = first + second
        entropy = torch.special.entr(targets).sum(dim=-1).mean()
        self.signals = {
            "teacher_entropy": entropy,
            "teacher_student_kl": value.detach() - entropy,
            "patch_loss": of_patches.detach(),
            "koleo": spread.detach(),
        }
        total: Tensor = value + settings.patches * of_patches + settings.koleo * spread
        return total

    def _hidden(self, crops: int, patches: int, device: torch.device) -> Tensor:
        """Which patches of which crops are hidden, bool (crops, patches): a block in each of some crops, drawn anew.

        Shares are spread evenly between the least and the most, as the authors do. They lay blocks until there are
        enough; here it is one, as wide as high or up to 3.3 times either, so that their number is the same in every
        step and process.
        """
        low, high = self.settings.mask
        count = max(1, int(crops * self.settings.masked))
        shares = low + (high - low) * (torch.arange(count, device=device) + 0.5) / count
        sizes = torch.zeros(crops, device=device)
        sizes[:count] = (shares * patches).round().clamp(1, max(1, patches - 1))
        sizes = sizes[torch.randperm(crops, device=device)]
        side = round(patches**0.5)
        row, column = torch.arange(patches, device=device) // side, torch.arange(patches, device=device) % side
        top, left, aspect = torch.rand(3, crops, 1, device=device)
        stretch = 0.3 ** (aspect - 0.5)  # root of width / height, between 0.3 and 1 / 0.3
        far = torch.maximum((row - top * (side - 1)).abs() * stretch, (column - left * (side - 1)).abs() / stretch)
        return far.argsort(dim=1).argsort(dim=1) < sizes[:, None]


def _encode(encoder: Any, images: Tensor, mask: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Features (B, d) and patches (B, P, d), of the last norm, by one call of a vision transformer.

    Args:
        encoder: it.
        images: (B, C, S, S).
        mask: the patches that are hidden, bool (B, P), and the token (d,) in their place before positions are added.
    """
    tokens: list[Tensor] = []
    handles = [encoder.norm.register_forward_hook(lambda *call: tokens.append(call[2]))]
    if mask is not None:
        hidden, token = mask

        def cover(module: nn.Module, given: object, embedded: Tensor) -> Tensor:
            flat = embedded.flatten(1, -2)
            return torch.where(hidden[..., None], token.to(flat.dtype), flat).view_as(embedded)

        handles.append(encoder.patch_embed.register_forward_hook(cover))
    try:
        features = encoder(images)
    finally:
        for handle in handles:
            handle.remove()
    return features, encoder.fc_norm(tokens[0][:, encoder.num_prefix_tokens :])
