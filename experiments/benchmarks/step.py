"""The time of one optimizer step on ResNet-20's parameters."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch

from experiments.benchmarks._timing import compare
from experiments.tasks._resnet import ResNet
from radam_core import RAdam

CONTESTANTS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "radam_core.RAdam": RAdam,
    "torch.optim.RAdam": lambda parameters: torch.optim.RAdam(parameters, foreach=True),
    "torch.optim.AdamW (fused)": lambda parameters: torch.optim.AdamW(parameters, fused=True),
}


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median milliseconds a step, and the ratio to ours."""
    return compare({name: _stepper(make, device) for name, make in CONTESTANTS.items()}, device)


def _stepper(make: Callable[..., torch.optim.Optimizer], device: str) -> Callable[[], object]:
    parameters = list(ResNet(20).to(device).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return make(parameters).step
