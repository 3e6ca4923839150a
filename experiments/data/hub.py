"""The Hugging Face hub, which is asked first whether it can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from experiments.errors import DataError, named


def load(path: str, revision: str | None = None, **arguments: Any) -> Any:
    """`datasets.load_dataset`, which would try for half a minute to reach a hub that it cannot.

    Where the variable HF_HUB_OFFLINE is set nobody is asked, and `datasets` looks into its cache,
    in which nothing is that was streamed.

    Parameters
    ----------
    path, revision
        The repository, and a commit, branch or tag of it.
    **arguments
        What else `load_dataset` takes.

    Raises
    ------
    DataError
        If the package `datasets` is not installed.
    OSError, ValueError
        If the hub cannot be reached, or has no such data set.
    """
    with _packages():
        import datasets
        from huggingface_hub import constants
    if not constants.HF_HUB_OFFLINE:
        commit(path, revision)
    return datasets.load_dataset(path, revision=revision, **arguments)


def commit(path: str, revision: str | None = None) -> str:
    """The commit that a branch or tag of a data set is at.

    Raises
    ------
    DataError
        If the package `huggingface_hub` is not installed, or HF_HUB_OFFLINE is set.
    OSError
        If the hub cannot be reached, or has no such data set.
    """
    with _packages():
        from huggingface_hub import HfApi, constants
    if constants.HF_HUB_OFFLINE:
        raise DataError(
            f"The Hugging Face hub is to be asked for {path}, and the variable HF_HUB_OFFLINE "
            "forbids it: unset it."
        )
    try:
        found = HfApi().dataset_info(path, revision=revision)
    except Exception as error:  # its client's errors have no class in common
        raise ConnectionError(named(error)) from error
    return str(found.sha)


@contextmanager
def _packages() -> Iterator[None]:
    """A sentence for a package that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DataError(
            f"What the Hugging Face hub has needs the package {error.name!r}, which is not "
            "installed: run `make env` and use the Python of its environment."
        ) from error
