"""Views where each launch of a kernel costs: the draws of :func:`tumorxai.networks.views.draw`, in few launches.

What is random of a view but the noise of its pixels is a handful of numbers an image. They are drawn by the CPU's
generator, for every device the same, travel in one copy, and change a whole batch at once. On the CPU itself
:func:`~tumorxai.networks.views.draw` is faster: it blurs chosen images alone and keeps a block in the cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tumorxai.networks import views
from tumorxai.networks.views import View

CPU = torch.device("cpu")


def widths(view: View, full: int) -> dict[str, int]:
    """Columns of a view's table, by what they hold; ``full`` is the side of the pack's images, pixels."""
    jitter = view.jitter > 0
    taps = 2 * views.blur_radius(view, full, views.side(view, full)) + 1
    columns = {
        "matrix": 6,
        "gain": 1,
        "contrast": int(jitter and view.contrast > 0),
        "shift": int(jitter and view.shift > 0),
        "gamma": int(jitter and view.gamma > 0),
        "taps": taps if view.blur else 0,
        "level": int(view.solarise > 0),
        "noise": int(view.noise > 0),
    }
    return {name: width for name, width in columns.items() if width}


def sample(count: int, view: View, full: int) -> Tensor:
    """Draw one view of some images: a row of numbers for each, (count, sum of :func:`widths`), on the CPU.

    The draws are those of :func:`~tumorxai.networks.views.draw` on the CPU, one by one, up to a noise.
    """
    drawn = views.sample(count, view, CPU)
    found = {"matrix": views.affine(drawn).flatten(1), "gain": drawn.get("brightness", torch.ones(count)) / 255}
    found |= {name: drawn[name] for name in ("contrast", "shift", "gamma") if name in drawn}
    if view.blur:  # an image that is not chosen has sigma 0, which blurs nothing
        radius = views.blur_radius(view, full, views.side(view, full))
        half = views.blur_weights(drawn["sigma"] * drawn["blurred"] * (full / 224), radius)
        found["taps"] = torch.cat([half.flip(1), half[:, 1:]], dim=1)
    if view.solarise:  # no intensity is above 2
        found["level"] = torch.where(drawn["solarised"], 0.5, 2.0)
    if view.noise:
        found["noise"] = torch.empty(count).uniform_(0.0, view.noise)
    return torch.cat([found[name].view(count, width) for name, width in widths(view, full).items()], dim=1)


def _grid(matrix: Tensor, size: int) -> Tensor:
    """Where each pixel of a view lies: (B, size, size, 2); ``matrix`` is (B, 6), see ``views.affine``."""
    places = views.across(size, matrix.device)
    by_column, by_row, start = matrix.view(-1, 3, 1, 2).unbind(dim=1)  # (B, 1, 2) each
    columns = torch.addcmul(start, by_column, places[:, None])  # (B, size, 2)
    return columns[:, None] + (by_row * places[:, None])[:, :, None]


def _blur(x: Tensor, taps: Tensor) -> Tensor:
    """Blur images (B, C, H, W) by kernels (B, 2 r + 1) along both axes; edges are reflected."""
    count, channels, height, width = x.shape
    radius = taps.shape[1] // 2
    padded = F.pad(x, (radius, radius, radius, radius), mode="reflect").view(
        1, count * channels, -1, width + 2 * radius
    )
    kernels = taps.repeat_interleave(channels, dim=0) if channels > 1 else taps.contiguous()
    # PyTorch's own kernel for one filter a channel: cuDNN's would round to TF32.
    with torch.backends.cudnn.flags(enabled=False):
        rows = F.conv2d(padded, kernels[:, None, None, :], groups=count * channels)
        both = F.conv2d(rows, kernels[:, None, :, None], groups=count * channels)
    return both.view(count, channels, height, width)


def apply(images: Tensor, table: Tensor, view: View, noise: Tensor | None = None) -> Tensor:
    """Views as :func:`~tumorxai.networks.views.draw` makes them, up to rounding.

    Args:
        images: float32 (B, C, S, S), 0 to 255.
        table: (B, K) on their device, drawn by :func:`sample` for this view.
        view: what was drawn.
        noise: standard normal, of the shape of the result, for a view with noise.

    Returns:
        float32 (B, C, s, s) in [0, 1].
    """
    full = images.shape[-1]
    columns = widths(view, full)
    of = dict(zip(columns, torch.split(table, list(columns.values()), dim=1), strict=True))

    def each(name: str) -> Tensor:
        one: Tensor = of[name].view(-1, 1, 1, 1)
        return one

    grid = _grid(of["matrix"], views.side(view, full))
    x = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    x.mul_(each("gain")).clamp_(0, 1)
    if "contrast" in of:
        x = torch.lerp(x.mean(dim=(1, 2, 3), keepdim=True), x, each("contrast")).clamp_(0, 1)
    if "shift" in of:
        x.add_(each("shift")).clamp_(0, 1)
    if "gamma" in of:
        x.pow_(each("gamma"))
    if "taps" in of:
        x = _blur(x, of["taps"])
    if "level" in of:
        x = torch.where(x > each("level"), 1 - x, x)
    if noise is not None:
        x = torch.addcmul(x, noise, each("noise")).clamp_(0, 1)
    return x
