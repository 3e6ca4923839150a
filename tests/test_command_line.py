"""The command line: what every command says, and how it refuses."""

import dataclasses
import hashlib
import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure

from experiments import (
    campaign,
    command_line,
    engine,
    launch,
    optimizers,
    rehearsal,
    report,
    timings,
    yours,
)
from experiments.__main__ import main
from experiments.artifact import Artifact, artifacts, find
from experiments.data import DataError, text
from experiments.data.parallel import Parallel
from experiments.hold import hold
from experiments.launch import Places
from experiments.record import Result, Store
from experiments.spec import SCALES, Optim, Run
from experiments.stopping import SIGNALS
from experiments.tasks import _images

REPOSITORY = Path(__file__).parent.parent
Sentence = Callable[..., str]
DONE = {"wall_seconds": 1.0, "device": "cpu", "threads": 1}


def some_artifact(arm: str, seeds: int) -> Artifact:
    """A study of one arm, for engines that compute nothing."""
    runs = tuple(Run("digits", Optim(arm, 0.1), seed=seed) for seed in range(seeds))
    return Artifact(arm, "", (), {"smoke": runs})


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must work; what it prints."""

    def run(*words: str | Path) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return run


# What the commands say


def test_list_has_a_row_for_every_artifact(say: Sentence) -> None:
    header, *rows = say("list").splitlines()
    assert header.split() == ["artifact", "scales", "claims", "what", "it", "shows"]
    for row, (name, artifact) in zip(rows, artifacts().items(), strict=True):
        assert row.startswith(f"{name} ")
        assert row.endswith(artifact.title)
        assert (" ".join(artifact.runs) or "not built yet") in row


def test_status_counts_what_is_planned_and_recorded(say: Sentence, smoke_store: Store) -> None:
    state = json.loads(say("status", "--json", "--results", smoke_store.root))
    assert list(state) == list(artifacts())
    for name, artifact in artifacts().items():
        assert list(state[name]) == list(SCALES)
        for scale, counts in state[name].items():
            planned = len(artifact.runs.get(scale, ()))
            recorded = planned if scale == "smoke" else 0
            assert counts == {"planned": planned, "recorded": recorded, "begun": 0}
    header, *rows = say("status", "--results", smoke_store.root).splitlines()
    assert header.split() == ["artifact", *SCALES]
    assert len(rows) == len(artifacts())
    assert "fig6 12 of 12 0 of 60 0 of 60" in [" ".join(row.split()) for row in rows]
    assert "thm1 1 of 1 - 0 of 1" in [" ".join(row.split()) for row in rows]


def test_status_of_some_tells_what_is_begun(
    say: Sentence, sentence: Sentence, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    first, second, *_ = artifacts()["fig6"].at("smoke")
    store.add(Result(first, "finished", {}, [], {"wall_seconds": 3600, "device": "cpu"}), "smoke")
    for run in (first, second):  # the first is recorded: its checkpoint is only not deleted yet
        store.checkpoint(run.id).parent.mkdir(exist_ok=True)
        store.checkpoint(run.id).touch()
    header, *rows = say("status", "fig6", "thm1", "--results", tmp_path).splitlines()
    assert header.split() == ["artifact", *SCALES]
    assert [" ".join(row.split()) for row in rows] == [
        "fig6 1 of 12, 1 begun 0 of 60 0 of 60",
        "thm1 0 of 1 - 0 of 1",
    ]
    words = ("status", "fig6", "--estimate", "--scale", "smoke", "--json", "--results", tmp_path)
    assert list(json.loads(say(*words))) == ["fig6", "all"]
    assert "there is no artifact 'fig99'" in sentence("status", "fig99", "--results", tmp_path)


def no_data(*_: object) -> None:
    raise DataError("it is not here")


def test_an_optimizer_that_was_changed_is_told_of_and_run_anew_where_that_is_asked_for(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = Artifact("some", "", (), {"smoke": (tiny,)}, yours=lambda name: ())
    monkeypatch.setitem(artifacts(), "some", some)
    monkeypatch.syspath_prepend(tmp_path)
    mine = "from torch.optim import SGD\n\n\nclass Mine(SGD):\n    {}\n"
    module, store = tmp_path / "changing.py", Store(tmp_path / "results")
    words = ["run", "some", "--optimizer", "changing:Mine", "--results", str(store.root)]

    def run(content: str, *more: str) -> tuple[str, str]:
        """As a new process would, for which the module is new."""
        module.write_text(mine.format(content))
        sys.modules.pop("changing", None)
        optimizers.sources.cache_clear()
        importlib.invalidate_caches()
        assert main([*words, *more]) == 0
        told, errors = capsys.readouterr()
        return told.partition(" (")[0], errors.partition("\n")[0]

    warning = "changing:Mine is not what it was when 1 of its runs were recorded and 0 begun; "
    assert run("pass")[0] == "2 runs done now"
    assert run("pass") == ("0 runs done now", "")
    told, errors = run("lr = 0.5")
    assert told == "0 runs done now"
    assert errors.startswith(warning)
    before = store.lines("digits")
    assert run("lr = 0.5", "--again")[0] == "1 run done now"
    after = store.lines("digits")
    assert [line in before for line in after].count(True) == 1
    assert len(after) == 2
    (new,) = (line for line in after if line not in before)
    digest = hashlib.sha256(module.read_bytes()).hexdigest()
    assert new["optimizer_sources"] == [f"changing (no version), changing {digest}"]
    assert run("lr = 0.5") == ("0 runs done now", "")
    assert run("lr = 0.5", "--again")[0] == "0 runs done now"
    module.write_text(mine.format("lr = 0.25"))
    assert main([*words, "--again", "--jobs", "0"]) == 2
    assert main([*words, "--again", "--time-budget", "9"]) == 2
    module.write_text(mine.format("lr = 0.125"))
    optimizers.sources.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(_images, "_load", no_data)
        assert main([*words, "--again"]) == 2
    assert store.lines("digits") == after  # what is refused drops nothing


def test_what_was_begun_with_the_present_optimizer_goes_on_and_what_with_an_older_one_does_not(
    tiny: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Optim("torch.optim:SGD", lr=0.1)
    run, places = dataclasses.replace(tiny, optim=other), Places(Store(tmp_path), tmp_path)
    path = places.checkpoint(run)
    path.parent.mkdir()

    def begun_with(*sources: str) -> None:
        torch.save({"sources": list(sources)}, path)

    begun_with(*optimizers.sources(other))
    command_line._heed_changes([run], other, places, again=True)
    assert path.exists()
    assert capsys.readouterr().err == ""
    begun_with("an older one", *optimizers.sources(other))  # and then went on with this one
    command_line._heed_changes([run], other, places, again=False)
    assert "when 0 of its runs were recorded and 1 begun" in capsys.readouterr().err
    with hold(places.lock(run)):  # as another campaign does
        command_line._heed_changes([run], other, places, again=True)
        assert path.exists()
    told = capsys.readouterr().err
    assert "0 of its runs were recorded and 1 begun; they start anew, but for 1 that oth" in told
    command_line._heed_changes([run], other, places, again=True)
    assert not path.exists()
    path.write_bytes(b"rubbish")  # of which nobody can say what it was begun with
    capsys.readouterr()
    command_line._heed_changes([run], other, places, again=False)
    assert path.exists()
    command_line._heed_changes([run], other, places, again=True)
    assert not path.exists()
    assert capsys.readouterr().err == ""


def test_status_estimates_the_hours_left(say: Sentence, smoke_store: Store, tmp_path: Path) -> None:
    """From the smoke runs, which are all recorded: of one half of table1's the other tells."""
    words = ("status", "--estimate", "--results")
    shown = [
        line.split() for line in say(*words, smoke_store.root, "--scale", "smoke").splitlines()
    ]
    assert shown[0] == ["artifact", "runs", "left", "time", "taken", "left", "on", "cpu"]
    assert [shown[-1][0], shown[-1][1], shown[-1][-1]] == ["all", "0", "none"]
    paper = say(*words, smoke_store.root).splitlines()
    assert [" ".join(row.split()) for row in paper if row.startswith("fig6")] == [
        "fig6 60 - not known"
    ]

    runs = artifacts()["table1"].at("smoke")
    store = Store(tmp_path)
    for run in runs[:6]:
        result = Result(run, "finished", {}, [], {"wall_seconds": 3600, "device": "cpu"})
        store.add(result, "smoke")
    found = json.loads(say(*words, tmp_path, "--scale", "smoke", "--json"))
    left = len(runs) - 6
    known = {"recorded": float(left), "rehearsed": 0.0}
    table1 = {"left": left, "taken": {"cpu": 6.0}, "hours": {"cpu": known | {"unknown": 0}}}
    assert found["table1"] == table1 | {"planned": {}}
    assert found["thm1"]["hours"] == {}
    (known,) = found["all"]["hours"].values()
    assert known["unknown"] > 0
    assert known["recorded"] + known["unknown"] == found["all"]["left"]
    shown = say(*words, tmp_path, "--scale", "smoke").splitlines()
    rows = [" ".join(row.split()) for row in shown]
    assert f"table1 {left} 6.00 core-hours {left}.00 hours" in rows
    said = f"at least {known['recorded']:.1f} hours, {known['unknown']} runs unknown"
    assert f"all {found['all']['left']} 6.00 core-hours {said}" in rows
    empty = say(*words, tmp_path / "none", "--scale", "smoke")
    assert empty.endswith("with `python -m experiments rehearse --scale smoke --device DEVICE`.\n")


