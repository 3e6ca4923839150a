"""The fused path: torch's kernels do what it rests on, or are left alone; no layout misleads it."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from steps import gradients, walk
from torch import Tensor

from radam_core import RAdam, _paths

MEMORY: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "sliced": lambda x: torch.stack([x, torch.full_like(x, 7.0)], dim=-1)[..., 0],
    "offset": lambda x: torch.cat([x[:1], x])[1:],
    "negated by a flag": lambda x: torch.complex(x, -x).conj().imag,
}


@pytest.fixture
def untried() -> Iterator[None]:
    """Let the kernels be tried anew, in the test and after it."""
    _paths.kernel_works.cache_clear()
    yield
    _paths.kernel_works.cache_clear()


def parameter(values: Tensor) -> Tensor:
    """In the memory that the values have, which `clone` would give up."""
    return values.detach().requires_grad_()


def moved(p: Tensor, grads: list[Tensor], **options: Any) -> Tensor:
    """The parameter after an update with each gradient; they span the change at update 5."""
    optimizer = RAdam([p], lr=0.1, weight_decay=0.1, **options)
    for grad in grads:
        p.grad = grad
        optimizer.step()
    return p.detach()


# ---- what is in memory


@pytest.mark.parametrize("implementation", [{}, {"fused": True}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("gradient", MEMORY)
@pytest.mark.parametrize("memory", [name for name in MEMORY if name != "negated by a flag"])
def test_no_layout_misleads_it(memory: str, gradient: str, implementation: dict[str, Any]) -> None:
    torch.manual_seed(0)
    values, grads = torch.randn(4, 3, 2, 5), list(torch.randn(7, 4, 3, 2, 5))
    plain = moved(parameter(values.clone()), grads, foreach=False)
    p = parameter(MEMORY[memory](values))
    strides = p.stride()
    assert torch.equal(p, values)
    ours = moved(p, [MEMORY[gradient](grad) for grad in grads], **implementation)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    assert p.stride() == strides


def test_what_lies_between_the_elements_stays() -> None:
    memory = torch.arange(24.0).reshape(4, 6)
    p = parameter(memory[:, ::2])
    moved(p, [torch.ones(4, 3)] * 7, fused=True)
    assert torch.equal(memory[:, 1::2], torch.arange(24.0).reshape(4, 6)[:, 1::2])
    assert not torch.any(memory[:, ::2] == torch.arange(24.0).reshape(4, 6)[:, ::2])


@pytest.mark.parametrize(
    ("shape", "grad"),
    [
        ((4, 3), torch.tensor(2.0).expand(4, 3)),  # one number in memory
        ((4, 3), torch.arange(4.0)[:, None].expand(4, 3)),
        ((), torch.tensor(2.0)),
        ((1,), torch.tensor([2.0])),
        ((0,), torch.ones(0)),
        ((3, 0, 2), torch.ones(3, 0, 2)),
        ((1, 3, 1, 1), torch.ones(1, 3, 1, 1).contiguous(memory_format=torch.channels_last)),
    ],
)
def test_gradients_of_any_shape(shape: tuple[int, ...], grad: Tensor) -> None:
    others = torch.ones(2, 2)  # in the same batch
    ends = []
    for options in ({"fused": True}, {"foreach": True}, {"foreach": False}, {"capturable": True}):
        p, q = parameter(torch.full(shape, 3.0)), parameter(torch.ones(2, 2))
        optimizer = RAdam([q, p], lr=0.1, weight_decay=0.1, **options)
        for _ in range(7):
            p.grad, q.grad = grad, others
            optimizer.step()
        assert optimizer.state[p]["step"] == 7
        ends.append((p.detach(), q.detach()))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-5, atol=1e-6)


def test_moments_may_lie_in_memory_in_another_order() -> None:
    """As they do when a state is loaded that was saved before the model went to channels-last."""
    torch.manual_seed(0)
    values, grads = torch.randn(4, 3, 2, 5), list(torch.randn(8, 4, 3, 2, 5))
    first = parameter(values.clone())
    before = RAdam([first], lr=0.1)
    for grad in grads[:4]:
        first.grad = grad
        before.step()
    ends = []
    for memory in ("contiguous", "channels last", "transposed"):
        p = parameter(MEMORY[memory](first.detach().clone()))
        optimizer = RAdam([p])
        optimizer.load_state_dict(copy.deepcopy(before.state_dict()))
        assert optimizer.state[p]["exp_avg"].is_contiguous()
        for grad in grads[4:]:
            p.grad = grad
            optimizer.step()
        ends.append(p.detach())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (5, 2), (1, 2), (400, 300)])
def test_moments_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    """The kernel would read and write beyond them."""
    p, other = torch.ones(3, 2), torch.ones(shape)
    optimizers = [RAdam([x]) for x in (p, other)]
    for x, optimizer in zip((p, other), optimizers, strict=True):
        x.grad = torch.ones_like(x)
        optimizer.step()
    before = p.clone()
    with pytest.raises(ValueError, match=r"a moment of shape \(.*\) for a parameter of shape \(3"):
        optimizers[0].load_state_dict(optimizers[1].state_dict())
    assert optimizers[0].state[p]["exp_avg"].shape == p.shape
    if other.numel() != p.numel():
        for name in ("exp_avg", "exp_avg_sq"):
            optimizers[0].state[p][name] = optimizers[1].state[other][name]
        with pytest.raises(RuntimeError, match=r"size|shape"):
            optimizers[0].step()
        assert optimizers[0].state[p]["step"] == 1
    assert torch.equal(p, before)


def test_gradients_and_moments_of_one_memory_order_stay_in_one_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No layout that a model can have in whole falls back to the slow loop."""
    assert _paths.kernel_works("cpu")
    monkeypatch.setattr(_paths, "apply_update", None)
    for memory in ("contiguous", "channels last", "transposed", "offset"):
        values = MEMORY[memory](torch.randn(4, 3, 2, 5))
        moved(parameter(values), [torch.ones_like(values)] * 6)


