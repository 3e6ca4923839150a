"""Schedules: closed forms, agreement with PyTorch's own, and life inside a training loop."""

import dataclasses
import gc
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD, lr_scheduler

from radam_core import RAdam, schedules
from radam_core.factors import (
    CosineDecay,
    Delayed,
    Factor,
    LinearDecay,
    LinearWarmup,
    RectifiedWarmup,
    StepDecay,
    UntunedExponentialWarmup,
    UntunedLinearWarmup,
)
from radam_core.rectification import r
from radam_core.schedules import Schedule

FACTORS: list[Factor] = [
    LinearWarmup(7),
    UntunedLinearWarmup(0.9),
    UntunedExponentialWarmup(0.9),
    RectifiedWarmup(0.9),
    RectifiedWarmup(0.9, method="exact"),
    StepDecay((3, 5), gamma=0.5),
    LinearDecay(10, end=0.2),
    CosineDecay(10, end=0.2),
    Delayed(LinearDecay(10), delay=4),
]


def sgd(*lrs: float | torch.Tensor) -> SGD:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in lrs]
    return SGD(groups)


def advance(schedule: Any) -> None:
    schedule.optimizer.step()
    schedule.step()


def lrs_of(schedule: Any, updates: int) -> list[list[float]]:
    """Learning rates [updates, groups] that the optimizer would use."""
    lrs = []
    for _ in range(updates):
        lrs.append([float(group["lr"]) for group in schedule.optimizer.param_groups])
        advance(schedule)
    return lrs


@pytest.mark.parametrize(
    ("factor", "t", "expected"),
    [
        (LinearWarmup(4), 1, 0.25),
        (LinearWarmup(4), 4, 1.0),
        (LinearWarmup(4), 5, 1.0),
        (LinearWarmup(1), 1, 1.0),
        (UntunedLinearWarmup(0.999), 1, 0.0005),
        (UntunedLinearWarmup(0.999), 1000, 0.5),
        (UntunedLinearWarmup(0.999), 3000, 1.0),
        (UntunedExponentialWarmup(0.999), 1000, 1 - math.exp(-1)),
        (UntunedExponentialWarmup(0.5), 2, 1 - math.exp(-1)),
        (RectifiedWarmup(0.999), 1, 0.0),
        (RectifiedWarmup(0.999), 4, 0.0),
        (StepDecay((2, 4)), 2, 1.0),
        (StepDecay((2, 4)), 3, 0.1),
        (StepDecay((4, 2), gamma=0.5), 5, 0.25),
        (StepDecay((2, 2), gamma=0.5), 3, 0.25),
        (StepDecay(()), 9, 1.0),
        (LinearDecay(4), 1, 1.0),
        (LinearDecay(4), 4, 0.25),
        (LinearDecay(4), 5, 0.0),
        (LinearDecay(4), 99, 0.0),
        (LinearDecay(4, end=0.5), 3, 0.75),
        (CosineDecay(4), 1, 1.0),
        (CosineDecay(4), 2, (1 + math.sqrt(0.5)) / 2),
        (CosineDecay(4), 3, 0.5),
        (CosineDecay(4), 5, 0.0),
        (CosineDecay(4), 99, 0.0),
        (CosineDecay(4, end=0.5), 3, 0.75),
        (Delayed(LinearDecay(4), 2), 1, 1.0),
        (Delayed(LinearDecay(4), 2), 3, 1.0),
        (Delayed(LinearDecay(4), 2), 4, 0.75),
        (Delayed(LinearDecay(4), 0), 4, 0.25),
    ],
)
def test_closed_form(factor: Factor, t: int, expected: float) -> None:
    assert factor(t) == pytest.approx(expected, rel=1e-12, abs=1e-16)


def test_rectified_warmup_is_the_rectification() -> None:
    for method in ("first-order", "exact"):
        values = [RectifiedWarmup(0.99, method=method)(t) for t in range(1, 300)]
        assert values == [r(t, 0.99, method=method) for t in range(1, 300)]
        assert 0 == values[0] < values[20] < values[-1] < 1


