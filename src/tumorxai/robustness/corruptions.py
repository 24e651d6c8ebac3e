"""Graded damage to images, as scanners, patients and re-uploads do it, for a whole batch at once.

Five grades each, from hardly visible to hardly readable, after the scheme of ImageNet-C (arXiv 1903.12261, section
3.2); the kinds are those of MRI. Lengths are pixels of a 64-pixel image and scale with it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """Numbers in [-1, 1), one for each image, in the shape of a factor on images."""
    return torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1


def noise(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Rician noise, that of magnitude images (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618)."""
    real, imaginary = (deviation * torch.randn(x.shape, generator=generator) for _ in range(2))
    return torch.sqrt((x + real) ** 2 + imaginary**2)


def blur(x: Tensor, sigma: float, _: torch.Generator) -> Tensor:
    """Gaussian blur."""
    sigma *= x.shape[-1] / 64
    radius = min(math.ceil(3 * sigma), x.shape[-1] - 1)
    changed: Tensor = functional.gaussian_blur(x, [2 * radius + 1] * 2, [sigma] * 2)
    return changed


def bias_field(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Uneven coils: a smooth gain, the exponential of a random polynomial of degree 3 whose peak is ``strength``.

    The model of Van Leemput et al. 1999 (doi 10.1109/42.811268), section III.
    """
    line = torch.linspace(-1, 1, x.shape[-1])
    powers = [line[:, None] ** i * line[None, :] ** j for i in range(4) for j in range(4 - i) if i + j]
    weights = torch.rand(len(x), len(powers), generator=generator) * 2 - 1
    field = torch.einsum("bp,phw->bhw", weights, torch.stack(powers))[:, None]
    return x * torch.exp(strength * field / field.abs().amax(dim=(2, 3), keepdim=True))


def contrast(x: Tensor, factor: float, _: torch.Generator) -> Tensor:
    """Less contrast about the mean grey level of the image."""
    changed: Tensor = functional.adjust_contrast(x, factor)
    return changed


def rotation(x: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotation by the angle, to either side, black around."""
    angle = torch.sign(_uniform(len(x), generator)).flatten() * math.radians(degrees)
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros(len(x))
    matrices = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def jpeg(x: Tensor, quality: float, _: torch.Generator) -> Tensor:
    """JPEG compression, by Pillow: torchvision 0.29 gives its own up."""
    found = []
    for pixels in (x * 255).round().byte().permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
            buffer, "JPEG", quality=int(quality)
        )
        found.append(torch.from_numpy(np.array(Image.open(buffer))).view(*x.shape[2:], -1))
    return torch.stack(found).permute(0, 3, 1, 2).float() / 255


def down_sampling(x: Tensor, factor: float, _: torch.Generator) -> Tensor:
    """Fewer pixels, and back."""
    size = max(2, round(x.shape[-1] / factor))
    changed: Tensor = functional.resize(functional.resize(x, [size, size]), list(x.shape[2:]))
    return changed


def ghosting(x: Tensor, strength: float, _: torch.Generator) -> Tensor:
    """Ghosts a third of the image apart: of the rows of k-space every third is weakened, but not the centre.

    As in TorchIO (arXiv 2003.04696, section 2.3.2).
    """
    space = torch.fft.fft2(x)
    gain = torch.ones(x.shape[2])
    gain[3:-2:3] = 1 - strength
    found: Tensor = torch.fft.ifft2(space * gain[:, None]).abs()
    return found


def motion(x: Tensor, shift: float, generator: torch.Generator) -> Tensor:
    """The patient moves twice: outer thirds of k-space come from the image shifted to either side.

    As in TorchIO (arXiv 2003.04696, section 2.3.2), without the rotation.
    """
    size = x.shape[-1]
    frequency = torch.fft.fftfreq(size)
    across, along = (shift * size / 64 * _uniform(len(x), generator).sign() for _ in range(2))
    phase = -2 * math.pi * (frequency[:, None] * along + frequency[None, :] * across)
    late, early = frequency[:, None] > 1 / 6, frequency[:, None] < -1 / 6
    moved = torch.where(late, phase, torch.where(early, -phase, torch.zeros_like(phase)))
    found: Tensor = torch.fft.ifft2(torch.fft.fft2(x) * torch.polar(torch.ones_like(moved), moved)).abs()
    return found


GRADED: dict[str, tuple[Callable[[Tensor, float, torch.Generator], Tensor], tuple[float, ...]]] = {
    "noise": (noise, (0.02, 0.05, 0.08, 0.12, 0.18)),
    "blur": (blur, (0.5, 0.8, 1.2, 1.8, 2.6)),
    "bias field": (bias_field, (0.2, 0.4, 0.7, 1.0, 1.4)),
    "contrast": (contrast, (0.8, 0.6, 0.45, 0.3, 0.2)),
    "rotation": (rotation, (5, 10, 20, 30, 45)),
    "JPEG": (jpeg, (50, 30, 18, 10, 5)),
    "down-sampling": (down_sampling, (1.25, 1.6, 2, 3, 4)),
    "ghosting": (ghosting, (0.15, 0.3, 0.5, 0.7, 0.9)),
    "motion": (motion, (0.4, 0.8, 1.2, 1.8, 2.6)),
}
GRADES = (1, 2, 3, 4, 5)


def corrupt(images: Tensor, kind: str, grade: int, seed: int) -> Tensor:
    """Damage images.

    Args:
        images: uint8 (B, C, S, S), on the CPU.
        kind: a key of GRADED.
        grade: 1 to 5.
        seed: of what is drawn.

    Returns:
        uint8 (B, C, S, S).
    """
    change, values = GRADED[kind]
    generator = torch.Generator().manual_seed(seed)
    return (change(images.float() / 255, values[grade - 1], generator).clamp(0, 1) * 255).round().byte()
