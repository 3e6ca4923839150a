"""The update with its plan on the device: as on the host at every t, in a graph or compiled.

What needs a GPU is marked so (`pytest -m gpu`); the rest is the same code on a CPU.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from steps import START, Array, give_gradients, gradients, joined, tensors, walk
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from radam_core import RAdam
from radam_core._capturable import plan_on_device
from radam_core.algorithm import VARIANTS, Conventions, plan_update
from radam_core.rectification import natural_threshold, rho, rho_inf

CONVENTIONS = {
    **VARIANTS,
    "exact": Conventions(rectification="exact"),
    "exact, skip, corrected": Conventions(
        rectification="exact", early="skip", eps_placement="corrected"
    ),
    "far threshold": Conventions(threshold=9.5, strict=False),
}
BETA2S = (0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999)
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"variant": name} for name in VARIANTS},
    "exact": {"rectification": "exact", "weight_decay": 0.1},
    "corrected eps": {"eps_placement": "corrected", "eps": 1e-4},
    "L2 decay": {"weight_decay": 0.1, "decoupled_weight_decay": False},
    "skip with decay": {"early": "skip", "weight_decay": 0.1},
    "maximize": {"maximize": True, "weight_decay": 0.1},
    "no eps": {"eps": 0.0},
    "no momentum": {"betas": (0.0, 0.9)},
    "tensor lr": {"lr": torch.tensor([2e-3], dtype=torch.float64), "weight_decay": 0.1},
}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
gpu = pytest.mark.gpu
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])


@pytest.fixture
def fresh() -> Iterator[None]:
    """Compile anew, and let recompile whatever comes after the test."""
    torch._dynamo.reset()
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


# ---- the plan


@devices
@pytest.mark.parametrize("beta2", BETA2S)
@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_plan_is_that_of_the_host_up_to_a_million(name: str, beta2: float, device: str) -> None:
    """All the steps around the threshold, and fewer and fewer from there on.

    On the device rho is a difference of numbers near rho_inf: off by some eps of that, which
    counts by how near rho is to where the variance is infinite.
    """
    conventions = CONVENTIONS[name]
    ts = [*range(1, 200), *(int(1.2**k) for k in range(30, 76)), 10**6]
    for beta1 in (0.0, 0.9, 0.999):
        eps = 1e-6
        t = torch.tensor(ts, dtype=torch.float64, device=device)
        plan = plan_on_device(t, (beta1, beta2), eps, conventions)
        hosts = [plan_update(t, (beta1, beta2), eps, conventions) for t in ts]
        adaptive = [host.kind == "adaptive" for host in hosts]
        assert plan.adaptive.tolist() == adaptive
        natural = natural_threshold(conventions.rectification)
        for i, host in enumerate(hosts):
            if host.kind == "skip":
                continue
            distance = rho(ts[i], beta2) - natural if adaptive[i] else 1.0
            rtol = 1e-13 + 8 * 2.0**-52 * rho_inf(beta2) / min(1.0, distance)
            if conventions.rectification == "exact":
                rtol += 1e-12  # of the log-gammas below z = 20
            assert plan.size[i].item() == pytest.approx(host.size, rel=rtol, abs=0)
            if adaptive[i]:
                planned = torch.as_tensor(plan.eps, dtype=t.dtype).expand(len(ts))[i].item()
                assert planned == pytest.approx(host.eps, rel=1e-12, abs=0)


# ---- the update


def tolerance(dtype: torch.dtype, updates: int) -> dict[str, float]:
    """A few roundings for every update, those of steps of 16 bits among them."""
    return {"rtol": 2 * updates * torch.finfo(dtype).eps, "atol": updates * torch.finfo(dtype).eps}


@devices
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_path_is_that_of_the_host(name: str, dtype: torch.dtype, device: str) -> None:
    """Through the change from unrectified to rectified, at updates 3 to 7 by the variant."""
    options = {"lr": 2e-3, **OPTIONS[name]}
    grads = gradients(12)
    captured = walk(grads, dtype=dtype, device=device, capturable=True, **options)
    host = walk(grads, dtype=dtype, foreach=False, **options)
    for t in range(len(grads)):
        np.testing.assert_allclose(captured[t], host[t], **tolerance(dtype, t + 1))
    assert dtype != torch.float64 or np.all(captured[-1] != captured[0])


@devices
def test_long_after_the_change_too(device: str) -> None:
    grads = gradients(1500)
    captured = walk(grads, device=device, capturable=True, lr=1e-2)
    np.testing.assert_allclose(captured, walk(grads, foreach=False, lr=1e-2), rtol=1e-9, atol=1e-11)


@devices
@pytest.mark.parametrize("variant", ["paper", "authors-shipped"])
def test_overflow_of_the_second_moment_in_early_updates_stays_there(
    variant: str, device: str
) -> None:
    """It does not matter to an update that has no use for it, and freezes the element later on."""
    paths = []
    for options, where in (({"foreach": False}, "cpu"), ({"capturable": True}, device)):
        p = torch.ones(2, dtype=torch.float16, device=where)
        optimizer = RAdam([p], lr=1e-3, variant=variant, **options)
        path = []
        for t in range(9):
            p.grad = torch.tensor([3e4 if t == 0 else 1.0, 1.0], dtype=p.dtype, device=where)
            optimizer.step()
            path.append(joined([p]))
        assert optimizer.state[p]["exp_avg_sq"].tolist()[0] == math.inf
        paths.append(np.array(path))
    np.testing.assert_allclose(*paths, **tolerance(torch.float16, 9))
    assert np.all(np.isfinite(paths))


@devices
@pytest.mark.parametrize("wide", [False, True])
def test_each_parameter_by_its_own_count(wide: bool, device: str) -> None:
    """One batch in which some updates are adaptive and others are not, of several types."""
    ends = []
    for options, where in (({"foreach": False}, "cpu"), ({"capturable": True}, device)):
        params = [
            torch.linspace(-1, 1, 5).to(where, dtype)
            for dtype in (torch.float32, torch.float32, torch.bfloat16, torch.complex64)
        ]
        optimizer = RAdam(
            params,
            lr=1e-2,
            weight_decay=0.1,
            state_dtype=torch.float32 if wide else None,
            **options,
        )
        for t in range(10):
            for i, p in enumerate(params):
                p.grad = torch.ones_like(p) if t >= i else None
            optimizer.step()
        assert [optimizer.state[p]["step"].device.type for p in params] == [where] * 4
        assert [optimizer.state[p]["step"].item() for p in params] == [10, 9, 8, 7]
        ends.append([p.detach().cpu() for p in params])
    for one, other in zip(*ends, strict=True):
        eps = torch.finfo(one.dtype).eps
        torch.testing.assert_close(one, other, rtol=20 * eps, atol=10 * eps)


# ---- compiled


Compile = Callable[[Callable[[], Any]], Callable[[], Any]]
one_graph = functools.partial(torch.compile, backend="eager", fullgraph=True)


def compiled_path(
    make: Callable[[list[Tensor]], RAdam],
    grads: Array,
    compiler: Compile,
    schedule: Callable[[int], float] | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Array:
    """As `walk`, in compiled steps of which none after the second may compile anything anew."""
    params = [p.detach().to(device) for p in tensors(dtype=dtype)]
    optimizer = make(params)
    scheduler = schedule and LambdaLR(optimizer, schedule)

    def advance() -> None:
        optimizer.step()
        if scheduler:
            scheduler.step()

    step, path = compiler(advance), []
    for p in params:
        p.grad = torch.zeros_like(p)
    for t, grad in enumerate(grads):
        if t == 2:
            torch.compiler.set_stance("fail_on_recompile")
        for p, part in zip(params, (grad[:3], grad[3:]), strict=True):
            p.grad.copy_(torch.tensor(part).reshape(p.shape))
        step()
        path.append(joined(params))
    torch.compiler.set_stance("default")
    return np.array(path)


@pytest.mark.parametrize("name", ["paper", "authors-shipped", "exact", "L2 decay", "no eps"])
def test_compiled_it_is_one_graph_for_all_updates(name: str, fresh: None) -> None:
    grads = gradients(12)
    options = {"lr": 2e-3, **OPTIONS[name]}
    path = compiled_path(lambda ps: RAdam(ps, **options), grads, one_graph)
    np.testing.assert_allclose(path, walk(grads, foreach=False, **options), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"fused": True}], ids=str)
def test_compiled_with_several_groups(options: dict[str, Any], fresh: None) -> None:
    """Of which one goes over to adaptive updates before the other."""

    def make(params: list[Tensor]) -> RAdam:
        groups = [{"params": [p]} for p in params]
        groups[1] |= {"variant": "authors-shipped", "weight_decay": 0.1}
        return RAdam(groups, lr=1e-2, **options)

    grads = gradients(10)
    path = compiled_path(make, grads, one_graph)
    params = [p.detach() for p in tensors()]
    host, expected = make(params), []
    for grad in grads:
        for p, part in zip(params, (grad[:3], grad[3:]), strict=True):
            p.grad = torch.tensor(part).reshape(p.shape)
        host.step()
        expected.append(joined(params))
    np.testing.assert_allclose(path, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_with_a_schedule_of_a_tensor_learning_rate(backend: str, fresh: None) -> None:
    """Both in one function, whose graph torch's schedulers break; but none is made anew."""

    def path(compiler: Compile) -> Array:
        lr = torch.tensor(0.01, dtype=torch.float64)
        return compiled_path(
            lambda ps: RAdam(ps, lr=lr, weight_decay=0.1), gradients(12), compiler, lambda t: 0.5**t
        )

    compiled = path(functools.partial(torch.compile, backend=backend))
    np.testing.assert_allclose(compiled, path(lambda step: step), rtol=1e-11, atol=1e-12)
    assert np.abs(compiled[-1] - compiled[-2]).max() < 1e-4 < np.abs(compiled[0] - START).max()


