"""Benchmarks: the table is printed, and recorded where asked; no timing is judged."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout

from experiments import benchmarks, engine, tasks
from experiments.__main__ import main
from experiments.benchmarks import _record, language, record, train, translation
from experiments.data.bpe import PAD
from experiments.record import write_atomically


def some_table(ms: str) -> pd.DataFrame:
    return pd.DataFrame([{"contestant": "ours", "ms": ms}, {"contestant": "theirs", "ms": "2"}])


def provenance(results: Path) -> list[dict[str, object]]:
    lines = (results / "benchmarks" / "timings.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_record_replaces_that_of_its_name_and_kind_of_device_alone(tmp_path: Path) -> None:
    for name, ms in (("step", "5"), ("other", "7"), ("step", "6")):
        path = record(name, some_table(ms), "cpu", tmp_path)
        assert path == tmp_path / "benchmarks" / f"{name}-cpu.csv"
        assert path.read_text() == f"contestant,ms\nours,{ms}\ntheirs,2\n"
    lines = provenance(tmp_path)
    assert [line["table"] for line in lines] == ["other-cpu.csv", "step-cpu.csv"]
    for line in lines:
        assert {"commit", "dirty", "versions", "platform", "device", "cores"} <= line.keys()
        assert line["threads"] == 1


def test_nobody_else_writes_while_a_table_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(path: Path, text: str) -> None:
        with pytest.raises(Timeout):
            FileLock(tmp_path / ".lock").acquire(blocking=False)
        write_atomically(path, text)

    monkeypatch.setattr(_record, "write_atomically", written)
    record("step", some_table("5"), "cpu", tmp_path)
    assert [line["table"] for line in provenance(tmp_path)] == ["step-cpu.csv"]


def test_the_command_records_where_asked_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(benchmarks.BENCHMARKS, "some", lambda device: some_table(device))
    words = ["bench", "some", "--results", str(tmp_path / "results")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "theirs" in printed
    assert list(tmp_path.iterdir()) == []
    assert main([*words, "--record"]) == 0
    path = tmp_path / "results" / "benchmarks" / "some-cpu.csv"
    assert capsys.readouterr().out == f"{printed}recorded in {path}\n"
    assert path.read_text() == "contestant,ms\nours,cpu\ntheirs,2\n"


def test_a_place_that_cannot_be_written_is_said_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentence: Callable[..., str]
) -> None:
    monkeypatch.setitem(benchmarks.BENCHMARKS, "some", lambda _: pytest.fail("timed"))
    (tmp_path / "results").write_text("a file in its place")
    words = ("bench", "some", "--record", "--results", tmp_path / "results")
    assert "cannot be written" in sentence(*words)


def test_a_device_that_is_not_there_is_a_sentence(sentence: Callable[..., str]) -> None:
    assert "there is no device 'toaster' here" in sentence("bench", "step", "--device", "toaster")


class Over(Exception):
    """Ends a contestant's training."""


WORKS: dict[str, Callable[[str], train.Work]] = {
    "language": language.work,
    "gpt2": functools.partial(language.work, network="pre"),
    "translation": functools.partial(translation.work, data_root=Path("nowhere")),
}
TINY = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16}


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("name", WORKS)
def test_a_turn_is_so_many_updates(monkeypatch: pytest.MonkeyPatch, name: str, plain: bool) -> None:
    """Of the loop and of the engine alike, across the ends of epochs of eight updates."""
    monkeypatch.setattr(language, "EPOCH", 8)
    monkeypatch.setattr(language, "CUTOFFS", (50, 150))
    monkeypatch.setattr(translation, "EPOCH", 8)
    monkeypatch.setitem(translation.SIZES, "cpu", TINY)
    updates, turns = [0], []
    step = torch.optim.AdamW.step

    def counting(self: torch.optim.AdamW, *arguments: object) -> object:
        updates[0] += 1
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", counting)

    def turn() -> None:
        turns.append(updates[0])
        if len(turns) == 6:
            raise Over

    work = WORKS[name]("cpu")
    run = work.run(train.Contestant("float32"))
    executed = functools.partial(engine.execute, run, window=2, report=lambda *_: turn())
    with pytest.raises(Over):
        work.plain(turn, "cpu", 2) if plain else executed()
    assert turns == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("network", language.SIZES)
def test_the_loop_trains_the_network_of_the_engine(network: str) -> None:
    run = language.work("cpu", network).run(train.Contestant("float32"))
    task = tasks.load(run, Path(), torch.device("cpu"))
    loops = language.NETWORKS[network](len(task.corpus.words), language.SIZES[network]["cpu"])
    shapes = [sorted(one.shape for one in model.parameters()) for model in (task.model(), loops)]
    assert shapes[0] == shapes[1]


def test_what_an_update_has_is_counted() -> None:
    assert [WORKS[name]("cpu").size for name in ("language", "gpt2")] == [32 * 20, 16 * 32]
    task = translation._task("cpu", Path("nowhere"))
    batches = list(task.batches(0))[: task.batches_per_pass]
    tokens = sum(int((target != PAD).sum()) for _, target in batches)
    assert WORKS["translation"]("cpu").size == tokens // len(batches)


def test_the_encoding_is_kept_for_the_benchmark_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def compared(work: train.Work, *_: object) -> pd.DataFrame:
        folders.append(work.data_root)
        assert [path.name[:9] for path in work.data_root.iterdir()] == ["bpe-1000-"]
        return some_table("1")

    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "take_turns", compared)
    translation.benchmark("cpu")
    assert not folders[0].exists()
    assert list((tmp_path / "data").iterdir()) == []
