"""An update as one CUDA graph: the GPU is told once what to do, and then only to do it again.

An update of a small network is a few hundred kernels of some microseconds each. Launched one by
one, they keep the processor busy for longer than the GPU.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

WARMUP = 3
"""Calls that run as usual before one is recorded: they fill caches and create optimizer state."""

Step = Callable[[Tensor], Tensor]
"""Batch -> loss, with the gradients or the whole update done on the way."""


class Replay:
    """A step that is recorded once for each shape of a batch, and replayed from then on.

    Every call does the step on its batch, recorded or not: the result is that of the step.

    The recordings share their memory: what one leaves there, a gradient too, lasts only until
    another is replayed.

    Parameters
    ----------
    step
        What is recorded. It must not wait for the GPU, must do the same operations for every batch
        of a shape, and may read what changes between calls only from tensors that stay in place.
    parameters
        Those whose gradients the caller may look for after a call.
    """

    def __init__(self, step: Step, parameters: Sequence[nn.Parameter]) -> None:
        self.step, self.parameters = step, parameters
        self.held: dict[torch.Size, Tensor] = {}
        self.calls: Counter[torch.Size] = Counter()
        self.records: dict[torch.Size, Callable[[], Tensor]] = {}

    def __call__(self, batch: Tensor) -> Tensor:
        shape = batch.shape
        if shape not in self.held:  # always the same one: a compiler sees to the strides, too
            self.held[shape] = torch.empty(shape, dtype=batch.dtype, device=batch.device)
        held = self.held[shape].copy_(batch)
        self.calls[shape] += 1
        if self.calls[shape] <= WARMUP:
            return self._aside(held)
        if shape not in self.records:
            self.records[shape] = self._record(held)
        return self.records[shape]()

    @functools.cached_property
    def memory(self) -> Any:
        """What all recordings share."""
        return torch.cuda.graph_pool_handle()

    def _aside(self, held: Tensor) -> Tensor:
        """Do the step on another stream than the usual one, as recording will."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self.step(held)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _record(self, held: Tensor) -> Callable[[], Tensor]:
        """Record the step, which is not yet done by that."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.memory):
            loss = self.step(held)
        parameters = self.parameters  # not of self, which is to go when nobody needs it any more
        gradients = [parameter.grad for parameter in parameters]

        def replay() -> Tensor:
            graph.replay()
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient  # where this graph, and not another, has written it
            return loss.clone()

        return replay
