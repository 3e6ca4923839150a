"""Parameters of 16 bits with moments in single precision."""

from collections.abc import Callable

import torch
from torch import Tensor

from radam_core._paths import Batch

Apply = Callable[[Batch], None]


def apply_wide(batch: Batch, apply: Apply, seed: int | None) -> None:
    """Apply an update in single precision to parameters of 16 bits.

    Tensor by tensor, so that the memory for the wide copies is that of the largest one.

    Parameters
    ----------
    batch : Batch
        Parameters in 16 bits, moments in single precision.
    apply : callable
        Applies the update to a batch of one, in single precision.
    seed : int or None
        Of the random bits of stochastic rounding, the same wherever the same update is made; None
        rounds to nearest.
    """
    for i, (p, g, m, v, step) in enumerate(zip(*batch, strict=True)):
        wide = p.float()
        apply(Batch.of(wide, g.float(), m, v, step))
        p.copy_(wide if seed is None else round_stochastically(wide, seed * 1_000_003 + i))


def round_stochastically(x: Tensor, seed: int) -> Tensor:
    """Round to bfloat16, up or down at random, such that the mean is the number itself.

    bfloat16 is the upper half of a single-precision number; adding a random lower half carries
    into the upper one with a probability of the distance to the number below.

    Parameters
    ----------
    x : Tensor
        Numbers in single precision, of any shape.
    seed : int
        Determines the random bits; torch's own generators are left as they were.

    Returns
    -------
    Tensor
        In single precision, of the shape of ``x``: numbers that bfloat16 holds.
    """
    generator = torch.Generator(device=x.device).manual_seed(seed % 2**63)
    noise = torch.randint(1 << 16, x.shape, dtype=torch.int32, device=x.device, generator=generator)
    rounded = (x.view(torch.int32) + noise).bitwise_and_(-(1 << 16)).view(torch.float32)
    return torch.where(x.isfinite(), rounded, x)
