"""What everything in PyTorch that takes an optimizer expects of one, for both of ours."""

import copy
import functools
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from radam_core import VARIANTS, DelayedAdam, RAdam


class Config(NamedTuple):
    """An optimizer with its options, and the type of the parameters to give it."""

    optimizer: Callable[..., Any]
    options: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default, never changed)
    dtype: torch.dtype = torch.float32


WIDE = {"state_dtype": torch.float32}
CONFIGS = {
    "default": Config(RAdam),
    **{f"variant {name}": Config(RAdam, {"variant": name}) for name in VARIANTS},
    "loop": Config(RAdam, {"foreach": False}),
    "foreach": Config(RAdam, {"foreach": True}),
    "fused": Config(RAdam, {"fused": True}),
    "capturable": Config(RAdam, {"capturable": True}),
    "differentiable": Config(RAdam, {"differentiable": True}),
    "exact": Config(RAdam, {"rectification": "exact", "threshold": 2.5, "strict": False}),
    "corrected eps": Config(RAdam, {"eps_placement": "corrected", "early": "skip"}),
    "decoupled decay": Config(RAdam, {"weight_decay": 0.1}),
    "L2 decay": Config(RAdam, {"weight_decay": 0.1, "decoupled_weight_decay": False}),
    "maximize": Config(RAdam, {"maximize": True}),
    "tensor lr": Config(RAdam, {"lr": torch.tensor(0.02)}),
    "tensor lr of one dimension": Config(RAdam, {"lr": torch.tensor([0.02]), "foreach": True}),
    "double": Config(RAdam, {}, torch.float64),
    "complex": Config(RAdam, {}, torch.complex64),
    "bfloat16": Config(RAdam, {}, torch.bfloat16),
    "wide": Config(RAdam, WIDE, torch.bfloat16),
    "wide half": Config(RAdam, {**WIDE, "capturable": True}, torch.float16),
    "stochastic": Config(RAdam, {**WIDE, "rounding": "stochastic"}, torch.bfloat16),
    "delayed": Config(DelayedAdam, {"delay": 3}),
    "delayed by nothing": Config(DelayedAdam, {"delay": 0, "momentum_count": "all"}),
}
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
radams = pytest.mark.parametrize(
    "config", [one for one in CONFIGS.values() if one.optimizer is RAdam], ids=str
)
either = pytest.mark.parametrize("optimizer", [RAdam, DelayedAdam])


