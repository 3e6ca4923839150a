"""Many runs: each done once, in any number of processes, and a killed campaign goes on."""

import dataclasses
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from experiments import engine, launch, machine, slurm
from experiments.campaign import Budget
from experiments.errors import DataError, RunFailed, UserError
from experiments.hold import hold
from experiments.launch import Places
from experiments.record import Result, Store
from experiments.spec import Optim, Run, options

REPOSITORY = Path(__file__).parent.parent
MEASUREMENTS = tuple(
    Run(
        "variance",
        seed=seed,
        settings=options(quantity="samples", rho=5.0, draws=1_000),
    )
    for seed in range(3)
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(Store(tmp_path / "results"), tmp_path / "data")


def start(runs: tuple[Run, ...], places: Places, jobs: int = 1) -> list[Result]:
    return launch.launch([("smoke", run) for run in runs], places, jobs, quiet=True).done


def outcomes(results: list[Result]) -> dict[str, object]:
    return {one.run.id: (one.status, one.metrics, one.curves) for one in results}


# The command, in a process of its own, on an artifact that it puts among the others.

COMMAND = """
import json, os, signal, sys, time
from experiments import artifact, engine, progress
from experiments.__main__ import main
from experiments.artifact import Artifact
from experiments.spec import Run

runs = tuple(Run.of(json.loads(line)) for line in sys.argv[1].splitlines())
artifact.artifacts()["some"] = Artifact("some", "some runs", (), {"smoke": runs})
kill_at = int(sys.argv[2])
progress.LINE_SECONDS = 0
whole = engine.execute


def execute(run, *, report, **places):
    places["every"] = 0.0  # a checkpoint before every update
    def reporting(done, total, loss, lr):
        report(done, total, loss, lr)
        if run == runs[-1] and done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if kill_at < 0:
            time.sleep(600)

    return whole(run, report=reporting, **places)


engine.execute = execute
sys.exit(main(["run", "some", *sys.argv[3:]]))
"""


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def campaign() -> Iterator[Start]:
    """The command, in a process group of its own; perhaps killed at an update of its last run."""
    started: list[subprocess.Popen[str]] = []

    def start(runs: tuple[Run, ...], places: Places, *words: str, kill_at: int = 0) -> Any:
        specs = "\n".join(run.canonical_json() for run in runs)
        paths = ["--results", str(places.store.root), "--data-dir", str(places.data_root)]
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, specs, str(kill_at), *paths, *words],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:  # the test has failed
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_what_is_recorded_is_skipped(places: Places) -> None:
    assert [one.run for one in start(MEASUREMENTS[:2], places)] == list(MEASUREMENTS[:2])
    before = places.store.provenance(MEASUREMENTS)
    assert [one.run for one in start(MEASUREMENTS, places)] == [MEASUREMENTS[2]]
    assert start(MEASUREMENTS, places) == []
    after = places.store.provenance(MEASUREMENTS)
    assert [line for line in after if line in before] == before
    assert len(after) == 3


def test_a_run_that_comes_twice_is_done_once(places: Places) -> None:
    run = MEASUREMENTS[0]
    again = Run.of(json.loads(run.canonical_json()))
    assert [one.run for one in start((run, again, run), places)] == [run]


def test_nothing_to_do_touches_nothing(places: Places) -> None:
    assert start((), places) == []
    assert not places.store.root.exists()


