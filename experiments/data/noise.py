"""Random bytes in the shape of CIFAR-10: for timings, which do not depend on what is learnt."""

from pathlib import Path

import numpy as np

from experiments.data._images import Images, content_sha256, images

TRAIN, TEST = 50_000, 100
"""A test set as small as this takes no time that would be taken for training's."""


def load(root: Path, download: bool = False) -> Images:
    """Draw 50,000 training images of 32x32 pixels and 3 channels, and 100 test images.

    Parameters
    ----------
    root, download : Path, bool
        Not used: the bytes are the same wherever they are drawn.

    Returns
    -------
    Images
        Arrays of shapes [50000, 32, 32, 3] and [100, 32, 32, 3].
    """
    generator = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        pixels = generator.integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
        return pixels, generator.integers(10, size=count, dtype=np.uint8)

    content = (*draw(TRAIN), *draw(TEST))
    classes = tuple(f"class {number}" for number in range(10))
    return images(content, classes, content_sha256(content), "random numbers")