class Training:
    """Parameters whose gradients depend on them and on the update's number alone.

    The last one never has a gradient, the last but one only every other time.
    """

    shapes = ((3, 4), (5,), (), (2, 2), (3,))

    def __init__(self, config: Config, names: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = [
            torch.randn(shape, generator=generator).to(config.dtype) for shape in self.shapes
        ]
        named = [(f"p{i}", p) for i, p in enumerate(self.params)] if names else self.params
        groups = [{"params": named[:2]}, {"params": named[2:], "lr": 0.03}]
        self.optimizer: Optimizer = config.optimizer(groups, **copy.deepcopy(config.options))

    def give_gradients(self, t: int) -> None:
        generator = torch.Generator().manual_seed(t)
        for p in self.params:
            noise = torch.randn(p.shape, generator=generator)
            p.grad = (p + noise).detach().to(p.dtype)
        self.params[-1].grad = None
        if t % 2:
            self.params[-2].grad = None

    def run(self, first: int, last: int) -> "Training":
        for t in range(first, last):
            self.give_gradients(t)
            self.optimizer.step()
        return self

    def everything(self) -> list[Any]:
        """Parameters, state and options, in a form that torch.testing compares to the bit."""
        state = self.optimizer.state_dict()
        return [[p.detach() for p in self.params], state["state"], hashable(state["param_groups"])]


def hashable(groups: list[dict[str, Any]]) -> list[str]:
    """Options as text: torch.testing compares no strings but equal ones, and no None."""
    return [str(sorted((k, str(v)) for k, v in group.items())) for group in groups]


def assert_same(a: Training, b: Training) -> None:
    (ps, states, options), (qs, others, other_options) = a.everything(), b.everything()
    assert options == other_options
    torch.testing.assert_close((ps, states), (qs, others), rtol=0, atol=0)


# ---- interruption


def through_file(x: Any, weights_only: bool = True) -> Any:
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


def reloaded(training: Training, config: Config, names: bool = False) -> Training:
    """A new process: nothing but what the file holds."""
    params, state = through_file((training.params, training.optimizer.state_dict()))
    twin = Training(config, names)
    for p, saved in zip(twin.params, params, strict=True):
        with torch.no_grad():
            p.copy_(saved)
    twin.optimizer.load_state_dict(state)
    return twin


INTERRUPTIONS: dict[str, Callable[[Training, Config], Training]] = {
    "deepcopy": lambda training, config: copy.deepcopy(training),
    "pickle": lambda training, config: pickle.loads(pickle.dumps(training)),
    "torch.save": lambda training, config: through_file(training, weights_only=False),
    "state dict": reloaded,
    "onto names": lambda training, config: reloaded(training, config, names=True),
}


@configs
@pytest.mark.parametrize("interruption", INTERRUPTIONS)
@pytest.mark.parametrize("after", [0, 2, 3, 7])
def test_interrupted_is_uninterrupted(config: Config, interruption: str, after: int) -> None:
    whole = Training(config, names=interruption == "onto names").run(0, 12)
    first = Training(config).run(0, after)
    second = INTERRUPTIONS[interruption](first, config)
    second.run(after, 12)
    assert_same(second, whole)
    assert str(second.optimizer) == str(whole.optimizer)
    first.run(after, 12)
    assert_same(first, Training(config).run(0, 12))  # the copy has left the original alone
    assert not torch.equal(whole.params[0], Training(config).params[0])


@configs
def test_a_state_dict_is_always_the_same(config: Config) -> None:
    training = Training(config).run(0, 6)
    first, second = (pickle.dumps(training.optimizer.state_dict()) for _ in range(2))
    assert first == second
    assert training.optimizer.state_dict()["state"].keys() == {0, 1, 2, 3}


@radams
def test_options_that_a_saved_state_lacks_stay(config: Config) -> None:
    """It may be from an earlier version, or of another optimizer."""
    saved = copy.deepcopy(Training(config).run(0, 6).optimizer.state_dict())
    for name in set(saved["param_groups"][0]) - {"params"}:
        partial = copy.deepcopy(saved)
        for group in partial["param_groups"]:
            del group[name]
        training = Training(config)
        before = [group[name] for group in training.optimizer.param_groups]
        training.optimizer.load_state_dict(partial)
        assert [group[name] for group in training.optimizer.param_groups] == before
        training.run(6, 8)


@configs
def test_a_step_that_was_saved_as_a_number(config: Config) -> None:
    whole = Training(config).run(0, 9)
    first = Training(config).run(0, 6)
    state = copy.deepcopy(first.optimizer.state_dict())
    for p_state in state["state"].values():
        p_state["step"] = int(p_state["step"])
    first.optimizer.load_state_dict(state)
    assert_same(first.run(6, 9), whole)


def test_names_come_and_go() -> None:
    """A state with names loads where there are none, and the other way round keeps them."""
    for saved, own in ((True, False), (False, True), (True, True)):
        first = Training(CONFIGS["default"], names=saved).run(0, 6)
        second = reloaded(first, CONFIGS["default"], names=own).run(6, 9)
        assert second.optimizer.param_groups[0]["param_names"] == ["p0", "p1"]
        torch.testing.assert_close(second.params, first.run(6, 9).params, rtol=0, atol=0)


def test_a_state_is_loaded_to_where_the_parameters_are() -> None:
    state = Training(CONFIGS["default"]).run(0, 6).optimizer.state_dict()
    params = [torch.empty(shape, device="meta") for shape in Training.shapes]
    optimizer = RAdam([{"params": params[:2]}, {"params": params[2:]}])
    optimizer.load_state_dict(state)
    for p in params[:-1]:
        assert optimizer.state[p]["exp_avg"].device.type == "meta"
        assert optimizer.state[p]["step"].device.type == "cpu"
    for p in params[:-1]:
        p.grad = torch.empty_like(p)
    optimizer.step()
    assert [optimizer.state[p]["step"].item() for p in params[:-1]] == [7, 7, 7, 4]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_state_is_turned_into_the_type_of_the_parameters(dtype: torch.dtype) -> None:
    first = Training(CONFIGS["default"]).run(0, 6)
    second = Training(CONFIGS["default"]._replace(dtype=dtype))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    for p, q in zip(first.params[:-1], second.params, strict=False):
        moment = second.optimizer.state[q]["exp_avg"]
        assert torch.equal(moment, first.optimizer.state[p]["exp_avg"].to(dtype))
        assert second.optimizer.state[q]["step"].dtype == torch.float32
    second.run(6, 9)


def test_parameters_that_change_their_type_after_their_moments() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = RAdam(model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    model.double()
    kept = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match=r"load_state_dict\(optimizer.state_dict\(\)\) convert"):
        optimizer.step()
    torch.testing.assert_close(model.state_dict(), kept, rtol=0, atol=0)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert optimizer.rectification_state()[0].t == 2


@either
def test_groups_that_do_not_match_are_refused(optimizer: type[Optimizer]) -> None:
    two = optimizer([{"params": [torch.ones(2)]}, {"params": [torch.ones(2)]}])
    for other in (
        optimizer([torch.ones(2)]),
        optimizer([{"params": [torch.ones(2)]}, {"params": [torch.ones(2), torch.ones(2)]}]),
    ):
        with pytest.raises(ValueError, match="parameter group"):
            two.load_state_dict(other.state_dict())


# ---- hooks


@configs
def test_hooks_on_the_state_dict(config: Config) -> None:
    training = Training(config).run(0, 6)
    optimizer, seen = training.optimizer, []
    optimizer.register_state_dict_pre_hook(lambda opt: seen.append("before saving"))

    def mark(opt: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "note": "from a hook"}

    optimizer.register_state_dict_post_hook(mark)
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["note"] == "from a hook"

    def without_moments(opt: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        assert state["note"] == "from a hook"
        halved = {
            key: {**one, "exp_avg": one["exp_avg"] / 2} for key, one in state["state"].items()
        }
        return {**state, "state": {key: halved[key] for key in (0, 1)}}

    twin = Training(config)
    twin.optimizer.register_load_state_dict_pre_hook(without_moments)

    def check(opt: Optimizer) -> None:
        """What a hook finds is all of what is loaded."""
        for p, q in zip(training.params[:2], twin.params, strict=False):
            moment = training.optimizer.state[p]["exp_avg"]
            assert torch.equal(opt.state[q]["exp_avg"], moment / 2)
            assert opt.state[q]["exp_avg"].dtype == moment.dtype
        seen.append("after loading")

    twin.optimizer.register_load_state_dict_post_hook(check)
    twin.optimizer.load_state_dict(saved)
    assert seen == ["before saving", "after loading"]
    assert twin.params[2] not in twin.optimizer.state
    assert twin.optimizer.state_dict().keys() == {"state", "param_groups"}
    twin.run(6, 9)


@configs
def test_hooks_on_the_step(config: Config) -> None:
    training, seen = Training(config), []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("all, before")),
        register_optimizer_step_post_hook(lambda *_: seen.append("all, after")),
        training.optimizer.register_step_pre_hook(lambda *_: seen.append("one, before")),
        training.optimizer.register_step_post_hook(lambda *_: seen.append("one, after")),
    ]
    training.run(0, 1)
    for handle in handles:
        handle.remove()
    assert seen == ["all, before", "one, before", "one, after", "all, after"]
    training.run(1, 2)
    assert len(seen) == 4


