"""16-bit parameters with moments in single precision, and rounding at random."""

import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from steps import Array, gradients, joined, walk
from torch import Tensor

from radam_core import RAdam
from radam_core._wide import round_stochastically

WIDE: dict[str, Any] = {"state_dtype": torch.float32}
STOCHASTIC: dict[str, Any] = {**WIDE, "rounding": "stochastic"}
BF16 = torch.bfloat16
narrow = pytest.mark.parametrize("dtype", [BF16, torch.float16])


def neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """The bfloat16 numbers towards and away from zero of single-precision ones."""
    below = x.view(torch.int32).bitwise_and(-(1 << 16))
    return below.view(torch.float32), (below + (1 << 16)).view(torch.float32)


# ---- moments in single precision


@narrow
@pytest.mark.parametrize(
    "implementation",
    [{}, {"fused": True}, {"foreach": True}, {"foreach": False}, {"capturable": True}],
    ids=str,
)
def test_an_update_is_that_of_single_precision_rounded(
    dtype: torch.dtype, implementation: dict[str, Any]
) -> None:
    """From the same parameter: rounding it is all that is lost."""
    torch.manual_seed(0)
    p = torch.randn(50).to(dtype)
    narrow = RAdam([p], lr=0.01, weight_decay=0.1, **WIDE, **implementation)
    twin = p.float()
    wide = RAdam([twin], lr=0.01, weight_decay=0.1, **implementation)
    for _ in range(12):
        twin.copy_(p)
        p.grad = torch.randn(50).to(dtype) * 1e-3  # whose squares vanish in float16
        twin.grad = p.grad.float()
        for optimizer in (narrow, wide):
            optimizer.step()
        assert torch.equal(p, twin.to(dtype))
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(narrow.state[p][name], wide.state[twin][name])


def test_moments_of_16_bits_would_lose_the_second() -> None:
    """What `state_dtype` is for: 0.999 is 1 in bfloat16."""
    ends = {}
    for name, options in (("narrow", {}), ("wide", WIDE)):
        p = torch.ones(1, dtype=BF16)
        optimizer = RAdam([p], lr=0.0, **options)
        for t in range(1000):
            p.grad = torch.full_like(p, 1.0 if t == 0 else 0.0)
            optimizer.step()
        ends[name] = optimizer.state[p]["exp_avg_sq"].item()
    assert ends["wide"] == pytest.approx(0.001 * 0.999**999, rel=1e-4)
    assert ends["narrow"] == pytest.approx(0.001, rel=0.01)


def test_only_parameters_of_16_bits_have_wider_moments() -> None:
    params = [
        torch.ones(2, dtype=dtype)
        for dtype in (BF16, torch.float16, torch.float32, torch.float64, torch.complex64)
    ]
    optimizer = RAdam(params, lr=0.1, **WIDE)
    for _ in range(6):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    dtypes = [optimizer.state[p]["exp_avg"].dtype for p in params]
    assert dtypes == [torch.float32] * 3 + [torch.float64, torch.complex64]
    ends = [p.real.double().mean().item() for p in params]
    np.testing.assert_allclose(ends, ends[3], rtol=0.01)


@narrow
@pytest.mark.parametrize("state_dtype", [None, torch.float32])
def test_resuming_loses_nothing(dtype: torch.dtype, state_dtype: torch.dtype | None) -> None:
    """Also when the new optimizer is made without the option: the state has it."""
    torch.manual_seed(0)
    grads = torch.randn(20, 30).to(dtype)

    def run(p: Tensor, optimizer: RAdam, first: int, last: int) -> None:
        for grad in grads[first:last]:
            p.grad = grad
            optimizer.step()

    p = torch.ones(30, dtype=dtype)
    whole = RAdam([p], lr=0.01, **WIDE)
    run(p, whole, 0, 10)
    file = io.BytesIO()
    torch.save((p, whole.state_dict()), file)
    file.seek(0)
    q, state = torch.load(file, weights_only=True)
    resumed = RAdam([q], state_dtype=state_dtype)
    resumed.load_state_dict(state)
    for name in ("exp_avg", "exp_avg_sq"):
        assert resumed.state[q][name].dtype == torch.float32
        assert torch.equal(resumed.state[q][name], whole.state[p][name])
        assert resumed.state[q][name] is not state["state"][0][name]
    run(q, resumed, 10, 20)
    run(p, whole, 10, 20)
    assert torch.equal(p, q)


