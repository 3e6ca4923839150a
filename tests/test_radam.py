"""RAdam against transcriptions of every implementation it follows, and against itself."""

import copy
import dataclasses
import inspect
import io
import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from radam_core import RAdam
from radam_core.algorithm import VARIANTS, Conventions, plan_update
from radam_core.rectification import r

START = np.array([0.5, -1.0, 2.0, 0.1])
ORACLES: dict[str, Callable[..., oracle.Array]] = {
    "paper": oracle.algorithm_2,
    "authors": oracle.authors,
    "authors-shipped": lambda *args: oracle.authors(*args, degenerated_to_sgd=False),
    "torch": oracle.torch_radam,
}
IMPLEMENTATIONS: list[dict[str, Any]] = [
    {"foreach": False},
    {"foreach": True},
    {"fused": True},
    {"capturable": True},
    {"differentiable": True},
]


def gradients(updates: int, seed: int = 0) -> oracle.Array:
    """Gradients [updates, 4] over nine decades, so that eps and its place matter."""
    scales = np.array([1.0, 1e-3, 1e-6, 1e-9])
    return np.random.default_rng(seed).normal(size=(updates, 4)) * scales


def tensors(start: oracle.Array = START, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The start in two parameters, of shapes [3] and [1, 1]."""
    values = torch.tensor(start, dtype=dtype)
    return [values[:3].clone().requires_grad_(), values[3:].reshape(1, 1).clone().requires_grad_()]


def give_gradients(params: list[Tensor], grad: oracle.Array) -> None:
    for p, part in zip(params, (grad[:3], grad[3:]), strict=True):
        p.grad = torch.tensor(part).reshape(p.shape).to(p.dtype)


def joined(params: list[Tensor]) -> oracle.Array:
    return torch.cat([p.detach().flatten() for p in params]).double().numpy()


def walk(
    grads: oracle.Array,
    optimizer: type[torch.optim.Optimizer] = RAdam,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> oracle.Array:
    """Where the optimizer is after every update, [updates, 4]."""
    # A differentiable update needs parameters that are no leaves.
    leaves = tensors(dtype=dtype)
    params = [p.clone() for p in leaves] if options.get("differentiable") else leaves
    optimizer_ = optimizer(params, **options)
    path = []
    for grad in grads:
        give_gradients(params, grad)
        optimizer_.step()
        path.append(joined(params))
    return np.array(path)


# ---- what it computes


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
@given(
    lr=st.floats(1e-4, 0.1),
    beta1=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    beta2=st.sampled_from([0.8, 0.9, 0.99, 0.999, 0.9999]),
    eps=st.sampled_from([1e-16, 1e-8, 1e-4]),
    weight_decay=st.sampled_from([0.0, 1e-4, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=5, deadline=None)
def test_every_variant_is_its_transcription(
    variant: str,
    implementation: dict[str, Any],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    seed: int,
) -> None:
    grads = gradients(150, seed)
    options = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
    ours = walk(grads, variant=variant, **options, **implementation)
    theirs = ORACLES[variant](START, grads, lr, beta1, beta2, eps, weight_decay)
    # Where L2 decay swings a weight about zero, roundings grow: to 1e-9 in thousands of trials.
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)


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


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)
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


def test_differentiable_is_the_same_arithmetic() -> None:
    grads = gradients(60)
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1}
    np.testing.assert_allclose(
        walk(grads, differentiable=True, **options), walk(grads, **options), rtol=1e-13, atol=1e-15
    )


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


@pytest.mark.parametrize("foreach", [False, True])
def test_a_late_parameter_counts_its_own_updates(foreach: bool) -> None:
    first, late = tensors()
    optimizer = RAdam([first, late], lr=0.01, foreach=foreach)
    grads = gradients(20)
    for i, grad in enumerate(grads):
        give_gradients([first, late], grad)
        if i < 8:
            late.grad = None
        optimizer.step()
        if i < 8:
            assert late.item() == START[3]
    fresh = walk(np.roll(grads, -8, axis=0)[:12], lr=0.01, foreach=foreach)[-1]
    assert late.item() == fresh[3]
    np.testing.assert_array_equal(joined([first]), walk(grads, lr=0.01, foreach=foreach)[-1][:3])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)
def test_a_complex_number_is_two_real_ones(implementation: dict[str, Any]) -> None:
    pair = torch.tensor(START).view(2, 2)
    z = torch.view_as_complex(pair.clone())
    optimizers = [RAdam([p], lr=0.1, weight_decay=0.1, **implementation) for p in (pair, z)]
    for grad in gradients(20):
        pair.grad = torch.tensor(grad).view(2, 2)
        z.grad = torch.view_as_complex(pair.grad.clone())
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(torch.view_as_real(z), pair)
    assert not np.any(pair.numpy().ravel() == START)
    assert optimizers[1].state[z]["exp_avg"].is_complex()


@pytest.mark.parametrize(
    "implementation", [{}, *(one for one in IMPLEMENTATIONS if "fused" not in one)], ids=str
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


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
def test_gradients_are_left_as_they_are(decoupled: bool, foreach: bool) -> None:
    params = tensors()
    optimizer = RAdam(
        params,
        weight_decay=0.1,
        maximize=True,
        decoupled_weight_decay=decoupled,
        foreach=foreach,
    )
    for _ in range(8):
        give_gradients(params, START)
        optimizer.step()
        assert torch.equal(torch.cat([p.grad.flatten() for p in params]), torch.tensor(START))


def test_a_tensor_learning_rate_is_its_number() -> None:
    grads = gradients(12)
    number = walk(grads, lr=0.25)
    for foreach, shape in itertools.product((False, True), ((), (1,))):
        np.testing.assert_array_equal(
            walk(grads, lr=torch.full(shape, 0.25), foreach=foreach), number
        )


def test_schedulers_steer_it() -> None:
    params = tensors()
    optimizer = RAdam(params, lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.0)
    path = []
    for grad in gradients(9):
        give_gradients(params, grad)
        optimizer.step()
        scheduler.step()
        path.append(joined(params))
    assert not np.any(path[4] == path[5])
    np.testing.assert_array_equal(path[5], path[8])


def test_single_precision_is_double_precision_rounded() -> None:
    grads = gradients(100)
    np.testing.assert_allclose(
        walk(grads, dtype=torch.float32, lr=0.01), walk(grads, lr=0.01), rtol=1e-4, atol=1e-5
    )


# ---- interruption


def copied(optimizer: RAdam, params: list[Tensor]) -> tuple[RAdam, list[Tensor]]:
    twin, twins = copy.deepcopy((optimizer, params))
    return twin, twins


def pickled(optimizer: RAdam, params: list[Tensor]) -> tuple[RAdam, list[Tensor]]:
    twin: tuple[RAdam, list[Tensor]] = pickle.loads(pickle.dumps((optimizer, params)))
    return twin


def saved(optimizer: RAdam, params: list[Tensor]) -> tuple[RAdam, list[Tensor]]:
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "params": params}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    twins = [p.detach().requires_grad_() for p in loaded["params"]]
    twin = RAdam([{"params": twins[:1]}, {"params": twins[1:]}])
    twin.load_state_dict(loaded["optimizer"])
    return twin, twins


@pytest.mark.parametrize("interrupt", [copied, pickled, saved])
@pytest.mark.parametrize("after", [1, 4, 30])
def test_interrupted_is_uninterrupted(interrupt: Any, after: int) -> None:
    params = tensors()
    groups = [{"params": params[:1], "variant": "authors"}, {"params": params[1:], "lr": 0.1}]
    optimizer = RAdam(groups, weight_decay=0.1, rectification="exact", early="skip")
    grads = gradients(60)
    for grad in grads[:after]:
        give_gradients(params, grad)
        optimizer.step()
    twin, twins = interrupt(optimizer, params)
    for grad in grads[after:]:
        for ps, opt in ((params, optimizer), (twins, twin)):
            give_gradients(ps, grad)
            opt.step()
    np.testing.assert_array_equal(joined(twins), joined(params))
    assert str(twin) == str(optimizer)


@pytest.mark.parametrize("theirs", [torch.optim.RAdam, torch.optim.Adam, torch.optim.AdamW])
def test_it_resumes_runs_of_torch(theirs: type[torch.optim.Optimizer]) -> None:
    params = tensors()
    before = theirs(params, lr=0.02, weight_decay=0.1)
    for grad in gradients(20):
        give_gradients(params, grad)
        before.step()
    ours, twins = RAdam(params), copy.deepcopy(params)
    ours.load_state_dict(copy.deepcopy(before.state_dict()))
    group = ours.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.1)
    assert group["decoupled_weight_decay"] is (theirs is torch.optim.AdamW)
    assert (group["variant"], group["threshold"]) == ("paper", 4)
    # What RAdam goes on to do from there is what torch's would.
    twin = torch.optim.RAdam(twins, **{k: group[k] for k in ("lr", "weight_decay")})
    twin.load_state_dict(copy.deepcopy(ours.state_dict()))
    for grad in gradients(20, seed=1):
        for ps, optimizer in ((params, ours), (twins, twin)):
            give_gradients(ps, grad)
            optimizer.step()
    np.testing.assert_allclose(joined(params), joined(twins), rtol=1e-12, atol=1e-13)


def test_a_step_saved_as_a_number_is_taken_over() -> None:
    params = tensors()
    optimizer = RAdam(params)
    give_gradients(params, START)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    for p_state in state["state"].values():
        p_state["step"] = int(p_state["step"])
    optimizer.load_state_dict(state)
    optimizer.step()
    assert [optimizer.state[p]["step"].item() for p in params] == [2.0, 2.0]


def test_the_state_of_another_kind_of_optimizer_is_refused() -> None:
    params = tensors()
    sgd = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    give_gradients(params, START)
    sgd.step()
    ours = RAdam(params)
    with pytest.raises(ValueError, match="lacks 'step' and 'exp_avg' and 'exp_avg_sq'"):
        ours.load_state_dict(sgd.state_dict())
    assert not ours.state


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


def test_a_closure_computes_the_loss_anew() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    optimizer = RAdam([x], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss.item()

    with torch.no_grad():
        assert optimizer.step(closure) == 4.0
    assert x.item() == pytest.approx(2 - 0.1 * 4)


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


def test_a_refused_group_is_not_added() -> None:
    first, second = tensors()
    optimizer = RAdam([first])
    with pytest.raises(ValueError, match="lr=-1 is out of range"):
        optimizer.add_param_group({"params": [second], "lr": -1})
    assert len(optimizer.param_groups) == 1


def test_a_sparse_gradient_stops_it_before_anything_moves() -> None:
    dense, sparse = tensors()
    optimizer = RAdam([{"params": [dense]}, {"params": [sparse]}])
    give_gradients([dense, sparse], START)
    sparse.grad = sparse.grad.to_sparse()
    with pytest.raises(RuntimeError, match="needs dense gradients"):
        optimizer.step()
    np.testing.assert_array_equal(joined([dense, sparse]), START)
    assert not any(state["step"] for state in optimizer.state.values())


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
        *(({"betas": (0.9, v)}, r"beta2=.* is outside \(0, 1\)") for v in (0, 1, -1, NAN, None)),
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


def test_a_parameter_without_a_gradient_rests() -> None:
    params = tensors()
    optimizer = RAdam(params, weight_decay=0.5)
    optimizer.step()
    np.testing.assert_array_equal(joined(params), START)
    assert not optimizer.state


@pytest.mark.gpu
@pytest.mark.parametrize("foreach", [None, False, True])
def test_on_a_gpu(foreach: bool | None) -> None:
    params = tensors()
    there = [p.detach().cuda().requires_grad_() for p in params]
    optimizer = RAdam(there, lr=0.01, weight_decay=0.1, foreach=foreach)
    grads = gradients(50)
    for grad in grads:
        give_gradients(params, grad)
        for p, q in zip(params, there, strict=True):
            q.grad = p.grad.cuda()
        optimizer.step()
    here = walk(grads, lr=0.01, weight_decay=0.1)[-1]
    np.testing.assert_allclose(joined([p.cpu() for p in there]), here, rtol=1e-12)