# ---- parameters and groups


def layers() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))


PARAMS: dict[str, Callable[[torch.nn.Module], Any]] = {
    "list": lambda model: list(model.parameters()),
    "generator": lambda model: model.parameters(),
    "named": lambda model: model.named_parameters(),
    "one group": lambda model: [{"params": model.parameters()}],
    "named groups": lambda model: (
        {"params": layer.named_parameters(prefix=str(i))} for i, layer in enumerate(model)
    ),
    "groups of one": lambda model: [{"params": p} for p in model.parameters()],
    "with an empty group": lambda model: [{"params": []}, {"params": model.parameters()}],
    "tuple": lambda model: tuple(model.parameters()),
}


@either
@pytest.mark.parametrize("given", PARAMS)
def test_parameters_may_come_in_any_form(optimizer: Callable[..., Any], given: str) -> None:
    """A small network learns the same; also with torch.float64 as the default type."""
    ends = []
    for form in (given, "list"):
        model, x = layers(), torch.ones(4, 3)
        ours = optimizer(
            PARAMS[form](model), lr=0.1, **({"delay": 1} if optimizer is DelayedAdam else {})
        )
        losses = []
        for _ in range(40):
            ours.zero_grad()
            loss = (model(x) - 1).square().mean()
            loss.backward()
            ours.step()
            losses.append(loss.item())
        assert losses[-1] < 0.1 * losses[0]
        ours.zero_grad(set_to_none=False)
        assert all(not p.grad.any() for p in model.parameters())
        ends.append(model.state_dict())
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@configs
def test_a_group_added_later_starts_at_the_beginning(config: Config) -> None:
    training = Training(config).run(0, 6)
    p, q = (torch.full((3,), 0.5).to(config.dtype) for _ in range(2))
    training.optimizer.add_param_group({"params": [p], "lr": 0.01})
    # As the third group there, too: stochastic rounding draws by the number of the group.
    groups = [{"params": []}, {"params": []}, {"params": [q], "lr": 0.01}]
    alone = config.optimizer(groups, **copy.deepcopy(config.options))
    for t in range(6, 14):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        training.run(t, t + 1)
        alone.step()
    assert torch.equal(p, q)
    assert training.optimizer.state[p]["step"] == 8
    whole = Training(config).run(0, 14)
    torch.testing.assert_close(training.params, whole.params, rtol=0, atol=0)


