"""Reference inputs and outputs of algorithms, written from the papers' equations: `python -m tests.golden.make`.

Plain loops and small NumPy expressions in float64; nothing of the project's own code, and no library that has the
algorithm. What comes out lies beside this file as `*.npz` without pickle. Gradients are taken by a complex step
(Squire and Trapp, SIAM Rev. 40:110, 1998): Im f(x + ih) / h has no subtraction in it, so it is exact to rounding, and
it shares nothing with automatic differentiation. Inputs are draws of Python's `random.random`, which repeats in every
version, put on a grid of 1/1024, which float32 holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.golden.contrastive_metrics import contrastive_inputs, contrastive_metrics
from tests.golden.draws import Arrays
from tests.golden.losses import loss_inputs, losses
from tests.golden.vit_cx import vit_reference

HERE = Path(__file__).resolve().parent
REFERENCES: dict[str, Callable[[], Arrays]] = {
    "losses": lambda: (inputs := loss_inputs()) | losses(inputs),
    "contrastive_metrics": lambda: (inputs := contrastive_inputs()) | contrastive_metrics(inputs),
    "vit_cx": vit_reference,
}

if __name__ == "__main__":
    for name, make in REFERENCES.items():
        file = HERE / f"{name}.npz"
        np.savez_compressed(file, **make())
        print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")
