"""The optimizers that a spec can name: those that are made here, and what is refused."""

import sys
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments import optimizers, yours
from experiments.artifact import Artifact, find
from experiments.errors import UserError
from experiments.spec import Optim, Run, Schedule, options

LR, DECAY, BETAS = 0.1, 0.01, (0.9, 0.999)
ADAM, SGD = ("adam", 4), ("sgd", 4)


def trajectory(optim: Optim, updates: int = 12) -> list[torch.Tensor]:
    """The weights [5] after every update; the gradients are the same for every optimizer."""
    weights = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
    optimizer = optimizers.build(optim, [weights])
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(updates):
        weights.grad = torch.randn(5, dtype=torch.float64, generator=generator)
        optimizer.step()
        seen.append(weights.detach().clone())
    return seen


def first(*pairs: Any) -> Optim:
    return Optim("radam-first", LR, DECAY, options(betas=BETAS, first=pairs))


def by_hand(kinds: list[str], updates: int = 12) -> list[torch.Tensor]:
    """The same weights, from the formulas of the update that each kind makes."""
    weights = torch.linspace(-1, 1, 5, dtype=torch.float64)
    m, v = torch.zeros_like(weights), torch.zeros_like(weights)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for t in range(1, updates + 1):
        gradient = torch.randn(5, dtype=torch.float64, generator=generator)
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rho_inf = 2 / (1 - 0.999) - 1
        rho = rho_inf - 2 * t * 0.999**t / (1 - 0.999**t)
        r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        kind = kinds[t - 1] if t <= len(kinds) else "radam"
        step = m / (1 - 0.9**t)
        if kind != "sgd":
            step = step / ((v.sqrt() + 1e-8) / (1 - 0.999**t) ** 0.5)
        if kind == "radam":
            step = step * r2**0.5
        weights = (1 - LR * DECAY) * weights - LR * step
        seen.append(weights)
    return seen


