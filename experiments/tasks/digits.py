"""scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, installed with the package."""

from pathlib import Path

import torch

from experiments.spec import Run
from experiments.tasks import _per_image
from experiments.tasks._images import ImageClassification


def build(
    run: Run, data_root: Path, device: torch.device
) -> ImageClassification | _per_image.PerImage:
    """The task of a run."""
    return _per_image.build("digits", run, data_root, device)
