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

UPDATES = 10


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median milliseconds for ten updates: without readings, with one, and with ten."""
    contestants = {
        "no reading": _trainer(device, every=None),
        "every 10th update": _trainer(device, every=UPDATES),
        "every update": _trainer(device, every=1),
    }
    return compare(contestants, device, rounds=3)


def _trainer(device: str, every: int | None) -> Callable[[], object]:
    model = ResNet(20).to(device)
    optimizer = RAdam(model.parameters())
    images = torch.randn(128, 3, 32, 32, device=device)
    labels = torch.randint(10, (128,), device=device)

    def train() -> None:
        with track(model, optimizer, every):
            for _ in range(UPDATES):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(images), labels)
                torch.autograd.backward(loss)
                optimizer.step()

    return train
