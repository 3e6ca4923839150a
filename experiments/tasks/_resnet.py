"""The residual networks for small images: ResNet-8, -14, -20, ... (He et al. 2016, section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)


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
            raise ValueError(f"depth={depth} is not 6 n + 2; use 8, 14, 20, 32, 44, 56 or 110")
        self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        stages: list[nn.Module] = []
        width = WIDTHS[0]
        for outputs in WIDTHS:
            for block in range(blocks):
                stride = 2 if block == 0 and outputs != WIDTHS[0] else 1
                stages.append(BasicBlock(width, outputs, stride))
                width = outputs
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, channels, h, w] -> logits [batch, classes]."""
        x = self.stages(F.relu(self.norm(self.stem(images))))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
