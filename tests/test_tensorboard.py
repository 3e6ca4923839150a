"""The curves for TensorBoard: all points, as they come, each once even if a run is killed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments import launch, tensorboard
from experiments.__main__ import main
from experiments.launch import Places
from experiments.record import Store
from experiments.spec import Run


def curves(folder: Path) -> list[tuple[int, str, float]]:
    """What TensorBoard itself makes of a folder."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return sorted(
        (event.step, tag, event.value)
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    )


def test_every_point_of_a_run_is_there_and_no_point_twice(tiny: Run, tmp_path: Path) -> None:
    """The run is stopped after five of nine updates, three of which are in its checkpoint."""
    places = Places(Store(tmp_path / "results"), tmp_path, tensorboard=tmp_path / "curves")
    seen: list[int] = []

    def stop(run: Run, done: int, *_: float) -> None:
        seen.append(done)
        if done == 5 and seen.count(5) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.carry_out(tiny, "smoke", places, report=stop)
    (folder,) = (tmp_path / "curves").iterdir()
    assert folder.name == f"digits-radam-lr-0.03-LinearWarmup-steps-4-seed-0-{tiny.id}"
    assert max(step for step, *_ in curves(folder)) == 5
    outcome = launch.carry_out(tiny, "smoke", places, report=stop)
    assert seen == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9]
    assert outcome.result is not None
    expected = sorted(
        (int(step), f"{metric}/{split}", pytest.approx(value))
        for step, split, metric, value in outcome.result.curves
    )
    assert curves(folder) == expected


def test_points_are_written_while_the_run_goes_on(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "FLUSH_SECONDS", 0)
    with tensorboard.written(tmp_path, tiny) as write:
        assert list(tmp_path.iterdir()) == []
        write((3.0, "train", "loss", 0.5))
        (folder,) = tmp_path.iterdir()
        for _ in range(100):  # its thread writes when it comes to it
            write((4.0, "train", "loss", 0.25))
            if (3, "loss/train", 0.5) in curves(folder):
                break
        else:
            pytest.fail("nothing came")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_command_writes_a_folder_a_run(tmp_path: Path, jobs: str) -> None:
    words = ["run", "thm1", "table3", "--results", str(tmp_path / "results"), "--jobs", jobs]
    assert main([*words, "--tensorboard", str(tmp_path / "curves")]) == 0
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "curves").iterdir())
    assert len(names) == 3
    assert names[-1] == "digits-radam-lr-0.1-seed-0-betas-0.9-0.999"


def test_a_folder_that_cannot_be_made_is_a_sentence(
    sentence: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    said = sentence("run", "thm1", "--results", tmp_path, "--tensorboard", tmp_path / "file" / "x")
    assert "file/x cannot be made" in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
