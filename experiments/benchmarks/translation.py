"""Tokens per second in training a Transformer to translate: the engine against a plain loop.

On a GPU it is the network of the paper, on a CPU a smaller one, both on number words and dates,
which are installed with the packages. The plain loop trains the same network on as many sentences
an update, but takes them as they come, where the engine's batches are of sentences of one length.
What is counted are the tokens of the targets, and no padding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from experiments.benchmarks import train
from experiments.benchmarks.train import Contestant, Turn, Work
from experiments.data.bpe import END, PAD
from experiments.spec import Optim, Run, options
from experiments.tasks.translation import SMOOTHING, Translation

CLIP, RATE, VOCABULARY = 25.0, 1e-3, 1_000
EPOCH = 300
"""Updates."""
TOKENS = {"cpu": 800, "cuda": 4_000}
"""The most of a batch."""
SIZES = {
    "cpu": {"width": 128, "layers": 6, "heads": 4, "feed_forward": 256},
    "cuda": {"width": 512, "layers": 6, "heads": 4, "feed_forward": 1_024},
}

ON_GPU = {
    **train.NOT_COMPILED,
    "engine, bfloat16, compiled": Contestant("bfloat16", compiled=True),
}


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median tokens per second over all jobs, and the ratio to the plain loop."""
    kind = torch.device(device).type
    on_gpu = kind == "cuda"
    contestants, updates = (ON_GPU, 100) if on_gpu else (train.IN_FLOAT32, 10)
    with TemporaryDirectory() as folder:  # all need the same encoding
        return train.take_turns(work(kind, Path(folder)), contestants, device, updates)


def work(kind: str, data_root: Path) -> Work:
    """What is trained on a kind of device: "cpu" or "cuda"; with a folder for the encoding."""
    task = _task(kind, data_root)
    tokens = sum(map(len, task.splits["train"][1])) // task.batches_per_pass
    run, plain = functools.partial(_run, kind), functools.partial(plain_loop, kind, data_root)
    return Work("tokens", tokens, run, plain, data_root)


def _task(kind: str, data_root: Path) -> Translation:
    return Translation(_run(kind, Contestant("float32")), data_root, torch.device("cpu"))


def _run(kind: str, one: Contestant) -> Run:
    return Run(
        task="translation",
        optim=Optim("adam", RATE),
        epochs=train.EPOCHS,
        batch_size=TOKENS[kind],
        precision=one.precision,
        clip=CLIP,
        settings=options(
            **SIZES[kind],
            corpus="numbers",
            source="de",
            target="en",
            vocabulary=VOCABULARY,
            lengths=(1, 64),
            updates=EPOCH,
            dropout=0.1,
            positions=128,
            norm="post",
            beam=1,
            averaged=1,
        ),
    )


def plain_loop(kind: str, data_root: Path, turn: Turn, device: str, updates: int) -> None:
    """Train as tutorials do; for ever, if `turn` never raises."""
    task = _task(kind, data_root)
    pairs: Any = list(zip(*task.splits["train"], strict=True))  # a sequence is a data set
    sentences = round(len(pairs) / task.batches_per_pass)
    loader: DataLoader[Any] = DataLoader(
        pairs, sentences, shuffle=True, drop_last=True, collate_fn=_padded
    )
    model = task.model().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    done, total = 0, 0.0
    while True:
        for batch in loader:
            source, target = (side.to(device) for side in batch)
            optimizer.zero_grad()
            logits = model(
                input_ids=source,
                attention_mask=source != PAD,
                decoder_input_ids=F.pad(target[:, :-1], (1, 0), value=END),
                use_cache=False,
            ).logits
            loss = F.cross_entropy(
                logits.flatten(0, 1),
                target.flatten(),
                ignore_index=PAD,
                label_smoothing=SMOOTHING,
            )
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total += loss.item()
            done += 1
            if done % updates == 0:
                turn()


def _padded(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, ...]:
    """Sources and targets, each [sentences, tokens]."""
    return tuple(
        nn.utils.rnn.pad_sequence([torch.tensor(one) for one in side], True, PAD)
        for side in zip(*pairs, strict=True)
    )