def test_exponential_warmup_keeps_its_digits_where_beta2_is_close_to_1() -> None:
    x = 2.0**-30  # 1 - beta2, exactly
    expected = x - x**2 / 2  # 1 - exp(-x) but for x^3 / 6
    assert UntunedExponentialWarmup(1 - x)(1) == pytest.approx(expected, rel=1e-14, abs=0)


def test_numpy_integers_are_update_numbers_and_fractions_are_not() -> None:
    assert LinearWarmup(4)(np.int64(2)) == 0.5
    with pytest.raises(TypeError):
        LinearWarmup(4)(2.0)


@given(t=st.integers(1, 10**9), steps=st.integers(1, 10**7), beta2=st.floats(0.61, 1 - 1e-12))
@settings(max_examples=100, deadline=None)
def test_warmups_rise_and_decays_fall_within_0_and_1(t: int, steps: int, beta2: float) -> None:
    rising: list[Factor] = [
        LinearWarmup(steps),
        UntunedLinearWarmup(beta2),
        UntunedExponentialWarmup(beta2),
    ]
    falling: list[Factor] = [
        StepDecay((steps,)),
        LinearDecay(steps, end=0.1),
        CosineDecay(steps, end=0.1),
    ]
    for warmup in rising:
        assert 0 < warmup(t) <= warmup(t + 1) <= 1
    for decay in falling:
        assert 0 < decay(t + 1) <= decay(t) <= 1
    assert 0 <= RectifiedWarmup(beta2)(t) <= 1


@pytest.mark.parametrize("factor", FACTORS, ids=repr)
def test_a_factor_is_a_value(factor: Factor) -> None:
    copy = pickle.loads(pickle.dumps(factor))
    assert copy == factor
    assert hash(copy) == hash(factor)
    assert copy(6) == factor(6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(factor, dataclasses.fields(factor)[0].name, 1)
    with pytest.raises(ValueError, match="counted from 1"):
        factor(0)


def test_milestones_may_come_as_a_list() -> None:
    assert StepDecay([3, 5]) == StepDecay((3, 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearWarmup(0), "steps must be an integer of at least 1, not 0"),
        (lambda: LinearWarmup(2.5), "steps must be an integer"),
        (lambda: LinearWarmup(True), "steps must be an integer"),
        (lambda: UntunedLinearWarmup(1.0), "beta2=1.0 is out of range"),
        (lambda: UntunedExponentialWarmup(math.nan), "beta2=nan is out of range"),
        (lambda: RectifiedWarmup(0.6), "never start"),
        (lambda: RectifiedWarmup(0.3, method="exact"), "never start"),
        (lambda: RectifiedWarmup(0.9, method="best"), "unknown"),
        (lambda: StepDecay((3, 0)), "every milestone must be an integer of at least 1, not 0"),
        (lambda: StepDecay((3,), gamma=0.0), "gamma=0.0 is not a decay"),
        (lambda: StepDecay((3,), gamma=10.0), "gamma=10.0 is not a decay"),
        (lambda: LinearDecay(-1), "total must be an integer"),
        (lambda: LinearDecay(9, end=1.5), "end=1.5 is not a final multiplier"),
        (lambda: CosineDecay(0), "total must be an integer"),
        (lambda: CosineDecay(9, end=math.nan), "end=nan is not a final multiplier"),
        (lambda: Delayed(LinearDecay(9), -1), "delay must be an integer of at least 0, not -1"),
    ],
)
def test_bad_values_get_a_sentence(make: Callable[[], Factor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("factor", "of_torch"),
    [
        (StepDecay((3, 8)), lambda opt: lr_scheduler.MultiStepLR(opt, [3, 8], gamma=0.1)),
        (LinearDecay(12), lambda opt: lr_scheduler.LinearLR(opt, 1.0, 0.0, total_iters=12)),
        (LinearDecay(9, 0.3), lambda opt: lr_scheduler.LinearLR(opt, 1.0, 0.3, total_iters=9)),
        (CosineDecay(12), lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=12)),
        # LinearLR climbs with last_epoch = t - 1 from 1/5 and so agrees with a warmup of 5 updates.
        (LinearWarmup(5), lambda opt: lr_scheduler.LinearLR(opt, 1 / 5, 1.0, total_iters=4)),
        (LinearWarmup(5), lambda opt: lr_scheduler.LambdaLR(opt, lambda n: min(1, (n + 1) / 5))),
    ],
)
def test_equals_the_scheduler_of_torch(
    factor: Factor, of_torch: Callable[[SGD], lr_scheduler.LRScheduler]
) -> None:
    ours = lrs_of(Schedule(sgd(0.1, 3.0), factor), 13)
    theirs = lrs_of(of_torch(sgd(0.1, 3.0)), 13)
    # PyTorch multiplies one rate into the next, so it carries rounding where ours does not.
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def test_factors_multiply_and_each_group_keeps_its_base() -> None:
    warmup, decay = LinearWarmup(3), LinearDecay(6)
    lrs = lrs_of(Schedule(sgd(0.1, 2.0), warmup, decay), 6)
    assert lrs == [[base * (warmup(t) * decay(t)) for base in (0.1, 2.0)] for t in range(1, 7)]
    assert lrs_of(Schedule(sgd(0.1)), 3) == [[0.1]] * 3