def test_verdicts_tell_everything_of_every_claim(say: Sentence, tmp_path: Path) -> None:
    assert say("run", "fig8", "--scale", "paper", "--results", tmp_path)
    found = json.loads(say("verdicts", "--json", "--results", tmp_path))
    claims = [claim for artifact in artifacts().values() for claim in artifact.claims]
    assert [row["claim"] for row in found] == [claim.id for claim in claims]
    for row, claim in zip(found, claims, strict=True):
        assert row["paper_value"] == claim.paper_value
        assert row["claim"].startswith(f"{row['artifact']}.")
        assert row["status"] in report.MARKS
        if row["artifact"] == "fig8":
            assert (row["scale"], row["n"], len(row["run_ids"])) == ("paper", 1, 1)
        else:
            assert (row["status"], row["scale"], row["n"]) == ("not run", None, 0)
    (hundredfold,) = [row for row in found if row["claim"] == "fig8.hundredfold"]
    (estimate,) = hundredfold["estimates"]
    assert hundredfold["status"] == "reproduced"
    assert estimate["value"] == estimate["low"] == estimate["high"]
    assert estimate["value"] == pytest.approx(250, rel=0.01)
    assert (estimate["n"], estimate["above"], estimate["holds"]) == (1, 100.0, True)

    plain = say("verdicts", "--results", tmp_path)
    assert len(plain.splitlines()) == 1 + len(claims)
    assert plain.count(report.MARKS["not run"]) == len(claims) - 2

    document = tmp_path / "document.md"
    document.write_text(f"{report.BEGIN}\n{report.END}\n")
    assert say("verdicts", "--results", tmp_path, "--write", document) == ""
    assert report.MARKS["reproduced"] in document.read_text()