def test_the_wide_copies_are_those_of_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step allocates besides the state does not grow with the number of parameters."""
    monkeypatch.setattr("radam_core._wide.AT_ONCE", 12_000)  # two of them
    sizes = {}
    for count in (2, 20):
        params = [torch.ones(5000, dtype=BF16) for _ in range(count)]
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer = RAdam(params, **STOCHASTIC)
        optimizer.step()
        with torch.profiler.profile(profile_memory=True) as profile:
            optimizer.step()
        held, highest = 0, 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                highest = max(highest, held)
        sizes[count] = highest
    assert 4 * 4 * 5000 <= sizes[2] <= 20 * 4 * 5000
    assert sizes[20] <= sizes[2] + 4096


# ---- rounding at random


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value", [1.0 + 2**-9, -3.1415926, 1e-39, 123456.789, 2.0**-126 * 1.3])
def test_rounding_is_to_the_neighbours_and_right_on_average(value: float) -> None:
    n = 200_000
    x = torch.full((n,), value)
    rounded = round_stochastically(x, chance(1))
    assert torch.equal(rounded.to(BF16).float(), rounded)
    below, above = neighbours(x)
    up = rounded == above
    assert torch.all(up | (rounded == below))
    # A sum of n coins of probability q, within six of its standard deviations.
    q = ((x[0].double() - below[0]) / (above[0].double() - below[0])).item()
    assert abs(up.double().mean().item() - q) < 6 * math.sqrt(q * (1 - q) / n)
    assert 0 < q < 1


def test_rounding_leaves_what_bfloat16_holds() -> None:
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 2.0**127, 1e-45])]).to(BF16).float()
    assert torch.equal(round_stochastically(x, chance(3)).view(torch.int32), x.view(torch.int32))


def test_infinities_and_nan_pass() -> None:
    odd = torch.tensor([math.inf, -math.inf, math.nan, -math.nan]).repeat(100)
    # The NaN with the fewest bits set, which a carry would turn into an infinity.
    odd[2] = torch.tensor(0x7F800001, dtype=torch.int32).view(torch.float32)
    rounded = round_stochastically(odd, chance(0)).to(BF16).float()
    torch.testing.assert_close(rounded, odd, equal_nan=True, rtol=0, atol=0)


def test_each_element_parameter_and_update_draws_its_own() -> None:
    x = torch.full((4, 500), 1 + 2**-8)
    rows = round_stochastically(x, chance(0))
    for other in (rows[1], round_stochastically(x[0], chance(1))):
        assert 150 < (rows[0] == other).sum() < 350
    params = [torch.ones(500, dtype=BF16) for _ in range(4)]
    optimizer = RAdam([{"params": params[:2]}, {"params": params[2:]}], lr=2**-8, **STOCHASTIC)
    steps = []
    for _ in range(2):  # momentum SGD: every step is half the way to the next number
        for p in params:
            p.fill_(1.0)
            p.grad = -torch.ones_like(p)
        optimizer.step()
        steps += [p > 1 for p in params]
    for i, step in enumerate(steps):
        assert 150 < step.sum() < 350
        assert all(150 < (step == other).sum() < 350 for other in steps[:i])


def test_the_rounding_of_a_layout_is_the_same_by_element() -> None:
    x = torch.randn(2, 3, 4, 5)
    other = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(round_stochastically(x, chance(5)), round_stochastically(other, chance(5)))


def test_updates_too_small_for_bfloat16_count_on_average() -> None:
    """A thousand steps of a thousandth of the distance to the next number."""
    ends = {}
    for name, options in (("nearest", WIDE), ("stochastic", STOCHASTIC)):
        p = torch.ones(4000, dtype=BF16)
        optimizer = RAdam(
            [p], lr=2**-7 / 1000, betas=(0.0, 0.999), variant="torch", threshold=1900, **options
        )
        for _ in range(1000):  # of momentum SGD, as the threshold is far
            p.grad = -torch.ones_like(p)
            optimizer.step()
        ends[name] = p.double()
    assert torch.all(ends["nearest"] == 1)
    # Each element has taken about one step of 2**-7: Poisson, in the mean of 4000 of them.
    assert abs(ends["stochastic"].mean().item() - 1 - 2**-7) < 6 * 2**-7 / math.sqrt(4000)


def test_in_float16_rounding_is_to_nearest() -> None:
    grads = gradients(8) + 0.5
    np.testing.assert_array_equal(
        walk(grads, dtype=torch.float16, **STOCHASTIC), walk(grads, dtype=torch.float16, **WIDE)
    )


def test_random_bits_depend_on_the_update_alone() -> None:
    """Not on torch's generators, which they leave alone, nor on where a training was resumed."""

    def run(seed: int, interrupted: bool) -> Array:
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        params = [torch.linspace(-1, 1, 30).to(BF16), torch.ones(3, dtype=BF16)]
        optimizer = RAdam(params, lr=1e-3, **STOCHASTIC)
        for t in range(12):
            if interrupted and t == 6:
                params, optimizer = copy.deepcopy((params, optimizer))
                state = optimizer.state_dict()
                optimizer = RAdam(params)
                optimizer.load_state_dict(state)
            for p in params:
                p.grad = torch.full_like(p, math.cos(t))
            optimizer.step()
        assert torch.equal(torch.get_rng_state(), before)
        return joined(params)

    first = run(0, False)
    np.testing.assert_array_equal(run(1, False), first)
    np.testing.assert_array_equal(run(2, True), first)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rounding": "stochastic"}, "needs state_dtype"),
        ({**STOCHASTIC, "capturable": True}, "exclude each other"),
        ({**WIDE, "differentiable": True}, "exclude each other"),
        ({"state_dtype": torch.float64}, "state_dtype=torch.float64 is unknown"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RAdam([torch.ones(2, dtype=BF16)], **options)