def test_warmup_then_decay_as_the_translation_recipe_has_it() -> None:
    schedule = Schedule(sgd(1.0), LinearWarmup(4), Delayed(LinearDecay(6), delay=4))
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    np.testing.assert_allclose(np.ravel(lrs_of(schedule, 11)), expected, atol=1e-15)


def test_counts_updates_and_reports_the_rates() -> None:
    schedule = Schedule(sgd(1.0, 2.0), LinearWarmup(4))
    assert schedule.t == 1
    assert schedule.get_last_lr() == [0.25, 0.5]
    advance(schedule)
    assert schedule.t == 2
    assert schedule.get_last_lr() == [0.5, 1.0]


def test_a_tensor_rate_changes_in_place() -> None:
    lr = torch.tensor(0.5)
    optimizer = sgd(lr, 1.0)
    schedule = Schedule(optimizer, LinearWarmup(4))
    seen = [lr.item()]
    for _ in range(4):
        advance(schedule)
        seen.append(lr.item())
    assert seen == [0.125, 0.25, 0.375, 0.5, 0.5]
    assert optimizer.param_groups[0]["lr"] is lr
    last = schedule.get_last_lr()[0]
    assert isinstance(last, torch.Tensor)
    assert last is not lr


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)], ids=["float", "tensor"])
def test_a_group_that_joins_later_is_scaled_too(lr: float | torch.Tensor) -> None:
    schedule = Schedule(sgd(1.0), LinearWarmup(4))
    advance(schedule)
    held = schedule.state_dict()
    schedule.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr})
    schedule.apply()
    assert schedule.t == 2
    assert [float(x) for x in schedule.get_last_lr()] == [0.5, 0.25]
    assert [float(group["lr"]) for group in schedule.optimizer.param_groups] == [0.5, 0.25]
    advance(schedule)
    assert [float(x) for x in schedule.get_last_lr()] == [0.75, 0.375]
    assert held["base_lrs"] == [1.0]  # a state taken earlier does not change


def test_a_group_that_joins_later_needs_no_apply() -> None:
    schedule = Schedule(sgd(1.0), LinearWarmup(4))
    schedule.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.5})
    advance(schedule)
    assert schedule.get_last_lr() == [0.5, 0.25]


@pytest.mark.parametrize("stop", [0, 1, 4, 11])
def test_resume_is_bit_equal(stop: int) -> None:
    factors = (UntunedExponentialWarmup(0.9), CosineDecay(17, end=0.01))
    whole = lrs_of(Schedule(sgd(0.1, 0.7), *factors), 20)

    first = Schedule(sgd(0.1, 0.7), *factors)
    begun = lrs_of(first, stop)
    file = io.BytesIO()
    torch.save((first.state_dict(), first.optimizer.state_dict()), file)
    file.seek(0)
    schedule_state, optimizer_state = torch.load(file, weights_only=True)  # state holds no code

    second = Schedule(sgd(9.0, 9.0), *factors)
    second.load_state_dict(schedule_state)
    second.optimizer.load_state_dict(optimizer_state)
    assert second.get_last_lr() == first.get_last_lr()
    assert begun + lrs_of(second, 20 - stop) == whole


