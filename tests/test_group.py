"""One run across processes: the curve of one process, and one that leads, records and resumes."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments import engine, group, tasks
from experiments.engine import execute
from experiments.errors import UserError
from experiments.group import Group
from experiments.record import Store
from experiments.spec import Run, options
from experiments.tasks._parts import part

REPOSITORY = Path(__file__).parent.parent

# An artifact of some runs among the others, with a point of the curve an epoch and a checkpoint an
# update. The leader stops every run as if its time were up before it goes on with it, and kills
# itself at an update of the last.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from experiments import artifact, engine, group
from experiments.__main__ import main
from experiments.artifact import Artifact
from experiments.spec import Run

specs, kill_at = Path(sys.argv[1]).read_text().splitlines(), int(sys.argv[2])
runs = tuple(Run.of(json.loads(line)) for line in specs)
artifact.artifacts()["some"] = Artifact("some", "some runs", (), {"smoke": runs})
execute, update = engine.execute, engine._Training._update
engine.CURVE_POINTS = 3


def execute_twice(run, **places):
    if not group.current().leads:
        return execute(run, **places)
    try:
        return execute(run, **places | {"until": 0.0})
    except engine.Paused:
        print("paused")
    return execute(run, **places, every=0.0)


def update_and_die(training, batch, weight):
    loss = update(training, batch, weight)
    if group.current().leads and training.run == runs[-1] and training.schedule.t == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss


engine.execute, engine._Training._update = execute_twice, update_and_die
sys.exit(main(["run", "some", *sys.argv[3:]]))
"""


@dataclasses.dataclass
class Campaign:
    """The command in two processes of torchrun, on runs of its own."""

    folder: Path

    def __call__(
        self, runs: tuple[Run, ...], store: Store, *words: str, kill_at: int = 0
    ) -> subprocess.CompletedProcess[str]:
        program, specs = self.folder / "program.py", self.folder / "specs"
        program.write_text(PROGRAM)
        specs.write_text("\n".join(run.canonical_json() for run in runs))
        paths = ["--results", str(store.root), "--data-dir", str(self.folder)]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        return subprocess.run(
            [*torchrun, "--nproc-per-node", "2", program, specs, str(kill_at), *paths, *words],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def curves(store: Store, run: Run) -> dict[tuple[float, str, str], float]:
    rows = store.curves([run])
    columns = zip(rows["step"], rows["split"], rows["metric"], rows["value"], strict=True)
    return {(step, split, metric): value for step, split, metric, value in columns}


def test_two_processes_give_the_curve_of_one(
    tiny: Run, campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 27 and 26 in parts of 14, 13 and 13: the parts' means do not weigh the same.

    The batch-norm statistics are the whole batch's; those of half a batch would differ by tenths.
    """
    run = dataclasses.replace(tiny, batch_size=27, clip=0.5)
    monkeypatch.setattr(engine, "CURVE_POINTS", 3)  # as in the program
    alone, store = execute(run), Store(tmp_path / "results")
    done = campaign((run,), store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("paused\n1 run done now")
    assert done.stdout.count("\n") == 2  # the leader's lines alone
    expected = {(step, split, metric): value for step, split, metric, value in alone.curves}
    found = curves(store, run)
    assert found.keys() == expected.keys()
    losses = [key for key in expected if key[2] == "loss"]
    assert [found[key] for key in losses] == pytest.approx(
        [expected[key] for key in losses], rel=1e-3
    )
    (line,) = store.provenance([run])
    assert line["processes"] == 2
    assert alone.provenance["processes"] == 1


def test_what_was_killed_resumes_with_the_same_bits(
    tiny: Run, campaign: Campaign, tmp_path: Path
) -> None:
    """After a measurement, which the leader does alone, and a run that is done."""
    measurement = Run("variance", settings=options(quantity="samples", rho=5.0, draws=1_000))
    last = dataclasses.replace(tiny, seed=1)
    runs = (measurement, dataclasses.replace(tiny, epochs=1), last)
    killed, whole = Store(tmp_path / "killed"), Store(tmp_path / "whole")
    assert campaign(runs, killed, kill_at=6).returncode != 0  # in the second of three epochs
    assert killed.recorded(runs) == {run.id for run in runs[:2]}
    assert [path.name for path in (killed.root / ".checkpoints").glob("*.pt")] == [f"{last.id}.pt"]
    for store in (killed, whole):
        done = campaign(runs, store)
        assert done.returncode == 0, done.stderr
    assert curves(killed, last) == curves(whole, last)
    assert killed.table(runs).equals(whole.table(runs))


def test_what_cannot_be_shared_is_a_sentence(
    tiny: Run, monkeypatch: pytest.MonkeyPatch, sentence: Callable[..., str], tmp_path: Path
) -> None:
    monkeypatch.setattr(group, "current", lambda: Group(0, 2))
    monkeypatch.setattr(Group, "call", lambda *_: None)
    words = ("run", "fig8", "--results", tmp_path)
    assert "the processes of torchrun share one run at a time" in sentence(*words, "--jobs", "2")
    with pytest.raises(UserError, match="not compiled; leave out --compile"):
        execute(tiny, compiled=True)
    monkeypatch.setattr(tasks, "load", lambda *_: SimpleNamespace(data_sha256="0"))
    with pytest.raises(UserError, match="cannot be shared; start it without torchrun"):
        execute(tiny)


def test_a_process_by_itself_shares_nothing() -> None:
    alone = Group()
    assert alone.leads
    assert alone.agreed("its own") == "its own"
    model = torch.nn.BatchNorm2d(3)
    assert alone.shared(model) is model


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_parts_are_the_batch_and_weigh_as_much(size: int) -> None:
    batch = torch.arange(14).view(2, 7)
    parts, weights = zip(*(part(batch, rank, size, 1) for rank in range(size)), strict=True)
    assert torch.equal(torch.cat(parts, dim=1), batch)
    assert sum(weights) == pytest.approx(size)
    means = [one[0].float().mean() for one in parts]
    mean = sum(mean * weight for mean, weight in zip(means, weights, strict=True)) / size
    assert mean.item() == pytest.approx(3.0)
    with pytest.raises(UserError, match="a batch of 7 cannot be shared by 8 processes"):
        part(batch, 0, 8, 1)