def test_compiled_moments_of_another_type_than_the_parameters(fresh: None) -> None:
    grads = gradients(10)
    options: dict[str, Any] = {"lr": 0.02, "state_dtype": torch.float32}
    path = compiled_path(lambda ps: RAdam(ps, **options), grads, one_graph, dtype=torch.bfloat16)
    host = walk(grads, dtype=torch.bfloat16, **options)
    np.testing.assert_allclose(path, host, **tolerance(torch.bfloat16, 2))


def test_a_compiled_training_goes_on_uncompiled(fresh: None) -> None:
    """And its state says how far it is."""
    params = [p.detach() for p in tensors()]
    optimizer = RAdam(params, lr=2e-3)
    compiled = one_graph(optimizer.step)
    path, grads = [], gradients(10)
    for t, grad in enumerate(grads):
        for p, part in zip(params, (grad[:3], grad[3:]), strict=True):
            p.grad = torch.tensor(part).reshape(p.shape)
        (compiled if t % 4 < 2 else optimizer.step)()
        path.append(joined(params))
        assert optimizer.rectification_state()[0].t == t + 1
    np.testing.assert_allclose(path, walk(grads, lr=2e-3), rtol=1e-11, atol=1e-12)


class Halved(RAdam):
    def _plan(self, t: int, group: dict[str, Any]) -> Any:
        plan = super()._plan(t, group)
        return plan._replace(size=plan.size / 2)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (RAdam, {"differentiable": True}),
        (RAdam, {"state_dtype": torch.float32, "rounding": "stochastic"}),
        (Halved, {}),
    ],
)
def test_what_one_graph_cannot_do_is_done_outside_of_it(
    optimizer: type[RAdam], options: dict[str, Any], fresh: None
) -> None:
    grads = gradients(8)
    options = {"lr": 0.02, **options}
    params = [p.detach() for p in tensors(dtype=torch.bfloat16)]
    ours = optimizer(params, **options)
    step, path = torch.compile(ours.step, backend="eager"), []
    for grad in grads:
        give_gradients(params, grad)
        step()
        path.append(joined(params))
    np.testing.assert_array_equal(path, walk(grads, optimizer, torch.bfloat16, **options))
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"RAdam\._update"):
        torch.compile(ours.step, backend="eager", fullgraph=True)()