@either
def test_what_groups_may_not_be(optimizer: type[Optimizer]) -> None:
    p, q = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    for params, error, sentence in (
        (p, TypeError, "should be an iterable of Tensors or dicts"),
        ([], ValueError, "empty parameter list"),
        ([1.0], TypeError, "can only optimize Tensors"),
        ([p * 2], ValueError, "non-leaf"),
        ([{"params": p}, {"params": p}], ValueError, "more than one parameter group"),
        ([("p", p), q], ValueError, "with/without names"),
        ([{"params": [p]}, {"params": [("q", q)]}], ValueError, "with/without names"),
        ([{"params": {p, q}}], TypeError, "ordered collections"),
    ):
        with pytest.raises(error, match=sentence):
            optimizer(params)
    for params, warning, sentence in (
        ([p, p], UserWarning, "duplicate parameters"),
        ({p, q}, FutureWarning, "ordered collections"),
    ):
        with pytest.warns(warning, match=sentence):
            optimizer(params)
    fine = optimizer([p])
    for group in ([q], q, None):
        with pytest.raises(TypeError, match=r"dict|mapping"):
            fine.add_param_group(group)
    assert len(fine.param_groups) == 1


@configs
def test_options_can_be_changed_between_updates(config: Config) -> None:
    """In a group, by whoever does so; the optimizer's defaults are for groups to come."""
    training = Training(config).run(0, 6)
    for group in training.optimizer.param_groups:
        group["lr"] = 0.0
    training.optimizer.defaults["eps"] = 0.5
    before = copy.deepcopy(training.params)
    training.run(6, 9)
    torch.testing.assert_close(training.params, before, rtol=0, atol=0)
    training.optimizer.add_param_group({"params": [torch.ones(2)]})
    assert [group["eps"] for group in training.optimizer.param_groups] == [1e-8, 1e-8, 0.5]


# ---- gradients


@configs
def test_without_gradients_nothing_happens(config: Config) -> None:
    training = Training(config)
    before = copy.deepcopy(training.params)
    training.optimizer.step()
    assert not training.optimizer.state
    torch.testing.assert_close(training.params, before, rtol=0, atol=0)


@configs
def test_zero_gradients_are_zero_steps(config: Config) -> None:
    training = Training(config._replace(options={**config.options, "weight_decay": 0.0}))
    before = copy.deepcopy(training.params)
    for _ in range(9):
        for p in training.params:
            p.grad = torch.zeros_like(p)
        training.optimizer.step()
    torch.testing.assert_close(training.params, before, rtol=0, atol=0)


@configs
def test_a_parameter_counts_its_own_updates(config: Config) -> None:
    """One that has missed updates is where it would be without them."""
    training, alone = Training(config), Training(config)
    training.run(0, 12)
    for t in range(0, 12, 2):
        alone.give_gradients(t)
        alone.params[0].grad = alone.params[1].grad = alone.params[2].grad = None
        alone.optimizer.step()
    assert training.optimizer.state[training.params[3]]["step"] == 6
    assert training.optimizer.state[training.params[0]]["step"] == 12
    if config.options.get("rounding") != "stochastic":  # whose bits are by the place in the batch
        assert torch.equal(training.params[3], alone.params[3])


@either
def test_a_sparse_gradient_stops_it_before_anything_moves(optimizer: type[Optimizer]) -> None:
    dense, sparse = torch.ones(3), torch.ones(3)
    ours = optimizer([{"params": [dense]}, {"params": [sparse]}])
    dense.grad, sparse.grad = torch.ones(3), torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="needs dense gradients"):
        ours.step()
    for p in (dense, sparse):
        assert torch.equal(p, torch.ones(3))
        assert not any(torch.as_tensor(x).any() for x in ours.state.get(p, {}).values())


