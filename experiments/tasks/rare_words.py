"""How many gradients are in the second moment of a word's embedding? Counted, without training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks import Point
from experiments.tasks.language_model import LanguageModel
from radam_core import rectification

FEW = 4.0
"""Algorithm 2 trusts a second moment of more squares than that."""
BINS = 24


class EffectiveSizes:
    """The effective sample size of every word's second moment, after each epoch.

    An embedding has a gradient in the updates whose batch has its word. Of these the second moment
    holds the squares, with weights ``w = beta2**age``: as good as ``sum(w)**2 / sum(w**2)`` equally
    weighted ones (Kish), which for a gradient in every update tends to rho_inf.

    The settings are those of the language model that would be trained, ``beta2``, and for how
    many ``epochs`` to count.
    """

    def __init__(self, run: Run, data_root: Path) -> None:
        self.task = LanguageModel(run, data_root, torch.device("cpu"))
        self.data_sha256 = self.task.data_sha256
        self.beta2: float = run.setting("beta2")
        if not 0 < self.beta2 < 1:
            raise UserError(f"beta2={self.beta2} averages nothing; use one between 0 and 1")
        self.epochs: int = run.setting("epochs")
        if self.epochs < 1:
            raise UserError(f"epochs={self.epochs} counts nothing; use at least 1")
        self.counts = self.task.corpus.counts

    def measure(self) -> tuple[dict[str, float], list[Point]]:
        """The share of words with few gradients, and the median size by how frequent they are.

        The "step" of the curves of sizes is a word's count in the training text, and that of
        "words_with_few" the number of epochs.
        """
        met = self.counts > 0  # the unknown word may be in no sentence
        counts, epochs = (
            self.counts[met],
            [(sizes[met], updates) for sizes, updates in self.sizes()],
        )
        sizes, updates = epochs[0]
        few = sizes <= FEW
        metrics = {
            "updates": float(updates),
            "rho": rectification.rho(updates, self.beta2),
            "r": rectification.r(updates, self.beta2),
            "words_with_few": 100 * float(few.mean()),
            "tokens_with_few": 100 * float(counts[few].sum() / counts.sum()),
        }
        edges = np.geomspace(counts.min(), counts.max() + 1, BINS + 1)
        place = np.digitize(counts, edges)
        bins = [place == number for number in np.unique(place)]
        curves: list[Point] = [
            (float(np.exp(np.log(counts[one]).mean())), split, "size", float(value))
            for one in bins
            for split, value in zip(
                ("lowest", "median", "highest"),
                np.quantile(sizes[one], [0, 0.5, 1]),
                strict=True,
            )
        ]
        curves += [
            (float(epoch), "train", "words_with_few", 100 * float((after <= FEW).mean()))
            for epoch, (after, _) in enumerate(epochs, 1)
        ]
        return metrics, curves

    def sizes(self) -> Iterator[tuple[NDArray[np.float64], int]]:
        """Of every word after each epoch [words], and how many updates it had been till then."""
        total, squares = np.zeros((2, len(self.counts)))
        last = np.zeros(len(self.counts), np.int64)
        update = 0
        for epoch in range(self.epochs):
            for batch in self.task.batches(epoch):
                update += 1
                seen = np.unique(batch[:-1].numpy())
                age = self.beta2 ** (update - last[seen]).astype(float)
                total[seen] = total[seen] * age + 1
                squares[seen] = squares[seen] * age**2 + 1
                last[seen] = update
            # What has aged since then has aged alike: the ratio is the same.
            yield total**2 / np.maximum(squares, 1), update


def build(run: Run, data_root: Path, device: torch.device) -> EffectiveSizes:
    """The measurement of a run; it needs no device."""
    return EffectiveSizes(run, data_root)
