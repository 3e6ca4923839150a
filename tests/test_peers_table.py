"""The table of capabilities: what radam_core claims there, it does; what the peers do is known."""

import re
from functools import partial
from typing import Any

import pandas as pd
import pytest
import torch
from torch.optim import Optimizer

from experiments.peers import capabilities, conventions, table
from experiments.peers._recording import Recording
from experiments.peers.implementations import OURS, PEERS, Implementation
from experiments.peers.table import COMPUTES, EVERYONE, OFFERS, Question, answers
from radam_core import RAdam

QUESTIONS = {question.id: question for question in (*COMPUTES, *OFFERS)}
NAMED = {one.name: one for one in EVERYONE}

# What a peer gets wrong, or cannot do. A row fails when a new version mends it: then change the
# row, and what the book says of it.
DEFECTS = [
    ("torch", "capturable", r"yes, a step off by \d\.\d %"),
    ("torch", "compile", r"one graph, a step off by \d\.\d %"),
    ("torch", "zeros", "NaN"),
    ("torch-optimizer", "grouped", "one by one"),
    ("torch-optimizer", "compile", "a new graph every update"),
    ("torch-optimizer", "complex", "only the real part moves"),
    ("torch-optimizer", "bfloat16", "float32, but bfloat16 after a reload"),
    ("torch-optimizer", "groups", "with each other's steps"),
    ("torch-optimizer", "state_dict", "torch takes it"),
    ("timm", "grouped", "one by one"),
    ("timm", "complex", "only the real part moves"),
    ("pytorch-optimizer", "decay", r".*; does nothing with weight_decouple=False"),
    ("pytorch-optimizer", "capturable", "the option does nothing"),
    ("pytorch-optimizer", "compile", "a new graph every update"),
    ("pytorch-optimizer", "differentiable", "the option does nothing"),
    ("pytorch-optimizer", "grad", "overwritten by `maximize`"),
    ("pytorch-optimizer", "late", "that of the others"),
    ("pytorch-optimizer", "state_dict", "neither way"),
    ("optax", "zeros", "NaN"),
    ("pytorch-warmup", "threshold", "from the start, with r₅"),
    ("pytorch-warmup", "late", "that of the others"),
    ("schedule-free", "complex", "wrong"),
    ("schedule-free", "grad", "overwritten"),
    ("schedule-free", "late", "that of the others"),
    ("schedule-free", "sparse", "fails inside"),
]


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_what_is_claimed_is_so(question: Question) -> None:
    assert question.answer(OURS) == question.ours


@pytest.mark.parametrize(("name", "question", "answer"), DEFECTS)
def test_what_a_peer_gets_wrong(name: str, question: str, answer: str) -> None:
    if not NAMED[name].installed:
        pytest.skip(f"{name} is not installed")
    assert re.fullmatch(answer, QUESTIONS[question].answer(NAMED[name]))


@pytest.mark.parametrize(
    "question", [q for q in QUESTIONS.values() if q.id != "scaler"], ids=lambda q: q.id
)
def test_every_question_can_be_answered_in_another_way(question: Question) -> None:
    peers = [one for one in PEERS if one.installed and question.id not in one.unasked]
    ours = question.ask(OURS.make, OURS.betas)
    assert any(question.ask(one.make, one.betas) != ours for one in peers)


class Forgetful(RAdam):
    """Counts when gradients are cleared, so that an update which is skipped counts, too."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for state in self.state.values():
            state["step"] += 1


class Frozen(RAdam):
    """Takes the number of the update from the host."""

    def step(self, closure: Any = None) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        for state in self.state.values():
            state["step"].fill_(self.calls - 1)
        return super().step(closure)


def test_a_scaler_that_leaves_a_trace_is_found() -> None:
    assert capabilities.scaler(Forgetful, OURS.betas) == "leaves a trace"


def test_a_number_frozen_in_a_graph_is_found() -> None:
    assert capabilities.capturable(Frozen, OURS.betas) == "the option does nothing"


def test_sgd_is_not_taken_for_radam() -> None:
    def sgd(params: Any, betas: Any = None, eps: float = 0.0, **options: Any) -> Optimizer:
        return torch.optim.SGD(params, **options)

    assert conventions.threshold(sgd, OURS.betas) == "other"
    assert conventions.algorithm(sgd, OURS.betas) == "no"
    assert conventions.eps(sgd, OURS.betas) == "other"


def test_a_recording_is_replayed_on_the_memory_of_the_first_time() -> None:
    x, total = torch.ones(2), torch.zeros(2)
    with Recording() as recording:
        total += 2 * x
    x.fill_(10.0)
    recording.replay()
    assert total.tolist() == [22.0, 22.0]
    assert recording.passes(x.shape) == 2
    assert not recording.reads_from_device
    with Recording() as recording:
        x.sum().item()
    assert recording.reads_from_device


def test_settings_belong_to_questions() -> None:
    for one in EVERYONE:
        assert set(one.settings) | one.unasked <= set(QUESTIONS), one.name


def test_the_tables_show_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    like_torch = Implementation("like", "torch", "torch", torch.optim.RAdam)
    gone = Implementation("gone", "no-such-radam", "no_such_radam", RAdam)
    deaf = Implementation("deaf", "torch", "torch", RAdam, unasked=frozenset({"early"}))
    monkeypatch.setattr(table, "EVERYONE", (OURS, like_torch, gone, deaf))
    found = answers([QUESTIONS["threshold"], QUESTIONS["early"]])
    assert found.loc[found["settings"] != "", "answer"].tolist() == ["ρ passes 5", "none"]

    wide = table.as_they_come(found)
    assert list(wide.index) == ["radam_core", "like", "deaf"]
    assert list(wide.columns) == ["adaptive when", "updates before"]
    assert wide.loc["like"].tolist() == ["ρ passes 5", "SGD"]
    assert pd.isna(wide.loc["deaf", "updates before"])

    assert table.by_answer(found).to_numpy().tolist() == [
        ["adaptive when", "ρ passes 4", "deaf", "ρ passes 5: like"],
        ["updates before", "SGD", "like", ""],
    ]


def test_options_are_written_as_in_a_call() -> None:
    assert table.words({"early": "skip", "threshold": 4}) == "early='skip', threshold=4"
    make = partial(RAdam, early="skip")
    assert conventions.early(make, OURS.betas) == "none"