def test_run_records_and_then_skips(say: Sentence, tmp_path: Path) -> None:
    words = ("run", "fig8", "thm1", "--results", tmp_path / "results")
    assert say(*words).startswith("2 runs done now (0 diverged), 0 were recorded before; records")
    assert say(*words).startswith("0 runs done now (0 diverged), 2 were recorded before; records")


def test_show_prints_the_table_and_writes_the_figure(
    say: Sentence, smoke_store: Store, tmp_path: Path
) -> None:
    figure = tmp_path / "new" / "fig6.svg"
    shown = say("show", "fig6", "--results", smoke_store.root, "--out", figure)
    assert shown.startswith("Robustness to the learning rate, CIFAR-10 (fig6, scale smoke)\n")
    assert all(name in shown for name in ("SGD", "Adam", "RAdam"))
    assert shown.count(report.MARKS["not run"]) == len(artifacts()["fig6"].claims)
    assert shown.endswith(f"figure in {figure}\n")
    assert figure.read_bytes().startswith(b"<?xml")
    assert "figure" not in say("show", "thm1", "--scale", "smoke", "--results", smoke_store.root)


def test_an_optimizer_of_ones_own_is_run_and_shown_beside_the_others(
    say: Sentence, sentence: Sentence, smoke_store: Store, tmp_path: Path
) -> None:
    """Written here, in a file that nobody else knows; its runs are its own."""
    results, figure = tmp_path / "results", tmp_path / "fig6.svg"
    shutil.copytree(smoke_store.root, results)
    (tmp_path / "mine.py").write_text(
        "from torch.optim import SGD\n\n\nclass Half(SGD):\n"
        "    def __init__(self, params, lr, weight_decay, share):\n"
        "        super().__init__(params, lr * share, weight_decay=weight_decay)\n"
    )
    mine = ("--optimizer", "mine:Half", "--optimizer-args", '{"share": 0.5}')
    words = ["run", "fig6", *mine, "--results", str(results)]
    command = [sys.executable, "-m", "experiments", *words]
    for expected in ("4 runs done now (0 diverged), 12 were", "0 runs done now (0 diverged), 16 "):
        path = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(expected)
    shown = say("show", "fig6", *mine, "--results", results, "--out", figure)
    assert "\nHalf " in shown
    assert "Half is less sensitive to the learning rate than RAdam, Adam and SGD" in shown
    assert shown.count("'s, points: ") == 3
    assert figure.exists()
    assert "Half" not in say("show", "fig6", "--results", results, "--out", figure)
    other = ("--optimizer", "mine:Half", "--optimizer-args", '{"share": 0.1}')
    says = "run fig6 --scale smoke`, with the same --optimizer mine:Half, records it"
    assert says in sentence("show", "fig6", *other, "--results", results, "--scale", "smoke")