def test_resume_by_last_epoch() -> None:
    optimizer = sgd(0.1)
    whole = lrs_of(Schedule(sgd(0.1), LinearDecay(9)), 9)
    begun = lrs_of(Schedule(optimizer, LinearDecay(9)), 4)
    assert begun + lrs_of(Schedule(optimizer, LinearDecay(9), last_epoch=3), 5) == whole


def test_stepping_in_the_documented_order_gives_no_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    schedule = Schedule(sgd(0.1), LinearWarmup(2))
    for _ in range(3):
        advance(schedule)
    schedule.get_lr()
    assert not recwarn.list


def test_bad_use_gets_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"0\.5 is not a factor"):
        Schedule(sgd(0.1), 0.5)
    with pytest.raises(TypeError, match="not an Optimizer"):
        Schedule(None, LinearWarmup(2))


# Chains with PyTorch's own schedulers


WARMUPS: list[Factor] = [
    LinearWarmup(7),
    UntunedLinearWarmup(0.9),
    UntunedExponentialWarmup(0.9),
    RectifiedWarmup(0.9),
    RectifiedWarmup(0.9, method="exact"),
]
Chain = tuple[Callable[[SGD], lr_scheduler.LRScheduler], Callable[[int], float]]
OF_TORCH: dict[str, Chain] = {  # with the factor in closed form, of n = t - 1
    "cosine": (
        lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=30),
        lambda n: (1 + math.cos(math.pi * n / 30)) / 2,
    ),
    "step": (lambda opt: lr_scheduler.StepLR(opt, 2, gamma=0.5), lambda n: 0.5 ** (n // 2)),
    "linear decay": (
        lambda opt: lr_scheduler.LinearLR(opt, 1.0, 0.1, total_iters=15),
        lambda n: 1 - 0.9 * min(n / 15, 1),
    ),
    "linear warmup": (
        lambda opt: lr_scheduler.LinearLR(opt, 0.01, 1.0, total_iters=10),
        lambda n: 0.01 + 0.99 * min(n / 10, 1),
    ),
    "exponential": (lambda opt: lr_scheduler.ExponentialLR(opt, 0.8), lambda n: 0.8**n),
}


def chained(
    optimizer: SGD, factor: Factor, of_torch: str, first: bool = True
) -> lr_scheduler.ChainedScheduler:
    """A Schedule and a scheduler of torch, made and called in this order or the other one."""
    makers = [lambda opt: Schedule(opt, factor), OF_TORCH[of_torch][0]]
    parts = [make(optimizer) for make in (makers if first else makers[::-1])]
    return lr_scheduler.ChainedScheduler(parts)


@pytest.mark.parametrize("first", [True, False], ids=["ours first", "theirs first"])
@pytest.mark.parametrize("of_torch", OF_TORCH)
@pytest.mark.parametrize("factor", WARMUPS, ids=repr)
def test_a_chain_is_the_product(factor: Factor, of_torch: str, first: bool) -> None:
    """Also where the first factors are 0, as those of the rectified warmup are."""
    lrs = lrs_of(chained(sgd(0.1, 3.0), factor, of_torch, first), 25)
    theirs = OF_TORCH[of_torch][1]
    product = [[b * factor(t) * theirs(t - 1) for b in (0.1, 3.0)] for t in range(1, 26)]
    np.testing.assert_allclose(lrs, product, rtol=1e-12, atol=1e-28)


@pytest.mark.parametrize("factor", [LinearWarmup(7), RectifiedWarmup(0.9)], ids=repr)
def test_a_chain_of_tensor_rates_is_the_product_too(factor: Factor) -> None:
    lr = torch.tensor(0.1)
    optimizer = sgd(lr)
    lrs = lrs_of(chained(optimizer, factor, "cosine"), 25)
    product = [[0.1 * factor(t) * OF_TORCH["cosine"][1](t - 1)] for t in range(1, 26)]
    np.testing.assert_allclose(lrs, product, rtol=1e-5, atol=1e-28)
    assert optimizer.param_groups[0]["lr"] is lr


def test_two_schedules_chain() -> None:
    optimizer = sgd(0.1)
    parts = [Schedule(optimizer, RectifiedWarmup(0.9)), Schedule(optimizer, CosineDecay(30))]
    chain = lr_scheduler.ChainedScheduler(parts)
    whole = lrs_of(Schedule(sgd(0.1), RectifiedWarmup(0.9), CosineDecay(30)), 25)
    np.testing.assert_allclose(lrs_of(chain, 25), whole, rtol=1e-12, atol=1e-28)


def test_one_after_the_other() -> None:
    """SequentialLR has no schedule run before its turn, and each begins where its turn does."""
    optimizer = sgd(0.1, 3.0)
    parts = [
        Schedule(optimizer, RectifiedWarmup(0.9)),
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=30),
        Schedule(optimizer, LinearDecay(10), StepDecay((4,))),
    ]
    lrs = lrs_of(lr_scheduler.SequentialLR(optimizer, parts, milestones=[8, 14]), 22)
    product = [RectifiedWarmup(0.9)(t) for t in range(1, 9)]
    product += [OF_TORCH["cosine"][1](n) for n in range(6)]
    product += [LinearDecay(10)(t) * StepDecay((4,))(t) for t in range(1, 9)]
    np.testing.assert_allclose(
        lrs, [[base * x for base in (0.1, 3.0)] for x in product], rtol=1e-12, atol=1e-28
    )