# ---- what the kernels do


def test_the_kernels_of_this_torch_do_what_the_fused_path_rests_on(untried: None) -> None:
    assert _paths.kernel_works("cpu")


@pytest.mark.gpu
def test_the_kernels_of_this_torch_do_so_on_a_gpu(untried: None) -> None:
    assert _paths.kernel_works("cuda")


def test_no_kernel_is_tried_elsewhere() -> None:
    assert not _paths.kernel_works("meta")
    assert not _paths.kernel_works("mps")


def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_fused_adamw_")


def changed_in_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_fused_adam_", lambda params, grads, *, lr: None)


def not_for_this_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("not compiled in")

    monkeypatch.setattr(torch, "_fused_adamw_", refuse)


def with_another_eps(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch._fused_adamw_

    def changed(*args: Any, eps: float, **options: Any) -> None:
        kernel(*args, eps=eps * eps, **options)

    monkeypatch.setattr(torch, "_fused_adamw_", changed)


def with_its_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch._fused_adam_

    def changed(*args: Any, **options: Any) -> None:
        kernel(*args[:5], [torch.ones(()) for _ in args[5]], **options)

    monkeypatch.setattr(torch, "_fused_adam_", changed)


@pytest.mark.parametrize(
    "broken",
    [gone, changed_in_its_arguments, not_for_this_build, with_another_eps, with_its_own_count],
)
@pytest.mark.parametrize("decoupled", [False, True])
def test_without_such_kernels_it_does_without(
    broken: Callable[[pytest.MonkeyPatch], None],
    decoupled: bool,
    monkeypatch: pytest.MonkeyPatch,
    untried: None,
) -> None:
    grads = gradients(12)
    options: dict[str, Any] = {"weight_decay": 0.1, "decoupled_weight_decay": decoupled}
    loop = walk(grads, foreach=False, **options)
    broken(monkeypatch)
    np.testing.assert_array_equal(walk(grads, **options), loop)
    with pytest.raises(RuntimeError, match="fused=True is not possible: torch has no fused Adam"):
        walk(grads, fused=True, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e5, 1e10, 1e20])
def test_gradients_of_any_size(size: float, dtype: torch.dtype) -> None:
    """Also where their squares vanish or overflow."""
    grads = gradients(8)[:, :1].repeat(4, axis=1) * size
    fused = walk(grads, dtype=dtype, fused=True, lr=1.0) - walk(grads * 0, dtype=dtype)
    loop = walk(grads, dtype=dtype, foreach=False, lr=1.0) - walk(grads * 0, dtype=dtype)
    rtol = 1e-6 if dtype == torch.float32 else 1e-14
    np.testing.assert_allclose(fused, loop, rtol=rtol, atol=4 * torch.finfo(dtype).eps)


def test_what_cannot_be_fused_says_so_and_does_not_count() -> None:
    for dtype, eps in ((torch.float32, 0.0), (torch.float16, 1e-8)):
        p = torch.ones(2, dtype=dtype)
        optimizer = RAdam([p], eps=eps, fused=True)
        p.grad = torch.ones_like(p)
        with pytest.raises(RuntimeError, match=f"eps={eps:g} vanishes in {dtype}"):
            optimizer.step()
        assert optimizer.state[p]["step"] == 0
        assert torch.equal(p, torch.ones_like(p))
        assert not optimizer.state[p]["exp_avg"].any()


def test_gradients_are_left_as_they_are() -> None:
    grad = torch.tensor([[1.0, -2.0], [math.pi, 0.0]])
    kept = grad.clone()
    for options in ({}, {"decoupled_weight_decay": False}, {"foreach": True}, {"capturable": True}):
        p = torch.ones(2, 2)
        optimizer = RAdam([p], weight_decay=0.1, maximize=True, **options)
        for _ in range(7):
            p.grad = grad
            optimizer.step()
        assert torch.equal(grad, kept)
        assert p.grad is grad
