"""Every other RAdam that can be installed, update by update against ours with its conventions."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import Optimizer

from experiments.errors import UserError
from experiments.peers.capabilities import goes_on
from experiments.peers.implementations import PEERS, Implementation, Options
from experiments.peers.table import words
from experiments.peers.walks import Make, noise, walk
from radam_core import RAdam
from radam_core.rectification import r
from radam_core.schedules import Schedule

START = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)
SCALES = torch.tensor([1.0, 1e-2, 1e-4, 10.0], dtype=torch.float64)


def skipped_if_absent(one: Implementation) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not one.installed, reason=f"{one.package} is not installed")


def pairs() -> Iterator[Any]:
    """Each peer with each of its settings that ours has an equal of."""
    for one in PEERS:
        for theirs, ours in one.same:
            name = f"{one.name}({words(theirs)})"
            yield pytest.param(one, theirs, ours, id=name, marks=skipped_if_absent(one))


def assert_same(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    """Equal up to the roundings of some operations an update, of numbers as large as the path's."""
    size = max(1.0, ours.abs().max().item())
    tolerance = 8 * len(ours) * torch.finfo(dtype).eps * size
    assert (ours - theirs).abs().max().item() < tolerance


@pytest.mark.parametrize(("peer", "theirs", "ours"), list(pairs()))
@given(
    lr=st.floats(1e-4, 0.1),
    beta1=st.sampled_from([0.0, 0.5, 0.9]),
    beta2=st.sampled_from([0.9, 0.99, 0.999]),
    eps=st.sampled_from([1e-8, 1e-3]),
    weight_decay=st.sampled_from([0.0, 1e-3]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=8, deadline=None)
def test_ours_with_its_conventions_is_the_peer(
    peer: Implementation,
    theirs: Options,
    ours: Options,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    seed: int,
) -> None:
    options: dict[str, Any] = {"lr": lr, "betas": (beta1, beta2), "eps": eps}
    if peer.name == "schedule-free":  # with any other beta1 it averages
        options["betas"] = (0.0, beta2)
    elif peer.name != "optax":  # which leaves decay to others
        options["weight_decay"] = weight_decay
    grads = noise(60, 4, seed) * SCALES
    assert_same(
        walk(partial(RAdam, **ours), START, grads, **options),
        walk(partial(peer.make, **theirs), START, grads, **options),
        torch.float32 if peer.single else torch.float64,
    )


def test_each_peer_has_an_equal_or_a_test_of_its_own() -> None:
    assert [one.name for one in PEERS if not one.same] == ["pytorch-warmup"]


@pytest.mark.parametrize("name", ["torch", "torch-optimizer", "timm"])
def test_a_training_of_theirs_goes_on_with_ours(name: str) -> None:
    (peer,) = (one for one in PEERS if one.name == name)
    if not peer.installed:
        pytest.skip(f"{peer.package} is not installed")
    assert goes_on(peer.make, partial(RAdam, **peer.same[0][1]), peer.betas)


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999])
def test_pytorch_warmup_is_adam_with_our_r_four_updates_ahead(beta2: float) -> None:
    (peer,) = (one for one in PEERS if one.name == "pytorch-warmup")
    if not peer.installed:
        pytest.skip("pytorch-warmup is not installed")

    class Scheduled(torch.optim.Adam):
        def __init__(self, params: Any, **options: Any) -> None:
            super().__init__(params, **options)
            self.schedule = Schedule(self, lambda t: r(t + 4, beta2))

        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            self.schedule.step()
            return loss

    grads, options = noise(60, 4) * SCALES, {"lr": 0.01, "betas": (0.9, beta2)}
    theirs = walk(peer.make, START, grads, **options)
    assert_same(walk(Scheduled, START, grads, **options), theirs, torch.float64)
    assert not torch.allclose(theirs, walk(RAdam, START, grads, **options), rtol=1e-3)


@pytest.mark.parametrize("peer", [pytest.param(p, marks=skipped_if_absent(p)) for p in PEERS])
def test_no_peer_is_ours_with_other_conventions(peer: Implementation) -> None:
    """So that a comparison which sees nothing would be seen."""
    wrong: list[Options] = [{"rectification": "exact"}, {"early": "skip", "threshold": 5}]
    grads, options = noise(60, 4) * SCALES, {"lr": 0.01, "betas": peer.betas, "eps": 1e-3}
    theirs = walk(peer.make, START, grads, **options)
    same = [
        torch.allclose(walk(partial(RAdam, **one), START, grads, **options), theirs, rtol=1e-3)
        for one in wrong
    ]
    assert same == [False, peer.name == "pytorch-optimizer"]


def test_a_peer_that_is_not_there_is_said_in_a_sentence() -> None:
    absent = Implementation("none", "no-such-radam", "no_such_radam", RAdam)
    assert not absent.installed
    with pytest.raises(UserError, match=r"no-such-radam is not installed; .* '\.\[peers\]'"):
        _ = absent.version


def test_a_walk_is_the_path_before_and_after_every_update() -> None:
    make: Make = torch.optim.SGD
    path = walk(make, torch.zeros(1), torch.ones(3, 1), lr=0.5)
    assert path.flatten().tolist() == [0.0, -0.5, -1.0, -1.5]
    assert isinstance(make([torch.zeros(1)]), Optimizer)
    assert math.isclose(noise(1000, 1).std().item(), 1, rel_tol=0.1)