@pytest.mark.parametrize("factor", [*FACTORS], ids=repr)
def test_a_factor_drives_a_lambda_of_torch(factor: Factor) -> None:
    """It counts from 1 where LambdaLR counts from 0."""
    of_torch = lr_scheduler.LambdaLR(sgd(0.1, 3.0), lambda n: factor(n + 1))
    ours = lrs_of(Schedule(sgd(0.1, 3.0), factor), 15)
    np.testing.assert_allclose(ours, lrs_of(of_torch, 15), rtol=0, atol=1e-28)


def test_a_plateau_lowers_what_the_schedule_sets() -> None:
    schedule = Schedule(sgd(1.0), LinearWarmup(4))
    plateau = lr_scheduler.ReduceLROnPlateau(schedule.optimizer, factor=0.5, patience=0)
    lrs = []
    for loss in (3.0, 2.0, 2.0, 1.0, 1.0, 0.5):
        lrs.append(schedule.optimizer.param_groups[0]["lr"])
        advance(schedule)
        plateau.step(loss)
    np.testing.assert_allclose(lrs, [0.25, 0.5, 0.75, 0.5, 0.5, 0.25])


def test_a_rate_that_is_set_by_hand_is_the_one_to_go_on_from() -> None:
    schedule = Schedule(sgd(1.0, 4.0), LinearWarmup(4))
    advance(schedule)
    schedule.optimizer.param_groups[0]["lr"] = 0.05
    schedule.apply()
    np.testing.assert_allclose(lrs_of(schedule, 4), [[0.05, 2], [0.075, 3], [0.1, 4], [0.1, 4]])


@pytest.mark.parametrize("rate", [float, torch.tensor])
def test_at_rest_no_weight_moves_and_a_rate_set_anew_is_refused(rate: Callable[..., Any]) -> None:
    optimizer = sgd(rate(0.1))
    schedule = Schedule(optimizer, RectifiedWarmup(0.999))
    p = optimizer.param_groups[0]["params"][0]
    p.grad = torch.full_like(p, 1e3)
    for _ in range(4):
        advance(schedule)
        assert torch.equal(p, torch.ones(2))
    advance(schedule)
    assert not torch.equal(p, torch.ones(2))

    optimizer = sgd(rate(0.1))
    schedule = Schedule(optimizer, RectifiedWarmup(0.999))
    anew = lr_scheduler.LambdaLR(optimizer, lambda n: 1 / (n + 1))
    with pytest.raises(RuntimeError, match=r"at 0, and it was set to 0\.05: give"):
        advance(lr_scheduler.ChainedScheduler([anew, schedule]))