def test_a_checkpoint_lives_until_its_run_is_recorded(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(tiny, epochs=1)
    seen = []

    def add(store: Store, result: Result, scale: str) -> None:
        seen.append(places.checkpoint(result.run).exists())

    monkeypatch.setattr(Store, "add", add)
    start((run,), places)
    assert seen == [True]
    assert not places.checkpoint(run).exists()


def test_nothing_is_computed_for_a_folder_that_cannot_be_written(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.store.root.write_text("a file in its place")
    monkeypatch.setattr(engine, "execute", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(UserError, match="cannot be written"):
        start(MEASUREMENTS, places)


def test_several_processes_give_what_one_gives(tiny: Run, places: Places, tmp_path: Path) -> None:
    runs = (tiny, dataclasses.replace(tiny, seed=1), *MEASUREMENTS)
    one = start(runs, places)
    other = Places(Store(tmp_path / "parallel"), places.data_root)
    two = start(runs, other, jobs=2)
    assert outcomes(one) == outcomes(two)
    assert places.store.table(runs).equals(other.store.table(runs))
    assert places.store.curves(runs).equals(other.store.curves(runs))
    assert multiprocessing.active_children() == []
    assert {line["side_by_side"] for line in places.store.provenance(runs)} == {1}


class Pool:
    """Of one worker, whose work is done at once: it tells what it was given."""

    def __init__(self, _: int, context: object, start: object, given: tuple[Any, ...]) -> None:
        self.threads = given[-1]

    def submit(self, _: object, run: Run, *order: Any) -> Future[launch.Outcome]:
        done: Future[launch.Outcome] = Future()
        done.set_result(launch.Outcome(run, left=f"{order[-1]} at work, {self.threads} threads"))
        return done

    def shutdown(self) -> None: ...


class Idle(Pool):
    """Whose worker never comes to an end."""

    def submit(self, *_: object) -> Future[launch.Outcome]:
        return Future()


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (2, ["2 at work, 2 threads", "2 at work, 2 threads", "1 at work, 2 threads"]),
        (3, ["3 at work, 1 threads"] * 3),
        (9, ["3 at work, 1 threads"] * 3),
    ],
)
def test_the_cores_go_to_the_workers_that_start(
    places: Places, monkeypatch: pytest.MonkeyPatch, jobs: int, told: list[str]
) -> None:
    """And a run is told how many share the device as it begins: at the end there are fewer."""
    monkeypatch.setattr(launch, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    runs = [("smoke", run) for run in MEASUREMENTS]
    ended = launch.launch(runs, places, jobs, quiet=True)
    assert [ended.left[run] for run in MEASUREMENTS] == told


def test_a_worker_that_was_killed_leaves_the_others_to_their_work(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tuple(dataclasses.replace(tiny, seed=seed, epochs=1) for seed in (1, 2, 3))
    endless = dataclasses.replace(tiny, epochs=10_000)
    report = launch.Progress.report

    def kill(progress: launch.Progress, run: Run, *numbers: float) -> None:
        report(progress, run, *numbers)
        written = places.checkpoint(endless).exists()
        if run == endless and written and len(places.store.recorded(others)) == 3:
            text = places.lock(endless).read_text()  # "process 123 on a-machine"
            os.kill(int(text.split()[1]), signal.SIGKILL)

    monkeypatch.setattr(launch.Progress, "report", kill)
    with pytest.raises(UserError, match=re.escape(f"the process of {endless} was killed, p")):
        start((endless, *others), places, jobs=2)
    assert places.store.recorded([endless, *others]) == {run.id for run in others}
    assert places.checkpoint(endless).exists()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]),
        ("cuda", 1, ["cuda"] * 4),
        ("cuda:1", 3, ["cuda:1"] * 4),
        ("cpu", 3, ["cpu"] * 4),
    ],
)
def test_processes_use_all_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, expected: list[str]
) -> None:
    monkeypatch.setattr(engine.torch.cuda, "device_count", lambda: gpus)
    assert launch._devices(device, jobs=4) == expected


# Runs in one pair of hands


def test_a_run_in_other_hands_is_left_to_them(tiny: Run, places: Places) -> None:
    """A process of its own holds the lock, and is then killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(places.lock(MEASUREMENTS[0]))],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    runs = [("smoke", run) for run in MEASUREMENTS]
    first = launch.launch(runs, places, quiet=True)
    assert [one.run for one in first.done] == list(MEASUREMENTS[1:])
    assert first.left == {MEASUREMENTS[0]: launch.HELD}
    assert f"process {holder.pid} on " in places.lock(MEASUREMENTS[0]).read_text()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    second = launch.launch(runs, places, quiet=True)
    assert [one.run for one in second.done] == [MEASUREMENTS[0]]
    assert second.left == {}
    assert hidden(places) == []


HOLDER = """
import sys, time
from pathlib import Path
from experiments.hold import hold