@pytest.mark.skipif(not hasattr(Tensor, "grad_dtype"), reason="this torch has no grad_dtype")
@pytest.mark.parametrize(
    "options", [{}, {"foreach": True}, {"foreach": False}, {"capturable": True}, WIDE]
)
@pytest.mark.parametrize("grad_dtype", [torch.float32, torch.float64])
def test_gradients_of_another_type(options: dict[str, Any], grad_dtype: torch.dtype) -> None:
    """They are rounded to the type of the parameter, or kept for an update in a wider one."""
    p, q = (torch.ones(4, dtype=torch.bfloat16).requires_grad_() for _ in range(2))
    p.grad_dtype = grad_dtype
    grad = torch.tensor([1.0, 1.001, -3.003, 1e-3], dtype=grad_dtype)
    optimizers = [RAdam([x], lr=0.1, **options) for x in (p, q)]
    for _ in range(8):
        p.grad, q.grad = grad, grad.bfloat16()
        for optimizer in optimizers:
            optimizer.step()
    if options is not WIDE:
        assert torch.equal(p, q)
    else:
        moment = optimizers[0].state[p]["exp_avg"]
        torch.testing.assert_close(moment, grad.float() * (1 - 0.9**8), rtol=1e-5, atol=0)


def test_conjugate_gradients_of_complex_parameters() -> None:
    grad = torch.tensor([1 + 2j, 3 - 1j])
    ends = []
    for given in (grad.conj(), grad.conj().resolve_conj()):
        z = torch.ones(2, dtype=torch.complex64)
        optimizer = RAdam([z], lr=0.1)
        for _ in range(7):
            z.grad = given
            optimizer.step()
        ends.append(z)
    assert torch.equal(*ends)
    assert (ends[0].imag < 0).tolist() == [False, True]


@configs
def test_a_closure_computes_the_loss_with_gradients_enabled(config: Config) -> None:
    training = Training(config)

    def closure() -> float:
        assert torch.is_grad_enabled()
        training.give_gradients(0)
        return 4.0

    with torch.no_grad():
        assert training.optimizer.step(closure) == 4.0
    assert training.optimizer.step() is None
    twin = Training(config)
    twin.give_gradients(0)
    for _ in range(2):
        twin.optimizer.step()
    assert_same(training, twin)


# ---- what is set around it


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@configs
def test_torchs_defaults_of_type_and_device_change_nothing(config: Config) -> None:
    plain, double, meta = (Training(config) for _ in range(3))
    for t in range(9):
        for training in (plain, double, meta):
            training.give_gradients(t)
        plain.optimizer.step()
        with default_dtype(torch.float64):
            double.optimizer.step()
        with torch.device("meta"):
            meta.optimizer.step()
    assert_same(double, plain)
    assert_same(meta, plain)


SCHEDULERS: dict[str, list[Callable[[Optimizer], Any]]] = {
    "step": [functools.partial(lr_scheduler.StepLR, step_size=3, gamma=0.5)],
    "cosine after warmup": [
        lambda optimizer: lr_scheduler.SequentialLR(
            optimizer,
            [
                lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4),
                lr_scheduler.CosineAnnealingLR(optimizer, 8),
            ],
            [4],
        )
    ],
    "three at once": [
        functools.partial(lr_scheduler.StepLR, step_size=3, gamma=0.9),
        functools.partial(lr_scheduler.ExponentialLR, gamma=0.99),
        functools.partial(lr_scheduler.ConstantLR, factor=0.4, total_iters=4),
    ],
    "polynomial": [functools.partial(lr_scheduler.PolynomialLR, total_iters=8, power=0.9)],
    "one cycle, of beta1 too": [
        functools.partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=14)
    ],
    "cycles, of beta1 too": [
        functools.partial(lr_scheduler.CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=3)
    ],
    "plateau": [functools.partial(lr_scheduler.ReduceLROnPlateau, patience=1, factor=0.5)],
}


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize(
    "name", ["default", "foreach", "capturable", "tensor lr", "wide", "delayed"]
)
def test_schedulers_steer_it(schedule: str, name: str) -> None:
    """As whoever set the same learning rates and betas by hand."""
    training, by_hand = Training(CONFIGS[name]), Training(CONFIGS[name])
    schedulers = [make(training.optimizer) for make in SCHEDULERS[schedule]]
    rates = set()
    for t in range(12):
        for group, ours in zip(
            training.optimizer.param_groups, by_hand.optimizer.param_groups, strict=True
        ):
            ours["lr"], ours["betas"] = copy.deepcopy((group["lr"], group["betas"]))
            rates.add((float(group["lr"]), group["betas"]))
        training.run(t, t + 1)
        by_hand.run(t, t + 1)
        for scheduler in schedulers:
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*([1.0] if plateau else []))
    assert len(rates) > 2
    torch.testing.assert_close(training.params, by_hand.params, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in CONFIGS if CONFIGS[name].dtype == torch.float32])
