"""Where a transformer's attention goes: rollout over all blocks, and the last block as DINO shows it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from tumorxai.errors import UserError
from tumorxai.explain.layers import encoder_of, token_grid


class NotApplicableError(UserError):
    """A method of explanation that this kind of encoder does not admit."""


@torch.no_grad()
def attentions(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Attention of every block, averaged over heads: (B, T, T) each, rows sum to 1, T tokens with prefix.

    Raises:
        NotApplicableError: the encoder has no attention between all tokens.
    """
    modules = [m for m in encoder_of(model).modules() if hasattr(m, "fused_attn") and hasattr(m, "attn_drop")]
    fused = [m.fused_attn for m in modules]
    kept: list[Tensor] = []

    def keep(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        kept.append(arguments[0].mean(dim=1))  # what the dropout gets are the probabilities (B, heads, T, T)

    with ExitStack() as stack:
        for module in modules:
            module.fused_attn = False  # the fused kernel never forms the probabilities
            stack.callback(module.attn_drop.register_forward_pre_hook(keep).remove)
        try:
            model(images)
        finally:
            for module, was in zip(modules, fused, strict=True):
                module.fused_attn = was
    full = [a for a in kept if a.shape[1] == a.shape[2]]  # a pooling head's few queries are no block
    alike = {tuple(a.shape) for a in full}  # windows of a Swin are a longer batch of fewer tokens
    if len(alike) != 1 or len(full[0]) != len(images) or token_grid(encoder_of(model), full[0].shape[1]) is None:
        raise NotApplicableError(
            f"got a {type(encoder_of(model)).__name__}; expected a transformer whose tokens all attend to each other; "
            "choose another method of explanation"
        )
    return full


def _to_patches(model: nn.Module, attention: Tensor) -> Tensor:
    """Attention (B, T, T) that the class token pays to the patches, or without one all tokens do: (B, h, w)."""
    found = token_grid(encoder_of(model), attention.shape[1])
    assert found is not None  # noqa: S101  `attentions` has seen to it
    prefix, grid = found
    paid = attention[:, 0] if getattr(encoder_of(model), "cls_token", None) is not None else attention.mean(dim=1)
    return paid[:, prefix:].reshape(len(attention), *grid)


def attention_rollout(model: nn.Module, images: Tensor) -> Tensor:
    """Attention rollout (Abnar and Zuidema, arXiv 2005.00928, section 3): products of A / 2 + I / 2 over the blocks.

    It does not depend on a class.

    Args:
        model: with a transformer as encoder, in evaluation mode.
        images: normalised, (B, C, S, S).

    Returns:
        (B, h, w), not negative.
    """
    blocks = attentions(model, images)
    identity = torch.eye(blocks[0].shape[1], device=images.device)
    flow = identity.expand_as(blocks[0])
    for block in blocks:
        flow = (block + identity) / 2 @ flow
    return _to_patches(model, flow)


def last_attention(model: nn.Module, images: Tensor) -> Tensor:
    """Self-attention of the class token in the last block, averaged over heads (Caron et al., DINO, arXiv 2104.14294).

    Arguments and result as for :func:`attention_rollout`.
    """
    return _to_patches(model, attentions(model, images)[-1])
