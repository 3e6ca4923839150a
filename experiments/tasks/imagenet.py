"""ImageNet with ResNet-18: any data set that is laid out as ImageNet is."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.datasets.folder import pil_loader
from torchvision.transforms import v2

from experiments import data
from experiments.data import image_folder
from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks._images import ImageClassification, Labelled, split
from experiments.tasks._parts import part, stream
from experiments.tasks._resnet import ResNet18

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's channels, as everybody rounds them."""

MOST_WORKERS = 16

_load = functools.lru_cache(maxsize=1)(image_folder.load)


class InMemory(ImageClassification):
    """ResNet-18 on images that are scaled down once and then fit in memory."""

    def images(self, name: str, data_root: Path) -> data.Images:
        """The images of some classes."""
        if name in data.LOADERS:
            found = super().images(name, data_root)
        else:
            found = _load(data_root.expanduser(), name, self.run.setting("side"))
        return some_classes(found, self.run.setting("classes"))

    def model(self) -> nn.Module:
        """A new ResNet-18."""
        return _network(self.run, self.channels, self.classes)


def some_classes(images: data.Images, wanted: int) -> data.Images:
    """The images of `wanted` classes; a smaller number gives a part of what a larger one gives."""
    available = len(images.classes)
    if wanted > available:
        raise UserError(f"{wanted} classes are asked for, of {available}; ask for fewer")
    chosen = np.sort(np.random.default_rng(0).permutation(available)[:wanted])
    train, test = (np.isin(labels, chosen) for labels in (images.train_labels, images.test_labels))
    return data.Images(
        train_images=images.train_images[train],
        train_labels=np.searchsorted(chosen, images.train_labels[train]),
        test_images=images.test_images[test],
        test_labels=np.searchsorted(chosen, images.test_labels[test]),
        classes=tuple(images.classes[label] for label in chosen),
        sha256=images.sha256,
        source=images.source,
    )


def _network(run: Run, channels: int, classes: int) -> nn.Module:
    network = ResNet18(run.setting("width"), run.setting("stem"), channels, classes)
    return network.to(memory_format=torch.channels_last)