# ---- on a GPU


@gpu
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"fused": True}, {"foreach": True}, {"foreach": False}], ids=str
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_leads_where_a_cpu_does(
    variant: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    grads = gradients(50)
    common: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.1, "variant": variant, "dtype": dtype}
    there = walk(grads, device="cuda", **common, **options)
    np.testing.assert_allclose(there, walk(grads, **common), **tolerance(dtype, 50))


@gpu
@pytest.mark.parametrize("name", [*OPTIONS, "wide"])
def test_a_graph_recorded_before_the_change_replays_it(name: str) -> None:
    """Recorded once the state exists, at update 3 of SGD; then replayed into adaptive ones."""
    dtype = torch.bfloat16 if name == "wide" else torch.float64
    options = {"lr": 2e-3, **OPTIONS.get(name, {"state_dtype": torch.float32})}
    if isinstance(options["lr"], Tensor):
        options["lr"] = options["lr"].cuda()
    grads = gradients(12)
    params = [p.detach().cuda() for p in tensors(dtype=dtype)]
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer = RAdam(params, capturable=True, **options)
    graph, path = torch.cuda.CUDAGraph(), []

    def give(grad: Array) -> None:
        for p, part in zip(params, (grad[:3], grad[3:]), strict=True):
            p.grad.copy_(torch.tensor(part).reshape(p.shape))

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for grad in grads[:2]:
            give(grad)
            optimizer.step()
            path.append(joined(params))
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        optimizer.step()
    for grad in grads[2:]:
        give(grad)
        graph.replay()
        path.append(joined(params))
    assert optimizer.rectification_state()[0].t == 12
    host = walk(grads, dtype=dtype, **{k: v for k, v in options.items() if k != "lr"}, lr=2e-3)
    for t in range(12):
        np.testing.assert_allclose(path[t], host[t], **tolerance(dtype, t + 1))


