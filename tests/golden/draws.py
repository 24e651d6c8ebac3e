"""Random inputs that repeat in every version of Python and NumPy."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

Arrays = dict[str, Any]


def on_grid(x: Any) -> np.ndarray:
    return np.round(np.asarray(x, dtype=np.float64) * 1024) / 1024


def normal(seed: str, *shape: int) -> np.ndarray:
    """Standard normal draws, by Box and Muller's formula, not yet on the grid."""
    uniform = random.Random(seed).random
    draws = [
        math.sqrt(-2 * math.log(1 - uniform())) * math.cos(2 * math.pi * uniform()) for _ in range(math.prod(shape))
    ]
    return np.array(draws).reshape(shape)
