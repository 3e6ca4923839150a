"""The machine: its devices, how they are set for a run, and what a record says of them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from experiments.errors import UserError
from experiments.record import surroundings

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Numbers of glibc's malloc.h."""


def find_device(name: str) -> torch.device:
    """A device that is there.

    Raises
    ------
    UserError
        If torch knows no such device, or this machine has none.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a device that holds no numbers is none
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UserError(
            f"there is no device {name!r} here; use --device cpu"
            + (" or cuda" if torch.cuda.is_available() else "")
        ) from error
    return device


def conditions(device: torch.device) -> dict[str, Any]:
    """What a record says of the machine, the packages and the tree that it was made with."""
    return {**surroundings(), "device": describe(device), "threads": threads(device)}


def describe(device: torch.device) -> str:
    """What kind of device it is: the name of a GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def threads(device: torch.device) -> int | None:
    """How many of the processor's a run has; None on another device."""
    return torch.get_num_threads() if device.type == "cpu" else None


def start_processes_as_usual() -> None:
    """In a process that was spawned, start a loader's workers as in one that was not.

    They would be spawned too, and each would import everything anew, epoch after epoch. What is
    forked holds the pipes by which the death of the process shows: that is noticed when they have
    ended too, within the five seconds in which torch has them look for their parent.
    """
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error says: only that of the GPU has a class of its own.

    Or the one in whose course it was raised, as where the recording of a graph has to be given up.
    """
    if error.__context__ is not None and is_out_of_memory(error.__context__):
        return True
    said = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(one in said for one in words)


@contextmanager
def settings(device: torch.device) -> Iterator[None]:
    """Random numbers of a run's own; on a GPU, float32 without TF32, and the fastest kernels."""
    _keep_memory()
    gpus = [device] if device.type == "cuda" else []
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
    with torch.random.fork_rng(gpus), cudnn, warnings.catch_warnings():
        # A scaler may skip the first step, and torch then takes the schedule's for a mistake.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        yield


@functools.cache
def _keep_memory() -> None:
    """Have this process keep the memory that it frees, where the C library is glibc.

    To get the pages of the activations anew for every batch takes a tenth of the time and more.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 2**30)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
