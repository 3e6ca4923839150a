"""RAdam's conventions, variants and options, and what must not matter to it."""

import copy
import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import IMPLEMENTATIONS, START, give_gradients, gradients, joined, tensors, walk
from torch import Tensor

from radam_core import RAdam
from radam_core.algorithm import VARIANTS, Conventions, plan_update
from radam_core.rectification import r

# ---- what it computes


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
def test_the_torch_variant_is_torch(decoupled: bool, maximize: bool, foreach: bool) -> None:
    grads = gradients(400)
    options: dict[str, Any] = {
        "lr": 0.02,
        "weight_decay": 0.1,
        "decoupled_weight_decay": decoupled,
        "maximize": maximize,
        "foreach": foreach,
    }
    theirs = walk(grads, torch.optim.RAdam, **options)
    ours = walk(grads, variant="torch", **options)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("options", "convention"),
    [
        ({"rectification": "exact"}, {"exact": True}),
        ({"decoupled_weight_decay": False}, {"l2": True}),
        ({"eps_placement": "corrected"}, {"corrected_eps": True}),
    ],
)
def test_each_convention_on_its_own(
    options: dict[str, Any], convention: dict[str, bool], implementation: dict[str, Any]
) -> None:
    grads = gradients(200)
    ours = walk(grads, lr=0.02, weight_decay=0.1, **options, **implementation)
    theirs = oracle.algorithm_2(START, grads, 0.02, 0.9, 0.999, 1e-8, 0.1, **convention)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)
    assert not np.allclose(ours, walk(grads, lr=0.02, weight_decay=0.1), rtol=1e-7)


def test_the_first_adaptive_update() -> None:
    """At beta2 = 0.999: 5 in the paper, 6 in code (rho_5 = 4.996 < 5), 3 by the exact variance."""
    firsts = {}
    for name, conventions in VARIANTS.items():
        plans = [plan_update(t, (0.9, 0.999), 1e-8, conventions).kind for t in range(1, 9)]
        firsts[name] = plans.index("adaptive") + 1
    assert firsts == {"paper": 5, "authors": 6, "authors-shipped": 6, "torch": 6}
    exact = Conventions(rectification="exact")
    assert [plan_update(t, (0.9, 0.999), 0.0, exact).kind for t in (2, 3)] == ["sgd", "adaptive"]


def test_strict_matters_at_equality() -> None:
    # rho_2 = (1 + 3 beta2) / (1 + beta2) = 1.8 exactly is below any threshold, so take the limit:
    # rho(10^6) = rho_inf = 15 at beta2 = 0.875. Never is rho_t > 15, and rho_t >= 15 in the end.
    for strict, kind in ((True, "sgd"), (False, "adaptive")):
        conventions = Conventions(threshold=15, strict=strict)
        assert plan_update(10**6, (0.9, 0.875), 0.0, conventions).kind == kind


def test_skipped_updates_leave_the_weights_alone() -> None:
    options = {"variant": "authors-shipped", "weight_decay": 0.5, "lr": 0.1}
    path = walk(gradients(7), **options)
    np.testing.assert_array_equal(path[:5], np.broadcast_to(START, (5, 4)))
    assert not np.any(path[5] == START)


def test_with_adams_eps_the_adaptive_step_is_r_times_adams() -> None:
    params = tensors()
    adam = torch.optim.Adam(params, lr=0.01)
    for grad in gradients(50):
        give_gradients(params, grad)
        adam.step()
    twins = [p.detach().clone().requires_grad_() for p in params]
    radam = RAdam(twins, lr=0.01, eps_placement="corrected")
    radam.load_state_dict(copy.deepcopy(adam.state_dict()))
    before = joined(params)
    for ps, optimizer in ((params, adam), (twins, radam)):
        give_gradients(ps, START)
        optimizer.step()
    np.testing.assert_allclose(
        joined(twins) - before, r(51, 0.999) * (joined(params) - before), rtol=1e-9
    )


