"""A parameter's state: set up at its first gradient, and checked where it comes from elsewhere."""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")


def fresh(
    p: Tensor, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """The state of a parameter before its first update: its moments, of a type, and its count.

    The count is of single precision, as torch has it: exact up to t = 2^24, where r_t has long
    arrived at 1 for every beta2 in use.
    """
    state = {"step": torch.tensor(0.0, dtype=torch.float32, device=device)}
    for name in MOMENTS:
        state[name] = torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format)
    return state


def check_dense(grads: Iterable[Tensor], optimizer: str) -> None:
    """Refuse gradients of which one is sparse.

    Raises
    ------
    RuntimeError
        If one is.
    """
    if any(map(attrgetter("is_sparse"), grads)):
        raise RuntimeError(
            f"{optimizer} needs dense gradients: make them so (sparse=False in an embedding) or "
            "use torch.optim.SparseAdam"
        )


def check_moments(states: Mapping[Any, Any]) -> None:
    """Refuse states, by parameter, that are of other parameters.

    Raises
    ------
    ValueError
        If a moment has another shape than its parameter.
    """
    for p, state in states.items():
        for name in MOMENTS if isinstance(p, Tensor) else ():  # else it is of no parameter here
            if name in state and state[name].shape != p.shape:
                raise ValueError(
                    f"the state has a moment of shape {tuple(state[name].shape)} for a parameter "
                    f"of shape {tuple(p.shape)}: it is of another model, or of its parameters in "
                    "another order"
                )
