"""An update as one CUDA graph: the GPU is told once what to do, and then only to do it again.

An update of a small network is a few hundred kernels of some microseconds each. Launched one by
one, they keep the processor busy for longer than the GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WARMUP = 3
"""Calls that run as usual before one is recorded: they fill caches and create optimizer state."""

Step = Callable[[Tensor], Tensor]
"""Batch -> loss, with the gradients or the whole update done on the way."""


class Replay:
    """A step that is recorded once for each shape of a batch, and replayed from then on.

    Every call does the step on its batch, recorded or not: the result is that of the step.

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
        self.calls: Counter[torch.Size] = Counter()
        self.records: dict[torch.Size, Step] = {}

    def __call__(self, batch: Tensor) -> Tensor:
        self.calls[batch.shape] += 1
        if self.calls[batch.shape] <= WARMUP:
            return self._aside(batch)
        if batch.shape not in self.records:
            self.records[batch.shape] = self._record(batch)
        return self.records[batch.shape](batch)

    def _aside(self, batch: Tensor) -> Tensor:
        """Do the step on another stream than the usual one, as recording will."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self.step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _record(self, batch: Tensor) -> Step:
        """Record the step, which is not yet done by that, on a copy of the batch."""
        held = batch.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.step(held)
        gradients = [parameter.grad for parameter in self.parameters]

        def replay(batch: Tensor) -> Tensor:
            held.copy_(batch)
            graph.replay()
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient  # where this graph, and not another, has written it
            return loss.clone()

        return replay