def test_it_minimises() -> None:
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    optimizer = RAdam([x], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        (x * x * torch.tensor([1.0, 5.0])).sum().backward()
        optimizer.step()
    assert float(x.detach().abs().max()) < 1e-3


# ---- what must not matter


@given(
    variant=st.sampled_from(list(VARIANTS)),
    weight_decay=st.sampled_from([0.0, 0.1]),
    decoupled=st.sampled_from([None, True, False]),
    eps=st.sampled_from([0.0, 1e-8]),
    maximize=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    rectification=st.sampled_from([None, "exact"]),
)
@settings(max_examples=30, deadline=None)
def test_foreach_is_the_loop_to_the_bit(dtype: torch.dtype, **options: Any) -> None:
    options["decoupled_weight_decay"] = options.pop("decoupled")
    grads = gradients(30)
    loop = walk(grads, dtype=dtype, foreach=False, **options)
    assert np.isfinite(loop).all()
    np.testing.assert_array_equal(walk(grads, dtype=dtype, foreach=True, **options), loop)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_splitting_groups_changes_nothing(variant: str, foreach: bool) -> None:
    grads = gradients(30)
    params = tensors()
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "foreach": foreach}
    optimizer = RAdam([{"params": [p]} for p in params], variant=variant, **options)
    for grad in grads:
        give_gradients(params, grad)
        optimizer.step()
    np.testing.assert_array_equal(joined(params), walk(grads, variant=variant, **options)[-1])


@pytest.mark.parametrize("foreach", [False, True])
def test_each_group_is_an_optimizer_of_its_own(foreach: bool) -> None:
    own: list[dict[str, Any]] = [
        {"lr": 0.1, "variant": "authors-shipped", "eps": 1e-4},
        {"betas": (0.5, 0.99), "rectification": "exact", "weight_decay": 0.1, "maximize": True},
    ]
    together, apart = tensors(), tensors()
    optimizers: list[torch.optim.Optimizer] = [
        RAdam([p], foreach=foreach, **options) for p, options in zip(apart, own, strict=True)
    ]
    groups = [{"params": [p], **options} for p, options in zip(together, own, strict=True)]
    for params, steppers in ((together, [RAdam(groups, foreach=foreach)]), (apart, optimizers)):
        for grad in gradients(20):
            give_gradients(params, grad)
            for stepper in steppers:
                stepper.step()
    np.testing.assert_array_equal(joined(together), joined(apart))


@pytest.mark.parametrize(
    "implementation",
    [{}, *(one for one in IMPLEMENTATIONS.values() if "fused" not in one)],
    ids=str,
)
@pytest.mark.parametrize("eps_placement", ["raw", "corrected"])
@pytest.mark.parametrize(
    ("dtype", "eps"),
    [(torch.float64, 0.0), (torch.float32, 0.0), (torch.bfloat16, 0.0), (torch.float16, 1e-8)],
)
def test_where_gradients_are_zero_so_are_steps(
    dtype: torch.dtype, eps: float, eps_placement: Any, implementation: dict[str, Any]
) -> None:
    grads = np.zeros((12, 4))
    grads[:, 1] = 1.0
    grads[:, 2] = 1e-200 if dtype == torch.float64 else 1e-30  # its square is zero
    options = {"lr": 0.1, "eps": eps, "eps_placement": eps_placement}
    path = walk(grads, dtype=dtype, **options, **implementation)
    assert np.isfinite(path).all()
    start = joined(tensors(dtype=dtype))
    np.testing.assert_array_equal(path[:, [0, 2, 3]], np.broadcast_to(start[[0, 2, 3]], (12, 3)))
    assert path[-1, 1] < start[1]


def test_a_tensor_learning_rate_is_its_number() -> None:
    grads = gradients(12)
    number = walk(grads, lr=0.25)
    for foreach, shape in itertools.product((False, True), ((), (1,))):
        np.testing.assert_array_equal(
            walk(grads, lr=torch.full(shape, 0.25), foreach=foreach), number
        )


