"""The translation task: the post-norm original, its batches, its loss, its translations."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments import engine, tasks
from experiments.data import parallel
from experiments.data.bpe import END, PAD
from experiments.errors import UserError
from experiments.paper import _translation
from experiments.record import Result, Store
from experiments.spec import Run, options, varied
from experiments.tasks._marian import transformer
from experiments.tasks.translation import SMOOTHING, Translation

CPU = torch.device("cpu")
SIZES = {
    "width": 16,
    "layers": 2,
    "heads": 4,
    "feed_forward": 24,
    "dropout": 0.0,
    "positions": 32,
}


def build(
    scale: str = "smoke", seed: int = 0, batch_size: int = 600, **settings: object
) -> Translation:
    run = _translation.arm(scale, _translation.WARMUP, seed)
    settings = dict(run.settings) | settings
    run = dataclasses.replace(run, settings=options(**settings), batch_size=batch_size)
    task = tasks.load(run, Path("none"), CPU)
    assert isinstance(task, Translation)
    return task


# The model against a plain transcription


def attention(module: nn.Module, queries: Tensor, keys: Tensor, hidden: Tensor) -> Tensor:
    """Vaswani et al. 2017, Section 3.2, head by head; `hidden` is true where none may look."""
    q, k, v = (
        getattr(module, f"{name}_proj")(x)
        for name, x in zip("qkv", (queries, keys, keys), strict=True)
    )
    size = q.shape[-1] // SIZES["heads"]
    heads = []
    for head in range(SIZES["heads"]):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)
        heads.append(scores.masked_fill(hidden, -math.inf).softmax(-1) @ v[..., part])
    return module.out_proj(torch.cat(heads, dim=-1))


def embedded(model: nn.Module, tokens: Tensor) -> Tensor:
    """The token's row times the root of the width, plus the sines and cosines of its place."""
    width = SIZES["width"]
    table = model.get_input_embeddings().weight
    place = torch.arange(tokens.shape[1])[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    return table[tokens] * math.sqrt(width) + torch.cat([place.sin(), place.cos()], dim=1)


def transcription(model: nn.Module, source: Tensor, before: Tensor) -> Tensor:
    """The post-norm Transformer: every sublayer's output is norm(x + sublayer(x))."""

    def feed_forward(layer: nn.Module, x: Tensor) -> Tensor:
        return layer.fc2(F.relu(layer.fc1(x)))

    padding = (source == PAD)[:, None]
    x = embedded(model, source)
    for layer in model.model.encoder.layers:
        x = layer.self_attn_layer_norm(x + attention(layer.self_attn, x, x, padding))
        x = layer.final_layer_norm(x + feed_forward(layer, x))
    y = embedded(model, before)
    later = torch.ones(before.shape[1], before.shape[1]).triu(1).bool()[None]
    for layer in model.model.decoder.layers:
        y = layer.self_attn_layer_norm(y + attention(layer.self_attn, y, y, later))
        y = layer.encoder_attn_layer_norm(y + attention(layer.encoder_attn, y, x, padding))
        y = layer.final_layer_norm(y + feed_forward(layer, y))
    return y @ model.get_input_embeddings().weight.T


def logits(model: nn.Module, source: Tensor, before: Tensor) -> Tensor:
    return model(
        input_ids=source, attention_mask=source != PAD, decoder_input_ids=before, use_cache=False
    ).logits


@pytest.fixture
def sentences() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    source, before = (torch.randint(3, 50, (3, n), generator=generator) for n in (7, 5))
    source[1, 4:] = PAD
    return source, before


def test_the_model_is_the_post_norm_original(sentences: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    model = transformer(50, **SIZES).eval()
    for parameter in model.parameters():  # biases and norms away from 0 and 1
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    torch.testing.assert_close(
        logits(model, *sentences), transcription(model, *sentences), rtol=1e-4, atol=1e-5
    )


def test_pre_norm_normalises_before_each_sublayer(sentences: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    model = transformer(50, **SIZES, norm="pre").eval()
    source, before = sentences
    padding = (source == PAD)[:, None]
    x = embedded(model, source)
    *_, last = model.model.encoder.layers
    for layer in model.model.encoder.layers:
        normed = layer.self_attn.norm(x)
        x = x + attention(layer.self_attn.module, normed, normed, padding)
        x = x + layer.fc2(F.relu(layer.fc1(x)))
    x = last.final_layer_norm(x)
    y = embedded(model, before)
    later = torch.ones(before.shape[1], before.shape[1]).triu(1).bool()[None]
    *_, last = model.model.decoder.layers
    for layer in model.model.decoder.layers:
        normed = layer.self_attn.norm(y)
        y = y + attention(layer.self_attn.module, normed, normed, later)
        y = y + attention(layer.encoder_attn.module, layer.encoder_attn.norm(y), x, padding)
        y = y + layer.fc2(F.relu(layer.fc1(y)))
    expected = last.final_layer_norm(y) @ model.get_input_embeddings().weight.T
    torch.testing.assert_close(logits(model, source, before), expected, rtol=1e-4, atol=1e-5)


def test_the_initial_weights_are_fairseqs() -> None:
    torch.manual_seed(0)
    model = transformer(500, **{**SIZES, "width": 128, "feed_forward": 256})
    layer = model.model.encoder.layers[0]
    table = model.get_input_embeddings().weight
    assert table[3:].std().item() == pytest.approx(128**-0.5, rel=0.02)
    assert not table[PAD].any()
    # Uniform between plus and minus sqrt(6 / (inputs + outputs)).
    bounds = {
        layer.fc1: 6 / 384,
        layer.self_attn.out_proj: 6 / 256,
        layer.self_attn.q_proj: 3 / 256,
    }
    for linear, square in bounds.items():
        assert linear.weight.abs().max().item() == pytest.approx(square**0.5, rel=0.01)
        assert linear.weight.std().item() == pytest.approx((square / 3) ** 0.5, rel=0.05)
        assert not linear.bias.any()
    assert model.lm_head.weight is table


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"norm": "both"}, "norm='both' is not known; use"), ({"heads": 3}, "3 heads do not divide")],
)
def test_a_model_that_is_none_is_a_sentence(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        transformer(50, **(SIZES | wrong))


def test_a_corpus_without_a_training_set_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    only = parallel.Parallel({"test": {"de": ("Hallo.",), "en": ("Hi.",)}}, "0", "local folder")
    monkeypatch.setattr(parallel, "load", lambda name, root: only)
    with pytest.raises(
        UserError, match=r"^some-test has only a test set.* corpus=tatoeba\+some-te"
    ):
        build(corpus="some-test")


# Batches


def pairs_in(task: Translation, epochs: int) -> list[tuple[bytes, bytes]]:
    found = []
    for epoch in range(epochs):
        for batch in task.batches(epoch):
            for source, target in zip(*batch.tolist(), strict=True):
                found.append(tuple(bytes(t for t in side if t != PAD) for side in (source, target)))
    return found


def test_a_pass_gives_every_pair_once() -> None:
    task = build(vocabulary=200)
    task.updates_per_epoch = task.batches_per_pass
    wanted = sorted(
        (bytes(one), bytes(other)) for one, other in zip(*task.splits["train"], strict=True)
    )
    assert sorted(pairs_in(task, 1)) == wanted


def test_the_batches_go_on_from_epoch_to_epoch_and_pass_to_pass() -> None:
    task, other = build(vocabulary=200), build(vocabulary=200)
    task.updates_per_epoch = 7
    other.updates_per_epoch = 21
    assert pairs_in(task, 3 * 9) == pairs_in(other, 9)
    assert task.batches_per_pass < 7 * 27  # over the end of a pass


def test_a_batch_holds_no_more_tokens_than_it_may() -> None:
    task = build(batch_size=200)
    shapes = {tuple(batch.shape[1:]) for batch in task.batches(0)}
    assert all(sentences * tokens <= 200 for sentences, tokens in shapes)
    assert all(tokens % 4 == 0 for _, tokens in shapes)
    assert max(sentences * tokens for sentences, tokens in shapes) > 180


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = [batch.tolist() for batch in build().batches(2)]
    torch.manual_seed(7)
    assert [batch.tolist() for batch in build().batches(2)] == first
    assert [batch.tolist() for batch in build().batches(2, 3)] == first[3:]
    assert [batch.tolist() for batch in build(seed=1).batches(2)] != first
    assert [batch.tolist() for batch in build().batches(1)] != first


# Bad input


def test_a_sentence_longer_than_the_positions_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"sentence \d+ has \d+ tokens, and the model has 8 pos"):
        build(positions=8)


