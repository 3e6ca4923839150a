"""Ways to apply one update to many tensors at once: what `algorithm.apply_update` does, faster.

All take a batch of real tensors that share their plan, their type and their device.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from radam_core.algorithm import Hyperparameters, Update, apply_update, vanishes

# What torch's optimizers use: torch.compiler.disable, which takes seconds to import, but at the
# first call and not here.
uncompiled = getattr(torch, "_disable_dynamo", torch.compiler.disable)


class Batch(NamedTuple):
    """Parameters with their gradients, moments and numbers of updates: lists of one length."""

    params: list[Tensor]
    grads: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]

    @classmethod
    def of(cls, *tensors: Tensor) -> "Batch":
        """One parameter."""
        return cls(*([x] for x in tensors))

    def rows(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Parameter by parameter: (p, g, m, v)."""
        return zip(*self[:4], strict=True)

    def dtypes(self) -> set[torch.dtype]:
        """The types of all but the steps."""
        return set(map(attrgetter("dtype"), chain(*self[:4])))

    def real(self) -> "Batch":
        """The same memory, complex numbers seen as pairs of real ones; all share their type."""
        if not self.params[0].is_complex():
            return self
        # Autograd gives gradients whose conjugation is still to come; another tensor would have to
        # be changed in place, which view_as_real refuses.
        grads = [torch.view_as_real(g.resolve_conj()) for g in self.grads]
        params, exp_avgs, exp_avg_sqs = (
            list(map(torch.view_as_real, tensors))
            for tensors in (self.params, self.exp_avgs, self.exp_avg_sqs)
        )
        return Batch(params, grads, exp_avgs, exp_avg_sqs, self.steps)

    def local(self) -> "Batch":
        """The same memory, of a DTensor the part that this process holds.

        An update is element by element: no process needs another's part of a parameter, once the
        gradient is spread over them as the parameter is.
        """
        if set(map(type, self.params)) <= _WHOLE:
            return self
        params, grads, exp_avgs, exp_avg_sqs = (
            list(map(local_part, tensors, self.params)) for tensors in self[:4]
        )
        return Batch(params, grads, exp_avgs, exp_avg_sqs, self.steps)

    def count_update(self) -> None:
        """One more update of each."""
        if self.steps[0].is_cpu:
            # A tensor saves torch making one of the number for every step, which it does, too,
            # unless alpha says that this is no number.
            torch._foreach_add_(self.steps, _ONE, alpha=1.0)
        else:
            torch._foreach_add_(self.steps, 1)

    def chosen(self, which: Sequence[int]) -> "Batch":
        """Some of the parameters."""
        return Batch(*([tensors[i] for i in which] for tensors in self))

    def parts(self, most: int) -> Iterator["Batch"]:
        """Split into stretches of at most so many elements, or of one parameter with more."""
        first, elements = 0, 0
        for i, size in enumerate(map(Tensor.numel, self.params)):
            if elements + size > most and i > first:
                yield self.chosen(range(first, i))
                first, elements = i, 0
            elements += size
        yield self.chosen(range(first, len(self.params)))

    def alike(self, numbers: Iterable[float]) -> Iterator[tuple[float, "Batch"]]:
        """Split into those that share a number, their type and their device."""
        dtypes, devices = (map(attrgetter(name), self.params) for name in ("dtype", "device"))
        keys = list(zip(numbers, dtypes, devices, strict=True))
        if keys.count(keys[0]) == len(keys):  # nearly always, and much faster than a dictionary
            yield keys[0][0], self
            return
        kinds: dict[tuple[float, torch.dtype, torch.device], list[int]] = {}
        for i, key in enumerate(keys):
            kinds.setdefault(key, []).append(i)
        for (number, _, _), same in kinds.items():
            yield number, self.chosen(same)


_ONE = torch.ones((), dtype=torch.float32, device="cpu")
_WHOLE = {Tensor, torch.nn.Parameter}
"""Types that hold all of their elements; of others, such as DTensor, it has to be asked."""


def local_part(x: Any, p: Any) -> Any:
    """Of a tensor that is spread as a parameter is, or can be, what this process holds of it."""
    if not hasattr(x, "to_local"):
        return x
    spread = x if x.placements == p.placements else x.redistribute(placements=p.placements)
    return spread.to_local()


def apply_each(batch: Batch, update: Update, hyper: Hyperparameters) -> None:
    """One tensor after the other."""
    for p, g, m, v in batch.rows():
        apply_update(p, g, m, v, update, hyper)


def apply_foreach(batch: Batch, update: Update, hyper: Hyperparameters) -> None:
    """All tensors together: the operations of `apply_update`, in their order."""
    lr, (beta1, beta2), weight_decay, decoupled, maximize = hyper
    p, g, m, v = batch[:4]
    if maximize:
        g = list(torch._foreach_neg(g))
    if weight_decay != 0 and not decoupled:
        g = list(torch._foreach_add(g, p, alpha=weight_decay))
    torch._foreach_lerp_(m, g, 1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, g, g, 1 - beta2)
    if update.kind == "skip":
        return
    if weight_decay != 0 and decoupled:
        torch._foreach_mul_(p, 1 - lr * weight_decay)
    if update.kind == "sgd":
        torch._foreach_add_(p, m, alpha=-lr * update.size)
    else:
        denominators = list(torch._foreach_sqrt(v))
        torch._foreach_add_(denominators, update.eps)
        if vanishes(update.eps, p[0].dtype):
            for denominator in denominators:
                denominator.masked_fill_(denominator == 0, math.inf)
        torch._foreach_addcdiv_(p, m, denominators, -lr * update.size)


