"""The variance of the adaptive learning rate: Eq. 2 and Eq. 5 on a grid, and by simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks import Point
from experiments.tasks._by_update import curve, rectified, thinned
from radam_core import rectification, variance


class Variance:
    """One of four measurements, named by the setting ``quantity``."""

    data_sha256 = None

    def __init__(self, run: Run, device: torch.device) -> None:
        self.settings = dict(run.settings)
        self.seed, self.device = run.seed, device

    def measure(self) -> tuple[dict[str, float], list[Point]]:
        """Metrics and curves."""
        quantity = self.settings["quantity"]
        if quantity not in QUANTITIES:
            known = ", ".join(QUANTITIES)
            raise UserError(f"there is no quantity {quantity!r}; the quantities are: {known}")
        return QUANTITIES[quantity](self)

    def analytic(self) -> tuple[dict[str, float], list[Point]]:
        """Eq. 2 and Eq. 5 at `points` values of rho from `low` to `high`, evenly in log(rho)."""
        rho = np.geomspace(*(self.settings[key] for key in ("low", "high", "points")))
        exact, first_order = variance.exact_variance(rho), variance.first_order_variance(rho)
        shown = slice(None, None, max(1, len(rho) // 200))
        curves = curve(rho[shown], "exact", exact[shown])
        curves += curve(rho[shown], "first-order", first_order[shown])
        steps = np.diff(exact) / exact[:-1]
        metrics = {
            "ratio_at_low": float(first_order[0] / exact[0]),
            "largest_ratio": float(np.max(first_order / exact)),
            "fall": float(exact[0] / exact[-1]),
            "largest_relative_step": float(steps.max()),
            # A share of the range of rho, not of the grid: the grid is denser at its low end.
            "share_within_tenth": float(
                np.sum(np.diff(rho)[(first_order / exact)[:-1] < 1.1]) / (rho[-1] - rho[0])
            ),
        }
        return metrics, curves

    def moving_average(self) -> tuple[dict[str, float], list[Point]]:
        """Eq. 2 and Eq. 5 at rho_t over the variance of psi_t itself, by update."""
        beta2, steps = self.settings["beta2"], self.settings["steps"]
        t = thinned(self.settings["first"], steps, self.settings["points"])
        true = np.array([variance.moving_average_variance(int(one), beta2) for one in t])
        rho = np.array([rectification.rho(int(one), beta2) for one in t])
        # The length that gives the average of squares its true variance.
        matched = rectification.rho_inf(beta2) * (1 - beta2**t) / (1 + beta2**t)
        ratios = {
            "exact": variance.exact_variance(rho) / true,
            "first-order": variance.first_order_variance(rho) / true,
            "matched": variance.exact_variance(matched) / true,
        }
        curves = curve(t, "true", true)
        metrics = {}
        for name, ratio in ratios.items():
            curves += curve(t, name, ratio)
            metrics[f"{name}_largest_ratio"] = float(ratio.max())
            near = (np.abs(ratio - 1) < 0.1)[:-1]
            # A share of the updates, not of the grid: the grid is denser at its low end.
            metrics[f"{name}_share_within_tenth"] = float(np.diff(t)[near].sum() / (t[-1] - t[0]))
        return metrics, curves

    def trajectories(self) -> tuple[dict[str, float], list[Point]]:
        """Fig. 9: the variance over trajectories of psi_t, plain and rectified both ways."""
        beta2, steps = self.settings["beta2"], self.settings["steps"]
        plain = variance.simulate_variance(
            beta2=beta2,
            mu=self.settings["mu"],
            steps=steps,
            trajectories=self.settings["trajectories"],
            seed=self.seed,
            device=self.device,
        )
        t = thinned(self.settings["first"], steps, 160)
        return rectified(t, plain[t - 1], beta2)

    def samples(self) -> tuple[dict[str, float], list[Point]]:
        """The variance of psi = sqrt(rho / chi^2_rho), drawn directly, against Eq. 2 and Eq. 5."""
        rho = self.settings["rho"]
        psi = variance.sample_psi(rho, self.settings["draws"], seed=self.seed, device=self.device)
        simulated = float(psi.double().var())
        exact = float(variance.exact_variance(rho))
        return {"simulated": simulated, "exact": exact, "ratio": simulated / exact}, []


QUANTITIES: dict[str, Callable[[Variance], tuple[dict[str, float], list[Point]]]] = {
    "analytic": Variance.analytic,
    "moving-average": Variance.moving_average,
    "trajectories": Variance.trajectories,
    "samples": Variance.samples,
}


def build(run: Run, data_root: Path, device: torch.device) -> Variance:
    """The measurement of a run; it reads no data."""
    return Variance(run, device)
