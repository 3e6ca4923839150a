"""Residual networks (He et al. 2016): ResNet-8, -14, -20 ... for small images, and ResNet-18."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.errors import UserError

WIDTHS = (16, 32, 64)
STEMS = {"7x7": (7, 2), "3x3": (3, 1), "3x3/2": (3, 2)}
"""Kernel and stride of the first convolution of a ResNet-18."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution on it where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, h, w] -> [batch, outputs, h / stride, w / stride]."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, three stages of basic blocks, global average pooling, a linear classifier.

    Parameters
    ----------
    depth
        6 n + 2, for n blocks a stage: 8, 14, 20, 32, ...
    channels, classes
        Of the images and of the labels.
    """

    def __init__(self, depth: int, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise UserError(f"depth={depth} is not 6 n + 2; use 8, 14, 20, 32, 44, 56 or 110")
        self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        self.stages = _stages(WIDTHS, blocks)
        self.classifier = nn.Linear(WIDTHS[-1], classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, channels, h, w] -> logits [batch, classes]."""
        x = self.stages(F.relu(self.norm(self.stem(images))))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


class ResNet18(nn.Module):
    """ResNet-18: four stages of two basic blocks, `width` to 8 `width` channels (section 4.1).

    Parameters
    ----------
    width
        Of the first stage; 64 in the paper.
    stem
        "7x7" for images of ImageNet's size: a 7x7 convolution and a max-pooling, both of stride 2.
        "3x3" for images of 32 x 32 pixels, which would vanish in that: a 3x3 convolution of stride
        1, as in the networks above. "3x3/2" has stride 2, for a quarter of the work.
    channels, classes
        Of the images and of the labels.
    """

    def __init__(self, width: int = 64, stem: str = "7x7", channels: int = 3, classes: int = 1000):
        super().__init__()
        if stem not in STEMS:
            raise UserError(f"stem={stem!r} is not known; use {', '.join(STEMS)}")
        kernel, stride = STEMS[stem]
        self.stem = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if stem == "7x7" else nn.Identity()
        self.stages = _stages((width, 2 * width, 4 * width, 8 * width), blocks=2)
        self.classifier = nn.Linear(8 * width, classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, channels, h, w] -> logits [batch, classes]."""
        x = self.stages(self.pool(F.relu(self.norm(self.stem(images)))))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def _stages(widths: Sequence[int], blocks: int) -> nn.Sequential:
    """Stages of basic blocks; each but the first begins with stride 2."""
    stages: list[nn.Module] = []
    width = widths[0]
    for number, outputs in enumerate(widths):
        for block in range(blocks):
            stride = 2 if block == 0 and number > 0 else 1
            stages.append(BasicBlock(width, outputs, stride))
            width = outputs
    return nn.Sequential(*stages)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
