"""Any data set laid out as ImageNet is: ``NAME/train/CLASS/*`` and ``NAME/val/CLASS/*``.

Tiny-ImageNet-32 (200 classes of ImageNet; the 64 x 64 images of Tiny-ImageNet, at 32 x 32) may also
lie there as its three archives, which are read as they are.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from experiments.data._images import Images, keep
from experiments.errors import DataError

SPLITS = ("train", "val")
ARCHIVES = {
    "tiny-imagenet-32": {
        "train-0.tar.xz": "63d13cc0e46e4d0df8b3dc772f58ef1ab78fb92cf158c60f5cd7da4f853daf7e",
        "train-1.tar.xz": "01a30e03a308a23bea70f0222095c81ca2c4ec66a0d484aeca9018fa138e02f9",
        "val.tar.xz": "978b8f197cddd7c987acdacff1e0575422f055f6997ae96e64eb89c50ee7509d",
    }
}
"""For each data set that may lie in archives, their names and the sha256 of each."""

BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What comes of reading a file that is no image, or too large a one: Pillow names no one class."""

Sample = tuple[str, int]
"""The path of an image and the index of its class."""


@dataclass(frozen=True)
class Tree:
    """The images below one folder, none of them read yet; those of ``val`` are the test set.

    `sha256` is that of the files' names and sizes: reading all of ImageNet for a digest of its
    content would take longer than many a run.
    """

    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    classes: tuple[str, ...]
    sha256: str


def tree(root: Path, name: str) -> Tree:
    """List the images in the folder `name` of `root`, through torchvision.

    Raises
    ------
    DataError
        If it is not there, a class has no image, or the splits have different classes.
    """
    # Here rather than above: importing torchvision takes seconds, and what is kept needs it not.
    from torchvision.datasets import ImageFolder

    folder = root / name
    if not all((folder / split).is_dir() for split in SPLITS):
        archives = f", or its archives {', '.join(ARCHIVES[name])}" if name in ARCHIVES else ""
        raise DataError(
            f"{name} is not in {root}: put the folders {name}/train and {name}/val there, with a "
            f"folder of images for every class{archives}."
        )
    try:
        train, test = (ImageFolder(folder / split) for split in SPLITS)
        listed = [*train.samples, *test.samples]
        sizes = [(Path(path).relative_to(folder), Path(path).stat().st_size) for path, _ in listed]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error}): mend or replace it.") from error
    odd = sorted(set(train.classes) ^ set(test.classes))
    if odd:
        raise DataError(
            f"{folder}: train and val have different classes, {odd[0]} among them: give both the "
            "same folders."
        )
    lines = "".join(f"{path.as_posix()} {size}\n" for path, size in sizes)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return Tree(tuple(train.samples), tuple(test.samples), tuple(train.classes), digest)


def load(root: Path, name: str, side: int) -> Images:
    """Load a data set whole: of every image the middle, at `side` x `side` pixels.

    The decoded images are kept in `root` for the next time, if it can be written.

    Parameters
    ----------
    root
        The folder that holds the folder `name`.
    name
        Of the data set.
    side
        Height and width of the images, in pixels.

    Returns
    -------
    Images
        Training and test images [N, side, side, 3].

    Raises
    ------
    DataError
        If the images are absent or damaged, or an archive is not the published one.
    """
    archives = {root / name / archive: sha256 for archive, sha256 in ARCHIVES.get(name, {}).items()}
    if any(path.exists() for path in archives):
        for path, sha256 in archives.items():
            _check(path, sha256)
        origin = hashlib.sha256("".join(archives.values()).encode()).hexdigest()
        encoded = _in_archives(list(archives))
    else:
        listed = tree(root, name)
        origin, encoded = listed.sha256, _in_tree(listed)
    kept = root / f"{name}-{side}-{origin[:12]}.npz"
    arrays = _read(kept)
    if arrays is None:
        arrays = _decoded(encoded, side)
        keep(kept, lambda new: np.savez(new, allow_pickle=False, **arrays))
    return _images(arrays)


def _check(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): replace it.") from error
    if found != expected:
        raise DataError(
            f"{path} has the sha256 {found}, and {expected} was expected: replace it by the "
            "published file."
        )


Encoded = tuple[str, str, str, bytes]
"""Where an image is, its split, its class, and the content of its file."""


def _in_archives(paths: list[Path]) -> Iterator[Encoded]:
    """Every image, in the order in which a tree lists them."""
    found: list[tuple[str, bytes]] = []
    for path in paths:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    found.append((member.name, file.read()))
    for name, content in sorted(found):
        split, label, _ = PurePosixPath(name).parts
        yield name, split, label, content


def _in_tree(listed: Tree) -> Iterator[Encoded]:
    for split, samples in zip(SPLITS, (listed.train, listed.test), strict=True):
        for path, label in samples:
            yield path, split, listed.classes[label], Path(path).read_bytes()


Arrays = dict[str, NDArray[Any]]


def _decoded(encoded: Iterator[Encoded], side: int) -> Arrays:
    pixels: dict[str, list[NDArray[np.uint8]]] = {split: [] for split in SPLITS}
    labels: dict[str, list[str]] = {split: [] for split in SPLITS}
    for where, split, label, content in encoded:
        pixels[split].append(_pixels(where, content, side))
        labels[split].append(label)
    classes = np.unique(labels["train"])
    arrays: Arrays = {"classes": classes}
    for split in SPLITS:
        arrays[f"{split}_images"] = np.stack(pixels[split])
        arrays[f"{split}_labels"] = np.searchsorted(classes, labels[split])
    return arrays


def _pixels(where: str, content: bytes, side: int) -> NDArray[np.uint8]:
    """The middle of an image [side, side, 3], its shorter edge scaled to `side`."""
    try:
        image = Image.open(BytesIO(content)).convert("RGB")
    except BROKEN as error:
        raise broken(where, error) from error
    scale = side / min(image.size)
    if scale != 1:
        width, height = (max(side, round(edge * scale)) for edge in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = ((edge - side) // 2 for edge in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def broken(where: str, error: Exception) -> DataError:
    """A sentence for what came of reading an image, one of `BROKEN`."""
    if isinstance(error, Image.DecompressionBombError):
        return DataError(f"{where} has too many pixels ({error}): put a smaller copy there.")
    # Of the file Pillow knows no more than the object that it was given.
    why = "of no format that is known" if isinstance(error, UnidentifiedImageError) else error
    return DataError(f"{where} is not a whole image ({why}): replace it.")


def _read(path: Path) -> Arrays | None:
    """What was kept; None if nothing was, or it is damaged and has to be made anew."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


def _images(arrays: Arrays) -> Images:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return Images(
        train_images=arrays["train_images"],
        train_labels=arrays["train_labels"].astype(np.int64),
        test_images=arrays["val_images"],
        test_labels=arrays["val_labels"].astype(np.int64),
        classes=tuple(arrays["classes"].tolist()),
        sha256=digest.hexdigest(),
        source="local folder",
    )