def test_an_optimizer_with_other_arguments_has_another_figure(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Artifact(
        "some", "", (), {"smoke": (tiny,)}, draw=lambda _: Figure(), yours=lambda name: ()
    )
    monkeypatch.setitem(artifacts(), "some", some)
    monkeypatch.chdir(tmp_path)
    store, words = Store(tmp_path), ("show", "some", "--scale", "smoke", "--results", str(tmp_path))
    for arguments in ('{"momentum": 0.5, "dampening": 0}', '{"momentum": 0.9}', None):
        beside = yours.beside(some, "torch.optim:SGD", arguments)
        for run in beside.at("smoke"):
            store.add(Result(run, "finished", {"test_accuracy": 1.0}, [], DONE), "smoke")
        mine = ["--optimizer-args", arguments] if arguments else []
        assert main([*words, "--optimizer", "torch.optim:SGD", *mine]) == 0
    same = yours.tag('{"dampening": 0, "momentum": 0.5}')
    figures = {path.name for path in Path("_build/figures").iterdir()}
    assert len(figures) == 3
    assert {"some-SGD-smoke.svg", f"some-SGD-{same}-smoke.svg"} <= figures


def test_a_study_runs_with_another_setting_beside_its_own(
    say: Sentence, sentence: Sentence, smoke_store: Store, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(smoke_store.root, results)
    there = ("--results", results, "--scale", "smoke")
    changed = ("--set", "held_out_tokens=1000", "--set", "layers=3")
    says = "run fig4 --scale smoke`, with the same --set, records it"
    assert says in sentence("show", "fig4", *changed, *there)
    assert say("run", "fig4", *changed, *there).startswith("4 runs done now")
    assert say("run", "fig4", *there).startswith("0 runs done now")
    figure = ("--out", tmp_path / "fig4.svg")
    assert say("show", "fig4", *changed, *there, *figure) != say("show", "fig4", *there, *figure)
    runs = find("fig4").varied(held_out_tokens=1000, layers=3).at("smoke")
    assert {(run.setting("held_out_tokens"), run.setting("layers")) for run in runs} == {(1000, 3)}


def test_status_counts_the_runs_of_an_optimizer_of_ones_own_and_of_other_settings(
    say: Sentence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("fig6", "--json", "--results", tmp_path / "none")
    planned = json.loads(say("status", *there))["fig6"]["smoke"]["planned"]
    mine = ("--optimizer", "torch.optim:NAdam")
    assert json.loads(say("status", *there, *mine))["fig6"]["smoke"]["planned"] == planned * 4 / 3
    whole = ("fig6", "--json", "--scale", "cpu")
    assert json.loads(say("status", *whole))["fig6"]["cpu"]["recorded"] > 0
    assert json.loads(say("status", *whole, "--set", "depth=14"))["fig6"]["cpu"]["recorded"] == 0
    able = json.loads(say("status", "--json", *there[2:], *mine))  # all that take one
    assert list(able) == [name for name, one in artifacts().items() if one.yours]
    main(["status", *map(str, there)])
    assert (
        capsys.readouterr().err == f"there is no folder {tmp_path / 'none'} yet, and so no record\n"
    )


def test_a_rehearsal_says_what_cannot_run_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    places = ["--data-dir", str(tmp_path), "--results", str(tmp_path / "results")]
    assert main(["rehearse", "fig6", "--scale", "cpu", *places]) == 2
    printed, error = capsys.readouterr()
    assert printed.count("python -m experiments data cifar10") == 3
    assert error.startswith("error: 3 kinds of runs cannot be done here")


def test_the_paces_of_a_rehearsal_are_kept_for_the_estimate(
    say: Sentence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a quarter of an hour an update. In fig6 a run took an hour, and that counts for it."""
    tried: list[Run] = []

    def execute(run: Run, **how: object) -> None:
        tried.append(run)
        clock = iter([0.0, 0.0, 900.0 * rehearsal.WINDOW])
        monkeypatch.setattr(rehearsal, "time", SimpleNamespace(perf_counter=clock.__next__))
        for number in range(1, 4):
            how["report"](number * rehearsal.WINDOW, 80, 1.0, 0.1)  # type: ignore[operator]

    monkeypatch.setattr(engine, "execute", execute)
    store, fig6, fig4 = Store(tmp_path), find("fig6").at("smoke"), find("fig4").at("smoke")
    done = [run for run in fig6 if run.optim and run.optim.name == "sgd"]
    for run in done:
        known = {"wall_seconds": 3600.0, "device": "cpu"}
        store.add(Result(run, "finished", {}, [], known), "smoke")
    words = ("fig6", "fig4", "fig8", "--scale", "smoke", "--results", tmp_path)

    shown = say("rehearse", *words)
    kinds = {campaign.likenesses(run)[0] for run in (*fig6, *fig4) if run not in done}
    assert len(tried) == len(kinds) == len(timings.lines(store, timings.PACES))
    assert {campaign.likenesses(run)[0] for run in tried} == kinds
    left = len(fig6) - len(done)
    both = f"{left + 20 * len(fig4)}.0 hours ({20 * len(fig4)}.0 hours of it rehearsed)"
    planned = [
        f"{report.number(20.0 * len(runs))} hours (rehearsed)"
        for runs in (fig6, fig4, (*fig6, *fig4))
    ]
    expected = [
        "artifact runs left time taken left on cpu all planned on cpu",
        f"fig6 {left} {len(done)}.00 core-hours {left}.00 hours {planned[0]}",
        f"fig4 {len(fig4)} - {20 * len(fig4)}.0 hours (rehearsed) {planned[1]}",
        "fig8 1 - not known -",
        f"all {left + len(fig4) + 1} {len(done)}.00 core-hours at least {both}, 1 run unknown "
        f"at least {planned[2]}, 1 run unknown",
    ]
    for printed in (shown, say("status", "--estimate", *words)):
        rows = [" ".join(row.split()) for row in printed.splitlines()]
        assert rows[-6:-1] == expected
        assert "with evaluations only where epochs ended meanwhile" in rows[-1]
    found = json.loads(say("status", "--estimate", "--json", *words))
    hours = {"recorded": 0.0, "rehearsed": 20.0 * len(fig4), "unknown": 0}
    both = {"hours": {"cpu": hours}, "planned": {"cpu": hours}}
    assert found["fig4"] == {"left": len(fig4), "taken": {}, **both}


def test_seeds_choose_among_the_planned_runs(
    say: Sentence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one artifact, or of all that have runs at the scale; what is recorded is not done anew."""
    monkeypatch.setattr(engine, "execute", lambda run, **_: Result(run, "finished", {}, [], DONE))
    found = {"one": some_artifact("one", 3), "two": some_artifact("two", 2)}
    one, two = (artifact.at("smoke") for artifact in found.values())
    found["large"] = Artifact("large", "", (), {"paper": one})
    monkeypatch.setattr(command_line, "artifacts", lambda: found)
    monkeypatch.setattr(command_line, "find", found.__getitem__)
    there, store = ("--results", tmp_path), Store(tmp_path)

    def recorded() -> list[Run]:
        done = store.recorded([*one, *two])
        return [run for run in (*one, *two) if run.id in done]

    assert say("run", "one", "--seeds", "0", *there).startswith("1 run done now")
    assert recorded() == [one[0]]
    state = json.loads(say("status", "--json", "--seeds", "0,2", *there))
    assert state["one"]["smoke"] == {"planned": 2, "recorded": 1, "begun": 0}
    assert state["two"]["smoke"] == {"planned": 1, "recorded": 0, "begun": 0}
    words = ("status", "all", "--estimate", "--scale", "smoke", "--json", "--seeds", "1-2")
    estimate = json.loads(say(*words, *there))
    assert {name: row["left"] for name, row in estimate.items()} == {"one": 2, "two": 1, "all": 3}
    assert say("run", "all", "--seeds", "0-1", *there).startswith("3 runs done now (0 diverged), 1")
    assert recorded() == [*one[:2], *two]
    assert say("run", "two", "all", *there).startswith("1 run done now (0 diverged), 4 were")
    assert recorded() == [*one, *two]


def test_a_rehearsal_of_some_seeds_counts_these(
    say: Sentence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "execute", lambda run, **_: None)
    monkeypatch.setitem(artifacts(), "some", some_artifact("sgd", 3))
    words = ("rehearse", "some", "--scale", "smoke", "--seeds", "1-2", "--results", tmp_path)
    assert "some 2 - not known" in [" ".join(row.split()) for row in say(*words).splitlines()]


def test_data_says_what_is_there(say: Sentence, tmp_path: Path) -> None:
    shown = say("data", "digits", "--data-dir", tmp_path)
    assert shown.startswith("digits: 1297 training and 500 test images from the scikit-learn, sha")


def test_data_knows_parallel_corpora_and_texts(
    say: Sentence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = {"de": ("Hallo.",) * 3, "en": ("Hi.",) * 3}
    found = Parallel({"train": pairs, "far: test": pairs}, "1f", "local folder")
    monkeypatch.setattr("experiments.data.parallel.load", lambda name, root, download: found)
    shown = say("data", "tatoeba+iwslt14-test", "--data-dir", tmp_path).strip()
    expected = "pairs of sentences (3 train, 3 far: test) from the local folder, sha256 1f"
    assert shown == f"tatoeba+iwslt14-test: {expected}"
    monkeypatch.setattr(text, "_addresses", lambda _: lambda split: ["so it is"] * 5)
    shown = say("data", "sotu", "--data-dir", tmp_path).strip()
    expected = "tokens (20 train, 20 validation, 20 test) of 5 words, sha256 "
    assert shown == f"sotu: {expected}{text.load('sotu', tmp_path).sha256}"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in ("list", "run", "status", "rehearse", "merge", "show", "verdicts", "data", "bench"):
        assert f"\n    {name} " in shown


def test_who_reads_no_further_gets_no_traceback(tmp_path: Path) -> None:
    results = f"--results {shlex.quote(str(tmp_path))}"
    command = f"{sys.executable} -m experiments verdicts --json {results} | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, timeout=300)
    assert (done.stdout, done.stderr) == (b"[", b"")


# How they refuse: exit status 2, one line that starts with "error: ", and nothing written


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "fig99"], "there is no artifact 'fig99'; the artifacts are: fig1"),
        (["run", "fig8", "fig99"], "there is no artifact 'fig99'"),
        (["run", "fig8", "--scale", "huge"], "there is no scale 'huge'; the scales are smoke"),
        (["run", "fig9", "--scale", "cpu"], "fig9 has no runs at scale 'cpu'; it has them at"),
        (["run", "fig8", "--device", "toaster"], "there is no device 'toaster' here; use"),
        (["run", "fig8", "--jobs", "0"], "--jobs 0 starts no process; give 1 or more"),
        (["run", "fig8", "--jobs", "-3"], "--jobs -3 starts no process; give 1 or more"),
        (["run", "fig8", "--time-budget", "9"], "'9' is no time of up to a year; give one such as"),
        (["run", "fig8", "--launcher", "pbs"], "there is no launcher 'pbs'; use local or slurm"),
        (["run", "fig8", "--slurm", "time=5"], "--slurm gives options to --launcher slurm; name"),
        (["status", "--scale", "huge"], "there is no scale 'huge'; the scales are"),
        (["status", "fig8", "--optimizer", "a:B"], "fig8 takes no other optimizer; these do"),
        (
            ["status", "--optimizer", "a:B", "--optimizer-args", '{"weight_decay": -1}'],
            "--optimizer-args: weight_decay=-1 is not a finite number",
        ),
        (["run", "fig6", "--scale", "cpu"], "python -m experiments data cifar10"),
        (["show", "fig99"], "there is no artifact 'fig99'"),
        (["show", "fig8", "--scale", "huge"], "there is no scale 'huge'"),
        (["show", "fig8"], "`python -m experiments run fig8 --scale smoke` records it"),
        (["verdicts", "--write", "none.md"], "none.md cannot be written anew"),
        (["run", "fig6", "--optimizer", "adam"], "--optimizer adam names no optimizer of yours"),
        (
            ["run", "fig6", "--optimizer", "a:B"],
            "a:B cannot be imported (ModuleNotFoundError: No module named 'a')",
        ),
        (
            ["run", "fig8", "--optimizer", "a:B"],
            "fig8 takes no other optimizer; these do: fig4, table1",
        ),
        (["show", "fig6", "--optimizer", "a:B", "--optimizer-args", "b"], "give one JSON object"),
        (["run", "fig6", "--set", "depth"], "--set depth sets nothing; write NAME=VALUE"),
        (
            ["run", "fig6", "--set", "deep=3"],
            "fig6 has no setting 'deep'; it has: augment, batch_size, ",
        ),
        (["run", "fig4", "--set", "layers=two"], "layers='two' is of another kind than 2, which"),
        (["run", "rare-words", "--set", "epochs=2"], "rare-words has no setting 'epochs'; it has"),
        (["run", "fig6", "--set", "clip=abc"], "clip='abc' is of another kind than None, which"),
        (["run", "fig6", "--set", "depth=8.5"], "depth=8.5 is of another kind than 8, which it"),
        (["run", "fig4", "--set", "dropout=true"], "dropout=True is of another kind than 0.1, "),
        (["run", "fig4", "--set", "cutoffs=[50, 150.0]"], "is of another kind than [100, 300], w"),
        (["run", "fig6", "--set", "clip=true"], "clip=True is of another kind than None, which"),
        (["run", "fig6", "--set", "depth=null"], "depth=None is of another kind than 8, which it"),
        (["run", "fig6", "--set", "batch_size=null"], "batch_size=None is of another kind than"),
        (["run", "fig4", "--set", "precision=int8"], "precision='int8' is not known; use"),
        (["run", "fig6", "--seeds", "two"], "--seeds two names no seeds; give some such as 0, "),
        (
            ["run", "fig6", "--seeds", "0-99999999999"],
            "no planned run has seed 1; their seeds are 0",
        ),
        (["status", "all", "--seeds", "7"], "no planned run has seed 7; their seeds are 0, 1, 2, "),
        (["run", "fig1", "--scale", "cpu", "--seeds", "3"], "has seed 3; their seeds are 0, 1, 2"),
        (["run", "all", "--scale", "huge"], "there is no scale 'huge'; the scales are"),
        (["status", "fig9", "--estimate", "--scale", "cpu"], "fig9 has no runs at scale 'cpu'"),
        (["run", "fig6", "--again"], "--again belongs to an --optimizer; name that too"),
        (["show", "fig6", "--optimizer-args", "{}"], "--optimizer-args belongs to an --optimizer"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    sentence: Sentence, tmp_path: Path, words: list[str], says: str
) -> None:
    places = ["--results", tmp_path / "results"]
    places += ["--data-dir", tmp_path / "data"] if words[0] == "run" else []
    assert says in sentence(*words, *places)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data", "mnist"], "Unknown dataset 'mnist': choose one of cifar10, digits"),
        (
            ["data", "tatoeba", "--data-dir", "no"],
            "tatoeba is not in no, and cannot be fetched: put",
        ),
        (
            ["rehearse", "fig6", "--optimizer", "a:B"],
            "a:B cannot be imported (ModuleNotFoundError: No module named",
        ),
        (["bench", "nothing"], "there is no benchmark 'nothing'; they are: "),
    ],
)
def test_bad_names_elsewhere(sentence: Sentence, words: list[str], says: str) -> None:
    assert says in sentence(*words)


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["run"], ["run", "fig8", "--jobs", "two"], ["data"]]
)
def test_a_command_that_cannot_be_parsed_exits_with_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("command", ["data", "run"])
def test_a_corrupt_data_file_is_one_sentence(
    sentence: Sentence, tmp_path: Path, content: bytes, command: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10.npz").write_bytes(content)
    words = ["data", "cifar10"]
    if command == "run":
        words = ["run", "table1", "--scale", "cpu", "--results", str(tmp_path / "results")]
    assert "cifar10.npz" in sentence(*words, "--data-dir", tmp_path / "data")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [tmp_path / "data" / "cifar10.npz"]


def test_a_results_folder_that_cannot_be_written(sentence: Sentence, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file in its place")
    assert "cannot be written" in sentence("run", "fig8", "--results", tmp_path / "results")
    assert (tmp_path / "results").read_text() == "a file in its place"


@pytest.mark.parametrize("words", [["status"], ["verdicts"], ["show", "fig8"], ["run", "fig8"]])
def test_damaged_records_are_one_sentence(
    sentence: Sentence, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "variance").mkdir()
    (tmp_path / "variance" / "provenance.jsonl").write_text("rubbish\n")
    assert "provenance.jsonl is not whole" in sentence(*words, "--results", tmp_path)


def test_a_figure_that_cannot_be_written(
    sentence: Sentence, smoke_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["show", "fig8", "--results", str(smoke_store.root), "--out", str(tmp_path / "f.xyz")]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"error: the figure {tmp_path / 'f.xyz'} cannot be")


# Missing packages

BLOCKED = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
from experiments.__main__ import main

sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("pandas", ["list"]),
        ("torch", ["run", "fig8"]),
        ("tensorboard", ["run", "fig8", "--tensorboard", "/dev/null/none"]),
    ],
)
def test_a_missing_package_is_one_sentence(tmp_path: Path, package: str, words: list[str]) -> None:
    places = ["--results", str(tmp_path / "results")] if words[0] == "run" else []
    command = [sys.executable, "-c", BLOCKED, package, *words, *places]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: the package {package!r} is not installed; `make env` makes an environment "
        "that has everything\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_data_without_its_package(sentence: Sentence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "'sklearn.datasets', which is not installed: run `make env`" in sentence(
        "data", "digits"
    )