# ---- taking over


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        (torch.optim.RAdam, {}),
        (torch.optim.Adam, {}),
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.AdamW, {}),
        (torch.optim.AdamW, {"foreach": True}),
        (torch.optim.AdamW, {"fused": True}),
    ],
)
def test_it_takes_over_trainings_of_torch(
    theirs: type[torch.optim.Optimizer], own: dict[str, Any]
) -> None:
    params = tensors()
    before = theirs(params, lr=0.02, weight_decay=0.1, **own)
    for grad in gradients(20):
        give_gradients(params, grad)
        before.step()
    ours, twins = RAdam(params), copy.deepcopy(params)
    ours.load_state_dict(copy.deepcopy(before.state_dict()))
    group = ours.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.1)
    assert group["decoupled_weight_decay"] is (theirs is torch.optim.AdamW)
    assert ("variant" not in group, group["threshold"]) == (True, 4)
    assert ours.rectification_state()[0].t == 20
    # What RAdam goes on to do from there is what torch's would.
    twin = torch.optim.RAdam(twins, **{k: group[k] for k in ("lr", "weight_decay")})
    twin.load_state_dict(copy.deepcopy(ours.state_dict()))
    for grad in gradients(20, seed=1):
        for ps, optimizer in ((params, ours), (twins, twin)):
            give_gradients(ps, grad)
            optimizer.step()
    np.testing.assert_allclose(joined(params), joined(twins), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("state_dtype", [None, torch.float32])
def test_it_takes_over_in_another_precision(
    saved: torch.dtype, state_dtype: torch.dtype | None
) -> None:
    """The moments have all the digits that the file and the option allow."""
    params = tensors(dtype=saved)
    before = torch.optim.AdamW(params)
    for grad in gradients(9):
        give_gradients(params, grad)
        before.step()
    ours = [p.detach().bfloat16() for p in params]
    optimizer = RAdam(ours, state_dtype=state_dtype)
    optimizer.load_state_dict(copy.deepcopy(before.state_dict()))
    for p, q in zip(params, ours, strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            expected = before.state[p][name].to(state_dtype or torch.bfloat16)
            assert optimizer.state[q][name].dtype == expected.dtype
            assert torch.equal(optimizer.state[q][name], expected)
    give_gradients(ours, START)
    optimizer.step()


def test_amsgrad_is_not_taken_over() -> None:
    params = tensors()
    adam = torch.optim.Adam(params, amsgrad=True)
    give_gradients(params, START)
    adam.step()
    optimizer = RAdam(params, lr=0.5)
    with pytest.raises(ValueError, match="amsgrad=True, which RAdam has no equivalent of"):
        optimizer.load_state_dict(adam.state_dict())
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9), "momentum_buffer"),
        (torch.optim.NAdam, "exp_avg, exp_avg_sq, mu_product, step"),
        (torch.optim.Adamax, "exp_avg, exp_inf, step"),
    ],
)
def test_the_state_of_another_kind_of_optimizer_is_refused(
    make: Callable[..., torch.optim.Optimizer], holds: str
) -> None:
    params = tensors()
    other = make(params)
    give_gradients(params, START)
    other.step()
    ours = RAdam(params)
    with pytest.raises(ValueError, match=f"holds {holds}: it is of another kind"):
        ours.load_state_dict(other.state_dict())
    assert not ours.state


def test_more_in_a_parameters_state_is_kept() -> None:
    """Other code keeps there what it needs, slow weights for instance."""
    params = tensors()
    before, after = RAdam(params), RAdam(copy.deepcopy(params))
    give_gradients(params, START)
    before.step()
    before.state[params[0]]["slow"] = torch.ones(2)
    after.load_state_dict(before.state_dict())
    (first, *_) = after.param_groups[0]["params"]
    assert torch.equal(after.state[first]["slow"], torch.ones(2))


