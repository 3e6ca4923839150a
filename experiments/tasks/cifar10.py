"""CIFAR-10: 60,000 photographs of 32 x 32 pixels in 10 classes (Krizhevsky 2009)."""

from pathlib import Path

import torch

from experiments.spec import Run
from experiments.tasks import _per_image
from experiments.tasks._images import ImageClassification


def build(
    run: Run, data_root: Path, device: torch.device
) -> ImageClassification | _per_image.PerImage:
    """The task of a run."""
    return _per_image.build("cifar10", run, data_root, device)
