"""How many images go through a network at once without a gradient: as many as fill a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHARE = 0.5  # of the free memory
TRIED = 8  # images whose memory is measured
MOST = 2048  # more make nothing faster


def fitting(each: float, free: float) -> int:
    """Images that take at most ``SHARE`` of the free memory, from ``TRIED`` to ``MOST``.

    Args:
        each: bytes that one takes.
        free: bytes.
    """
    return max(TRIED, min(MOST, int(SHARE * free / max(each, 1.0))))


@torch.no_grad()
def at_once(model: nn.Module, image: Tensor, otherwise: int) -> int:
    """Images of a forward pass on the device of ``image``, measured on a GPU.

    Args:
        model: in evaluation mode.
        image: one, (1, C, H, W).
        otherwise: their number on any other device.
    """
    if image.device.type != "cuda":
        return otherwise
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model(image.expand(TRIED, -1, -1, -1).contiguous())
    each = (torch.cuda.max_memory_allocated() - before) / TRIED
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # held by PyTorch, free to be used again
    return fitting(each, torch.cuda.mem_get_info()[0] + unused)
