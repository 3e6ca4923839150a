"""Reduced precision: torch's autocast, at a bearable speed on every processor.

A processor multiplies numbers of bfloat16 exactly and sums the products in float32; only the sum is
rounded. Where it has no instructions for that, torch takes ten times as long as in float32. To
round the factors, multiply in float32 and round the result gives the same numbers, up to the order
of the sums, and takes hardly longer than float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PRODUCTS = (torch.conv2d, F.linear)
"""What a processor without such instructions is slow at."""


def is_emulated(precision: str, device: torch.device, compiled: bool) -> bool:
    """Whether what a network computes in this precision is float32, rounded."""
    reduced = precision in REDUCED and device.type == "cpu" and not compiled
    return reduced and not has_instructions()


def has_instructions() -> bool:
    """Whether torch has quick products in bfloat16 for this processor: they need AVX-512."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@contextlib.contextmanager
def autocast(precision: str, device: torch.device, compiled: bool = False) -> Iterator[None]:
    """What a network computes within is in this precision; weights stay what they are."""
    reduced = REDUCED.get(precision)
    rounding = is_emulated(precision, device, compiled)
    emulation = _Rounded() if rounding else contextlib.nullcontext()
    with torch.autocast(device.type, reduced, enabled=reduced is not None), emulation:
        yield


class _Rounded(TorchFunctionMode):
    """Products of numbers that are rounded as autocast rounds them, in float32, then rounded."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func not in PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        reduced = torch.get_autocast_dtype("cpu")

        def rounded(value: Any) -> Any:
            return value.to(reduced).float() if isinstance(value, Tensor) else value

        with torch.autocast("cpu", enabled=False):
            product: Tensor = func(
                *(rounded(value) for value in args),
                **{name: rounded(value) for name, value in (kwargs or {}).items()},
            )
            return product.to(reduced)