@pytest.mark.parametrize("order", ["optimizer last", "optimizer first", "before the schedule"])
@pytest.mark.parametrize("stop", [0, 2, 4, 11])
@pytest.mark.parametrize("of_torch", ["cosine", "linear warmup", None])
def test_a_chain_resumes_bit_equal(of_torch: str | None, stop: int, order: str) -> None:
    """In whatever order the states are loaded, and a lone schedule, too."""

    def make(optimizer: SGD) -> Any:
        if of_torch is None:
            return Schedule(optimizer, RectifiedWarmup(0.9))
        return chained(optimizer, RectifiedWarmup(0.9), of_torch)

    whole = lrs_of(make(sgd(0.1, 0.7)), 20)
    first = make(sgd(0.1, 0.7))
    begun = lrs_of(first, stop)
    file = io.BytesIO()
    torch.save((first.state_dict(), first.optimizer.state_dict()), file)
    file.seek(0)
    state, optimizer_state = torch.load(file, weights_only=True)

    optimizer = sgd(9.0, 9.0)
    if order == "before the schedule":
        optimizer.load_state_dict(optimizer_state)
    second = make(optimizer)
    if order == "optimizer first":
        optimizer.load_state_dict(optimizer_state)
    second.load_state_dict(state)
    if order == "optimizer last":
        optimizer.load_state_dict(optimizer_state)
    assert begun + lrs_of(second, 20 - stop) == whole


def test_one_after_the_other_resumes_bit_equal() -> None:
    def make(optimizer: SGD) -> lr_scheduler.SequentialLR:
        parts = [Schedule(optimizer, LinearWarmup(6)), Schedule(optimizer, CosineDecay(20))]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=[6])

    whole = lrs_of(make(sgd(0.1)), 15)
    for stop in (3, 6, 9):
        first, second = make(sgd(0.1)), make(sgd(9.0))
        begun = lrs_of(first, stop)
        second.load_state_dict(first.state_dict())
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        assert begun + lrs_of(second, 15 - stop) == whole


def test_a_state_that_is_loaded_into_the_optimizer_leaves_the_rates_to_the_schedule() -> None:
    """Those of a training that ended, say: scaled by the warmup, they would be far too large."""
    other = sgd(0.5)
    optimizer = sgd(0.01)
    schedule = Schedule(optimizer, LinearWarmup(1000))
    optimizer.load_state_dict(other.state_dict())
    assert lrs_of(schedule, 2) == [[0.01 / 1000], [0.01 * 2 / 1000]]
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(sgd(1.0, 1.0).state_dict())

    del schedule
    gc.collect()
    optimizer.load_state_dict(other.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_factor_of_ones_own_is_checked(bad: float) -> None:
    assert lrs_of(Schedule(sgd(0.5), lambda t: 1 / t), 2) == [[0.5], [0.25]]
    with pytest.raises(ValueError, match="finite multiplier of at least 0"):
        Schedule(sgd(0.1), lambda t: bad)


# PyTorch's schedulers among the factors


SETTERS: dict[str, Callable[[SGD], lr_scheduler.LRScheduler]] = {
    "lambda": lambda opt: lr_scheduler.LambdaLR(opt, lambda n: 1 / (n + 1)),
    "cosine with a floor": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 12, eta_min=0.02),
    "restarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=5, eta_min=0.01),
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, max_lr=0.3, total_steps=30),
    "cyclic": lambda opt: lr_scheduler.CyclicLR(opt, 0.01, 0.1, step_size_up=4),
    "sequence": lambda opt: lr_scheduler.SequentialLR(
        opt,
        [lr_scheduler.ConstantLR(opt, 0.5, 100), lr_scheduler.ExponentialLR(opt, 0.9)],
        milestones=[7],
    ),
    "chain": lambda opt: lr_scheduler.ChainedScheduler(
        [lr_scheduler.StepLR(opt, 3, 0.5), lr_scheduler.ExponentialLR(opt, 0.9)]
    ),
}