# ---- one pass over memory, by torch's fused kernels of Adam and AdamW

# Both compute p <- p - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps). At t = infinity the
# bias corrections are 1, and that is an adaptive update with lr times its size for lr. The others,
# a training's first few, go operation by operation.


def apply_fused(batch: Batch, update: Update, hyper: Hyperparameters) -> None:
    """All tensors in one kernel; :func:`obstacle` says where that cannot be."""
    if update.kind != "adaptive" or update.size == 0:
        apply_foreach(batch, update, hyper)
        return
    if not _are_rows(batch):
        is_row = [_is_one_row(p, m, v) for p, _, m, v in batch.rows()]
        others = batch.chosen([i for i, it_is in enumerate(is_row) if not it_is])
        apply_each(others, update, hyper)
        batch = batch.chosen([i for i, it_is in enumerate(is_row) if it_is])
        batch = batch._replace(grads=list(map(_laid_out, batch.grads, batch.params)))
    if batch.params:
        _call_kernel(batch, update, hyper)


def _call_kernel(batch: Batch, update: Update, hyper: Hyperparameters) -> None:
    p = batch.params[0]
    weight_decay = hyper.weight_decay
    if hyper.decoupled:
        weight_decay /= update.size  # the kernel multiplies it by its lr
    kernel = torch._fused_adamw_ if hyper.decoupled else torch._fused_adam_
    kernel(
        *batch[:4],
        [],
        [_infinity(p.device)] * len(batch.params),
        lr=float(hyper.lr) * update.size,
        beta1=hyper.betas[0],
        beta2=hyper.betas[1],
        weight_decay=weight_decay,
        eps=update.eps,
        amsgrad=False,
        maximize=hyper.maximize,
    )


@functools.cache
def _infinity(device: torch.device) -> Tensor:
    return torch.tensor(math.inf, dtype=torch.float32, device=device)


def _are_rows(batch: Batch) -> bool:
    """Whether every tensor fills a stretch of memory, all of a parameter in the same order.

    The kernel on a CPU takes that for granted, that on a GPU insists on it.
    """
    if not all(map(Tensor.is_contiguous, chain(*batch[:4]))):
        return False
    # Contiguous memory may yet differ in the strides of dimensions of one element.
    return _agree(Tensor.numel, batch) and not (
        batch.params[0].is_cuda and not _agree(Tensor.stride, batch)
    )


def _agree(measure: Callable[[Tensor], object], batch: Batch) -> bool:
    params, *others = (list(map(measure, tensors)) for tensors in batch[:4])
    return all(other == params for other in others)


def _is_one_row(p: Tensor, m: Tensor, v: Tensor) -> bool:
    """Whether all three fill a stretch of memory, in one order of the dimensions."""
    expected = 1
    for stride, size in sorted(zip(p.stride(), p.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return m.stride() == p.stride() == v.stride() and m.shape == p.shape == v.shape


def _laid_out(grad: Tensor, p: Tensor) -> Tensor:
    """A gradient in the order that its parameter has in memory."""
    return grad if grad.stride() == p.stride() else torch.empty_like(p).copy_(grad)


def obstacle(batch: Batch, eps: float) -> str | None:
    """Why an update with this ``eps`` cannot be fused, or None if it can."""
    p = batch.params[0]
    if not kernel_works(p.device.type):
        return f"torch has no fused Adam kernel for {p.device.type!r} that works as expected"
    if vanishes(eps, p.dtype):
        return f"eps={eps:g} vanishes in {p.dtype}, and zero moments would divide by zero"
    return None


@functools.cache
def kernel_works(device: str) -> bool:
    """Whether torch's fused kernels are there and do what this module rests on.

    They are no public interface of torch; so they are tried on two elements, once a process.
    """
    if device not in ("cpu", "cuda"):
        return False
    update = Update("adaptive", 0.5, 1e-2)
    for decoupled in (True, False):
        hyper = Hyperparameters(0.1, (0.9, 0.99), 0.1, decoupled, True)
        values = [[1.0, -2.0], [3.0, 0.5], [0.2, 0.1], [0.3, 0.2]]
        fused, plain = (
            [torch.tensor(x, dtype=torch.float32, device=device) for x in values] for _ in range(2)
        )
        try:
            _call_kernel(Batch.of(*fused, _infinity(fused[0].device)), update, hyper)
        except (AttributeError, TypeError, RuntimeError):
            return False
        p, g, m, v = plain
        apply_update(p, g, m, v, update, hyper)
        if not torch.allclose(torch.stack(fused), torch.stack(plain), rtol=1e-5):
            return False
    return True


def apply_differentiable(batch: Batch, update: Update, hyper: Hyperparameters) -> None:
    """Tensor by tensor, such that autograd can go back through it, and through a tensor ``lr``.

    The moments change in place at the next update, so no operation may save one of them for its
    derivative: products with numbers save nothing, and quotients are of fresh tensors.
    """
    lr, (beta1, beta2), weight_decay, decoupled, maximize = hyper
    for p, g, m, v in batch.rows():
        if maximize:
            g = -g
        if weight_decay != 0 and not decoupled:
            g = g + weight_decay * p
        m.mul_(beta1).add_((1 - beta1) * g)
        v.mul_(beta2).add_((1 - beta2) * g * g)
        if update.kind == "skip":
            continue
        step: Any = update.size * m
        if update.kind == "adaptive":
            denominator = v.sqrt() + update.eps
            if vanishes(update.eps, p.dtype):
                denominator = denominator.masked_fill(denominator == 0, math.inf)
            step = step / denominator
        if weight_decay != 0 and decoupled:
            step = step + weight_decay * p
        p.sub_(lr * step)
