"""The operations of an optimizer step as torch carries them out: to count them, or to replay them.

A replay is what a CUDA graph does, without a GPU: the same operations on the same memory, with the
numbers that the host put in frozen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recording(TorchDispatchMode):
    """Records every operation that torch carries out within a ``with``.

    ``reads_from_device`` tells whether one of them was to give the host a number: no CUDA graph can
    hold that.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.reads_from_device = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads_from_device |= func is torch.ops.aten._local_scalar_dense.default
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Carry all of it out again, on the memory of the first time."""
        for func, args, kwargs, out in self.calls:
            anew = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(anew), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def passes(self, shape: torch.Size) -> int:
        """How many of the operations read or write tensors of a shape; taking a view is none."""
        names = [str(func) for func, args, _, _ in self.calls if _holds(args, shape)]
        return sum("view" not in name and "detach" not in name for name in names)


def _holds(args: Any, shape: torch.Size) -> bool:
    return any(isinstance(x, Tensor) and x.shape == shape for x in tree_leaves(args))
