"""Where the data comes from: a local folder, the ecosystem's hub, or an installed package.

What was published once and for all is held against a pinned sha256. Every data set has a digest of
what is trained on, so two machines that report the same one trained on the same content; that of
images which are read file by file, as ImageNet's, is only of the files' names and sizes.
"""

from collections.abc import Callable
from pathlib import Path

from experiments.data import cifar10, digits, image_folder, noise, parallel, text, tokens
from experiments.data._images import Images
from experiments.errors import DataError

__all__ = ["LOADERS", "NAMES", "DataError", "Images", "checked", "load"]

LOADERS: dict[str, Callable[[Path, bool], Images]] = {
    "cifar10": cifar10.load,
    "digits": digits.load,
    "tiny-imagenet-32": lambda root, _: image_folder.load(root, "tiny-imagenet-32", side=32),
    "noise": noise.load,
}
NAMES = (*LOADERS, *parallel.CORPORA, *text.TEXTS)
"""Of all data sets: images, parallel corpora, and texts."""


def load(name: str, root: Path, download: bool = False) -> Images:
    """Load a dataset of images by name; those of text have loaders of their own.

    Parameters
    ----------
    name : str
        A key of `LOADERS`.
    root : Path
        The folder that holds, or is to hold, the files; digits and noise need none.
    download : bool
        Whether files that are absent may be downloaded into `root`; CIFAR-10's can.

    Returns
    -------
    Images
        Train and test images with their labels, verified.

    Raises
    ------
    DataError
        If the name is unknown, a file is absent, damaged or not the published one, `root` cannot
        be written, nothing could be downloaded, or a package is not installed.
    """
    if name not in LOADERS:
        known = ", ".join(sorted(NAMES))
        raise DataError(f"Unknown dataset {name!r}: choose one of {known}.")
    try:
        return LOADERS[name](Path(root).expanduser(), download)
    except ModuleNotFoundError as error:
        raise DataError(
            f"The dataset {name!r} needs the package {error.name!r}, which is not installed: "
            "run `make env` and use the Python of its environment."
        ) from error


def checked(name: str, root: Path) -> str:
    """Read a data set of any kind, after fetching it where that can be, and say what it has.

    Parameters
    ----------
    name : str
        One of `NAMES`, or several parallel corpora that "+" joins.
    root : Path
        The folder that holds, or is to hold, the files.

    Raises
    ------
    DataError
        As `load`, `parallel.load` and `text.load` do.
    """
    if name.partition("+")[0] in parallel.CORPORA:
        pairs = parallel.load(name, root, download=True)
        counts = ", ".join(f"{len(sides['en']):,} {split}" for split, sides in pairs.splits.items())
        return (
            f"{name}: pairs of sentences ({counts}) from the {pairs.source}, sha256 {pairs.sha256}"
        )
    if name in text.TEXTS:
        words = text.load(name, root, download=True)
        counts = ", ".join(f"{len(getattr(words, split)):,} {split}" for split in tokens.SPLITS)
        return f"{name}: tokens ({counts}) of {len(words.words):,} words, sha256 {words.sha256}"
    images = load(name, root, download=True)
    return (
        f"{name}: {len(images.train_images)} training and {len(images.test_images)} test images "
        f"from the {images.source}, sha256 {images.sha256}"
    )