@gpu
def test_a_graph_of_an_update_planned_on_the_host_is_refused() -> None:
    params = [p.detach().cuda() for p in tensors()]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = RAdam(params)
    optimizer.step()
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.zeros(1, device="cuda")  # torch warns of a graph with nothing in it
        with pytest.raises(RuntimeError, match="use capturable=True"):
            optimizer.step()


@gpu
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_for_a_gpu(mode: str, fresh: None) -> None:
    """By inductor, with graphs in the second mode; and uncompiled from there on."""
    grads = gradients(12)
    lr = torch.tensor(2e-3, dtype=torch.float64, device="cuda")
    optimizers: list[RAdam] = []

    def make(params: list[Tensor]) -> RAdam:
        optimizers.append(RAdam(params, lr=lr, weight_decay=0.1))
        return optimizers[0]

    compiler = functools.partial(torch.compile, mode=mode, fullgraph=True)
    path = compiled_path(make, grads, compiler, device="cuda")
    host = walk(grads, lr=2e-3, weight_decay=0.1)
    np.testing.assert_allclose(path, host, rtol=1e-11, atol=1e-12)
    optimizers[0].step()  # where the compiler has moved the steps to the GPU
    assert optimizers[0].rectification_state()[0].t == 13


@gpu
def test_layouts_on_a_gpu() -> None:
    """The kernel insists on equal strides, also of dimensions of one element."""
    shapes: dict[str, Callable[[Tensor], Tensor]] = {
        "contiguous": lambda x: x.contiguous(),
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
        "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
        "expanded": lambda x: x[:1].expand_as(x),
    }
    for size in ((4, 3, 2, 5), (4, 3, 1, 1), (0, 3, 1, 1)):
        values, grads = torch.randn(size), torch.randn(7, *size)
        for one, other in itertools.product(shapes, shapes):
            if one == "expanded":
                continue
            ends = []
            for device, options in (("cpu", {"foreach": False}), ("cuda", {"fused": True})):
                p = (
                    shapes[one](values.to(device))
                    .detach()
                    .clone(memory_format=torch.preserve_format)
                )
                optimizer = RAdam([p], lr=0.1, **options)
                for grad in grads:
                    p.grad = shapes[other](grad.to(device))
                    optimizer.step()
                ends.append(p.cpu())
            torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@gpu
@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"fused": True}], ids=str)
def test_a_grad_scaler_on_a_gpu_skips_updates(options: dict[str, Any]) -> None:
    scaled, plain = (torch.linspace(-1, 1, 8, device="cuda") for _ in range(2))
    optimizers = [RAdam([p], lr=0.1, **options) for p in (scaled, plain)]
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    for t in range(12):
        scaled.grad = scaler.scale(torch.full_like(scaled, math.cos(t)))
        plain.grad = torch.full_like(plain, math.cos(t))
        if t in (0, 4):
            scaled.grad[3] = math.inf
        else:
            optimizers[1].step()
        scaler.step(optimizers[0])
        scaler.update()
    assert torch.equal(scaled, plain)
    assert optimizers[0].rectification_state()[0].t == 10


@gpu
def test_parameters_on_two_devices_and_a_state_from_another() -> None:
    here, there = torch.ones(3), torch.ones(3, device="cuda")
    optimizer = RAdam([here, there], lr=0.1)
    for _ in range(6):
        here.grad, there.grad = torch.ones(3), torch.ones(3, device="cuda")
        optimizer.step()
    torch.testing.assert_close(there.cpu(), here, rtol=1e-6, atol=1e-6)
    moved = [p.detach().cuda() for p in (here, there)]
    other = RAdam(moved)
    other.load_state_dict(optimizer.state_dict())
    assert {other.state[p]["exp_avg"].device.type for p in moved} == {"cuda"}
    assert {other.state[p]["step"].device.type for p in moved} == {"cpu"}


@gpu
def test_rounding_at_random_on_a_gpu() -> None:
    p = torch.ones(20_000, dtype=torch.bfloat16, device="cuda")
    optimizer = RAdam([p], lr=2**-8, state_dtype=torch.float32, rounding="stochastic")
    before = torch.cuda.get_rng_state()
    p.grad = -torch.ones_like(p)
    optimizer.step()
    assert 9_000 < (p > 1).sum().item() < 11_000
    assert set(p.tolist()) == {1.0, 1 + 2**-7}
    assert torch.equal(torch.cuda.get_rng_state(), before)