def test_a_batch_smaller_than_a_sentence_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"a batch of 8 tokens cannot hold a sentence of \d+"):
        build(batch_size=8)


def test_lengths_that_no_pair_has_are_a_sentence() -> None:
    with pytest.raises(UserError, match="no pair has 200 to 250 tokens; ask for other lengths"):
        build(lengths=(200, 250))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"beam": 0}, "a beam of 0 finds nothing; use at least 1"),
        ({"averaged": 99}, "99 ends of epochs cannot be averaged in a run of 5; use"),
        ({"source": "en", "target": "en"}, "from 'en' into 'en' is none; name another"),
    ],
)
def test_what_would_fail_at_the_test_is_a_sentence_before_the_training(
    change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        build(**change)


def test_a_missing_language_is_a_sentence() -> None:
    with pytest.raises(UserError, match="numbers has no 'fr'; it has de, en"):
        build(target="fr")


# Loss, evaluation, translation


def test_the_loss_is_the_smoothed_cross_entropy_of_the_real_tokens() -> None:
    task = build()
    torch.manual_seed(0)
    model = task.model().eval()
    source, target = next(task.batches(0))
    source[:, -1] = target[:, -1] = PAD  # columns that are all padding change nothing
    before = torch.cat([torch.full((len(target), 1), END), target[:, :-1]], dim=1)
    chances = logits(model, source, before).log_softmax(-1).double()
    real = target != PAD
    right = chances.gather(2, target[:, :, None])[..., 0][real].mean()
    expected = -(1 - SMOOTHING) * right - SMOOTHING * chances.mean(-1)[real].mean()
    found = task.loss(model, torch.stack([source, target]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_validation_loss_is_the_mean_over_all_tokens() -> None:
    task = build()
    torch.manual_seed(0)
    model = task.model().eval()
    total = count = 0.0
    with torch.inference_mode():
        for source, target in zip(*task.splits["validation"], strict=True):
            before = torch.tensor([[END, *target[:-1]]])
            chances = logits(model, torch.tensor([source]), before).log_softmax(-1)[0]
            total -= chances[range(len(target)), target].sum().item()
            count += len(target)
        found = task.evaluate(model)["validation", "loss"]
    assert found == pytest.approx(total / count, rel=1e-5)


def test_the_unigram_loss_is_the_best_that_frequencies_give() -> None:
    task = build()
    tokens = np.concatenate(task.splits["train"][1])
    logits = torch.zeros(task.vocabulary, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(
            logits.expand(len(tokens), -1),
            torch.from_numpy(tokens).long(),
            label_smoothing=SMOOTHING,
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    assert task.unigram_loss == pytest.approx(closure().item(), rel=1e-4)


def test_what_is_learnt_by_heart_is_translated_without_fault() -> None:
    """A model trained on eight pairs for long; BLEU is sacrebleu's, on the text as it is."""
    task = build()
    chosen = [side[:8] for side in task.splits["train"]]
    task.splits = {"validation": chosen, "test": chosen}
    task.texts = {name: tuple(side[:8] for side in task.texts["train"]) for name in task.splits}
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    width = max(len(one) for side in chosen for one in side)
    batch = torch.tensor([[one + [PAD] * (width - len(one)) for one in side] for side in chosen])
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        metrics, notes = task.conclude(model)
    assert metrics["test_bleu"] == pytest.approx(100)
    assert all(wanted == found for _, wanted, found in notes["translations"])
    assert "tok:13a" in notes["bleu"]
    torch.manual_seed(1)
    with torch.inference_mode():
        metrics, notes = task.conclude(task.model().eval())
    hypotheses = [found for *_, found in notes["translations"]]
    wanted = [wanted for _, wanted, _ in notes["translations"]]
    assert metrics["test_bleu"] == sacrebleu.corpus_bleu(hypotheses, [wanted]).score < 50


# A run


@pytest.fixture
def short() -> Run:
    base = _translation.BASES["smoke"]
    return varied(base, epochs=3, updates=4, averaged=2, beam=2, probes=(1, 6, 12))


class Stop(Exception):
    """In the middle of a run."""


@pytest.mark.parametrize("stop", [2, 5, 9, 12])
def test_a_resumed_run_is_bit_equal(short: Run, tmp_path: Path, stop: int) -> None:
    def interrupt(done: int, *_: float) -> None:
        if done == stop:
            raise Stop

    whole = engine.execute(short)
    with pytest.raises(Stop):
        engine.execute(short, checkpoint=tmp_path / "run.pt", every=0.0, report=interrupt)
    resumed = engine.execute(short, checkpoint=tmp_path / "run.pt")
    assert resumed.metrics == whole.metrics
    assert resumed.curves == whole.curves
    assert resumed.provenance["translations"] == whole.provenance["translations"]


def test_probes_change_nothing_and_count_every_weight(short: Run) -> None:
    watched = engine.execute(short)
    blind = engine.execute(dataclasses.replace(short, probes=()))
    assert watched.metrics == blind.metrics
    points = [point for point in watched.curves if point[1] == "gradient"]
    assert {step for step, *_ in points} == {1, 6, 12}
    task = build(updates=4)
    weights = sum(p.numel() for p in task.model().parameters() if p.requires_grad)
    for step in (1, 6, 12):
        assert sum(value for at, *_, value in points if at == step) == weights


def test_the_test_is_of_the_mean_of_the_last_weights(
    short: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[list[Tensor]] = []
    tested: list[list[Tensor]] = []

    def evaluate(self: Translation, model: nn.Module) -> dict[tuple[str, str], float]:
        ends.append([p.detach().clone() for p in model.parameters()])
        return {}

    def conclude(self: Translation, model: nn.Module) -> tuple[dict[str, float], dict[str, object]]:
        tested.append([p.detach().clone() for p in model.parameters()])
        return {}, {}

    monkeypatch.setattr(Translation, "evaluate", evaluate)
    monkeypatch.setattr(Translation, "conclude", conclude)
    engine.execute(short)
    assert len(ends) == 3
    (found,) = tested
    for mean, *last in zip(found, *ends[-2:], strict=True):
        torch.testing.assert_close(mean, sum(last) / 2)


# The arms


def test_adam_2k_learns_from_where_the_others_do() -> None:
    """Its rate at its k-th real update is theirs at their k-th, and it makes as many."""
    for scale in _translation.BASES:
        plain, delayed = (
            _translation.arm(scale, name, 0)
            for name in (_translation.VANILLA, _translation.DELAYED)
        )
        assert delayed.axes()["lr"] == plain.axes()["lr"]
        delay = delayed.axes()["optim.delay"]
        assert _translation.updates(delayed) == _translation.updates(plain) + delay
        assert delayed.probes == tuple(delay + probe for probe in plain.probes)
        assert delayed.schedule == (dataclasses.replace(plain.schedule[0], delay=delay),)
        assert plain.probes[-1] == _translation.updates(plain)


def test_the_paper_scale_has_the_settings_of_the_paper() -> None:
    row = _translation.arm("paper", _translation.WARMUP, 0).axes()
    assert (row["width"], row["layers"], row["heads"], row["feed_forward"]) == (512, 6, 4, 1024)
    assert (row["dropout"], row["clip"], row["lr"], row["weight_decay"]) == (0.3, 25, 3e-4, 1e-4)
    assert (row["LinearWarmup.steps"], row["LinearDecay.total"]) == (4_000, 70_000)
    assert (row["batch_size"], row["norm"], row["beam"]) == (4_000, "post", 5)


def test_what_was_translated_is_shown_sentence_by_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = {name: _translation.arm("smoke", name, 0) for name in (_translation.WARMUP, "RAdam")}
    assert list(_translation.translations(store, runs)) == ["sentence", "by", "text"]
    assert _translation.translations(store, runs).empty
    for name, found in zip(runs, ("one | two", ""), strict=True):
        notes = {"translations": [["eins", "one", found]] * 5}
        store.add(Result(runs[name], "finished", {}, [], notes), "smoke")
    table = _translation.translations(store, runs)
    assert set(table["sentence"]) == set(range(1, _translation.SHOWN + 1))
    first = table[table["sentence"] == 1].set_index("by")["text"]
    assert dict(first) == {
        "source": "eins",
        "reference": "one",
        _translation.WARMUP: "one / two",
        "RAdam": "(nothing)",
    }
