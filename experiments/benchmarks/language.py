"""Words per second in training a language model: the engine against a straightforward loop.

An LSTM, on a GPU that of the paper in its batches of 128 unrolls of 20 words; and a small GPT-2. On
a CPU both are smaller. All read the State of the Union addresses: what the words are takes no time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from experiments.benchmarks import train
from experiments.benchmarks.train import Contestant, Turn, Work
from experiments.data import text
from experiments.spec import Optim, Run, options

DROPOUT, CLIP, RATE = 0.1, 5.0, 1e-3
CUTOFFS = (500, 2000)
EPOCH = 300
"""Updates."""
SIZES: dict[str, dict[str, dict[str, int]]] = {
    "lstm": {
        "cpu": {"batch": 32, "length": 20, "layers": 2, "width": 128, "embedding": 64},
        "cuda": {"batch": 128, "length": 20, "layers": 2, "width": 2048, "embedding": 300},
    },
    "pre": {
        "cpu": {"batch": 16, "length": 32, "layers": 2, "width": 64, "heads": 2},
        "cuda": {"batch": 32, "length": 256, "layers": 6, "width": 384, "heads": 6},
    },
}
"""By network, as the task names them, and kind of device."""


def benchmark(device: str = "cpu", network: str = "lstm") -> pd.DataFrame:
    """Median words per second over all jobs, and the ratio to the straightforward loop."""
    kind = torch.device(device).type
    on_gpu = kind == "cuda"
    contestants = train.NOT_COMPILED if on_gpu else train.IN_FLOAT32
    return train.take_turns(work(kind, network), contestants, device, updates=100 if on_gpu else 20)


def work(kind: str, network: str = "lstm") -> Work:
    """What is trained on a kind of device: "cpu" or "cuda"."""
    sizes = SIZES[network][kind]
    run, plain = (
        functools.partial(_run, kind, network),
        functools.partial(plain_loop, kind, network),
    )
    return Work("words", sizes["batch"] * sizes["length"], run, plain)


def _tokens(sizes: dict[str, int]) -> int:
    return EPOCH * sizes["batch"] * sizes["length"] + 1


def _run(kind: str, network: str, one: Contestant) -> Run:
    sizes = SIZES[network][kind]
    return Run(
        task="language_model",
        optim=Optim("adam", RATE),
        epochs=train.EPOCHS,
        batch_size=sizes["batch"],
        precision=one.precision,
        clip=CLIP,
        settings=options(
            **{name: size for name, size in sizes.items() if name != "batch"},
            corpus="sotu",
            train_tokens=_tokens(sizes),
            held_out_tokens=1,
            network=network,
            cutoffs=CUTOFFS,
            dropout=DROPOUT,
        ),
    )


def plain_loop(kind: str, network: str, turn: Turn, device: str, updates: int) -> None:
    """Train as tutorials do; for ever, if `turn` never raises."""
    sizes = SIZES[network][kind]
    corpus = text.load("sotu", Path(), _tokens(sizes), held_out_tokens=1)
    tokens = torch.from_numpy(corpus.train.copy()).long()
    model = NETWORKS[network](len(corpus.words), sizes).to(device)
    if network == "lstm":
        rows = EPOCH * sizes["length"]
        streams = tokens.unfold(0, rows + 1, rows).t().contiguous().to(device)
        firsts = range(0, rows, sizes["length"])
        batches: Any = [streams[first : first + sizes["length"] + 1] for first in firsts]
    else:
        windows: Any = tokens.unfold(0, sizes["length"] + 1, sizes["length"])
        batches = DataLoader(windows, sizes["batch"], shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    done, total = 0, 0.0
    while True:
        for batch in batches:
            optimizer.zero_grad()
            loss = model(batch.to(device))
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total += loss.item()
            done += 1
            if done % updates == 0:
                turn()


class _LSTM(nn.Module):
    """Tokens [time, batch] -> the mean loss; it goes on where the last batch has ended."""

    def __init__(self, words: int, sizes: dict[str, int]) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, sizes["embedding"])
        self.lstm = nn.LSTM(sizes["embedding"], sizes["width"], sizes["layers"], dropout=DROPOUT)
        self.drop = nn.Dropout(DROPOUT)
        self.head = nn.AdaptiveLogSoftmaxWithLoss(sizes["width"], words, [*CUTOFFS])
        self.state: Any = None

    def forward(self, window: Tensor) -> Tensor:
        self.state = self.state and tuple(part.detach() for part in self.state)
        read, self.state = self.lstm(self.drop(self.embed(window[:-1])), self.state)
        loss: Tensor = self.head(self.drop(read).flatten(0, 1), window[1:].flatten()).loss
        return loss


class _GPT2(nn.Module):
    """Tokens [batch, time] -> the mean loss."""

    def __init__(self, words: int, sizes: dict[str, int]) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        self.body = GPT2Model(
            GPT2Config(
                vocab_size=words,
                n_positions=sizes["length"],
                n_embd=sizes["width"],
                n_layer=sizes["layers"],
                n_head=sizes["heads"],
                resid_pdrop=DROPOUT,
                embd_pdrop=DROPOUT,
                attn_pdrop=DROPOUT,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.head = nn.AdaptiveLogSoftmaxWithLoss(sizes["width"], words, [*CUTOFFS])

    def forward(self, windows: Tensor) -> Tensor:
        read = self.body(input_ids=windows[:, :-1]).last_hidden_state
        loss: Tensor = self.head(read.flatten(0, 1), windows[:, 1:].flatten()).loss
        return loss


NETWORKS: dict[str, Callable[[int, dict[str, int]], nn.Module]] = {"lstm": _LSTM, "pre": _GPT2}
