"""The type that an update is computed in: the parameter's, or a wider one for 16 bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from radam_core._paths import Batch

NARROW = (torch.bfloat16, torch.float16)

Apply = Callable[[Batch], None]


def apply_in_its_type(batch: Batch, apply: Apply, seed: int | None = None) -> None:
    """Apply an update to real numbers in the type of the moments.

    Parameters
    ----------
    batch : Batch
        Parameters of one type, on one device.
    apply : callable
        Applies the update to a batch of real tensors of one type.
    seed : int or None
        Of the random bits of stochastic rounding, the same wherever the same update is made; None
        rounds to nearest.

    Raises
    ------
    RuntimeError
        If the moments are of a type that the parameter's update cannot be computed in.
    """
    dtype = batch.params[0].dtype
    if batch.dtypes() == {dtype}:
        apply(batch.real())
        return
    moments = batch._replace(params=[], grads=[]).dtypes()
    if moments == {dtype}:
        apply(batch._replace(grads=[g.to(dtype) for g in batch.grads]).real())
    elif moments == {torch.float32} and dtype in NARROW:
        _apply_wide(batch, apply, seed)
    else:
        raise RuntimeError(
            f"moments of {', '.join(map(str, moments))} do not fit a parameter of {dtype}, which "
            "it was turned into later: let optimizer.load_state_dict(optimizer.state_dict()) "
            "convert them"
        )


def _apply_wide(batch: Batch, apply: Apply, seed: int | None) -> None:
    """Tensor by tensor, so that the memory for the wide copies is that of the largest one."""
    for i, (p, g, m, v, step) in enumerate(zip(*batch, strict=True)):
        wide = p.float()
        apply(Batch.of(wide, g.float(), m, v, step))
        if seed is not None and p.dtype == torch.bfloat16:
            wide = round_stochastically(wide, seed * 1_000_003 + i)
        p.copy_(wide)


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
