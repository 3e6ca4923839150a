"""Language modelling, with the test loss of words by how often they are in the training text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.data.tokens import UNKNOWN
from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks._by_count import by_count
from experiments.tasks.language_model import LanguageModel


class LossByCount(LanguageModel):
    """As `LanguageModel`, whose settings it has; in the test text it also tells words apart.

    The unknown word, which stands for many, is in no class.
    """

    def __init__(self, run: Run, data_root: Path, device: torch.device) -> None:
        super().__init__(run, data_root, device)
        counts = self.corpus.counts.copy()
        counts[self.corpus.words.index(UNKNOWN)] = 0
        test = np.asarray(self.held_out["test"])
        self.places: dict[str, Tensor] = {}
        """Where in the test text [of the class] the words of each class are, the rarest first."""
        for name, words in by_count(counts).items():
            places = np.flatnonzero(np.isin(test, words))
            if not len(places):
                raise UserError(
                    f"the test text has no word that is in the training text {name} times: take "
                    "more of both, or longer texts"
                )
            self.places[name] = torch.from_numpy(places).to(device)

    def summary(self, split: str, losses: Tensor) -> dict[tuple[str, str], float]:
        """As of `LanguageModel`, and of the test text the mean loss of every class, in nats."""
        found = super().summary(split, losses)
        if split == "test":
            for name, places in self.places.items():
                found[name, "loss"] = float(losses[places].mean())
        return found


def build(run: Run, data_root: Path, device: torch.device) -> LossByCount:
    """The task of a run."""
    return LossByCount(run, data_root, device)