def momentum_sgd(*lrs: float | torch.Tensor) -> SGD:
    """Cycles change the momentum too."""
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in lrs]
    return SGD(groups, momentum=0.9)


@pytest.mark.parametrize("rate", [float, torch.tensor], ids=["float", "tensor"])
@pytest.mark.parametrize("factor", [LinearWarmup(7), RectifiedWarmup(0.9)], ids=repr)
@pytest.mark.parametrize("kind", SETTERS)
def test_a_scheduler_of_any_kind_can_be_a_factor(
    kind: str, factor: Factor, rate: Callable[[float], float | torch.Tensor]
) -> None:
    alone = lrs_of(SETTERS[kind](momentum_sgd(rate(0.1), rate(3.0))), 20)
    optimizer = momentum_sgd(rate(0.1), rate(3.0))
    schedule = Schedule(optimizer, factor, SETTERS[kind](optimizer))
    expected = [[lr * factor(t) for lr in lrs] for t, lrs in enumerate(alone, start=1)]
    np.testing.assert_allclose(lrs_of(schedule, 20), expected, rtol=1e-6, atol=1e-28)


@pytest.mark.parametrize("stop", [0, 3, 11])
@pytest.mark.parametrize("kind", SETTERS)
def test_with_a_scheduler_among_the_factors_it_resumes_bit_equal(kind: str, stop: int) -> None:
    def make() -> Schedule:
        optimizer = momentum_sgd(0.1, 0.7)
        return Schedule(optimizer, RectifiedWarmup(0.9), SETTERS[kind](optimizer))

    whole = lrs_of(make(), 20)
    first, second = make(), make()
    begun = lrs_of(first, stop)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert begun + lrs_of(second, 20 - stop) == whole


def test_a_scheduler_that_cannot_be_a_factor_gets_a_sentence() -> None:
    optimizer = sgd(0.1)
    with pytest.raises(TypeError, match="step it beside"):
        Schedule(optimizer, lr_scheduler.ReduceLROnPlateau(optimizer))
    with pytest.raises(ValueError, match="StepLR is the scheduler of another optimizer"):
        Schedule(optimizer, lr_scheduler.StepLR(sgd(0.1), 3))
    inner = Schedule(optimizer, lr_scheduler.StepLR(optimizer, 3))
    sequence = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer), inner], milestones=[2]
    )
    with pytest.raises(RuntimeError, match="functions alone"):
        lrs_of(sequence, 5)


def test_the_state_of_another_scheduler_is_refused() -> None:
    optimizer = sgd(0.1)
    step = lr_scheduler.StepLR(optimizer, 3)
    schedule = Schedule(optimizer, LinearWarmup(4), step)
    for other in (step, Schedule(sgd(0.1), LinearWarmup(4))):
        with pytest.raises(ValueError, match="of another kind of scheduler"):
            schedule.load_state_dict(other.state_dict())
    assert schedule.t == 1


# Warmups of an optimizer's own


OF_ITS_OWN: dict[str, tuple[Callable[..., Schedule], Callable[[float], Factor]]] = {
    "rectified": (schedules.RectifiedWarmup, RectifiedWarmup),
    "exact": (
        lambda *args, **options: schedules.RectifiedWarmup(*args, method="exact", **options),
        lambda beta2: RectifiedWarmup(beta2, method="exact"),
    ),
    "linear": (schedules.UntunedLinearWarmup, UntunedLinearWarmup),
    "exponential": (schedules.UntunedExponentialWarmup, UntunedExponentialWarmup),
}