@pytest.mark.parametrize(
    ("dtype", "eps"), [(torch.float16, 1e-8), (torch.float32, 0.0), (torch.float32, 1e-8)]
)
def test_ways_to_compute_are_not_taken_over(dtype: torch.dtype, eps: float) -> None:
    """A fused AdamW goes on as a RAdam that need not be."""
    p = torch.ones(3, dtype=dtype)
    adam = torch.optim.AdamW([p], fused=True, eps=eps, betas=(0.8, 0.99))
    for optimizer in (adam, RAdam([p], foreach=True)):
        if optimizer is not adam:
            state = adam.state_dict()
            state["param_groups"][0]["betas"] = tuple(map(torch.tensor, (0.8, 0.99)))
            optimizer.load_state_dict(state)
            group = optimizer.param_groups[0]
            assert (group["fused"], group["foreach"]) == (None, True)
            assert group["betas"] == pytest.approx((0.8, 0.99))
        p.grad = torch.ones_like(p)
        optimizer.step()


def test_a_state_that_does_not_say_how_weights_decay_gets_a_warning() -> None:
    """Those of torch's optimizers from before they had the option."""
    params = tensors()
    state = torch.optim.Adam(params, weight_decay=0.1).state_dict()
    del state["param_groups"][0]["decoupled_weight_decay"]
    optimizer = RAdam(params)
    with pytest.warns(UserWarning, match="does not say whether its weight decay is decoupled"):
        optimizer.load_state_dict(state)


def test_a_state_of_impossible_options_is_refused() -> None:
    params = tensors()
    optimizer = RAdam(params)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["eps"] = -1.0
    with pytest.raises(ValueError, match=r"eps=-1\.0 is out of range"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["eps"] == 1e-8


# ---- through training


@pytest.mark.parametrize("options", [{}, {"decoupled_weight_decay": False}, {"early": "skip"}])
def test_the_update_has_its_derivatives(options: dict[str, Any]) -> None:
    grads = torch.tensor(gradients(8)[:, :2] + 0.1)

    def trained(start: Tensor, lr: Tensor, factor: Tensor) -> Tensor:
        p = start.clone()
        optimizer = RAdam([p], lr=lr, weight_decay=0.1, differentiable=True, **options)
        for grad in grads:
            p.grad = grad * factor
            optimizer.step()
        return p

    start = torch.tensor(START[:2], requires_grad=True)
    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    factor = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(trained, (start, lr, factor))


# ---- the interface


def test_the_signature_begins_as_torchs() -> None:
    theirs = inspect.signature(torch.optim.RAdam).parameters
    ours = inspect.signature(RAdam).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind
        if name != "decoupled_weight_decay":  # None: the variant decides
            assert ours[name].default == parameter.default


def test_the_table_of_variants() -> None:
    assert {name: dataclasses.astuple(row) for name, row in VARIANTS.items()} == {
        "paper": (None, True, "sgd", True, "raw", "first-order"),
        "authors": (5, False, "sgd", True, "raw", "first-order"),
        "authors-shipped": (5, False, "skip", True, "raw", "first-order"),
        "torch": (5, True, "sgd", False, "raw", "first-order"),
    }
    for name, row in VARIANTS.items():
        group = RAdam(tensors(), variant=name).param_groups[0]
        expected = dataclasses.replace(row, threshold=row.threshold or 4)
        assert {key: group[key] for key in dataclasses.asdict(row)} == dataclasses.asdict(expected)


def test_a_keyword_precedes_the_variant_and_a_group_the_optimizer() -> None:
    params = tensors()
    optimizer = RAdam([{"params": params[:1]}], variant="authors", early="skip", eps=1e-6)
    optimizer.add_param_group({"params": params[1:], "variant": "torch", "strict": False})
    first, second = optimizer.param_groups
    names = ("threshold", "strict", "early", "decoupled_weight_decay", "eps")
    assert [first[name] for name in names] == [5, False, "skip", True, 1e-6]
    assert [second[name] for name in names] == [5, False, "skip", False, 1e-6]
    assert RAdam(params, rectification="exact").param_groups[0]["threshold"] == 2


@pytest.mark.parametrize("way", [{}, {"foreach": True}, {"foreach": False}, {"capturable": True}])
def test_a_lazily_conjugated_parameter_is_refused_and_such_a_gradient_is_not(
    way: dict[str, Any],
) -> None:
    """The former could be updated only in a copy; autograd gives the latter."""
    value = torch.tensor([1 + 1j, 2.0])
    lazy = value.conj()
    lazy.grad = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match="conjugated"):
        RAdam([lazy], **way).step()

    ends = []
    for grad in (value.conj(), value.conj().resolve_conj()):
        p = value.clone()
        optimizer = RAdam([p], **way)
        for _ in range(8):
            p.grad = grad
            optimizer.step()
        ends.append(p)
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], value)