with hold(Path(sys.argv[1])) as held:
    print("held" if held else "not", flush=True)
    time.sleep(600)
"""


def test_what_another_campaign_recorded_meanwhile_is_not_done_again(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After this one had looked what is outstanding."""
    last = MEASUREMENTS[-1]
    whole = engine.execute

    def execute(run: Run, **how: Any) -> Result:
        if run != last:
            places.store.add(whole(last), "smoke")
        return whole(run, **how)

    monkeypatch.setattr(engine, "execute", execute)
    ended = launch.launch([("smoke", run) for run in MEASUREMENTS], places, quiet=True)
    assert [one.run for one in ended.done] == list(MEASUREMENTS[:-1])
    assert ended.left == {}


def test_two_campaigns_on_one_folder_share_the_work(
    tiny: Run, places: Places, campaign: Start
) -> None:
    runs = tuple(dataclasses.replace(tiny, epochs=2, seed=seed) for seed in range(8))
    both = [campaign(runs, places, "--jobs", jobs) for jobs in ("1", "2")]
    told = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    counts = [int(text.split()[0]) for text in told]  # "5 runs done now ..."
    assert sum(counts) == 8
    assert places.store.recorded(runs) == {run.id for run in runs}
    assert len(places.store.table(runs)) == 8
    assert hidden(places) == []


# A campaign that ends in time


def test_a_campaign_stops_itself_and_says_what_is_left(
    tiny: Run, places: Places, campaign: Start
) -> None:
    """As the command line does it: a few seconds of work, and one of three endless runs waits.

    (On a machine that is busy enough, all three may.)
    """
    endless = tuple(dataclasses.replace(tiny, epochs=10_000, seed=seed) for seed in range(3))
    process = campaign(endless, places, "--jobs", "2", "--time-budget", "30s")
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert told.startswith("0 runs done now (0 diverged), 0 were recorded before; records in ")
    assert "\n3 are left (" in told
    assert " not begun for lack of time); the same command goes on from here\n" in told
    assert told.endswith(
        "\nno run ended in that time; where the same command gets no further, give it more\n"
    )
    assert not places.checkpoint(endless[2]).exists()
    assert not any(is_held(places, run) for run in endless)


def is_held(places: Places, run: Run) -> bool:
    with hold(places.lock(run)) as held:
        return not held


def test_a_run_stops_at_its_checkpoint_in_time(tiny: Run, places: Places) -> None:
    endless = dataclasses.replace(tiny, epochs=10_000)
    outcome = launch.carry_out(endless, "smoke", places, until=time.time() + 2)
    assert outcome == launch.Outcome(endless, left=launch.PAUSED)
    assert hidden(places) == [places.checkpoint(endless).name]
    assert places.store.recorded([endless]) == set()


