"""How far apart two right answers may be: bounds from the type of the numbers and the length of the sums.

A CPU's vector width, its libraries and the number of threads decide the order in which a sum is taken, and with it
the last digits. A tolerance that was read off one machine holds on that machine; these hold on any.
"""

from __future__ import annotations

import math

import torch

CERTAINTY = 6.0  # lambda of the bound below: one sum in 10^7 is further off, if its rounding errors are independent


def rounding(dtype: torch.dtype, terms: int, stages: int = 1) -> float:
    """Largest difference by rounding between two ways to compute one value, relative to the sum of its absolute terms.

    A sum of n products, in any order, is off by at most gamma(n) = exp(lambda sqrt(n) u + n u^2 / (1 - u)) - 1, with
    the unit roundoff u, but for a probability of 2 exp(-lambda^2 (1 - u)^2 / 2): Higham and Mary, SIAM J. Sci. Comput.
    41:A2815 (2019), theorem 2.4. (For certain it is n u / (1 - n u), which sums of thousands of terms never reach.)
    Stages that follow one another round as one longer sum does, and both ways are rounded.

    Args:
        dtype: that both compute in, or the coarser of the two.
        terms: of the longest sum on the way from the inputs to the value; a step that sums nothing has one.
        stages: such sums that follow one another, as the layers of a network do.
    """
    u, n = torch.finfo(dtype).eps / 2, terms * stages
    return 2 * math.expm1(CERTAINTY * math.sqrt(n) * u + n * u**2 / (1 - u))


def half_the_digits(dtype: torch.dtype) -> float:
    """The square root of the unit in the last place: for what training steps, one after another, make of rounding.

    No bound says how much a training run amplifies. Kept to half of the digits, a comparison in float64 (1.5e-8) leaves
    room for a factor of 10^7, a thousand times what was seen, and still sees a mistake of one part in 10^7.
    """
    return math.sqrt(torch.finfo(dtype).eps)


# Of a pass through timm's test_resnet, the network of most tests: twelve layers, the longest sum over 9 x 192 products.
TEST_RESNET = rounding(torch.float32, 9 * 192, stages=12)