def test_a_refused_group_is_not_added() -> None:
    first, second = tensors()
    optimizer = RAdam([first])
    with pytest.raises(ValueError, match="lr=-1 is out of range"):
        optimizer.add_param_group({"params": [second], "lr": -1})
    assert len(optimizer.param_groups) == 1


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        *(({"lr": v}, "lr=.* is out of range") for v in (-1e-3, NAN, INF, "fast", None)),
        ({"lr": torch.tensor(-0.5)}, r"lr=-0\.5 is out of range"),
        ({"lr": torch.ones(2)}, "lr has 2 elements"),
        *(({"eps": v}, "eps=.* is out of range") for v in (-1e-8, NAN, INF)),
        *(({"weight_decay": v}, "weight_decay=.* is out of range") for v in (-0.1, NAN, INF)),
        *(({"betas": (v, 0.999)}, r"beta1=.* is outside \[0, 1\)") for v in (-0.1, 1, NAN, "a")),
        *(({"betas": (0.9, v)}, r"beta2=.* is outside \[0, 1\)") for v in (1, -1, NAN, None)),
        ({"betas": (0.9, 0)}, r"beta2=0 is outside \(0, 1\)"),
        *(({"betas": v}, "betas=.* is not a pair") for v in (0.9, (0.9,), (0.9, 0.99, 0.999))),
        ({"betas": (0.9, 0.5)}, "beta2=0.5 gives rho_inf=3 <= threshold 4: .* beta2 > 0.6 or SGD"),
        ({"betas": (0.9, 0.65), "variant": "torch"}, r"never rectify; use beta2 > 0\.667"),
        ({"betas": (0.9, 0.3), "rectification": "exact"}, r"never rectify; use beta2 > 0\.333"),
        ({"variant": "optax"}, "unknown variant 'optax': use one of 'paper', 'authors'"),
        ({"rectification": "second-order"}, "unknown rectification 'second-order'"),
        *(({"threshold": v}, "threshold=.* is out of range") for v in (3, NAN, INF, "5")),
        ({"threshold": 1.9, "rectification": "exact"}, "infinite for rho <= 2"),
        ({"early": "adam"}, "early='adam' is unknown"),
        ({"eps_placement": "inside"}, "eps_placement='inside' is unknown"),
        ({"strict": 2}, "strict=2 is unknown"),
        ({"foreach": "yes"}, "foreach='yes' is unknown"),
        ({"state_dtype": torch.bfloat16}, "state_dtype=torch.bfloat16 is unknown"),
        ({"rounding": "up"}, "rounding='up' is unknown"),
        ({"rounding": "stochastic"}, "needs state_dtype=torch.float32"),
        *(
            ({one: True, other: True}, f"{one}=True and {other}=True exclude each other")
            for one, other in (
                ("fused", "foreach"),
                ("fused", "differentiable"),
                ("foreach", "differentiable"),
                ("capturable", "differentiable"),
                ("capturable", "fused"),
            )
        ),
    ],
)
def test_bad_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RAdam(tensors(), **options)


def test_beta2_just_beyond_its_bound_is_accepted() -> None:
    assert RAdam(tensors(), betas=(0.9, 0.6001)).param_groups[0]["betas"] == (0.9, 0.6001)
    assert RAdam(tensors(), betas=(0.9, 0.34), rectification="exact").param_groups