def test_a_module_of_ours_that_lacks_is_no_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> int:
        raise ModuleNotFoundError("No module named 'experiments.tsaks'", name="experiments.tsaks")

    monkeypatch.setattr(command_line, "main", fail)
    with pytest.raises(ModuleNotFoundError):
        main(["list"])


# Ctrl-C


def test_ctrl_c_stops_without_a_traceback_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = engine.execute
    done = []

    def interrupted(run: object, **how: object) -> object:
        if done:
            os.kill(os.getpid(), signal.SIGINT)
        done.append(run)
        return whole(run, **how)

    monkeypatch.setattr(launch.engine, "execute", interrupted)
    handlers = [signal.getsignal(number) for number in SIGNALS]
    assert main(["run", "fig8", "thm1", "fig6", "--results", str(tmp_path)]) == 130
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    said = capsys.readouterr()
    assert "\n12 are left (12 not begun); the same command goes on from here\n" in said.out
    assert said.err.endswith("\nstopped; the same command goes on from here\n")
    store = Store(tmp_path)
    for name, count in (("fig8", 1), ("thm1", 1), ("fig6", 0)):  # a measurement has no checkpoint
        assert len(store.recorded(artifacts()[name].at("smoke"))) == count


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_where_no_run_is_at_work_a_signal_ends_a_command_at_once(
    number: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # as SIGHUP does where a terminal has gone

    def fail(_: object) -> None:
        os.kill(os.getpid(), number)
        pytest.fail("it went on")

    monkeypatch.setattr(command_line, "artifacts", lambda: fail(None))
    assert main(["list"]) == status
    assert capsys.readouterr().err == "\nstopped; the same command goes on from here\n"


def test_who_was_started_to_ignore_a_signal_ignores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(command_line, "main", lambda *_: os.kill(os.getpid(), signal.SIGHUP))
        assert main(["list"]) is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_folders_can_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RADAM_DATA", str(tmp_path))
    assert command_line.parser().parse_args(["data", "digits"]).data_dir == tmp_path
    monkeypatch.setenv("RADAM_DATA", "")
    assert command_line.parser().parse_args(["data", "digits"]).data_dir == REPOSITORY / "data"


@pytest.mark.parametrize(
    "option", ["time=5", "time=1h", "time", "time=0", "time=-5", "time=1:2:3:4", "time=0:00"]
)
def test_without_slurm_its_launcher_is_a_sentence(
    sentence: Sentence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["run", "fig8", "--launcher", "slurm", "--slurm", option]
    said = sentence(*words, "--results", tmp_path / "results")
    assert f"{option} is no time; give one such as time=120 (m" in said or option == "time=5"
    assert ("there is no Slurm here" in said) == (option == "time=5")
