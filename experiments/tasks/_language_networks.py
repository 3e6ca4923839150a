"""Networks that predict the next word: the paper's LSTM, and Transformers before and after GPT-2.

Tokens are [time, streams]. The softmax is adaptive (Grave et al. 2017): frequent words have a short
way to their probability, and rarer ones a longer and narrower one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHRINKAGE = 4
"""Each cluster of rarer words has so many times fewer features than the one before."""
AT_ONCE = 50_000
"""The largest vocabulary for which a GPU computes every word's probability.

To pick out each cluster's targets first is less arithmetic, but the CPU waits for their number.
"""

State = Tensor | None
"""What a network keeps of the words that it has read; None if nothing."""


def is_small(words: int) -> bool:
    """Whether a vocabulary is so small that a GPU computes all of its probabilities."""
    return words <= AT_ONCE


def found_at_once(head: nn.AdaptiveLogSoftmaxWithLoss, features: Tensor, targets: Tensor) -> Tensor:
    """What `head(features, targets).output` is, with every cluster computed for every target.

    The shapes do not depend on how many targets each cluster has.
    """
    ranks = F.log_softmax(head.head(features), dim=1)  # of frequent words, then of the clusters
    frequent = head.cutoffs[0]
    found = ranks.gather(1, targets.clamp(max=frequent - 1)[:, None])[:, 0]
    for number, tail in enumerate(head.tail):
        first, end = head.cutoffs[number : number + 2]
        place = (targets - first).clamp(0, end - first - 1)[:, None]
        within = F.log_softmax(tail(features), dim=1).gather(1, place)[:, 0]
        found = torch.where(targets < first, found, ranks[:, frequent + number] + within)
    return found


class Network(nn.Module):
    """A body that turns tokens into features, and the adaptive softmax on these."""

    def __init__(self, words: int, features: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.head = nn.AdaptiveLogSoftmaxWithLoss(features, words, [*cutoffs], SHRINKAGE)

    def forward(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """The features [time, streams, features] after every token, and the state at the end."""
        raise NotImplementedError

    def log_probabilities(
        self, tokens: Tensor, targets: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """Of the words that follow in truth, in nats [time, streams]; and the state at the end."""
        features, state = self(tokens, state)
        # In float32 always: eight bits are too few for the logarithm of a probability.
        with torch.autocast(features.device.type, enabled=False):
            asked = features.float().flatten(0, 1), targets.flatten()
            at_once = features.is_cuda and is_small(self.head.n_classes)
            found = found_at_once(self.head, *asked) if at_once else self.head(*asked).output
        return found.view_as(targets), state

    def training_loss(self, batch: Tensor) -> Tensor:
        """The mean over tokens [time + 1, streams] of minus the log-probability of the next."""
        return -self.log_probabilities(batch[:-1], batch[1:], None)[0].mean()

    def remembered(self, streams: int) -> State:
        """The state in which so many streams of another text are begun."""
        return None


class Recurrent(Network):
    """An LSTM that reads `streams` texts side by side, and goes on in each where it was.

    The state is part of the model, so that a checkpoint has it. It is never reset: an epoch begins
    with what is left of the last one, and so does every other text. To begin that with a state of
    zeros would read it in a state that training had once, before its first update.
    """

    def __init__(
        self,
        words: int,
        cutoffs: Sequence[int],
        embedding: int,
        width: int,
        layers: int,
        dropout: float,
        streams: int,
    ) -> None:
        super().__init__(words, width, cutoffs)
        self.embedding = nn.Embedding(words, embedding)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        self.lstm = nn.LSTM(embedding, width, layers, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.carried: Tensor
        self.register_buffer("carried", torch.zeros(2, layers, streams, width))

    def forward(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """As `Network.forward`; the state is hidden and cell states [2, layers, streams, width]."""
        if state is None:
            state = self.carried.new_zeros(2, self.lstm.num_layers, tokens.shape[1], self.width)
        read, (hidden, cell) = self.lstm(self.dropout(self.embedding(tokens)), tuple(state))
        return self.dropout(read), torch.stack((hidden, cell)).float()

    def remembered(self, streams: int) -> State:
        """The carried states: stream i begins with that of training stream i modulo batch size.

        What an evaluation gives thus depends on the batch size.
        """
        return self.carried[:, :, torch.arange(streams) % self.carried.shape[2]]

    @property
    def width(self) -> int:
        """Of the hidden state."""
        return int(self.lstm.hidden_size)

    def training_loss(self, batch: Tensor) -> Tensor:
        """As `Network.training_loss`, begun with the state that the last batch has left."""
        found, state = self.log_probabilities(batch[:-1], batch[1:], self.carried.clone())
        assert state is not None
        self.carried.copy_(state.detach())
        return -found.mean()


class Transformer(Network):
    """GPT-2 (layer norm before each part of a block), or GPT (after), from its initialisation.

    It keeps no state: a token is predicted from those before it in the same window.
    """

    def __init__(
        self,
        words: int,
        cutoffs: Sequence[int],
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        length: int,
        norm: str,
    ) -> None:
        super().__init__(words, width, cutoffs)
        # Here rather than above: it takes seconds, and the LSTM does without.
        from transformers import GPT2Config, GPT2Model, OpenAIGPTConfig, OpenAIGPTModel

        sizes = {"n_positions": length, "n_embd": width, "n_layer": layers, "n_head": heads}
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        kinds = {"pre": (GPT2Config, GPT2Model), "post": (OpenAIGPTConfig, OpenAIGPTModel)}
        config, body = kinds[norm]
        none = {"bos_token_id": None, "eos_token_id": None}  # else those of another vocabulary
        self.body = body(config(vocab_size=words, **sizes, **rates, **none))

    def forward(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """As `Network.forward`; the tokens are at most as many as the window is long."""
        features: Tensor = self.body(input_ids=tokens.T).last_hidden_state
        return features.transpose(0, 1), None