def adam(*betas2: float) -> torch.optim.Adam:
    groups = [
        {"params": [torch.nn.Parameter(torch.ones(2))], "betas": (0.9, beta2)} for beta2 in betas2
    ]
    return torch.optim.Adam(groups, lr=0.1)


@pytest.mark.parametrize("kind", OF_ITS_OWN)
def test_a_warmup_takes_the_decay_rate_of_each_group(kind: str) -> None:
    make, factor = OF_ITS_OWN[kind]
    schedule = make(adam(0.9, 0.99), CosineDecay(30))
    assert isinstance(schedule, lr_scheduler.LRScheduler)
    decay = CosineDecay(30)
    expected = [[0.1 * factor(beta2)(t) * decay(t) for beta2 in (0.9, 0.99)] for t in range(1, 21)]
    assert [schedule.multiplier(9, group) for group in (0, 1)] == [
        pytest.approx(factor(beta2)(9) * decay(9)) for beta2 in (0.9, 0.99)
    ]
    np.testing.assert_allclose(lrs_of(schedule, 20), expected, rtol=1e-12, atol=1e-28)
    given = make(sgd(0.1), beta2=0.9)
    np.testing.assert_allclose(
        lrs_of(given, 9), [[0.1 * factor(0.9)(t)] for t in range(1, 10)], rtol=1e-12, atol=1e-28
    )
    with pytest.raises(ValueError, match="SGD has no betas: give the warmup its beta2"):
        make(sgd(0.1))


def test_a_warmup_of_so_many_updates() -> None:
    assert lrs_of(schedules.LinearWarmup(sgd(1.0), 4, LinearDecay(8)), 3) == lrs_of(
        Schedule(sgd(1.0), LinearWarmup(4), LinearDecay(8)), 3
    )


@pytest.mark.parametrize("kind", OF_ITS_OWN)
def test_a_warmup_resumes_bit_equal(kind: str) -> None:
    make, _ = OF_ITS_OWN[kind]
    whole = lrs_of(make(adam(0.9, 0.99)), 20)
    first, second = make(adam(0.9, 0.99)), make(adam(0.9, 0.99))
    begun = lrs_of(first, 8)
    file = io.BytesIO()
    torch.save((first.state_dict(), first.optimizer.state_dict()), file)
    file.seek(0)
    state, optimizer_state = torch.load(file, weights_only=True)
    second.optimizer.load_state_dict(optimizer_state)
    second.load_state_dict(state)
    assert begun + lrs_of(second, 12) == whole


def test_a_warmup_with_torchs_schedulers_whichever_way_they_are_combined() -> None:
    def cosine(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)

    optimizer = adam(0.9)
    inside = lrs_of(schedules.RectifiedWarmup(optimizer, cosine(optimizer)), 20)
    optimizer = adam(0.9)
    parts = [schedules.RectifiedWarmup(optimizer), cosine(optimizer)]
    chain = lrs_of(lr_scheduler.ChainedScheduler(parts), 20)
    np.testing.assert_allclose(inside, chain, rtol=1e-12, atol=1e-28)

    optimizer = adam(0.9)
    parts = [schedules.RectifiedWarmup(optimizer), cosine(optimizer)]
    sequence = lr_scheduler.SequentialLR(optimizer, parts, milestones=[10])
    expected = [0.1 * RectifiedWarmup(0.9)(t) for t in range(1, 11)]
    expected += [0.1 * CosineDecay(30)(t) for t in range(1, 11)]
    np.testing.assert_allclose(np.ravel(lrs_of(sequence, 20)), expected, rtol=1e-12, atol=1e-28)


@pytest.mark.parametrize("optimizer", [RAdam, torch.optim.RAdam])
def test_rectifying_twice_is_warned_of(optimizer: type[torch.optim.Optimizer]) -> None:
    weights = [torch.zeros(1, requires_grad=True)]
    with pytest.warns(UserWarning, match="RAdam multiplies its steps by r_t already"):
        schedules.RectifiedWarmup(optimizer(weights))
    schedules.RectifiedWarmup(torch.optim.Adam(weights))  # and nothing is said of Adam
