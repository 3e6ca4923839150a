"""The type that an update is computed in: the parameter's, or a wider one for 16 bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from radam_core._paths import Batch

NARROW = (torch.bfloat16, torch.float16)

AT_ONCE = 2**22
"""So many elements are wide at once, or those of one parameter if that has more."""

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
    """Part by part, so that the wide copies take little memory."""
    for number, part in enumerate(batch.parts(AT_ONCE)):
        wide = [p.float() for p in part.params]
        apply(part._replace(params=wide, grads=[g.float() for g in part.grads]))
        if seed is not None and part.params[0].dtype == torch.bfloat16:
            chance = torch.Generator(wide[0].device).manual_seed(
                (seed * 1_000_003 + number) % 2**63
            )
            wide = [round_stochastically(p, chance) for p in wide]
        torch._foreach_copy_(part.params, wide)


def round_stochastically(x: Tensor, chance: torch.Generator) -> Tensor:
    """Round to bfloat16, up or down at random, such that the mean is the number itself.

    bfloat16 is the upper half of a single-precision number; adding a random lower half carries
    into the upper one with a probability of the distance to the number below.

    Parameters
    ----------
    x : Tensor
        Numbers in single precision, of any shape.
    chance : torch.Generator
        Where the random bits come from, on the device of ``x``.

    Returns
    -------
    Tensor
        In single precision, of the shape of ``x``: numbers that bfloat16 holds.
    """
    # Drawn as words of 64 bits, a fourth as many.
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    halves = words.random_(-(2**63), None, generator=chance).view(torch.int16)  # from -2^15
    bits = halves[: x.numel()].view(x.shape).to(torch.int32).add_(1 << 15)
    rounded = bits.add_(x.view(torch.int32)).bitwise_and_(-(1 << 16)).view(torch.float32)
    return torch.where(x.isnan(), x, rounded, out=rounded)  # a carry may make a NaN a number
