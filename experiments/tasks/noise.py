"""Random bytes in the shape of CIFAR-10's images, and random labels: for timings alone."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.spec import Run
from experiments.tasks._images import ImageClassification


def build(run: Run, data_root: Path, device: torch.device) -> ImageClassification:
    """The task of a run."""
    return ImageClassification("noise", run, data_root, device)
