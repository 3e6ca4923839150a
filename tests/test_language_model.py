"""Language models: exact evaluation, the carried state, resumption, bad input as sentences."""

import dataclasses
import itertools
import math
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments import engine, tasks
from experiments.engine import execute
from experiments.errors import UserError
from experiments.spec import Optim, Run, options
from experiments.tasks import _by_count, language_model
from experiments.tasks import _language_networks as networks
from experiments.tasks._language_networks import Network, Recurrent
from experiments.tasks.language_model import LanguageModel
from experiments.tasks.loss_by_count import LossByCount
from experiments.tasks.rare_words import EffectiveSizes

SIZES = {"corpus": "tiny", "train_tokens": 0, "held_out_tokens": 0, "cutoffs": (4, 8)}
SIZES |= {"length": 5, "width": 16, "layers": 2, "dropout": 0.1}
NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {"network": "lstm", "embedding": 6},
    "pre": {"network": "pre", "heads": 2},
    "post": {"network": "post", "heads": 2},
}
WORDS = 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A text of 16 words, of which 14 are drawn, the first the most often."""
    random = np.random.default_rng(0)
    (tmp_path / "tiny").mkdir()
    for split, lines in (("train", 60), ("valid", 5), ("test", 7)):
        drawn = np.minimum(random.geometric(0.15, size=(lines, 9)) - 1, 13)
        text = "".join(" ".join(f"w{word}" for word in line) + "\n" for line in drawn)
        (tmp_path / "tiny" / f"{split}.txt").write_text(text)
    return tmp_path


def a_run(network: str, **changes: Any) -> Run:
    settings = options(**SIZES | NETWORKS[network] | changes)
    return Run(
        "language_model",
        Optim("radam", lr=0.01),
        epochs=3,
        batch_size=3,
        clip=5.0,
        settings=settings,
    )


def build(root: Path, network: str, **changes: Any) -> LanguageModel:
    task = tasks.load(a_run(network, **changes), root, torch.device("cpu"))
    assert isinstance(task, LanguageModel)
    return task


# Evaluation


def full(head: torch.nn.AdaptiveLogSoftmaxWithLoss, features: Tensor) -> Tensor:
    """The logarithms of all words' probabilities, cluster by cluster, as the definition has them.

    A word of a tail has the probability of its cluster times its own within that cluster.
    """
    first = F.softmax(head.head(features), dim=-1)
    parts = [first[:, : head.shortlist_size]]
    for number, tail in enumerate(head.tail):
        within = F.softmax(tail(features), dim=-1)
        parts.append(first[:, head.shortlist_size + number, None] * within)
    return torch.cat(parts, dim=1).log()


@pytest.mark.parametrize("streams", [1, 4, 10_000])
def test_every_token_is_counted_once_with_its_full_softmax(
    root: Path, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """The LSTM against a loop over the words of one stream after the other.

    Each stream goes on where one of the training text's was left.
    """
    task = build(root, "lstm")
    assert len(task.corpus.words) == WORDS
    torch.manual_seed(1)
    model = task.model().eval().double()
    assert isinstance(model, Recurrent)
    model.carried.normal_()
    monkeypatch.setattr(Tensor, "float", lambda self: self)  # let all be in float64
    monkeypatch.setattr(language_model, "EVALUATION_STREAMS", streams)
    monkeypatch.setattr(language_model, "SHORTEST", 1)
    with torch.inference_mode():
        values = task.evaluate(model)
        for split, tokens in task.held_out.items():
            assert len(tokens) % 4 != 0  # so that the last stream is shorter
            given = np.append(task.corpus.words.index("<eos>"), tokens[:-1])
            size = -(-len(tokens) // min(streams, len(tokens)))
            nats = 0.0
            for stream, first in enumerate(range(0, len(tokens), size)):
                state = model.carried[:, :, [stream % model.carried.shape[2]]]
                for word, target in zip(
                    given[first : first + size], tokens[first : first + size], strict=True
                ):
                    features, state = model(torch.tensor([[int(word)]]), state)
                    nats -= full(model.head, features[0])[0, int(target)].item()
            assert values[split, "loss"] == pytest.approx(nats / len(tokens), rel=1e-9)
            assert values[split, "perplexity"] == pytest.approx(math.exp(nats / len(tokens)))


@pytest.mark.parametrize(
    ("shortest", "streams"), [(71, [1, 1]), (70, [1, 1]), (36, [1, 1]), (35, [1, 2]), (25, [2, 2])]
)
def test_a_short_text_is_read_in_streams_that_are_long_enough(
    root: Path, monkeypatch: pytest.MonkeyPatch, shortest: int, streams: list[int]
) -> None:
    task, found = build(root, "pre"), []
    assert [len(tokens) for tokens in task.held_out.values()] == [50, 70]
    monkeypatch.setattr(language_model, "SHORTEST", shortest)
    model = task.model().eval()
    monkeypatch.setattr(model, "remembered", found.append)
    with torch.inference_mode():
        task.evaluate(model)
    assert found == streams


@pytest.mark.parametrize("network", ["pre", "post"])
def test_a_transformer_sees_what_is_before_a_token_in_its_window(root: Path, network: str) -> None:
    task = build(root, network)
    torch.manual_seed(1)
    model = task.model().eval()
    tokens = torch.arange(5)[:, None].repeat(1, 2)
    other = tokens.clone()
    other[3, 0] = 9
    with torch.inference_mode():
        (one, _), (two, _) = model(tokens), model(other)
    assert torch.equal(one[:3], two[:3])
    assert torch.equal(one[:, 1], two[:, 1])
    assert not torch.allclose(one[3:, 0], two[3:, 0])


@pytest.mark.parametrize("network", ["pre", "post"])
def test_a_transformer_counts_every_token_once_given_what_is_before_it_in_its_window(
    root: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Against a loop over the windows of one stream after the other, with the full softmax."""
    task = build(root, network)
    torch.manual_seed(1)
    model = task.model().eval()
    streams = 4
    monkeypatch.setattr(language_model, "EVALUATION_STREAMS", streams)
    monkeypatch.setattr(language_model, "SHORTEST", 1)
    with torch.inference_mode():
        values = task.evaluate(model)
        for split, tokens in task.held_out.items():
            given = np.append(task.corpus.words.index("<eos>"), tokens[:-1])
            size = -(-len(tokens) // streams)
            nats = 0.0
            for stream in range(0, len(tokens), size):
                end = min(stream + size, len(tokens))
                for first in range(stream, end, task.length):
                    window = slice(first, min(first + task.length, end))
                    features, _ = model(torch.from_numpy(given[window])[:, None].long())
                    chances = full(model.head, features[:, 0])
                    nats -= chances[range(len(chances)), tokens[window]].sum().item()
            assert values[split, "loss"] == pytest.approx(nats / len(tokens), rel=1e-5)


def test_the_training_loss_is_minus_the_mean_log_probability(root: Path) -> None:
    task = build(root, "lstm", dropout=0.0)
    model = task.model()
    batch = next(task.batches(0))
    with torch.no_grad():
        features, _ = model(batch[:-1])
        expected = F.nll_loss(full(model.head, features.flatten(0, 1)), batch[1:].flatten())
        assert task.loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-6)