def test_a_grad_scaler_skips_updates_and_changes_none(name: str) -> None:
    config = CONFIGS[name]
    scaled, plain = Training(config), Training(config)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    scales = set()
    for t in range(12):
        for training in (scaled, plain):
            training.give_gradients(t)
        for p in scaled.params:
            if p.grad is not None:
                p.grad = scaler.scale(p.grad)
        if t in (0, 4, 5):  # at the first update, and at the change of its kind
            scaled.params[1].grad[0] = float("inf")
        else:
            plain.optimizer.step()
        scaler.step(scaled.optimizer)
        scaler.update()
        scales.add(scaler.get_scale())
    assert scales == {2.0**8, 2.0**9, 2.0**10}
    assert_same(scaled, plain)
    assert plain.optimizer.state[plain.params[0]]["step"] == 9


@configs
def test_it_prints_its_options(config: Config) -> None:
    text = str(Training(config).optimizer)
    assert text.startswith(config.optimizer.__name__)
    assert text.count("Parameter Group") == 2
    assert text.count("eps: 1e-08") == 2


def test_a_tensor_learning_rate_stays_whoevers_it_is() -> None:
    for shape in ((), (1,)):
        lr = torch.full(shape, 0.02)
        p = torch.ones(3)
        optimizer = RAdam([p], lr=lr, weight_decay=0.1)
        assert optimizer.param_groups[0]["lr"] is lr
        for rate in (0.02, 0.0):
            lr.fill_(rate)
            before = p.clone()
            p.grad = torch.ones(3)
            optimizer.step()
            assert torch.equal(p, before) == (rate == 0)
            assert torch.equal(lr, torch.full(shape, rate))


def test_a_subclass_may_plan_otherwise() -> None:
    """As an ablation does; on the device it cannot, and says so."""

    class Halved(RAdam):
        def _plan(self, t: int, group: dict[str, Any]) -> Any:
            plan = super()._plan(t, group)
            return plan._replace(kind="sgd", size=plan.size / 2)

    p, q = torch.ones(3), torch.ones(3)
    for x, optimizer in ((p, Halved([p], lr=0.1)), (q, RAdam([q], lr=0.05))):
        for _ in range(4):
            x.grad = torch.ones(3)
            optimizer.step()
    torch.testing.assert_close(p, q)
    assert not Halved([p]).rectification_state()[0].rectified
    capturable = Halved([p], capturable=True)
    with pytest.raises(RuntimeError, match="Halved plans its updates on the host"):
        capturable.step()


def test_where_the_rectification_stands() -> None:
    p, late, never = torch.ones(2), torch.ones(2), torch.ones(2)
    optimizer = RAdam([{"params": [p, late]}, {"params": [never], "variant": "torch"}])
    assert {state.t for state in optimizer.rectification_state()} == {0}
    optimizer.state[never]  # looked at, and so an empty state
    seen = []
    for t in range(1, 8):
        p.grad = torch.ones(2)
        late.grad = torch.ones(2) if t > 3 else None
        optimizer.step()
        first, second = optimizer.rectification_state()
        assert second == (0, 0.0, 0.0, False)
        seen.append(first)
    assert [state.t for state in seen] == list(range(1, 8))
    assert [state.rectified for state in seen] == [t > 4 for t in range(1, 8)]
    assert [state.r > 0 for state in seen] == [t > 4 for t in range(1, 8)]
    assert seen[0].rho == 1.0
    assert all(a.rho < b.rho for a, b in pairwise(seen))


def test_a_cuda_graph_of_an_update_planned_on_the_host_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would replay one and the same update; on a GPU test_capturable records a real one."""

    class OnGpu(Tensor):
        is_cuda = True

    p = torch.ones(2).as_subclass(OnGpu)
    p.grad = torch.ones(2)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    optimizer = RAdam([p])
    with pytest.raises(RuntimeError, match="use capturable=True"):
        optimizer.step()
    assert optimizer.state[p]["step"] == 0