class FromFiles:
    """ResNet-18 on images that are read from their files as they are needed.

    A training image is a random part of a file's image, scaled to the setting ``side`` and mirrored
    or not; a held-out one is the middle of the whole image, scaled so that its shorter edge is 8/7
    of ``side``, as 256 is of 224.
    """

    def __init__(self, run: Run, data_root: Path, device: torch.device) -> None:
        listed = image_folder.tree(data_root.expanduser(), run.setting("data"))
        if run.setting("classes") != len(listed.classes):
            raise UserError(
                f"{run.setting('data')} has {len(listed.classes)} classes, and the run "
                f"{run.setting('classes')}: put a data set there that has as many, or say "
                f"--set classes={len(listed.classes)}"
            )
        self.run, self.device = run, device
        self.data_sha256 = listed.sha256
        self.classes = len(listed.classes)
        train, validation = split(len(listed.train), run)
        self.train = [listed.train[index] for index in train]
        self.held_out = {
            "validation": [listed.train[index] for index in validation],
            "test": list(listed.test),
            "seen": self.train[: len(validation)],
        }
        self.mean, self.std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in (MEAN, STD)
        )
        self.updates_per_epoch = -(-len(self.train) // run.batch_size)

    def model(self) -> nn.Module:
        """A new ResNet-18."""
        return _network(self.run, 3, self.classes)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Labelled]:
        """Every training image once, in an order of the run's seed and the epoch."""
        return (batch for batch, _ in self.parts(epoch, 0, 1, first))

    def parts(
        self, epoch: int, rank: int, size: int, first: int = 0
    ) -> Iterator[tuple[Labelled, float]]:
        """One process's part of every batch, and its weight; it reads no other files."""
        seed = stream(self.run, epoch)
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        samples = [self.train[index] for index in order.tolist()]
        wholes = torch.split(torch.arange(len(samples)), self.run.batch_size)[first:]
        chosen, weights = zip(*(part(whole, rank, size) for whole in wholes), strict=True)
        loaded = self._loaded(samples, chosen, seed if self.run.setting("augment") else None)
        return zip(loaded, weights, strict=True)

    def _loaded(
        self,
        samples: Sequence[image_folder.Sample],
        batches: Sequence[Tensor],
        seed: int | None = None,
    ) -> Iterator[Labelled]:
        """Normalised images [batch, 3, side, side] and labels [batch], on the device."""
        cuda = self.device.type == "cuda"
        loader = DataLoader(
            Files(samples, self.run.setting("side"), seed),
            batch_sampler=[batch.tolist() for batch in batches],
            collate_fn=_batch,
            num_workers=min(MOST_WORKERS, (os.cpu_count() or 1) - 1),
            pin_memory=cuda,
            generator=torch.Generator(),  # else it would draw from the global one
        )
        for loaded in loader:
            if isinstance(loaded, data.DataError):
                raise loaded
            images, labels = loaded
            here = images.to(self.device, non_blocking=cuda).float()
            normalised = (here - self.mean) / self.std
            channels_last = normalised.contiguous(memory_format=torch.channels_last)
            yield channels_last, labels.to(self.device, non_blocking=cuda)

    def loss(self, model: nn.Module, batch: Labelled) -> Tensor:
        """Mean cross-entropy, in nats."""
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels)

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        """As `ImageClassification.evaluate`."""
        values = {}
        for name, samples in self.held_out.items():
            right, loss = 0, 0.0
            batches = torch.split(torch.arange(len(samples)), self.run.batch_size)
            for images, labels in self._loaded(samples, batches):
                logits = model(images).float()
                right += int((logits.argmax(dim=1) == labels).sum())
                loss += F.cross_entropy(logits, labels, reduction="sum").item()
            values[name, "accuracy"] = 100 * right / len(samples)
            values[name, "loss"] = loss / len(samples)
        return values


class Files(Dataset[tuple[Tensor, int]]):
    """Image files: of each the middle or, given a seed, a random part.

    Which part depends on the seed and the place in the list alone, not on the process that reads.
    """

    def __init__(self, samples: Sequence[image_folder.Sample], side: int, seed: int | None) -> None:
        self.samples, self.seed = samples, seed
        self.middle = v2.Compose([v2.Resize(side * 8 // 7), v2.CenterCrop(side)])
        self.part = v2.Compose([v2.RandomResizedCrop(side), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """An image [3, side, side] of bytes, and its label."""
        path, label = self.samples[index]
        try:
            image = pil_loader(path)
        except image_folder.BROKEN as error:
            raise image_folder.broken(path, error) from error
        return v2.functional.pil_to_tensor(self._cut(image, index)), label

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]] | data.DataError:
        """Several; an error is a value: of what a worker raises, the loader makes a traceback."""
        try:
            return [self[index] for index in indices]
        except data.DataError as error:
            return error

    def _cut(self, image: Image, index: int) -> Image:
        if self.seed is None:
            middle: Image = self.middle(image)
            return middle
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed * 10_000_019 + index)
            part: Image = self.part(image)
        return part


def _batch(samples: list[tuple[Tensor, int]] | data.DataError) -> Any:
    """Images [batch, 3, side, side] and labels [batch]; or what kept them from being read."""
    return samples if isinstance(samples, data.DataError) else default_collate(samples)


def build(run: Run, data_root: Path, device: torch.device) -> InMemory | FromFiles:
    """The task of a run, whose settings are these.

    ``data`` names the data set and ``classes`` how many of its classes to take, drawn by a fixed
    permutation; ``in_memory`` tells whether the images are read once, scaled to ``side``, or as
    they are needed; ``width`` and ``stem`` are of the network; ``train_images``,
    ``validation_images`` and ``augment`` are as in `ImageClassification`.
    """
    if run.setting("in_memory"):
        return InMemory(run.setting("data"), run, data_root, device)
    return FromFiles(run, data_root, device)
