"""What tasks share: the seed of a stream of batches, and what one of several processes takes."""

from __future__ import annotations

from torch import Tensor

from experiments.errors import UserError
from experiments.spec import Run


def stream(run: Run, number: int) -> int:
    """The seed of a run's epoch or pass; an odd factor keeps those of neighbours apart.

    By its setting ``data_seed_offset``, 0 if not given, a run has the batches of another seed: of
    the one that is so much higher. Its initial weights stay those of its own.
    """
    seed: int = run.seed + dict(run.settings).get("data_seed_offset", 0)
    return seed * 1_000_003 + number


def part(batch: Tensor, rank: int, size: int, dim: int = 0) -> tuple[Tensor, float]:
    """A process's part of a batch, and what its mean weighs in the mean over the processes.

    Raises
    ------
    UserError
        If there are more processes than samples.
    """
    whole = batch.shape[dim]
    if whole < size:
        raise UserError(f"a batch of {whole} cannot be shared by {size} processes; start fewer")
    own = batch.tensor_split(size, dim)[rank]
    return own, own.shape[dim] * size / whole