def test_all_clusters_at_once_are_the_adaptive_softmax(root: Path) -> None:
    head = build(root, "lstm").model().head.double()
    features = torch.randn(40, 16, dtype=torch.float64, requires_grad=True)
    targets = torch.arange(40) % WORDS
    one, other = networks.found_at_once(head, features, targets), head(features, targets).output
    torch.testing.assert_close(one, other)
    inputs = [features, *head.parameters()]
    weights = torch.linspace(0.5, 2, 40, dtype=torch.float64)
    gradients = [torch.autograd.grad(found @ weights, inputs) for found in (one, other)]
    torch.testing.assert_close(*gradients)


def test_a_vocabulary_that_is_computed_at_once_is_replayed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build(root, "lstm").repeats
    monkeypatch.setattr(networks, "AT_ONCE", WORDS - 1)
    assert not build(root, "lstm").repeats


@pytest.mark.gpu
@pytest.mark.parametrize("network", NETWORKS)
def test_a_gpu_trains_as_a_cpu_does(root: Path, network: str) -> None:
    run = a_run(network, dropout=0.0)
    losses = [
        [value for _, split, _, value in execute(run, device=device, data_root=root).curves
         if split == "train"][:20]
        for device in ("cuda", "cpu")
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_low_precision_does_not_reach_the_probabilities(root: Path) -> None:
    task = build(root, "pre", dropout=0.0)  # not every processor has an LSTM in bfloat16
    model = task.model()
    batch = next(task.batches(0))
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = model.log_probabilities(batch[:-1], batch[1:], None)
    assert found.dtype == torch.float32


# Batches


def test_the_lstm_reads_on_where_it_was(root: Path) -> None:
    task = build(root, "lstm")
    batches = [*task.batches(0)]
    assert len(batches) == task.updates_per_epoch == (600 - 1) // 15
    assert all(batch.shape == (6, 3) for batch in batches)
    for one, next_one in itertools.pairwise(batches):
        assert torch.equal(one[-1], next_one[0])
    streams = torch.cat([batch[:-1] for batch in batches]).T.flatten()
    assert streams.tolist() == task.corpus.train[: len(streams)].tolist()
    again = [*task.batches(1)]
    assert all(torch.equal(*pair) for pair in zip(batches, again, strict=True))


@pytest.mark.parametrize(("network", "bytes_each"), [("lstm", 0), ("pre", 4)])
def test_an_epoch_takes_few_bytes_for_a_sequence(root: Path, network: str, bytes_each: int) -> None:
    task = build(root, network)
    task.updates_per_epoch = 1_000_000 // task.run.batch_size
    tracemalloc.start()
    next(task._sequences(0))
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert highest < bytes_each * 1_000_000 + 100_000


def test_a_transformer_sees_every_window_once_in_an_order_of_seed_and_epoch(root: Path) -> None:
    task = build(root, "pre")

    def windows(task: LanguageModel, epoch: int) -> list[tuple[int, ...]]:
        return [tuple(window) for batch in task.batches(epoch) for window in batch.T.tolist()]

    whole = task.corpus.train.tolist()
    expected = [tuple(whole[first : first + 6]) for first in range(0, 39 * 15, 5)]
    assert sorted(windows(task, 0)) == sorted(expected)
    assert windows(task, 0) == windows(build(root, "pre"), 0) != windows(task, 1)
    assert torch.equal(next(task.batches(1, 4)), [*task.batches(1)][4])
    order = np.random.default_rng([task.run.seed, 1]).permutation(len(expected))
    assert windows(task, 1) == [expected[i] for i in order]  # that of the runs on record
    other = dataclasses.replace(task.run, seed=1)
    assert windows(LanguageModel(other, root, torch.device("cpu")), 0) != windows(task, 0)


# The carried state


def test_two_unrolls_are_one_of_twice_the_length(root: Path) -> None:
    """In their losses; and the state that is carried has no past to send gradients to."""
    task = build(root, "lstm", dropout=0.0)
    torch.manual_seed(2)
    model, long = task.model(), task.model()
    long.load_state_dict(model.state_dict())
    assert isinstance(model, Recurrent)
    assert isinstance(long, Recurrent)
    first, second = [*task.batches(0)][:2]
    both = torch.cat([first, second[1:]])
    halves = [task.loss(model, first), task.loss(model, second)]
    assert torch.stack(halves).mean().item() == pytest.approx(task.loss(long, both).item(), 1e-6)
    assert torch.allclose(model.carried, long.carried, atol=1e-6)
    assert model.carried.abs().sum() > 0
    assert not model.carried.requires_grad
    halves[1].backward()  # through one unroll alone: the first one's graph is still whole
    halves[0].backward()


def test_from_zeros_is_what_a_model_gives_that_remembers_nothing(root: Path) -> None:
    task = build(root, "lstm")
    model = task.model().eval()
    assert isinstance(model, Recurrent)
    values = []
    with torch.inference_mode():
        for remembered in (torch.zeros_like(model.carried), torch.randn_like(model.carried)):
            model.carried.copy_(remembered)
            values.append(task.evaluate(model))
    first, second = values
    assert first["test", "perplexity_from_zeros"] == first["test", "perplexity"]
    assert second["test", "perplexity_from_zeros"] == first["test", "perplexity"]
    assert second["test", "perplexity"] != first["test", "perplexity"]


def test_evaluation_and_samples_leave_the_carried_state_alone(root: Path) -> None:
    task = build(root, "lstm")
    model = task.model()
    assert isinstance(model, Recurrent)
    task.loss(model, next(task.batches(0)))
    before, drawn = model.carried.clone(), torch.get_rng_state()
    with torch.inference_mode():
        task.evaluate(model.eval())
    task.sample(model)
    assert torch.equal(model.carried, before)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_sample_goes_on_from_the_first_stream_of_the_training_text(root: Path) -> None:
    task = build(root, "lstm")
    torch.manual_seed(1)
    model = task.model()
    assert isinstance(model, Recurrent)
    model.head.head.weight.data *= 100  # so that what is remembered decides over the next word

    def sample(stream: int, value: float) -> str:
        model.carried.zero_()
        model.carried[:, :, stream] = value
        return task.sample(model)

    assert sample(0, 9.0) != sample(0, -9.0)
    assert sample(1, 9.0) == sample(1, -9.0)


# Runs


class Stopped(Exception):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("network", NETWORKS)
def test_a_run_that_was_stopped_inside_an_epoch_ends_as_if_it_had_not_been(
    root: Path, tmp_path: Path, network: str
) -> None:
    run, checkpoint = a_run(network), tmp_path / "run.pt"
    whole = execute(run, data_root=root)
    stops = 0
    while True:
        reports = 0

        def report(done: int, total: int, loss: float, lr: float) -> None:
            nonlocal reports
            reports += 1
            if reports > 31:
                raise Stopped

        try:
            found = execute(run, data_root=root, checkpoint=checkpoint, every=0.0, report=report)
            break
        except Stopped:
            stops += 1
            epoch, batch = engine.progress(checkpoint)
            assert batch % 39 != 0 or epoch == 3
    assert stops == 3
    assert found.metrics == whole.metrics
    assert found.curves == whole.curves
    assert found.provenance["sample"] == whole.provenance["sample"]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_learns_what_a_text_has_in_it(root: Path, network: str) -> None:
    """A text that goes round in a circle is known from its second word on."""
    circle = "".join(f"w{n % 13} " for n in range(1300))
    for split in ("train", "valid", "test"):
        (root / "tiny" / f"{split}.txt").write_text(circle)
    run = dataclasses.replace(a_run(network, dropout=0.0), optim=Optim("adam", lr=0.02))
    result = execute(run, data_root=root)
    assert result.metrics["test_perplexity"] < 3  # of 13 words
    assert result.provenance["vocabulary"] == 15
    assert len(result.provenance["sample"].split()) == language_model.SAMPLE_WORDS


def test_the_unknown_word_is_never_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = build(root, "lstm")
    model: Network = task.model()
    unknown = task.corpus.words.index("<unk>")

    def certain(features: Tensor) -> Tensor:
        """All but the unknown word together have a chance of one in a million."""
        chances = torch.full((len(features), WORDS), 1e-6 / (WORDS - 1))
        chances[:, unknown] = 1 - 1e-6
        return chances.log()

    monkeypatch.setattr(model.head, "log_prob", certain)
    words = task.sample(model, words=50).split()
    assert "<unk>" not in words
    assert len(words) == 50


# Rare words


def test_the_effective_sample_size_is_that_of_the_updates_which_had_the_word(root: Path) -> None:
    settings = options(**dict(a_run("lstm").settings), beta2=0.85, epochs=2)
    run = Run("rare_words", batch_size=3, settings=settings)
    measurement = tasks.load(run, root, torch.device("cpu"))
    assert isinstance(measurement, EffectiveSizes)
    batches = [*build(root, "lstm").batches(0)]
    found = [*measurement.sizes()]
    assert [updates for _, updates in found] == [39, 78]
    for epoch, (sizes, updates) in enumerate(found, 1):
        for word in range(WORDS):
            seen = [n for n, batch in enumerate(batches * epoch, 1) if (batch[:-1] == word).any()]
            weights = np.array([0.85 ** (updates - n) for n in seen])
            expected = weights.sum() ** 2 / (weights**2).sum() if seen else 0.0
            assert sizes[word] == pytest.approx(expected, rel=1e-9)
    metrics, curves = measurement.measure()
    sizes = found[0][0]
    met = measurement.counts > 0  # no word here is unknown
    sizes, counts = sizes[met], measurement.counts[met]
    assert len(sizes) == WORDS - 1
    few = sizes <= 4
    assert metrics["words_with_few"] == pytest.approx(100 * few.mean())
    shares = {step: value for step, _, metric, value in curves if metric == "words_with_few"}
    assert shares.keys() == {1, 2}
    assert shares[1] == metrics["words_with_few"]
    assert shares[2] == pytest.approx(100 * (found[1][0][met] <= 4).mean())
    assert 0 < few.sum() < len(few)
    assert metrics["tokens_with_few"] == pytest.approx(100 * counts[few].sum() / counts.sum())
    assert max(value for _, split, _, value in curves if split == "highest") == sizes.max()
    assert min(value for _, split, _, value in curves if split == "lowest") == sizes.min()


EDGES = (4, 16, 40)
"""Of classes for a text as short as the one here."""


def test_the_loss_of_a_class_is_that_of_its_words_wherever_they_are_in_the_test_text(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_by_count, "EDGES", EDGES)
    lines = (root / "tiny" / "test.txt").read_text().splitlines()
    test = "".join(f"{line} {unknown}\n" for line, unknown in zip(lines, "abcdefg", strict=True))
    (root / "tiny" / "test.txt").write_text(test)
    run = dataclasses.replace(a_run("lstm"), task="loss_by_count")
    task = tasks.load(run, root, torch.device("cpu"))
    assert isinstance(task, LossByCount)
    torch.manual_seed(1)
    model = task.model().eval()
    assert isinstance(model, Recurrent)
    model.carried.normal_()
    with torch.inference_mode():
        found, plain = task.evaluate(model), build(root, "lstm").evaluate(model)
        given = torch.from_numpy(np.append(task.corpus.words.index("<eos>"), task.corpus.test))
        features, _ = model(given[:-1, None].long(), model.carried[:, :, :1])
        chances = full(model.head, features[:, 0])
    counts = Counter((root / "tiny" / "train.txt").read_text().split())
    counts["<eos>"] = 60
    losses: dict[str, list[float]] = {"4 to 15": [], "16 to 39": [], "40 or more": [], "none": []}
    words = [word for line in test.splitlines() for word in [*line.split(), "<eos>"]]
    for word, chance in zip(words, chances, strict=True):
        count = counts[word]
        names = [name for name, least in zip(losses, EDGES, strict=False) if count >= least]
        token = task.corpus.words.index(word if names else "<unk>")
        losses[names[-1] if names else "none"].append(-float(chance[token]))
    assert all(len(of_one) > 1 for of_one in losses.values())
    for name in ("4 to 15", "16 to 39", "40 or more"):
        assert found[name, "loss"] == pytest.approx(np.mean(losses[name]), rel=1e-6)
    assert ("none", "loss") not in found
    assert plain == {key: value for key, value in found.items() if key in plain}


# Bad input


def test_a_class_that_the_test_text_has_no_word_of_is_said(root: Path) -> None:
    run = dataclasses.replace(a_run("lstm"), task="loss_by_count")
    sentence = "the test text has no word that is in the training text 256 to 1,023 times: take"
    with pytest.raises(UserError, match=sentence):
        tasks.load(run, root, torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cutoffs": (4, WORDS)}, "the vocabulary has 16 words, and the last cut-off is 16: take"),
        ({"cutoffs": (8, 4)}, r"the cut-offs \(8, 4\) are no rising ranks of words"),
        ({"cutoffs": (0, 4)}, r"the cut-offs \(0, 4\) are no rising ranks of words"),
        ({"cutoffs": ()}, r"the cut-offs \(\) are no rising ranks of words"),
        ({"width": 15}, "a width of 15 leaves nothing to the last of 2 clusters of rare words; "),
        ({"train_tokens": -7}, "train_tokens=-7 is negative; 0 is for all of the text"),
        ({"held_out_tokens": -5}, "held_out_tokens=-5 is negative; 0 is for all of the text"),
        ({"length": 0}, "length=0 leaves no network; use at least 1"),
        ({"layers": 0}, "layers=0 leaves no network; use at least 1"),
        ({"dropout": 1.0}, r"dropout=1.0 is no share; use one from 0 to below 1"),
        ({"network": "mid"}, "network='mid' is not known; use lstm, pre, post"),
        ({"network": "pre"}, "network='pre' needs heads, which these runs do not have"),
        ({"network": "post", "heads": 5}, "5 heads do not divide the width .*; use another number"),
        (
            {"length": 200},
            "a batch of 3 sequences of 200 needs 601 tokens, and the training text has 600: take",
        ),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    root: Path, changes: dict[str, Any], sentence: str
) -> None:
    run = a_run("lstm")
    run = dataclasses.replace(run, settings=options(**dict(run.settings) | changes))
    with pytest.raises(UserError, match=f"^{sentence}"):
        tasks.load(run, root, torch.device("cpu"))
