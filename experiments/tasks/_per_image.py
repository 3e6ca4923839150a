"""Image classification as tutorials write it: a `DataLoader` changes one image after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from experiments.spec import Run
from experiments.tasks._images import PADDING, ImageClassification, Labelled
from experiments.tasks._parts import stream

WORKERS = 2
"""The numbers that a worker draws depend on how many there are: so as many on every machine."""


class Opened(Dataset[tuple[Tensor, int]]):
    """A labelled data set as torchvision has it: each image is opened and changed by itself.

    Images are bytes [n, h, w, channels]; what comes out is normalised, [channels, h, w].
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: list[float],
        std: list[float],
        augment: bool = True,
    ) -> None:
        # Here rather than above: importing torchvision takes seconds, and most runs need it not.
        from torchvision import transforms

        self.images, self.labels = images, labels
        side = images.shape[1]
        augmentation = [
            transforms.RandomCrop(side, padding=PADDING),
            transforms.RandomHorizontalFlip(),
        ]
        self.change = transforms.Compose(
            [
                *(augmentation if augment else ()),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.images[index]
        image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
        changed: Tensor = self.change(image)
        return changed, int(self.labels[index])


class PerImage:
    """The training of an `ImageClassification` by torchvision's transforms and torch's loader.

    Splits, initial weights and evaluation are the same. The order of the images, their crops and
    reflections are drawn elsewhere and so are others; a batch is in PyTorch's usual memory format.
    """

    def __init__(self, whole: ImageClassification) -> None:
        self.whole = whole
        self.data_sha256 = whole.data_sha256
        self.updates_per_epoch = whole.updates_per_epoch
        pixels, labels = whole.train
        self.opened = Opened(
            pixels.permute(0, 2, 3, 1).cpu().numpy(),
            labels.cpu().numpy(),
            whole.mean.flatten().tolist(),
            whole.std.flatten().tolist(),
            whole.run.setting("augment"),
        )

    def model(self) -> nn.Module:
        """A new network."""
        return self.whole.model().to(memory_format=torch.contiguous_format)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Labelled]:
        """Every training image once, in an order of the run's seed and the epoch.

        Those before `first` are loaded, too: a worker draws for one image after the other.
        """
        seed = stream(self.whole.run, epoch)
        loader = DataLoader(
            self.opened,
            batch_size=self.whole.run.batch_size,
            shuffle=True,
            num_workers=WORKERS,
            generator=torch.Generator().manual_seed(seed),  # of the order and the workers' seeds
        )
        device = self.whole.device
        left = itertools.islice(loader, first, None)
        return ((images.to(device), labels.to(device)) for images, labels in left)

    def loss(self, model: nn.Module, batch: Labelled) -> Tensor:
        """Mean cross-entropy, in nats."""
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels)

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        """As `ImageClassification.evaluate`."""
        return self.whole.evaluate(model)


def build(
    name: str, run: Run, data_root: Path, device: torch.device
) -> ImageClassification | PerImage:
    """The task of a run; its setting ``per_image`` tells which, the batched one if not given."""
    whole = ImageClassification(name, run, data_root, device)
    return PerImage(whole) if dict(run.settings).get("per_image") else whole
