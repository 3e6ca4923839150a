"""What it costs to track the updates of a training: ResNet-20 on batches of 128 images."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F

from experiments.benchmarks._timing import compare
from experiments.tasks._resnet import ResNet
from radam_core import RAdam
from radam_core.probes import track


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median milliseconds for one update of a training, without a reading and with one."""
    contestants = {"an update": _update(device, None), "an update, read": _update(device, 1)}
    return compare(contestants, device, rounds=31)


def _update(device: str, every: int | None) -> Callable[[], object]:
    model = ResNet(20).to(device)
    optimizer = RAdam(model.parameters())
    track(model, optimizer, every)
    images = torch.randn(128, 3, 32, 32, device=device)
    labels = torch.randint(10, (128,), device=device)

    def update() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()

    return update