@pytest.mark.parametrize(
    ("pairs", "kinds"),
    [
        ((ADAM,), ["adam"] * 4),
        ((SGD, ADAM), ["sgd"] * 4 + ["adam"] * 4),
        ((("sgd", 2), ("adam", 1), ("sgd", 1)), ["sgd", "sgd", "adam", "sgd"]),
    ],
)
def test_the_first_updates_are_the_named_optimizers(pairs: Any, kinds: list[str]) -> None:
    for found, expected in zip(trajectory(first(*pairs)), by_hand(kinds), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pairs", [(), (SGD,)])
def test_with_its_own_first_updates_it_is_radam(pairs: Any) -> None:
    radam = trajectory(Optim("radam", LR, DECAY, options(betas=BETAS)))
    for found, expected in zip(trajectory(first(*pairs)), radam, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_the_first_updates_are_counted_on_after_a_resumption() -> None:
    whole = trajectory(first(ADAM))
    weights = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
    optimizer = optimizers.build(first(ADAM), [weights])
    generator = torch.Generator().manual_seed(0)
    for expected in whole:
        weights.grad = torch.randn(5, dtype=torch.float64, generator=generator)
        optimizer.step()
        assert torch.equal(weights, expected)
        state = optimizer.state_dict()
        optimizer = optimizers.build(first(ADAM), [weights])
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("pairs", [("lion", 4), ("adam", 0), ("adam", -1), ("adam", 1.5)])
def test_first_updates_of_nobody_are_a_sentence(pairs: Any) -> None:
    with pytest.raises(UserError, match=r"radam-first refuses its arguments: first=.*use pairs"):
        trajectory(first(pairs))


# Each number by its own count


def counted_by_hand(gradients: list[list[float]], beta2: float) -> list[list[float]]:
    """The weights after each update, one number after the other, from lists of past updates."""
    weights = [[0.0] * len(gradients[0])]
    limit = 2 / (1 - beta2) - 1
    for t in range(1, len(gradients) + 1):
        row = []
        for i, weight in enumerate(weights[-1]):
            past = [one[i] for one in gradients[:t]]
            m = sum(0.1 * 0.9**age * g for age, g in enumerate(reversed(past)))
            v = sum((1 - beta2) * beta2**age * g * g for age, g in enumerate(reversed(past)))
            w = [beta2**age for age, g in enumerate(reversed(past)) if g]
            n = sum(w) ** 2 / sum(one**2 for one in w) if w else 1.0
            x = (limit - n) / (limit + n)
            rho = limit - 2 * log(x) / log(beta2) * x / (1 - x)
            step = m / (1 - 0.9**t)
            if rho > 4:
                r2 = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
                step *= r2**0.5 * (1 - beta2**t) ** 0.5 / (v**0.5 + 1e-8)
            row.append((1 - LR * DECAY) * weight - LR * step)
        weights.append(row)
    return weights[1:]


@pytest.mark.parametrize("beta2", [0.9, 0.999])
def test_each_number_is_rectified_by_its_own_count(beta2: float) -> None:
    """In every update, in every third, in the seventh alone, in none, and in six and the last.

    With the smaller beta2, the size is below that of four updates again after that last one.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(30, 5, dtype=torch.float64, generator=generator)
    far = (1, 2, 3, 4, 5, 6, 30)
    present = [[True, t % 3 == 0, t == 7, False, t in far] for t in range(1, 31)]
    gradients = drawn * torch.tensor(present)
    weights = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optim = Optim("radam-counted", LR, DECAY, options(betas=(0.9, beta2)))
    optimizer = optimizers.build(optim, [weights])
    by_hand = counted_by_hand(gradients.tolist(), beta2)
    for gradient, expected in zip(gradients, by_hand, strict=True):
        weights.grad = gradient
        optimizer.step()
        assert weights.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-14)
    assert weights[3] == 0


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)], ids=str
)
@pytest.mark.parametrize("beta2", [0.9, 0.999])
def test_with_a_gradient_in_every_update_the_own_count_makes_radams_step(
    dtype: torch.dtype, tolerance: float, beta2: float
) -> None:
    """Of a size, after every update: the gradients are ones, so both moments are."""
    steps = []
    for name in ("radam", "radam-counted"):
        weights = nn.Parameter(torch.zeros(1, dtype=dtype))
        optim = Optim(name, LR, 0.0, options(betas=(0.9, beta2)))
        optimizer, seen = optimizers.build(optim, [weights]), []
        for _ in range(3000):
            weights.data.zero_()
            weights.grad = torch.ones_like(weights)
            optimizer.step()
            seen.append(weights.item())
        steps.append(seen)
    radam, counted = steps
    assert min(radam[5:]) < -LR / 2
    assert counted == pytest.approx(radam, rel=tolerance)


# Optimizers from elsewhere

ELSEWHERE = """
import torch

nothing = 3


class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr, half=False):
        super().__init__(params, {"lr": lr * (0.5 if half else 1)})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data -= group["lr"] * p.grad


class Decaying(Descent):
    def __init__(self, params, lr, weight_decay=7.0):
        super().__init__(params, lr)
        self.decay = weight_decay


class Searching(Descent):
    def step(self, closure):
        closure()
"""

BROKEN_INSIDE = """
import torch


class Slip(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0):
        super().__init__(params, {"lr": lr + [1]})


class Kernel(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0):
        raise RuntimeError("no kernel")
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the reader's own."""
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    (tmp_path / "broken.py").write_text("import os\nos.environ['NOPE']")
    (tmp_path / "broken_inside.py").write_text(BROKEN_INSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)
    return "elsewhere"


def test_an_optimizer_from_elsewhere_gets_its_arguments(elsewhere: str) -> None:
    whole, half = (
        trajectory(Optim(f"{elsewhere}:Descent", LR, options=options(half=half)), updates=1)
        for half in (False, True)
    )
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(whole[0] - start, 2 * (half[0] - start))
    for decay in (0.0, 0.1):
        built = optimizers.build(Optim(f"{elsewhere}:Decaying", LR, decay), [nn.Parameter(start)])
        assert built.decay == decay  # and never a default of its own


def test_a_schedule_multiplies_the_rate_that_an_optimizer_gives_itself(elsewhere: str) -> None:
    optim = Optim(f"{elsewhere}:Descent", LR, options=options(half=True))
    built = optimizers.build(optim, [nn.Parameter(torch.ones(2))])
    warmup = Schedule("LinearWarmup", options(steps=4))
    schedule = optimizers.schedule(Run("digits", optim, (warmup,)), built, updates_per_epoch=1)
    rates = []
    for _ in range(5):
        rates.append(built.param_groups[0]["lr"])
        built.step()
        schedule.step()
    assert rates == pytest.approx([LR / 2 * share for share in (0.25, 0.5, 0.75, 1, 1)])


@pytest.mark.parametrize(
    ("optim", "sentence"),
    [
        (Optim("lion", LR), "no optimizer 'lion'; .* or one from elsewhere as package.module:Cl"),
        (
            Optim("nowhere:Lion", LR),
            r"nowhere:Lion cannot be imported \(.*No module named 'nowhere'",
        ),
        (Optim("elsewhere:Lion", LR), r"elsewhere:Lion cannot be imported \(.*attribute 'Lion'"),
        (Optim("broken:Lion", LR), r"^broken:Lion cannot be imported \(KeyError: 'NOPE'\); g"),
        (Optim("elsewhere:nothing", LR), "is no torch.optim.Optimizer; name a class that is"),
        (Optim("torch.nn:Linear", LR), "is no torch.optim.Optimizer; name a class that is"),
        (Optim("elsewhere:Searching", LR), "needs a closure for every update"),
        (Optim("torch.optim:LBFGS", LR), "needs a closure for every update"),
        (
            Optim("elsewhere:Descent", LR, 0.1),
            "and 0.1 is asked for; .* --optimizer-args '{\"weight",
        ),
        (Optim("elsewhere:Descent", LR, 0, options(b=1)), "refuses its arguments: .*argument 'b'"),
        (Optim("torch.optim:NAdam", LR, 0, options(eps=-1)), "refuses its arguments: Invalid eps"),
        (Optim("broken_inside:Slip", LR), "^broken_inside:Slip cannot be built: TypeError: .*\\+"),
        (Optim("broken_inside:Kernel", LR), "Kernel cannot be built: RuntimeError: no kernel"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(elsewhere: str, optim: Optim, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        optimizers.check(optim)
    notes = "".join(getattr(caught.value, "__notes__", ()))
    author = "cannot be built" in sentence or optim.name == "broken:Lion"
    assert ("broken_inside.py" in notes or "broken.py" in notes) == author  # who sees where
    assert bool(notes) == author


# What the command line asks for


def test_the_two_options_make_an_optimizer_with_radams_rate_and_decay(tiny: Run) -> None:
    some = Artifact("some", "", (), {"smoke": (tiny,)}, yours=lambda name: ())
    assert yours.beside(some, "a.b:C").other == Optim("a.b:C", 0.03, 1e-4)
    text = '{"betas": [0.9, 0.99], "weight_decay": 0, "amsgrad": true}'
    expected = Optim("a.b:C", 0.03, 0.0, options(betas=(0.9, 0.99), amsgrad=True))
    assert yours.beside(some, "a.b:C", text).other == expected


@pytest.mark.parametrize("name", ["radam", "a.b", "a:", ":C", "a:b:C", "a..b:C", "a/b:C", "a:C()"])
def test_a_name_of_another_form_is_a_sentence(name: str) -> None:
    with pytest.raises(UserError, match=r"names no optimizer of yours; use package.module:Class"):
        yours.beside(find("fig6"), name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("betas=0.9", r"cannot be used \(Expecting value.*give one JSON object in quotes"),
        ("[1]", "it is no object"),
        ('{"a": {"b": 1}}', "a is an object itself"),
        ('{"lr": 0.1}', "gives lr, which the learning-rate grid sets; leave it out"),
        ('{"weight_decay": -1}', "weight_decay=-1 is not a finite number >= 0"),
        ('{"weight_decay": "much"}', "--optimizer-args: weight_decay='much' is not a finite numb"),
        ('{"weight_decay": null}', "--optimizer-args: weight_decay=None is not a finite number"),
    ],
)
def test_arguments_that_are_none_are_a_sentence(arguments: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        yours.beside(find("fig6"), "a:C", arguments)
