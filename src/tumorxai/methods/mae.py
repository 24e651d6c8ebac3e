"""MAE (He et al., arXiv 2111.06377): reconstruct the patches that a vision transformer was not shown."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from lightly.models.utils import get_at_index, normalize_mean_var, patchify, set_at_index
from pydantic import Field
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.networks.views import MAE, Augment, View, adapt

ABOUT = config.About(title="MAE", authors="He et al.", year=2021, paper="arXiv:2111.06377", vit=True)


class Config(config.Block):
    """Section 4 and table 8. Left out: AdamW's second beta of 0.95."""

    mask: Annotated[float, Field(gt=0, lt=1)] = 0.75  # share of the patches that the encoder does not see
    decoder_width: Annotated[int, Field(ge=4, le=65_536, multiple_of=4)] = (
        512  # width of the decoder; a multiple of its heads
    )
    decoder_depth: config.Count = 8  # transformer blocks of the decoder
    decoder_heads: config.Count = 16  # of the attention in each block
    crop_min: Annotated[float, Field(gt=0, le=1)] = MAE.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="adamw", lr=1.5e-4, weight_decay=0.05)


class Method(nn.Module):
    """A ViT that encodes the visible patches, and a small one that decodes them, with mask tokens for the others."""

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        if not isinstance(encoder, VisionTransformer) or encoder.pos_embed is None or encoder.attn_pool is not None:
            raise UserError(
                f"got a {type(encoder).__name__} for method mae; expected a plain vision transformer; set "
                "model.backbone to one, such as vit_tiny_patch16_224"
            )
        if settings.decoder_width % settings.decoder_heads:
            raise UserError(
                f"got methods.mae.decoder_width {settings.decoder_width} with decoder_heads {settings.decoder_heads}; "
                "expected a multiple of the heads; change one of them"
            )
        if settings.augment.size not in (None, 1.0):
            raise UserError(
                f"got methods.mae.augment.size {settings.augment.size:g}; expected 1, because its decoder reconstructs "
                "the patches of the whole image; leave it out, or lower data.image_size"
            )
        self.encoder: Any = encoder
        grid, self.patch = encoder.patch_embed.grid_size, encoder.patch_embed.patch_size[0]
        self.patches = int(grid[0] * grid[1])
        self.shown = max(1, round(self.patches * (1 - settings.mask)))
        if self.shown == self.patches:
            raise UserError(
                f"got images of {self.patches} patches with methods.mae.mask {settings.mask}, which hides none; "
                "expected at least one; raise data.image_size or methods.mae.mask"
            )
        width = settings.decoder_width
        _fix_positions(encoder)
        self.embed = nn.Linear(features, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions: Tensor
        self.register_buffer("positions", build_sincos2d_pos_embed(list(grid), width), persistent=False)
        self.decoder = nn.Sequential(
            *[Block(width, settings.decoder_heads, qkv_bias=True) for _ in range(settings.decoder_depth)],
            nn.LayerNorm(width),
        )
        self.predict = nn.Linear(width, self.patch**2 * encoder.patch_embed.proj.in_channels)
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Twice the same distribution: each image is reconstructed from two crops, as other methods see it twice."""
        return [adapt(MAE, self.settings.crop_min, self.settings.augment)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Mean squared error on the hidden patches, each normalised by its own mean and variance (section 3)."""
        images = torch.cat(views)
        order = torch.rand(len(images), self.patches, device=images.device).argsort(dim=1)
        shown, hidden = order[:, : self.shown], order[:, self.shown :]
        prefix, known = self._encode(images, shown)  # (B, prefix tokens, width) and (B, shown, width)

        full = set_at_index(self.mask_token.to(known.dtype).expand(len(images), self.patches, -1), shown, known)
        full = full + self.positions.to(full.dtype)  # (B, patches, width)
        decoded = self.decoder(torch.cat([prefix, full], dim=1))[:, prefix.shape[1] :]
        predicted = self.predict(get_at_index(decoded, hidden))
        wanted = normalize_mean_var(get_at_index(patchify(images, self.patch), hidden))
        return F.mse_loss(predicted.float(), wanted.float())

    def _encode(self, images: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder gets of class and register tokens, and of the patches shown.

        The hidden ones are dropped where timm drops patches: when they have their position.
        """
        prefix = self.encoder.num_prefix_tokens

        def drop(module: nn.Module, args: object, tokens: Tensor) -> Tensor:
            return torch.cat([tokens[:, :prefix], get_at_index(tokens[:, prefix:], shown)], dim=1)

        handle = self.encoder.patch_drop.register_forward_hook(drop)
        try:
            tokens: Tensor = self.encoder.forward_features(images)
        finally:
            handle.remove()
        tokens = self.embed(self.encoder.fc_norm(tokens))
        return tokens[:, :prefix], tokens[:, prefix:]

    def after_step(self, progress: float) -> None:
        """Nothing follows."""


def _fix_positions(encoder: Any) -> None:
    """Give a ViT fixed sine-cosine positions (appendix A.1); its prefix tokens have none."""
    positions = build_sincos2d_pos_embed(list(encoder.patch_embed.grid_size), encoder.embed_dim)
    with torch.no_grad():
        encoder.pos_embed.zero_()[0, -len(positions) :] = positions
    encoder.pos_embed.requires_grad_(False)
