"""The table of what the RAdams compute and can do: question, experiment, and our own answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from experiments.peers import capabilities, conventions
from experiments.peers.implementations import OURS, PEERS, Implementation


@dataclass(frozen=True)
class Row:
    """A question to every RAdam.

    Parameters
    ----------
    id
        Its short name.
    text
        What the table says.
    ask
        Finds the answer out.
    ours
        What radam_core claims.
    """

    id: str
    text: str
    ask: Callable[..., str]
    ours: str

    def answer(self, one: Implementation) -> str:
        """What an implementation does: as it comes, then with its own settings."""
        if self.id in one.unasked:
            return "-"
        answer = self.ask(one.make, one.betas)
        if self.id in one.settings:
            settings = one.settings[self.id]
            other = self.ask(partial(one.make, **settings), one.betas)
            if other != answer:
                words = ", ".join(f"{key}={value!r}" for key, value in settings.items())
                return f"{answer}; {other} with `{words}`"
        return answer


COMPUTES = (
    Row("threshold", "adaptive when", conventions.threshold, "ρ > 4"),
    Row("early", "updates before", conventions.early, "SGD"),
    Row("algorithm", "Algorithm 2", conventions.algorithm, "yes"),
    Row("eps", "ε added to", conventions.eps, "√v"),
    Row("decay", "weight decay", conventions.decay, "decoupled"),
)
OFFERS = (
    Row("grouped", "many tensors", capabilities.grouped, "in one pass"),
    Row("capturable", "`capturable`", capabilities.capturable, "yes"),
    Row("compile", "`torch.compile`", capabilities.compiled, "one graph"),
    Row("differentiable", "`differentiable`", capabilities.differentiable, "yes"),
    Row("complex", "complex parameters", capabilities.complex_numbers, "as two real ones"),
    Row("maximize", "`maximize`", capabilities.maximize, "yes"),
    Row("grad", "`p.grad` afterwards", capabilities.gradients, "as it was"),
    Row("bfloat16", "moments of bfloat16 parameters", capabilities.sixteen_bits, "bfloat16"),
    Row("sparse", "sparse gradients", capabilities.sparse, "refused"),
    Row("late", "t of a late parameter", capabilities.late, "its own"),
    Row("groups", "lr and betas by group", capabilities.groups, "yes"),
    Row("state_dict", "state dict with torch's", capabilities.state_dict, "both ways"),
    Row("zeros", "zero gradients, ε = 0", capabilities.zeros, "stays"),
    Row("scaler", "skipped by a `GradScaler`", capabilities.scaler, "leaves no trace"),
)
ROWS = COMPUTES + OFFERS
EVERYONE = (OURS, *PEERS)


def table(rows: tuple[Row, ...] = ROWS) -> pd.DataFrame:
    """Every answer, by row and implementation."""
    columns = {one.name: [row.answer(one) for row in rows] for one in EVERYONE if one.installed}
    return pd.DataFrame(columns, index=[row.text for row in rows])
