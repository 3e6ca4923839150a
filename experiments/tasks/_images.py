"""Image classification on a data set that fits in memory: CIFAR-10, digits."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments import data
from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks._parts import part, stream
from experiments.tasks._resnet import ResNet

PADDING = 4
EVALUATION_BATCH = 1000
Labelled = tuple[Tensor, Tensor]
"""Images as bytes [n, channels, h, w] and labels [n]."""

_load = functools.lru_cache(maxsize=1)(data.load)


class ImageClassification:
    """A network on part of a data set, with a validation set held out of the training set.

    The run's settings: ``depth`` of a residual network, or ``widths`` of a perceptron's hidden
    layers; ``weights`` (the type of the network's numbers, float32 if not given); ``train_images``
    and ``validation_images`` (how many, drawn without overlap by a fixed permutation that is the
    same for every run), ``augment`` (random crops of the image padded by 4, and horizontal flips),
    ``data_seed_offset`` (see `stream`).

    All images live on the device, and the loss is what cuts a batch out of them: a batch itself
    only says which images are meant, and how each of them is shifted and mirrored.
    """

    repeats = True

    def __init__(self, name: str, run: Run, data_root: Path, device: torch.device) -> None:
        self.run = run
        images = self.images(name, data_root)
        self.device = device
        self.data_sha256 = images.sha256
        self.channels, self.classes = images.train_images.shape[-1], len(images.classes)
        train, validation = split(len(images.train_images), run)
        shown = torch.from_numpy(images.train_images[train]).float() / 255
        self.mean = shown.mean(dim=(0, 1, 2)).view(1, -1, 1, 1).to(device)
        self.std = shown.std(dim=(0, 1, 2)).view(1, -1, 1, 1).to(device)
        self.train = self._put(images.train_images[train], images.train_labels[train])
        self._crops = _crops(self.train[0])
        self.held_out = {
            "validation": self._put(
                images.train_images[validation], images.train_labels[validation]
            ),
            "test": self._put(images.test_images, images.test_labels),
        }
        self.updates_per_epoch = -(-len(train) // run.batch_size)

    def images(self, name: str, data_root: Path) -> data.Images:
        """The data set, of which the run's settings take a part."""
        return _load(name, data_root)

    def _put(self, images: np.ndarray, labels: np.ndarray) -> Labelled:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return pixels.to(self.device), torch.from_numpy(labels).to(self.device)

    def _normalised(self, pixels: Tensor) -> Tensor:
        images = (pixels.float() / 255 - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)

    def model(self) -> nn.Module:
        """A new network."""
        settings = dict(self.run.settings)
        network: nn.Module
        if "widths" in settings:
            inputs = self.train[0][0].numel()
            network = _perceptron(inputs, *settings["widths"], self.classes)
        else:
            network = ResNet(self.run.setting("depth"), self.channels, self.classes)
            network = network.to(memory_format=torch.channels_last)  # a third faster on CPUs
        return network.to(getattr(torch, settings.get("weights", "float32")))

    def batches(self, epoch: int, first: int = 0) -> Iterator[Tensor]:
        """Every training image once, in an order of the run's seed and the epoch.

        A batch is a tensor [4, batch] of integers: the image, how far its crop lies down and to
        the right in the padded image, and whether it is mirrored. They are drawn on the CPU, the
        same for every device, and brought to the device once an epoch.
        """
        generator = torch.Generator().manual_seed(stream(self.run, epoch))
        order = torch.randperm(len(self.train[1]), generator=generator)
        parts = torch.split(order, self.run.batch_size)
        drawn = torch.cat([self._drawn(chosen, generator) for chosen in parts], dim=1)
        yield from torch.split(drawn.to(self.device), self.run.batch_size, dim=1)[first:]

    def parts(
        self, epoch: int, rank: int, size: int, first: int = 0
    ) -> Iterator[tuple[Tensor, float]]:
        """One process's part of every batch, and its weight."""
        return (part(batch, rank, size, dim=1) for batch in self.batches(epoch, first))

    def _drawn(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        shift = torch.full((2, len(chosen)), PADDING)
        mirrored = torch.zeros(len(chosen), dtype=torch.int64)
        if self.run.setting("augment"):
            shift = torch.randint(2 * PADDING + 1, (2, len(chosen)), generator=generator)
            mirrored = (torch.rand(len(chosen), generator=generator) < 0.5).long()
        return torch.cat([chosen[None], shift, mirrored[None]])

    def shown(self, batch: Tensor) -> Labelled:
        """The images of a batch as the network sees them, and their labels."""
        chosen, down, right, mirrored = batch
        crops = self._crops[chosen, :, down, right]  # [batch, channels, h, w]
        images = torch.where(mirrored.bool().view(-1, 1, 1, 1), crops.flip(-1), crops)
        return self._normalised(images), self.train[1][chosen]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Mean cross-entropy, in nats."""
        images, labels = self.shown(batch)
        return F.cross_entropy(model(images).float(), labels)

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        """Accuracy in percent and mean cross-entropy in nats on the validation and test sets.

        The split "seen" is as many training images as are held out, neither shifted nor mirrored.
        """
        values = {}
        pixels, labels = self.train
        size = len(self.held_out["validation"][1])
        splits = {**self.held_out, "seen": (pixels[:size], labels[:size])}
        for split, (pixels, labels) in splits.items():
            parts = torch.split(pixels, EVALUATION_BATCH)
            logits = torch.cat([model(self._normalised(part)).float() for part in parts])
            right = (logits.argmax(dim=1) == labels).float().mean()
            values[split, "accuracy"] = 100 * right.item()
            values[split, "loss"] = F.cross_entropy(logits, labels).item()
        return values


def _crops(pixels: Tensor) -> Tensor:
    """A view [n, channels, shifts down, shifts right, h, w] of the padded images."""
    height, width = pixels.shape[-2:]
    padded = F.pad(pixels, (PADDING,) * 4)
    return padded.unfold(2, height, 1).unfold(3, width, 1)


def _perceptron(*widths: int) -> nn.Sequential:
    """Linear layers between the widths, with rectifiers between the layers."""
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
    between = [module for layer in layers for module in (nn.ReLU(), layer)]
    return nn.Sequential(nn.Flatten(), *between[1:])


def split(available: int, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation images; the same for every run."""
    train, validation = run.setting("train_images"), run.setting("validation_images")
    if min(train, validation) < 1:
        raise UserError(
            f"{train} training and {validation} validation images are asked for; a run needs at "
            "least one of each"
        )
    if train + validation > available:
        raise UserError(
            f"{train} training and {validation} validation images are asked for, but the "
            f"training set has {available}; ask for fewer"
        )
    order = np.random.default_rng(0).permutation(available)
    return order[:train], order[available - validation :]
