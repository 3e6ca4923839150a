"""Where the images come from: a local folder, the ecosystem's hub, or an installed package.

Whatever the source, the decoded content is held against a pinned sha256, so two machines that
report the same digest trained on the same bytes.
"""

from collections.abc import Callable
from pathlib import Path

from experiments.data import cifar10, digits, image_folder, noise
from experiments.data._images import DataError, Images
from experiments.data.parallel import CORPORA

__all__ = ["LOADERS", "DataError", "Images", "load"]

LOADERS: dict[str, Callable[[Path, bool], Images]] = {
    "cifar10": cifar10.load,
    "digits": digits.load,
    "tiny-imagenet-32": lambda root, _: image_folder.load(root, "tiny-imagenet-32", side=32),
    "noise": noise.load,
}


def load(name: str, root: Path, download: bool = False) -> Images:
    """Load a dataset of images by name; those of text have loaders of their own.

    Parameters
    ----------
    name : str
        A key of `LOADERS`.
    root : Path
        The folder that holds, or is to hold, the files. The others need none.
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
        known = ", ".join(sorted([*LOADERS, *CORPORA]))
        raise DataError(f"Unknown dataset {name!r}: choose one of {known}.")
    try:
        return LOADERS[name](Path(root).expanduser(), download)
    except ModuleNotFoundError as error:
        raise DataError(
            f"The dataset {name!r} needs the package {error.name!r}, which is not installed: "
            "run `make env` and use the Python of its environment."
        ) from error
