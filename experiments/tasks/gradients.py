"""Figure 9's simulation with gradients that are not normal.

They are drawn from a distribution with heavier tails, or they are those that a network has at its
first weights, batch by batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments import tasks
from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks import Point
from experiments.tasks._by_update import rectified, thinned
from radam_core import variance

FIRST = 5
"""The update from which on Figure 9 is drawn."""
COMPARED = 10
"""The update at which the variance is held against that of normal gradients."""

Draw = Callable[[], Tensor]
"""One gradient of every element in every trajectory, [trajectories, elements], in float64."""


class Gradients:
    """The variance of psi over trajectories of each of some elements, and its mean over these.

    The run's settings: ``of``, a distribution of `DISTRIBUTIONS` or a training task, whose own
    settings stand beside these; ``elements`` and ``trajectories``, how many; ``pool``, of how many
    batches a network's gradients are taken; ``steps`` and ``beta2``.

    The weights rest, so that gradients of different batches are independent draws. An element's
    are divided by the root of their mean square. Elements that have a gradient of zero are counted
    and left out: psi is infinite for as long as there are no others.
    """

    data_sha256: str | None = None

    def __init__(self, run: Run, data_root: Path, device: torch.device) -> None:
        self.settings, self.device = dict(run.settings), device
        self.generator = torch.Generator(device).manual_seed(run.seed)
        self.name = self.settings["of"]
        if self.name not in DISTRIBUTIONS:
            task = tasks.load(replace(run, task=self.name), data_root, device)
            if isinstance(task, tasks.Measurement):
                raise UserError(f"{self.name} trains no network, so there are no gradients of it")
            self.task, self.data_sha256 = task, task.data_sha256

    def measure(self) -> tuple[dict[str, float], list[Point]]:
        """Metrics and curves."""
        if self.name in DISTRIBUTIONS:
            return self._simulated(self._drawn)
        pool, told = standardised(self._pool())
        metrics, curves = self._simulated(lambda: self._picked(pool))
        return told | metrics, curves

    def _drawn(self) -> Tensor:
        shape = self.settings["trajectories"], self.settings["elements"]
        draws = torch.empty(shape, dtype=torch.float64, device=self.device)
        return DISTRIBUTIONS[self.name](draws, self.generator)

    def _picked(self, pool: Tensor) -> Tensor:
        """A trajectory is a sequence of batches, the same for all elements."""
        size = (self.settings["trajectories"],)
        return pool[torch.randint(len(pool), size, generator=self.generator, device=self.device)]

    def _pool(self) -> Tensor:
        """Gradients at the first weights, [pool, elements]."""
        model = self.task.model().to(self.device)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        total = sum(weight.numel() for weight in weights)
        order = torch.randperm(total, generator=self.generator, device=self.device)
        chosen = order[: self.settings["elements"]]
        batches = itertools.chain.from_iterable(map(self.task.batches, itertools.count()))
        rows = []
        for batch in itertools.islice(batches, self.settings["pool"]):
            gradients = torch.autograd.grad(self.task.loss(model, batch), weights)
            rows.append(torch.cat([one.flatten() for one in gradients])[chosen])
        return torch.stack(rows).double()

    def _simulated(self, draw: Draw) -> tuple[dict[str, float], list[Point]]:
        beta2, steps = self.settings["beta2"], self.settings["steps"]
        shown = thinned(FIRST, steps, 160)
        average: Tensor | float = 0.0
        found = {}
        for t in range(1, steps + 1):
            average = beta2 * average + (1 - beta2) * draw().square()
            if t in shown or t == COMPARED:
                psi = (average / (1 - beta2**t)).rsqrt()
                found[t] = psi.var(dim=0).mean().item()
        metrics, curves = rectified(shown, np.array([found[int(t)] for t in shown]), beta2)
        normal = variance.moving_average_variance(COMPARED, beta2)
        return metrics | {"over_normal": found[COMPARED] / normal}, curves


def standardised(pool: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Gradients [pool, elements] with a mean square of one, and how they are distributed.

    Raises
    ------
    UserError
        If every element has a gradient of zero.
    """
    whole = (pool != 0).all(dim=0)
    if not whole.any():
        raise UserError("every element has a gradient of zero somewhere; take more elements")
    kept = pool[:, whole]
    kept = kept / kept.square().mean(dim=0).sqrt()
    return kept, {
        "share_with_zeros": 1 - whole.double().mean().item(),
        "kurtosis": kept.pow(4).mean(dim=0).median().item(),
        "mean_over_root_mean_square": kept.mean(dim=0).abs().median().item(),
    }


def _normal(draws: Tensor, generator: torch.Generator) -> Tensor:
    return draws.normal_(generator=generator)


def _laplace(draws: Tensor, generator: torch.Generator) -> Tensor:
    """Exponential on either side; only its size matters here."""
    return draws.exponential_(generator=generator) / math.sqrt(2)


def _student(draws: Tensor, generator: torch.Generator) -> Tensor:
    """Student's t with 5 degrees of freedom, whose fourth moment is just finite."""
    squares = torch.zeros_like(draws)
    for _ in range(5):
        squares += draws.normal_(generator=generator).square()
    return draws.normal_(generator=generator) * (3 / squares).sqrt()


def _bursts(draws: Tensor, generator: torch.Generator) -> Tensor:
    """Normal, and ten times as large in a tenth of the draws."""
    often = torch.empty_like(draws).uniform_(generator=generator) >= 0.1
    return draws.normal_(generator=generator) * torch.where(often, 1.0, 10.0) / math.sqrt(10.9)


DISTRIBUTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "normal": _normal,
    "laplace": _laplace,
    "student": _student,
    "bursts": _bursts,
}
"""Each returns draws whose mean square is one, in the shape of a tensor that it may overwrite."""


def build(run: Run, data_root: Path, device: torch.device) -> Gradients:
    """The measurement of a run."""
    return Gradients(run, data_root, device)
