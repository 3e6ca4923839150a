"""What the RAdams compute and can do: every question with its experiment and our own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import pandas as pd

from experiments.peers import capabilities, conventions
from experiments.peers.conventions import Betas
from experiments.peers.implementations import OURS, PEERS, Implementation, Options
from experiments.peers.walks import Make


@dataclass(frozen=True)
class Question:
    """A question that is put to every RAdam.

    Parameters
    ----------
    id
        Its short name.
    text
        What the tables say.
    ask
        Finds the answer out, from a way to make the optimizer and its betas.
    ours
        What radam_core claims: as it comes and, after a semicolon, with its own settings.
    """

    id: str
    text: str
    ask: Callable[[Make, Betas], str]
    ours: str

    def answers(self, one: Implementation) -> Iterator[tuple[str, str]]:
        """Settings and answer: as an implementation comes, then where its own settings matter."""
        if self.id in one.unasked:
            return
        yield "", (as_it_comes := self.ask(one.make, one.betas))
        if options := one.settings.get(self.id):
            answer = self.ask(partial(one.make, **options), one.betas)
            if answer != as_it_comes:
                yield words(options), answer

    def answer(self, one: Implementation) -> str:
        """All answers in one line."""
        return "; ".join(
            f"{answer} with {settings}" if settings else answer
            for settings, answer in self.answers(one)
        )


def words(options: Options) -> str:
    """Options as a call has them."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


COMPUTES = (
    Question(
        "threshold",
        "adaptive when",
        conventions.threshold,
        "ρ passes 4; ρ passes 5 with variant='authors'",
    ),
    Question("early", "updates before", conventions.early, "SGD; none with early='skip'"),
    Question("algorithm", "Algorithm 2", conventions.algorithm, "yes"),
    Question("eps", "ε added to", conventions.eps, "√v; √v̂ with eps_placement='corrected'"),
    Question(
        "decay",
        "weight decay",
        conventions.decay,
        "decoupled; L2 with decoupled_weight_decay=False",
    ),
)
OFFERS = (
    Question("grouped", "many tensors", capabilities.grouped, "in one pass"),
    Question("capturable", "in a CUDA graph", capabilities.capturable, "yes"),
    Question("compile", "under `torch.compile`", capabilities.compiled, "one graph"),
    Question("differentiable", "`differentiable`", capabilities.differentiable, "yes"),
    Question("maximize", "`maximize`", capabilities.maximize, "yes"),
    Question("complex", "complex parameters", capabilities.complex_numbers, "as two real ones"),
    Question(
        "bfloat16",
        "moments of bfloat16 parameters",
        capabilities.sixteen_bits,
        "bfloat16; float32 with state_dtype=torch.float32",
    ),
    Question("sparse", "sparse gradients", capabilities.sparse, "refused"),
    Question("grad", "`p.grad` after an update", capabilities.gradients, "as it was"),
    Question("zeros", "gradients of zero and ε = 0", capabilities.zeros, "rests"),
    Question("late", "t of a parameter that starts late", capabilities.late, "its own"),
    Question("groups", "groups with their own lr, betas", capabilities.groups, "each on its own"),
    Question("state_dict", "state of torch's RAdam", capabilities.state_dict, "both ways"),
    Question("scaler", "skipped by a `GradScaler`", capabilities.scaler, "leaves no trace"),
)
EVERYONE = (OURS, *PEERS)


def answers(questions: Iterable[Question]) -> pd.DataFrame:
    """Every answer of everyone installed: question, implementation, settings, answer."""
    rows = [
        (question.text, one.name, *found)
        for question in questions
        for one in EVERYONE
        if one.installed
        for found in question.answers(one)
    ]
    return pd.DataFrame(rows, columns=["question", "implementation", "settings", "answer"])


def as_they_come(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each implementation, a column for each question; without settings."""
    found = found[found["settings"] == ""]
    table = found.pivot(index="implementation", columns="question", values="answer")
    return table.loc[found["implementation"].unique(), found["question"].unique()]


def by_answer(found: pd.DataFrame) -> pd.DataFrame:
    """For each question our answer, who else gives it, and the answers of the others."""
    rows = []
    for question, all_ in found[found["settings"] == ""].groupby("question", sort=False):
        names = all_.groupby("answer", sort=False)["implementation"].agg(list)
        (ours,) = (answer for answer, who in names.items() if OURS.name in who)
        also = ", ".join(name for name in names.pop(ours) if name != OURS.name)
        others = "<br>".join(f"{answer}: {', '.join(who)}" for answer, who in names.items())
        rows.append([question, ours, also, others])
    return pd.DataFrame(rows, columns=["", OURS.name, "the same", "others"])
