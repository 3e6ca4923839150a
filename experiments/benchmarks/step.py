"""The time of one optimizer step, against torch's optimizers, other RAdams, and the memory.

And what the options of RAdam cost.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchvision.models import resnet18

from experiments.benchmarks._timing import measure, tabulate
from experiments.peers import implementations
from experiments.tasks._resnet import ResNet
from radam_core import RAdam

Shapes = list[torch.Size]
Make = Callable[..., torch.optim.Optimizer]
Build = Callable[[], Callable[[], object]]
"""Makes a step, with parameters of its own."""
ROUNDS = 25
"""How often each build of the contestants is timed."""


def _shapes_of(network: torch.nn.Module) -> Shapes:
    return [p.shape for p in network.parameters()]


WORKLOADS: dict[str, Callable[[], Shapes]] = {
    "65 tensors of one element": lambda: [torch.Size([1])] * 65,
    "ResNet-20: 65 tensors, 0.27 M": lambda: _shapes_of(ResNet(20)),
    "180 tensors, 2.2 M": lambda: [torch.Size([12_000])] * 180,
    "ResNet-18: 62 tensors, 11.7 M": lambda: _shapes_of(resnet18()),
    "4 tensors, 33.6 M": lambda: [torch.Size([2048, 4096])] * 4,
}
"""By name: shapes of the parameters. In the first nothing is left but the overhead of a step."""
ON_A_GPU: dict[str, Callable[[], Shapes]] = {
    "100 tensors, 100 M": lambda: [torch.Size([1000, 1000])] * 100,
}

OURS: dict[str, Make] = {
    "radam_core.RAdam": RAdam,
    "radam_core.RAdam, an early update": functools.partial(RAdam, threshold=1900.0),
    "radam_core.RAdam (foreach)": functools.partial(RAdam, foreach=True),
}
TORCHS: dict[str, Make] = {
    "torch.optim.RAdam (foreach)": functools.partial(torch.optim.RAdam, foreach=True),
    "torch.optim.RAdam (loop)": functools.partial(torch.optim.RAdam, foreach=False),
    "torch.optim.AdamW (fused)": functools.partial(torch.optim.AdamW, fused=True),
}
OPTIONS: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "radam_core.RAdam": (torch.float32, {}),
    'rectification="exact"': (torch.float32, {"rectification": "exact"}),
    "foreach=True": (torch.float32, {"foreach": True}),
    "foreach=False": (torch.float32, {"foreach": False}),
    "eps=0": (torch.float32, {"eps": 0.0}),
    "capturable=True": (torch.float32, {"capturable": True}),
    "bfloat16": (torch.bfloat16, {}),
    "bfloat16, moments in float32": (torch.bfloat16, {"state_dtype": torch.float32}),
    "bfloat16, stochastic rounding": (
        torch.bfloat16,
        {"state_dtype": torch.float32, "rounding": "stochastic"},
    ),
    "float16": (torch.float16, {}),
    "float16, moments in float32": (torch.float16, {"state_dtype": torch.float32}),
}
"""By name: the type of the parameters, and the arguments."""
PEERS = {
    "torch-optimizer": "torch_optimizer.RAdam",
    "timm": "timm.RAdamLegacy",
    "pytorch-optimizer": "pytorch_optimizer.RAdam",
}
"""By the name of the implementation: that of its rows."""
MEMORY = "moving the bytes"
"""Reading p, g, m and v, and writing p, m and v: what no step in one pass can do without."""


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median milliseconds a step for every workload, and the ratio to ours within a round."""
    workloads = WORKLOADS | (ON_A_GPU if torch.device(device).type == "cuda" else {})
    return _compared(
        {name: dict(_contestants(of(), device)) for name, of in workloads.items()}, device
    )


def benchmark_options(device: str = "cpu") -> pd.DataFrame:
    """Median milliseconds a step with each option, and the ratio to the default."""
    workloads = ("ResNet-20: 65 tensors, 0.27 M", "ResNet-18: 62 tensors, 11.7 M")
    return _compared(
        {name: dict(_options(WORKLOADS[name](), device)) for name in workloads}, device
    )


def _compared(workloads: Mapping[str, Mapping[str, Build]], device: str) -> pd.DataFrame:
    """All that are built for a workload, against each other.

    They are built several times, in an order of chance: where in memory one comes to lie shows in
    its time.
    """
    tables = []
    for workload, builds in workloads.items():
        print(f"timing {workload} ...", file=sys.stderr)
        seconds: dict[str, list[float]] = {name: [] for name in builds}
        for chance in map(random.Random, range(4)):
            names = chance.sample(list(builds), len(builds))
            contestants = {name: builds[name]() for name in names}
            for name, times in measure(contestants, device, ROUNDS).items():
                seconds[name] += times
        table = tabulate(seconds)
        table.insert(0, "parameters", workload)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _contestants(shapes: Shapes, device: str) -> Iterator[tuple[str, Build]]:
    peers = {
        PEERS[one.name]: one.make
        for one in implementations.PEERS
        if one.name in PEERS and one.installed
    }
    for name, make in (OURS | TORCHS | peers).items():
        yield name, functools.partial(_step, make, shapes, device)
    if torch.device(device).type == "cuda":
        for name, make in {
            "radam_core.RAdam": RAdam,
            "torch.optim.RAdam": torch.optim.RAdam,
        }.items():
            yield f"{name} (CUDA graph)", functools.partial(_captured, make, shapes, device)
    else:  # on a GPU it would time the launches of one kernel a tensor, and no memory
        yield MEMORY, functools.partial(_memory, shapes, device)


def _options(shapes: Shapes, device: str) -> Iterator[tuple[str, Build]]:
    for name, (dtype, arguments) in OPTIONS.items():
        make = functools.partial(RAdam, **arguments)
        yield name, functools.partial(_step, make, shapes, device, dtype)


def _step(
    make: Make, shapes: Shapes, device: str, dtype: torch.dtype = torch.float32
) -> Callable[[], object]:
    return make(_parameters(shapes, device, dtype)).step


def _parameters(shapes: Shapes, device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    parameters = []
    for shape in shapes:
        parameter, grad = (
            torch.randn(shape, device=device, generator=generator).to(dtype) for _ in range(2)
        )
        parameter.requires_grad_().grad = grad
        parameters.append(parameter)
    return parameters


def _captured(make: Make, shapes: Shapes, device: str) -> Callable[[], object]:
    """An optimizer's step as a CUDA graph."""
    optimizer = make(_parameters(shapes, device), capturable=True)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        optimizer.step()  # makes the state
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    return functools.partial(_replay, graph, optimizer)


def _replay(graph: torch.cuda.CUDAGraph, _: torch.optim.Optimizer) -> None:
    """The optimizer has the tensors that the graph works on: they must not go before it."""
    graph.replay()


def _memory(shapes: Shapes, device: str) -> Callable[[], object]:
    """In place, so that no byte moves that a step does not move; and no arithmetic to speak of."""
    written = [torch.ones(shape, device=device) for shape in shapes for _ in "pmv"]
    read = [torch.ones(shape, device=device) for shape in shapes]

    def move() -> None:
        for x in written:
            x.neg_()
        for x in read:
            x.sum()

    return move
