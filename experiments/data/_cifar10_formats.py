"""The forms CIFAR-10 is stored in, each read into the same four arrays and verified."""

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from experiments.data._images import Content, content_sha256
from experiments.errors import DataError

# Of the 60,000 images and labels in their published order; see `content_sha256`.
SHA256 = "80387ddb9a0edf3fc4a964ee3770296169bb26a651050df20035579673099660"

CACHE = "cifar10.npz"
PICKLES = "cifar-10-batches-py"
TRAIN_PNGS = tuple(f"data_batch_{i}.png" for i in range(1, 6))
TEST_PNG = "test_batch.png"
TRAIN_JSON, TEST_JSON = "train_lables.json", "test_lables.json"  # spelled so in the package
PACKAGE_FILES = (*TRAIN_PNGS, TEST_PNG, TRAIN_JSON, TEST_JSON)

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_REMEDY = "Remove it and run `python -m experiments data cifar10` to download it anew."


def read_cache(path: Path) -> tuple[Content, str]:
    """Read the arrays that `write_cache` stored, and the source they came from."""
    with _decoding(path), path.open("rb") as file:
        if not zipfile.is_zipfile(file):  # NumPy would take it for a pickle and advise to trust it
            raise ValueError("not a zip archive, or not all of it")
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            train_images, train_labels, test_images, test_labels = (
                stored[name] for name in _ARRAYS
            )
            source = str(stored["source"])
    content = (train_images, train_labels, test_images, test_labels)
    return verified(content, path), source


def write_cache(content: Content, source: str, path: Path) -> None:
    """Store the arrays, uncompressed so that they load in a fraction of a second."""
    arrays = dict(zip(_ARRAYS, content, strict=True))
    np.savez(path, allow_pickle=False, source=np.array(source), **arrays)


def read_pickles(folder: Path) -> Content:
    """Read the Python distribution in ``folder/cifar-10-batches-py``, through torchvision."""
    # Here rather than above: importing torchvision takes seconds, and the cache needs none of it.
    from torchvision.datasets import CIFAR10

    # Unpickling runs whatever a file says, so each must first prove to be the published one.
    # torchvision checks this too, but does not say which file is at fault.
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, expected in [*CIFAR10.train_list, *CIFAR10.test_list, meta]:
        path = folder / PICKLES / name
        found = file_digest(path, "md5")
        if found != expected:
            raise DataError(f"{path} has the md5 {found}, and {expected} was expected. {_REMEDY}")
    train, test = CIFAR10(folder, train=True), CIFAR10(folder, train=False)
    content = (
        np.ascontiguousarray(train.data),
        np.array(train.targets, dtype=np.uint8),
        np.ascontiguousarray(test.data),
        np.array(test.targets, dtype=np.uint8),
    )
    return verified(content, folder / PICKLES)


def read_package_folder(folder: Path) -> Content:
    """Read the PNG and JSON files of the npm package from a folder."""
    return _read_package(folder, lambda name: (folder / name).read_bytes())


def read_package_archive(path: Path) -> Content:
    """Read the npm package from its archive; nothing is unpacked to disk."""
    with _decoding(path), tarfile.open(path) as archive:

        def member(name: str) -> bytes:
            file = archive.extractfile(f"package/{name}")
            if file is None:
                raise ValueError(f"{name} is not a regular file")
            return file.read()

        return _read_package(path, member)


def _read_package(where: Path, read: Callable[[str], bytes]) -> Content:
    def rows(name: str) -> NDArray[np.uint8]:
        """One image a row of 32 * 32 RGB pixels -> [rows, 32, 32, 3]."""
        with _decoding(where / name):
            try:
                image = Image.open(BytesIO(read(name)), formats=["PNG"])
            except UnidentifiedImageError as error:
                raise ValueError("not a PNG image") from error
            return np.asarray(image, dtype=np.uint8).reshape(-1, 32, 32, 3)

    def labels(name: str) -> NDArray[np.uint8]:
        with _decoding(where / name):
            return np.array(json.loads(read(name)), dtype=np.uint8)

    train_images = np.concatenate([rows(name) for name in TRAIN_PNGS])
    return verified((train_images, labels(TRAIN_JSON), rows(TEST_PNG), labels(TEST_JSON)), where)


def verified(content: Content, where: Path) -> Content:
    """Return the content if it is CIFAR-10 as published, else raise a DataError naming `where`."""
    found = content_sha256(content)
    if found != SHA256:
        raise DataError(
            f"{where} does not hold CIFAR-10 as published: its decoded content has the sha256 "
            f"{found}, and {SHA256} was expected. {_REMEDY}"
        )
    return content


def file_digest(path: Path, algorithm: str) -> str:
    """Digest a file's bytes; a file that cannot be opened is a DataError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). {_REMEDY}") from error


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into a DataError that names it."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # zip, zlib, PNG, JSON, header and shape errors share no base class
        if not path.is_file():
            raise DataError(f"{path} cannot be read ({error}). {_REMEDY}") from error
        raise DataError(
            f"{path} is damaged ({error}): the file's sha256 is {file_digest(path, 'sha256')}, "
            f"and the content decoded from it should have {SHA256}. {_REMEDY}"
        ) from error
