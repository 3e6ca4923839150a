"""The Transformer of the paper's translation experiments: Marian's, from transformers.

Layers, attention, positions and beam search are transformers' own; the sizes and the initial
weights are those of fairseq's ``transformer_iwslt_de_en``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

from experiments.data.bpe import END, PAD
from experiments.errors import UserError

NORMS = ("post", "pre")


def transformer(
    vocabulary: int,
    *,
    width: int,
    layers: int,
    heads: int,
    feed_forward: int,
    dropout: float,
    positions: int,
    norm: str = "post",
) -> MarianMTModel:
    """An encoder and a decoder of so many layers, with one table of embeddings.

    Parameters
    ----------
    vocabulary
        Entries of the table, which embeds source and target and gives the logits.
    width, heads, feed_forward
        Of every layer: numbers a position, heads of an attention, hidden units.
    dropout
        Of embeddings and of what each sublayer adds.
    positions
        The longest sentence, in tokens.
    norm
        Where the layer norms stand: "post", after each sum of a sublayer and its input, as in the
        original; or "pre", before each sublayer, and once at the end of the encoder and of the
        decoder.

    Raises
    ------
    UserError
        If `norm` is neither, or the heads do not divide the width.
    """
    if norm not in NORMS:
        raise UserError(f"norm={norm!r} is not known; use one of {', '.join(NORMS)}")
    if width % heads:
        raise UserError(f"{heads} heads do not divide the width {width}; use another number")
    sides = ("encoder", "decoder")
    sizes: dict[str, Any] = {f"{side}_layers": layers for side in sides}
    sizes |= {f"{side}_attention_heads": heads for side in sides}
    sizes |= {f"{side}_ffn_dim": feed_forward for side in sides}
    config = MarianConfig(
        vocab_size=vocabulary,
        d_model=width,
        dropout=dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation_function="relu",
        max_position_embeddings=positions,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
        decoder_start_token_id=END,  # fairseq begins with the end of the sentence before
        forced_eos_token_id=None,
        **sizes,
    )
    model = MarianMTModel(config)
    _initialise(model, width)
    if norm == "pre":
        for stack in (model.model.encoder, model.model.decoder):
            _normalise_before(stack.layers)
    return model


@torch.no_grad()
def _initialise(model: MarianMTModel, width: int) -> None:
    """As fairseq does; whether training without warmup fails may depend on it."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":  # that is the table
            # Queries, keys and values were once one matrix of three times the height.
            joint = name.endswith(("q_proj", "k_proj", "v_proj"))
            nn.init.xavier_uniform_(module.weight, gain=2**-0.5 if joint else 1.0)
            nn.init.zeros_(module.bias)
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    nn.init.normal_(table.weight, std=width**-0.5)
    table.weight[PAD] = 0.0


class _Normalised(nn.Module):
    """A module on its input after a layer norm."""

    def __init__(self, norm: nn.Module, module: nn.Module) -> None:
        super().__init__()
        self.norm, self.module = norm, module

    def forward(self, hidden: Tensor, *args: Any, **keywords: Any) -> Any:
        """The module's own output."""
        return self.module(self.norm(hidden), *args, **keywords)


def _normalise_before(layers: nn.ModuleList) -> None:
    """Move every layer norm before its sublayer; the last one's stays, and is the stack's."""
    width = layers[0].embed_dim
    moved = {"self_attn": "self_attn_layer_norm", "encoder_attn": "encoder_attn_layer_norm"}
    moved["fc1"] = "final_layer_norm"
    for layer in layers:
        for sublayer, norm in moved.items():
            if hasattr(layer, sublayer):
                wrapped = _Normalised(getattr(layer, norm), getattr(layer, sublayer))
                setattr(layer, sublayer, wrapped)
                setattr(layer, norm, nn.Identity())
    layers[-1].final_layer_norm = nn.LayerNorm(width)
