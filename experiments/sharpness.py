"""Sharpness along the first updates of a small training: curvature, plain and as Adam feels it.

An illustration for one chapter: full batches of scikit-learn's digits and a small network, so that
nothing is left to chance but the initial weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments import data
from radam_core.rectification import r

IMAGES = 500
HIDDEN = 32
Make = Callable[[Sequence[nn.Parameter]], tuple[Optimizer, LRScheduler | None]]


def sharpness(loss: Tensor, parameters: Sequence[Tensor], weights: Tensor) -> float:
    """Return the largest eigenvalue of ``W^(1/2) H W^(1/2)``, H the Hessian of a loss.

    By Lanczos' method on products of the Hessian with a vector, to about one percent.

    Parameters
    ----------
    loss
        A scalar, with its graph.
    parameters
        What to differentiate by: n numbers in all.
    weights
        The diagonal of W, shape [n]: ones for the sharpness itself, the inverse of Adam's
        denominator for the preconditioned one.
    """
    sizes = [one.numel() for one in parameters]
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    slope = torch.cat([one.flatten() for one in slopes])
    root = weights.sqrt()

    def times(vector: np.ndarray) -> np.ndarray:
        along = torch.from_numpy(vector.ravel()).to(slope) * root
        parts = torch.autograd.grad(slope, parameters, grad_outputs=along, retain_graph=True)
        return (torch.cat([one.flatten() for one in parts]) * root).numpy()

    n = sum(sizes)
    hessian = LinearOperator((n, n), matvec=times, dtype=np.float32)
    first = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    (largest,) = eigsh(hessian, 1, which="LA", tol=1e-2, v0=first, return_eigenvectors=False)
    return float(largest)


def threshold(beta1: float) -> float:
    """Rate times preconditioned sharpness above which full-batch Adam is unstable on a quadratic.

    For a frozen preconditioner: Cohen et al. 2022, "Adaptive gradient methods at the edge of
    stability", section 2; 38 at beta1 = 0.9.
    """
    return (2 + 2 * beta1) / (1 - beta1)


def along(make: Make, at: Collection[int], rectified: bool = False, seed: int = 0) -> pd.DataFrame:
    """Train for ``max(at)`` updates, and measure before each of the updates `at`, from 1.

    Parameters
    ----------
    make
        Parameters -> an optimizer of Adam's kind, and the schedule of its rate if it has one.
    at
        The updates; each row of the table has the preconditioner and the rate of that update.
    rectified
        Whether the optimizer scales its rate by r_t, as RAdam does. Before it is rectified its
        rate on Adam's step is 0.
    seed
        Of the initial weights.

    Returns
    -------
    pandas.DataFrame
        Columns ``update``, ``loss`` (nats), ``rate``, ``sharpness``, ``preconditioned``.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()),
        nn.Linear(HIDDEN, 10),
    )
    images, labels = _digits()
    parameters = list(model.parameters())
    optimizer, schedule = make(parameters)
    rows = []
    for t in range(1, max(at) + 1):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        if t in at:
            beta1, beta2 = optimizer.param_groups[0]["betas"]
            rate = optimizer.param_groups[0]["lr"] * (r(t, beta2) if rectified else 1.0)
            weights = (1 / _denominator(optimizer, parameters, t)) / (1 - beta1**t)
            fresh = nn.functional.cross_entropy(model(images), labels)
            plain = sharpness(fresh, parameters, torch.ones_like(weights))
            felt = sharpness(fresh, parameters, weights)
            rows.append((t, loss.item(), rate, plain, felt))
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return pd.DataFrame(rows, columns=["update", "loss", "rate", "sharpness", "preconditioned"])


def _denominator(optimizer: Optimizer, parameters: Sequence[nn.Parameter], t: int) -> Tensor:
    """Adam's denominator of update t, whose gradient is there and whose step is not yet taken."""
    group = optimizer.param_groups[0]
    beta2, parts = group["betas"][1], []
    for one in parameters:
        assert one.grad is not None
        before = optimizer.state[one].get("exp_avg_sq", torch.zeros_like(one))
        second = beta2 * before + (1 - beta2) * one.grad.square()
        parts.append((second / (1 - beta2**t)).sqrt().flatten() + group["eps"])
    return torch.cat(parts)


def _digits() -> tuple[Tensor, Tensor]:
    """Images [n, 64] between 0 and 1, and labels [n]."""
    found = data.load("digits", Path())
    images = torch.from_numpy(found.train_images[:IMAGES]).flatten(1) / 255
    return images, torch.from_numpy(found.train_labels[:IMAGES]).long()
