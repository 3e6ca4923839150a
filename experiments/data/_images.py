"""What every loader returns and raises, and how it keeps what took it long."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

Content = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Train images, train labels, test images, test labels."""


@dataclass(frozen=True)
class Images:
    """A verified image-classification dataset.

    Attributes
    ----------
    train_images, test_images : ndarray of uint8, shape [N, H, W, C]
        Intensities, 0 (black) to 255.
    train_labels, test_labels : ndarray of int64, shape [N]
        Indices into `classes`.
    classes : tuple of str
        The name of each class.
    sha256 : str
        Digest of the decoded content, see `content_sha256`.
    source : str
        Where the bytes came from, such as "local folder" or "torchvision".
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    sha256: str
    source: str


def content_sha256(content: Content) -> str:
    """Digest the train images, train labels, test images and test labels, in that order.

    Each array enters as its uint8 values in C order, so the digest does not depend on the file
    format the arrays were read from.
    """
    digest = hashlib.sha256()
    for array in content:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def images(content: Content, classes: tuple[str, ...], sha256: str, source: str) -> Images:
    """Present verified content, with the labels as the integers that losses expect."""
    train_images, train_labels, test_images, test_labels = content
    return Images(
        train_images=train_images,
        train_labels=train_labels.astype(np.int64),
        test_images=test_images,
        test_labels=test_labels.astype(np.int64),
        classes=classes,
        sha256=sha256,
        source=source,
    )


def keep(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written for the next time, whole or not at all, whoever else is at it.

    A folder that is full, or only for reading, serves as well if slower.
    """
    try:
        with TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as scratch:
            partial = Path(scratch, path.name)
            write(partial)
            os.replace(partial, path)
    except OSError:
        return
