"""The handwritten digits that scikit-learn installs: real images with nothing to download."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.data._images import Images, content_sha256, images
from experiments.errors import DataError

SHA256 = "a1a1e392012b77eab2131d3807787108be9819d256c372be0dd5c5ec453773ac"
CLASSES = tuple("0123456789")
TEST_IMAGES = 500
SPLIT_SEED = 0


def load(root: Path, download: bool = False) -> Images:
    """Load the 1,797 digits of 8x8 pixels, split into 1,297 train and 500 test images.

    The original intensities are the integers 0 to 16. They become ``round(255 * v / 16)``, which
    maps 16 to 255 and keeps all seventeen levels apart. The split is the same on every machine,
    and it is drawn at random, so a writer's digits are on both sides: the test accuracy is that
    of a known writer.

    Parameters
    ----------
    root, download : Path, bool
        Not used: scikit-learn carries the images.

    Returns
    -------
    Images
        Arrays of shapes [1297, 8, 8, 1] and [500, 8, 8, 1].

    Raises
    ------
    DataError
        If the installed scikit-learn carries other digits than the pinned ones.
    """
    # Here rather than above: importing scikit-learn takes about a second.
    from sklearn.datasets import load_digits

    raw = load_digits()
    pixels = np.rint(raw.images * (255 / 16)).astype(np.uint8)[..., None]  # [1797, 8, 8, 1]
    labels = raw.target.astype(np.uint8)  # [1797]
    train, test = stratified_split(labels, TEST_IMAGES, SPLIT_SEED)
    content = (pixels[train], labels[train], pixels[test], labels[test])
    found = content_sha256(content)
    if found != SHA256:
        raise DataError(
            f"The digits of the installed scikit-learn have the sha256 {found}, and {SHA256} was "
            "expected: install the version of requirements.lock with `make env`."
        )
    return images(content, CLASSES, found, "scikit-learn")


def stratified_split(
    labels: NDArray[np.uint8], n_test: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split so that every class has its share of the test set, to within one image.

    The images are shuffled, put in the order of their classes, and the test set is every
    ``len(labels) / n_test``-th of them.

    Parameters
    ----------
    labels : ndarray, shape [N]
        The class of each image.
    n_test : int
        The size of the test set, at most N.
    seed : int
        Seed of the shuffle.

    Returns
    -------
    train, test : ndarray of int, shapes [N - n_test] and [n_test]
        Indices into `labels`, ascending: together each index once.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    is_test = np.zeros(len(labels), dtype=bool)
    # Midpoints in integer arithmetic: floor((i + 1/2) * N / n_test), all different as N >= n_test.
    is_test[by_class[(2 * np.arange(n_test) + 1) * len(labels) // (2 * n_test)]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
