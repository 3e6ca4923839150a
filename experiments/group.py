"""One run across several processes, as torchrun starts them: each takes its part of every batch.

The first process leads: it alone knows the campaign, and records. The others learn from it which
run is next and when to stop, and what they compute beside its part is the same in all of them.
Gradients are averaged, batch-norm statistics are those of the whole batch, and so the run is that
of one process up to rounding. (Random numbers in a model, of dropout, are the same for each part.)
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.spec import Run

Value = TypeVar("Value")

PATIENCE = datetime.timedelta(days=1)
"""The others wait while the leader measures or evaluates; torchrun sees to those that died."""


@dataclass(frozen=True)
class Group:
    """The processes that share a run; by itself, a process that shares none."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that records."""
        return self.rank == 0

    def agreed(self, value: Value) -> Value:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, device=torch.device("cpu"))
        return held[0]

    def call(self, run: Run | None) -> None:
        """Tell the others, which `follow`, what is next; None sends them home."""
        if self.leads:
            self.agreed(run)

    def shared(self, model: nn.Module) -> nn.Module:
        """The model, made to average its gradients and to share its batch-norm statistics."""
        if self.size == 1:
            return model
        if next(model.parameters()).device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        else:
            for norm in (one for one in model.modules() if isinstance(one, _BatchNorm)):
                norm.forward = functools.partial(_normalised, norm)  # type: ignore[method-assign]
        return nn.parallel.DistributedDataParallel(model)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.size == 1:
            return values
        dist.all_reduce(values)
        return values / self.size


def current() -> Group:
    """The group that this process has joined."""
    if not dist.is_initialized():
        return Group()
    return Group(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the group that torchrun has started, if it has; and on which device to compute.

    A leader that fails leaves the others to torchrun, which ends them.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    where = torch.device(device)
    backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    if where.type == "cuda":
        where = torch.device("cuda", dist.get_node_local_rank())
        torch.cuda.set_device(where)
    yield str(where)
    current().call(None)
    dist.destroy_process_group()


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """Batch normalisation by the statistics of all the processes' parts of the batch.

    As torch.nn.SyncBatchNorm does, which is for GPUs alone.
    """
    if not norm.training:
        evaluated: Tensor = type(norm).forward(norm, x)
        return evaluated
    dims = [dim for dim in range(x.dim()) if dim != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)  # of one value a channel
    wide = x.to(norm.weight.dtype)
    own_count = wide.new_full((1,), x.numel() / x.shape[1])
    *_, count = totals = _Total.apply(torch.cat([wide.sum(dims), own_count]))
    mean = totals[:-1] / count
    centred = wide - mean.view(shape)
    variance = _Total.apply(centred.square().sum(dims)) / count
    with torch.no_grad():
        share, unbiased = norm.momentum, variance * count / (count - 1)
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(unbiased, share)
        norm.num_batches_tracked += 1
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    out: Tensor = centred * scale.view(shape) + norm.bias.view(shape)
    return out.to(x.dtype)


class _Total(torch.autograd.Function):
    """The sum over the processes; the gradient of its part is the sum of the gradients."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
