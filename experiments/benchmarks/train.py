"""What is trained on per second: the engine against a straightforward loop, in turns.

Here images: ResNet-20 in batches of 128 on random bytes of CIFAR-10's shape, which take as long as
photographs. What else is trained is a `Work` of its own.

Each contestant has processes of its own, because a process keeps its settings of memory, threads
and kernels; they all stay, and train while it is their turn. What is counted is training alone:
loading, augmentation, forward and backward pass and update, and no evaluation. The loop's workers
load a few batches ahead while it is not its turn, which flatters it.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from experiments import data, engine, machine
from experiments.benchmarks._timing import against, measure
from experiments.errors import UserError
from experiments.spec import Optim, Run, options
from experiments.tasks._per_image import Opened
from experiments.tasks._resnet import ResNet

BATCH, DEPTH, RATE = 128, 20, 1e-3
EPOCH = 300
"""Updates."""
MEAN, STD = [0.5] * 3, [0.25] * 3
EPOCHS = 1_000
"""More than any benchmark comes to."""
ROUNDS = 7
Turn = Callable[[], None]
"""Called by a contestant when its turn is over: comes back when the next one begins."""


@dataclass(frozen=True)
class Contestant:
    """How one trains; with several jobs, that many processes side by side share the device."""

    precision: Literal["float32", "bfloat16"]
    plain: bool = False
    compiled: bool = False
    jobs: int = 1


@dataclass(frozen=True)
class Work:
    """What is trained: the engine's run, and the plain loop.

    `size` is how many of the `unit` an update has; `data_root` is the engine's folder of data sets.
    """

    unit: str
    size: int
    run: Callable[[Contestant], Run]
    plain: Callable[[Turn, str, int], None]
    data_root: Path = Path("data")


ON_CPU = {
    "plain loop, float32": Contestant("float32", plain=True),
    "plain loop, float32, 2 jobs": Contestant("float32", plain=True, jobs=2),
    "engine, float32": Contestant("float32"),
    "engine, float32, 2 jobs": Contestant("float32", jobs=2),
    "engine, bfloat16": Contestant("bfloat16"),
    "engine, bfloat16, 2 jobs": Contestant("bfloat16", jobs=2),
}
IN_FLOAT32 = {
    "plain loop": Contestant("float32", plain=True),
    "plain loop, 2 jobs": Contestant("float32", plain=True, jobs=2),
    "engine": Contestant("float32"),
    "engine, 2 jobs": Contestant("float32", jobs=2),
}
NOT_COMPILED = {
    "plain loop, float32": Contestant("float32", plain=True),
    "engine, float32": Contestant("float32"),
    "engine, bfloat16": Contestant("bfloat16"),
}
ON_GPU = {
    **NOT_COMPILED,
    **{
        f"engine, bfloat16, compiled, {jobs} jobs": Contestant("bfloat16", compiled=True, jobs=jobs)
        for jobs in (1, 2, 4, 8)
    },
}


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median images per second over all jobs, and the ratio to the straightforward loop."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        return take_turns(IMAGES, ON_GPU, device, updates=100)
    return take_turns(IMAGES, ON_CPU, device, updates=20)


def take_turns(
    work: Work,
    contestants: Mapping[str, Contestant],
    device: str,
    updates: int,
    rounds: int = ROUNDS,
) -> pd.DataFrame:
    """Give each contestant a turn of so many updates a job, round after round.

    Ratios are taken within a round, and so are their quartiles.

    Raises
    ------
    UserError
        If a process of a contestant ended.
    """
    with contextlib.ExitStack() as stack:
        turns = {
            name: functools.partial(
                _take_turn, name, stack.enter_context(_team(name, work, one, device, updates))
            )
            for name, one in contestants.items()
        }
        seconds = measure(turns, device, rounds)
    rates = {
        name: [one.jobs * updates * work.size / took for took in seconds[name]]
        for name, one in contestants.items()
    }
    first = next(iter(rates.values()))
    rows = []
    for name, of in rates.items():
        rows.append(
            {
                "contestant": name,
                f"{work.unit}/s": f"{statistics.median(of):.0f}",
                "ms/update": f"{1e3 * work.size / statistics.median(of):.3g}",
                **against(of, first),
            }
        )
    return pd.DataFrame(rows)


@contextlib.contextmanager
def _team(
    name: str, work: Work, one: Contestant, device: str, updates: int
) -> Iterator[list[Connection]]:
    """The processes of a contestant, after their first turn."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // one.jobs)
    processes, lines = [], []
    try:
        for _ in range(one.jobs):
            ours, theirs = context.Pipe()
            how = (theirs, work, one, device, updates, threads)
            process = context.Process(target=_train, args=how)
            process.start()
            theirs.close()  # else the end of those that hold it would not be noticed
            processes.append(process)
            lines.append(ours)
        _take_turn(name, lines)
        yield lines
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _take_turn(name: str, team: list[Connection]) -> None:
    for line in team:
        line.send("go")
    try:
        for line in team:
            line.recv()
    except EOFError as error:
        raise UserError(f"a process of {name!r} ended; what it printed says why") from error


def _train(
    line: Connection, work: Work, one: Contestant, device: str, updates: int, threads: int
) -> None:
    """Train, in a process of its own, whenever it is this one's turn."""
    torch.set_num_threads(threads)
    machine.start_processes_as_usual()

    def turn() -> None:
        line.send("done")
        line.recv()

    line.recv()
    with contextlib.suppress(EOFError):  # the benchmark is over
        if one.plain:
            work.plain(turn, device, updates)
        else:
            engine.execute(
                work.run(one),
                device=device,
                data_root=work.data_root,
                compiled=one.compiled,
                window=updates,
                report=lambda *_: turn(),
            )


def _run(one: Contestant) -> Run:
    return Run(
        task="noise",
        optim=Optim("adam", RATE),
        epochs=EPOCHS,
        batch_size=BATCH,
        precision=one.precision,
        settings=options(
            depth=DEPTH, train_images=EPOCH * BATCH, validation_images=1, augment=True
        ),
    )


def plain_loop(turn: Turn, device: str, updates: int) -> None:
    """Train as tutorials do; for ever, if `turn` never raises."""
    noise = data.load("noise", Path())
    loader = DataLoader(
        Opened(noise.train_images, noise.train_labels, MEAN, STD),
        batch_size=BATCH,
        shuffle=True,
        num_workers=min(8, os.cpu_count() or 1),
        pin_memory=torch.device(device).type == "cuda",
    )
    model = ResNet(DEPTH).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    done, total = 0, 0.0
    while True:
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.item()
            done += 1
            if done % updates == 0:
                turn()


IMAGES = Work("images", BATCH, _run, plain_loop)