def test_what_does_not_stop_is_killed_in_time(
    places: Places, tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker would go on for hours; the time to kill it is when it has a checkpoint."""
    endless = dataclasses.replace(tiny, epochs=10_000)

    def wait(at_work: dict[Any, Any], timeout: float, _: str) -> tuple[set[Any], set[Any]]:
        assert 0 < timeout <= 3600
        while not places.checkpoint(endless).exists():
            time.sleep(0.1)
        monkeypatch.setattr("time.time", lambda: hour.kill)
        return set(), set(at_work)

    monkeypatch.setattr(launch, "wait", wait)
    hour = Budget(stop=time.time() + 3600, kill=time.time() + 3600)
    ended = launch.launch([("smoke", endless)], places, quiet=True, budget=hour)
    assert ended == launch.Campaign([], {endless: launch.CUT_OFF})
    assert places.checkpoint(endless).exists()
    assert multiprocessing.active_children() == []
    assert not is_held(places, endless)


def test_of_what_was_cut_off_it_is_said_whether_it_has_a_checkpoint(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurement has none, however long it was at work."""
    monkeypatch.setattr(launch, "ProcessPoolExecutor", Idle)
    places.checkpoint(tiny).parent.mkdir(parents=True)
    places.checkpoint(tiny).touch()
    runs = [("smoke", run) for run in (tiny, MEASUREMENTS[0])]
    soon = Budget(stop=time.time() + 600, kill=time.time() + 1)
    ended = launch.launch(runs, places, 2, quiet=True, budget=soon)
    assert ended.left == {tiny: launch.CUT_OFF, MEASUREMENTS[0]: launch.LOST}


def test_nothing_begins_that_would_leave_nothing(places: Places) -> None:
    """A measurement that took an hour is not begun for ten minutes, its cheaper neighbour is."""
    slow, done, quick = (
        dataclasses.replace(run, settings=options(**(dict(run.settings) | {"draws": draws})))
        for run, draws in zip(MEASUREMENTS, (2_000, 2_000, 1_000), strict=True)
    )
    places.store.add(Result(done, "finished", {}, [], {"wall_seconds": 3600, "device": "cpu"}), "s")
    runs = [("smoke", slow), ("smoke", quick)]
    end = time.time() + 600
    ended = launch.launch(runs, places, quiet=True, budget=Budget(stop=end, kill=end))
    assert [one.run for one in ended.done] == [quick]
    assert ended.left == {slow: launch.NO_TIME}


# Runs that fail


def test_what_fails_because_the_memory_ran_out_is_out_of_memory() -> None:
    """As the end of a recording does, which torch raises over the error itself."""
    given_up = RuntimeError("operation failed due to a previous error during capture")
    given_up.__context__ = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert machine.is_out_of_memory(given_up)
    assert not machine.is_out_of_memory(RuntimeError("an illegal memory access"))


def test_a_run_out_of_memory_is_recorded_as_that_and_tried_again_last(places: Places) -> None:
    """Its allocation is truly refused: no machine has an exabyte."""
    exabytes = options(quantity="samples", rho=5.0, draws=10**18)
    huge = dataclasses.replace(MEASUREMENTS[0], settings=exabytes)
    first = start((huge, *MEASUREMENTS[:2]), places)
    assert [one.status for one in first] == ["out of memory", "finished", "finished"]
    assert first[0].provenance["device"] == "cpu"
    again = start((huge, *MEASUREMENTS), places)
    assert [one.run for one in again] == [MEASUREMENTS[2], huge]
    assert places.store.recorded([huge]) == set()
    assert [line["status"] for line in places.store.provenance([huge])] == ["out of memory"]
    assert len(places.store.table([huge, *MEASUREMENTS])) == 3


def test_a_device_that_ran_out_of_memory_is_not_asked_for_more(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(engine, "execute", full)
    monkeypatch.setattr(machine, "find_device", full)
    outcome = launch.carry_out(MEASUREMENTS[0], "smoke", places)
    assert outcome.result is not None
    assert outcome.result.status == "out of memory"


def test_what_the_sentence_on_a_data_set_quotes_makes_no_out_of_memory(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(*_: Any, **__: Any) -> None:
        raise DataError("out of memory.txt cannot be read: replace it")

    monkeypatch.setattr(engine, "execute", execute)
    outcome = launch.carry_out(MEASUREMENTS[0], "smoke", places)
    assert isinstance(outcome.error, DataError)
    assert outcome.result is None


class Failing(torch.optim.SGD):
    """An optimizer from elsewhere, with a mistake in its third update."""

    updates = 0

    def step(self, closure: Any = None) -> None:
        super().step()
        self.updates += 1
        if self.updates == 3:
            raise ValueError("the shapes\n do not fit")


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_an_optimizer_from_elsewhere_raises_is_told_and_the_others_go_on(
    tiny: Run, places: Places, jobs: int
) -> None:
    name = f"{__name__}:Failing"
    failing = dataclasses.replace(tiny, optim=Optim(name, lr=0.1))
    with pytest.raises(launch.Unfinished) as caught:
        start((failing, *MEASUREMENTS), places, jobs)
    assert str(caught.value) == (
        f"{name} failed in update 3 of {failing}: ValueError: the shapes do not fit"
    )
    assert caught.value.status == 2
    (note,) = caught.value.__notes__
    assert note.startswith("Traceback (most recent call last):\n")
    assert 'raise ValueError("the shapes' in note
    assert caught.value.campaign.left == {failing: launch.FAILED}
    assert places.store.recorded([failing, *MEASUREMENTS]) == {one.id for one in MEASUREMENTS}
    assert multiprocessing.active_children() == []


class Counting(torch.optim.SGD):
    """An optimizer from elsewhere that counts with NumPy."""

    def step(self, closure: Any = None) -> None:
        super().step()
        for group in self.param_groups:
            group["count"] = np.int64(1) + group.get("count", 0)


def test_an_optimizer_whose_state_cannot_be_read_back_fails_at_its_first_checkpoint(
    tiny: Run, places: Places
) -> None:
    name = f"{__name__}:Counting"
    counting = dataclasses.replace(tiny, optim=Optim(name, lr=0.1))
    with pytest.raises(launch.Unfinished, match="nothing but tensors, Python's own") as caught:
        start((counting, *MEASUREMENTS), places)
    assert str(caught.value).startswith(f"{name} keeps what cannot be read ")
    assert caught.value.status == 2
    assert caught.value.campaign.left == {counting: launch.FAILED}
    assert hidden(places) == []


def test_a_broken_checkpoint_fails_its_own_run_alone(tiny: Run, places: Places) -> None:
    path = places.checkpoint(tiny)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"rubbish")
    with pytest.raises(launch.Unfinished, match="cannot be read; delete it, and the run") as caught:
        start((tiny, *MEASUREMENTS), places)
    assert caught.value.status == 2
    assert caught.value.campaign.left == {tiny: launch.FAILED}
    assert places.store.recorded(MEASUREMENTS) == {one.id for one in MEASUREMENTS}
    assert path.exists()


def test_what_nobody_had_foreseen_in_a_run_leaves_the_others_to_their_work(
    tiny: Run, places: Places, campaign: Start
) -> None:
    """A run of a setting too few, of which no command would be able to make one."""
    broken = tuple(
        dataclasses.replace(tiny, seed=seed, settings=options(augment=True)) for seed in range(2)
    )
    process = campaign((*broken, *MEASUREMENTS), places)
    told, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert told.startswith("3 runs done now (0 diverged), 0 were recorded before; ")
    assert told.endswith("\n2 are left (2 failed); the same command goes on from here\n")
    assert errors.count("Traceback (most recent call last)") == 1
    assert errors.endswith(
        f"\nerror: {broken[0]} failed: KeyError: 'train_images' (2 runs failed)\n"
    )
    assert places.store.recorded(MEASUREMENTS) == {one.id for one in MEASUREMENTS}
    assert hidden(places) == []


def test_one_error_of_the_users_ends_the_campaign_and_the_others_at_their_checkpoints(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PATIENCE", 600.0)
    endless = dataclasses.replace(tiny, epochs=10_000)
    nothing = dataclasses.replace(
        tiny, settings=options(**dict(tiny.settings) | {"train_images": 9_999})
    )
    with pytest.raises(UserError, match="ask for fewer"):
        start((nothing, endless, *MEASUREMENTS), places, jobs=2)
    assert hidden(places) == [places.checkpoint(endless).name]
    assert places.store.recorded(MEASUREMENTS) == set()


@pytest.mark.parametrize("jobs", [1, 2])
def test_runs_whose_data_is_missing_are_put_aside_and_the_others_done(
    tiny: Run, places: Places, jobs: int
) -> None:
    """All on the same data with the first of them, whatever their optimizer and seed."""
    missing = [
        dataclasses.replace(tiny, task="cifar10", seed=seed, optim=Optim(name, lr=0.1))
        for name in ("sgd", "radam")
        for seed in range(3)
    ]
    with pytest.raises(launch.Unfinished, match=r"^CIFAR-10 is not") as caught:
        start((*missing, *MEASUREMENTS), places, jobs)
    assert caught.value.status == 2
    assert caught.value.campaign.left == dict.fromkeys(missing, launch.NO_DATA)
    assert len(caught.value.campaign.errors) <= jobs
    assert places.store.recorded(MEASUREMENTS) == {one.id for one in MEASUREMENTS}
    with pytest.raises(DataError, match=r"^CIFAR-10 is not"):
        start(tuple(missing), places, jobs)


def test_a_run_that_finds_the_disk_full_is_put_aside_and_the_others_end_at_their_checkpoints(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints are written to where there is never any space, until they no longer are."""
    monkeypatch.setattr(launch, "PATIENCE", 600.0)
    endless = dataclasses.replace(tiny, epochs=10_000)
    new = places.checkpoint(tiny).with_name(f".{tiny.id}.pt.new")
    new.parent.mkdir(parents=True)
    new.symlink_to("/dev/full")
    with pytest.raises(launch.Unfinished, match=r"^the checkpoint .* cannot be written") as caught:
        start((tiny, endless, *MEASUREMENTS), places, jobs=2)
    assert caught.value.campaign.left == {
        tiny: launch.NO_SPACE,
        endless: launch.PAUSED,
        **dict.fromkeys(MEASUREMENTS, launch.NOT_BEGUN),
    }
    assert hidden(places) == [places.checkpoint(endless).name]
    assert len(start((tiny, *MEASUREMENTS), places)) == 4


def test_what_is_said_of_failed_and_of_killed_runs_is_all_in_one_sentence(tiny: Run) -> None:
    other = dataclasses.replace(tiny, seed=1)
    campaign = launch.Campaign()
    assert campaign.complaint() is None
    campaign.take(launch.Outcome(tiny, left=launch.FAILED, error=RunFailed("it failed")))
    campaign.take(launch.Outcome(other, left=launch.KILLED))
    complaint = campaign.complaint()
    assert str(complaint).startswith(f"it failed; the process of {other} was killed, perhaps for ")
    assert complaint is not None
    assert complaint.status == 1
    campaign.take(launch.Outcome(tiny, error=UserError("there is no such thing")))
    assert str(campaign.complaint()) == "there is no such thing"


# A campaign that is stopped from outside


@pytest.mark.parametrize("kill_at", [1, 5, 6, 9])
def test_a_killed_campaign_goes_on_to_the_same_records(
    tiny: Run, places: Places, tmp_path: Path, campaign: Start, kill_at: int
) -> None:
    """After the first of nine updates, within an epoch, at the end of one, at the very end."""
    runs = (dataclasses.replace(tiny, epochs=1), tiny)
    killed = campaign(runs, places, kill_at=kill_at)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert places.store.recorded(runs) == {runs[0].id}
    assert places.checkpoint(tiny).exists()
    assert places.lock(tiny).exists()  # of one who is dead: it holds nobody up

    reported: list[int] = []
    outcome = launch.carry_out(
        tiny, "smoke", places, report=lambda run, *at: reported.append(at[0])
    )
    assert outcome.result is not None
    assert reported == list(range(kill_at, 10))  # only the last update was done again
    assert hidden(places) == []
    whole = Places(Store(tmp_path / "whole"), places.data_root)
    start(runs, whole)
    assert places.store.table(runs).equals(whole.store.table(runs))
    assert places.store.curves(runs).equals(whole.store.curves(runs))


def hidden(places: Places) -> list[str]:
    """What lies about besides the records."""
    return [path.name for path in (places.store.root / ".checkpoints").iterdir()]


def when_at_work(process: subprocess.Popen[str]) -> None:
    shown = ""
    while "loss" not in shown:
        assert process.stderr is not None
        shown += process.stderr.read(1)
        assert process.poll() is None, shown


def how_it_starts_processes() -> tuple[str | None, list[int]]:
    loader = DataLoader(range(4), num_workers=1)  # type: ignore[arg-type]
    return multiprocessing.get_start_method(), [int(one) for one in loader]


def test_a_workers_own_processes_start_as_anywhere() -> None:
    """It is spawned; what loads its images need not be, which would import everything anew."""
    context = multiprocessing.get_context("spawn")
    shared = (context.Queue(), context.RawValue("b", False), 1)
    with ProcessPoolExecutor(1, context, launch._start_worker, shared) as pool:
        found = pool.submit(how_it_starts_processes).result()
    assert found == (multiprocessing.get_start_method(), [0, 1, 2, 3])


def test_workers_end_with_their_parent(tiny: Run, places: Places, campaign: Start) -> None:
    """After a kill, which the parent alone gets."""
    process = campaign((dataclasses.replace(tiny, epochs=10_000),), places, "--jobs", "2")
    when_at_work(process)
    process.kill()
    # The pipes close when the last process that holds them has ended: the workers hold them too.
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(
    ("blow", "send", "jobs"),
    [
        ("SIGINT", os.killpg, "2"),
        ("SIGTERM", os.kill, "1"),
        ("SIGTERM", os.killpg, "2"),
        ("SIGHUP", os.killpg, "1"),
    ],
)
def test_whoever_is_told_to_end_does_so_at_a_checkpoint(
    tiny: Run,
    places: Places,
    campaign: Start,
    blow: str,
    send: Callable[[int, int], None],
    jobs: str,
) -> None:
    """Ctrl-C and a closed connection reach the whole group, `kill` the parent alone.

    What comes twice at once, as from a shell whose terminal closes, is one word.
    """
    runs = tuple(dataclasses.replace(tiny, epochs=10_000, seed=seed) for seed in range(3))
    process = campaign(runs, places, "--jobs", jobs)
    when_at_work(process)
    for _ in range(2):
        send(process.pid, getattr(signal, blow))
    told, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + getattr(signal, blow)
    assert "Traceback" not in errors
    assert errors.endswith("\nstopped; the same command goes on from here\n")
    assert f"\n3 are left ({jobs} {launch.PAUSED}, {3 - int(jobs)} {launch.NOT_BEGUN}); " in told
    assert len(hidden(places)) == int(jobs)  # checkpoints, and no locks
    assert not any(is_held(places, run) for run in runs)


def test_a_second_signal_ends_at_once(tiny: Run, places: Places, campaign: Start) -> None:
    """Where what is at work reaches no checkpoint: its report takes minutes."""
    process = campaign((tiny,), places, kill_at=-1)
    when_at_work(process)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "once more" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT
    assert errors.endswith("\nstopped; the same command goes on from here\n")


# Jobs of a cluster, as far as that goes without one; tests/slurm has the rest


@pytest.mark.parametrize(
    ("limit", "until", "stops_at", "put_back"),
    [(7200, 9000, 6960, True), (7200, 5000, 5000, False), (300, 9000, 200, True)],
)
def test_a_job_stops_at_a_checkpoint_before_its_limit_and_goes_back_into_the_queue(
    tiny: Run,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    limit: float,
    until: float,
    stops_at: float,
    put_back: bool,
) -> None:
    """Unless the time of the whole campaign is up."""
    now = [0.0]

    def stop(run: Run, scale: str, places: Places, until: float) -> launch.Outcome:
        now[0] = until
        return launch.Outcome(run, left=launch.PAUSED)

    heard = []
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr(slurm, "carry_out", stop)
    before = signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))
    try:
        slurm.Job(limit)(tiny, "smoke", places, until)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert now == [stops_at]
    assert heard == [signal.SIGUSR2] * put_back


CLUSTER = {
    "srun": "",
    "sbatch": "cat $1 >>submitted; echo Submitted batch job 7",
    "squeue": "for n in $(seq 0 999); do echo 7_$n PD; done",
    "scancel": "echo $* >>cancelled",
}


def test_more_jobs_than_an_array_holds_wait_and_a_signal_takes_back_those_in_the_queue(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster whose jobs stay where they are, and a signal right after the first array."""
    for name, text in CLUSTER.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    runs = [("smoke", dataclasses.replace(MEASUREMENTS[0], seed=seed)) for seed in range(1_002)]
    ended = launch.launch(
        runs,
        places,
        9,
        quiet=True,
        launcher=slurm.Slurm(("job-name=mine", "time=1-2:30", "--qos=low")),
        told=Path("submitted").exists,
    )
    assert ended.left == {run: launch.NOT_BEGUN for _, run in runs}
    options = re.findall("#SBATCH --(.*)", Path("submitted").read_text())
    assert {"array=0-999%9", f"time={26 * 60 + 30}", "qos=low"} <= set(options)
    assert [one for one in options if "name" in one] == ["job-name=mine"]
    assert Path("cancelled").read_text().split() == [f"7_{number}" for number in range(1_000)]


class Ended:
    """A job that itself has found too little time to begin."""

    job_id = "7_0"

    def __init__(self, result: Path) -> None:
        self.paths = SimpleNamespace(result_pickle=result)

    def result(self) -> launch.Outcome:
        return launch.Outcome(MEASUREMENTS[0], left=launch.NO_TIME)


def test_a_job_that_ended_without_a_run_is_not_taken_back(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(_: slurm.Slurm, folder: Path, *orders: object) -> list[Ended]:
        folder.mkdir(parents=True)
        (folder / "result.pkl").touch()
        return [Ended(folder / "result.pkl")]

    monkeypatch.setattr(slurm.Slurm, "_submit", submit)
    monkeypatch.setattr(slurm, "_states", dict)
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no scancel
    runs = [("smoke", MEASUREMENTS[0])]
    ended = launch.launch(runs, places, quiet=True, launcher=slurm.Slurm())
    assert ended.left == {MEASUREMENTS[0]: launch.NO_TIME}
    assert list((places.store.root / ".slurm").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:01", 91), ("1:30:00", 90), ("1-0", 1440), ("1-2:30", 1590), ("0-0:1:30", 2)],
)
def test_slurms_notations_of_a_time_are_known(text: str, minutes: int) -> None:
    assert slurm._minutes(text) == minutes


FULL_DISK = """
folder=$1; shift
mount -t tmpfs -o size=1500k none "$folder" || exit 77
"$@"
echo "status $?" >&2
find "$folder" -name '*.new' -o -name '*.lock' -size +0 >&2
ls "$folder"/.checkpoints >&2
mount -o remount,size=50m "$folder"
"$@" || exit 1
cp -r "$folder" "$folder"-kept
"""


def test_on_a_full_disk_the_campaign_ends_with_a_sentence_and_then_goes_on(
    tiny: Run, places: Places, tmp_path: Path
) -> None:
    """A real one, of 1.5 MB: the second checkpoint, of one, does not fit beside the first."""
    places.store.root.mkdir()
    runs = (tiny, MEASUREMENTS[0])
    command = [sys.executable, "-c", COMMAND, "\n".join(run.canonical_json() for run in runs), "0"]
    command += ["--results", str(places.store.root)]
    inside = ["sh", "-c", FULL_DISK, "sh", str(places.store.root), *command]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *inside],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"this machine lets nobody mount a disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    first, _, second = done.stderr.partition("status 2\n")
    assert f"{tiny}: disk full; " in first
    assert first.splitlines()[-1].startswith("error: the checkpoint ")
    assert "cannot be written; free space" in first
    assert "Traceback" not in done.stderr
    before, after = done.stdout.split("0 runs done now", 1)[1].split("2 runs done now")
    assert "\n2 are left (1 disk full, 1 not begun); the same command goes on from here\n" in before
    assert "left" not in after
    left, *_ = second.splitlines()
    assert left == places.checkpoint(tiny).name  # the last good one, and nothing beside it
    kept, whole = Store(tmp_path / "results-kept"), Places(Store(tmp_path / "w"), places.data_root)
    start(runs, whole)
    assert kept.table(runs).equals(whole.store.table(runs))
    assert kept.curves(runs).equals(whole.store.curves(runs))
