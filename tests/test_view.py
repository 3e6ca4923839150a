"""What the chapters are made of: every name that a page may ask for is glued, records or none."""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal

from experiments import ledger, report, view
from experiments.artifact import artifacts, find
from experiments.paper._language import best_runs
from experiments.record import Result, Store

BUILT = [name for name, one in artifacts().items() if one.runs]


@pytest.fixture
def glued(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What is glued, by name; the files beside it go into `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    monkeypatch.setattr(view, "glue", lambda name, value, display=True: found.update({name: value}))
    monkeypatch.setattr(view, "set_matplotlib_formats", lambda _: None)
    return found


def use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "Store", lambda: store)


@pytest.mark.parametrize("name", BUILT)
def test_a_page_can_be_made_before_anything_is_run(
    glued: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    smoke_store: Store,
    tmp_path: Path,
    name: str,
) -> None:
    use(smoke_store, monkeypatch)
    view.artifact(name)
    recorded = dict(glued)
    glued.clear()
    use(Store(tmp_path), monkeypatch)
    view.artifact(name)
    assert glued.keys() == recorded.keys()
    for claim in find(name).claims:
        assert glued[claim.id] == "not yet tested"
        numbers = [key for key in glued if re.fullmatch(rf"{re.escape(claim.id)}-\d+", key)]
        assert len(numbers) == len(claim.parts)
        assert {glued[key] for key in numbers} == {"not yet known"}
    assert glued[f"{name}-scale"] == "none yet"
    assert glued[f"{name}-seeds"] == "0"
    assert recorded[f"{name}-scale"] == "smoke"
    assert recorded[f"{name}-seeds"] == "1"
    assert (f"{name}-figure" in glued) == (find(name).draw is not None)
    assert (f"{name}-data" in glued) == (find(name).draw is not None)
    if find(name).draw is not None:
        assert isinstance(glued[f"{name}-figure"], Figure)
        (panel,) = glued[f"{name}-figure"].axes  # without, a notebook would show none of it
        (words,) = (text.get_text() for text in panel.texts)
        assert re.match(
            rf"{name} has 0 of \d+ runs so far: python -m experiments run {name} ", words
        )
        assert not words.endswith("smoke")
        assert glued[f"{name}-data"].data == "No data yet."
        links = re.findall(r"\[([^]]+)\]\(([^)]+)\)", recorded[f"{name}-data"].data)
        planned = find(name).at("smoke")
        tables = {words: pd.read_csv(tmp_path / path) for words, path in links}
        assert set(tables["by run"]["run_id"]) == {run.id for run in planned}
        records = find(name).records("smoke", smoke_store)
        assert ("point by point" in tables) == (len(records.curves) > 0)


def test_the_points_are_those_of_the_records(
    monkeypatch: pytest.MonkeyPatch, smoke_store: Store, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    records = find("fig6").records("smoke", smoke_store)
    view.data("fig6-smoke", records)
    points = pd.read_csv("_data/fig6-smoke-points.csv")
    axes, columns = list(points)[:-4], list(points)[-4:]
    assert columns == ["step", "split", "metric", "value"]
    assert {"optimizer", "lr"} <= set(axes)
    assert {"run_id", "task", "epochs"}.isdisjoint(axes)  # a name, and what all have in common
    assert len(points[axes].drop_duplicates()) == len(records.runs)  # what tells the runs apart
    assert points["value"].to_numpy() == pytest.approx(records.curves["value"].to_numpy(), 1e-5)


def test_a_figure_drawn_on_a_page_offers_its_points(glued: dict[str, Any], tmp_path: Path) -> None:
    drawn, points = Figure(), pd.DataFrame({"update": [1, 2], "change": [1.0, 0.25]})
    view.figure("bare", drawn)
    assert glued == {"bare": drawn}
    view.figure("sizes", drawn, points)
    (path,) = re.findall(r"\[point by point\]\(([^)]+)\)", glued["sizes-data"].data)
    assert_frame_equal(pd.read_csv(tmp_path / path), points)


CHAPTERS = sorted((Path(__file__).parent.parent / "book").glob("*.md"))
FIGURE = re.compile(r"^```\{glue:figure\} (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_every_figure_from_runs_offers_its_data(page: Path) -> None:
    for name, body in FIGURE.findall(page.read_text()):
        label = name.removesuffix("-figure")
        if label in BUILT or (label.endswith("-live") and label.removesuffix("-live") in BUILT):
            assert f"{{glue:md}}`{label}-data:myst`" in body, f"{page.name}: {name}"


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_every_chapter_says_what_would_change_our_mind(page: Path) -> None:
    if page.stem not in ("api", "references"):
        assert "\n## What would change our mind\n" in page.read_text()


def test_what_is_trained_on_a_page_is_as_if_recorded(smoke_store: Store) -> None:
    runs = find("fig8").at("smoke")
    here, there = view.trained(runs), find("fig8").records("smoke", smoke_store)
    assert_frame_equal(here.runs, there.runs)
    assert_frame_equal(here.curves, there.curves)
    assert len(here.curves) > 0


@pytest.mark.parametrize("name", [name for name in BUILT if find(name).tabulate is not None])
def test_a_table_says_how_to_have_it(
    monkeypatch: pytest.MonkeyPatch, smoke_store: Store, tmp_path: Path, name: str
) -> None:
    use(Store(tmp_path), monkeypatch)
    text = view.table(name).data
    assert re.match(rf"{name} has 0 of \d+ runs so far: `python -m experiments run {name} --", text)
    use(smoke_store, monkeypatch)
    head, rule, *rows = view.table(name).data.splitlines()
    assert rows
    assert {row.count(" | ") for row in (rule, *rows)} == {head.count(" | ")}


def test_a_page_says_of_which_studies_nothing_is_recorded(
    monkeypatch: pytest.MonkeyPatch, smoke_store: Store, tmp_path: Path
) -> None:
    use(smoke_store, monkeypatch)
    assert view.pending("fig6", "gpt2") is None
    use(Store(tmp_path), monkeypatch)
    note = view.pending("fig6", "gpt2")
    assert note is not None
    assert note.data.startswith(":::{note}\n")
    for name in ("fig6", "gpt2"):
        planned = len(find(name).at("cpu"))
        command = f"`python -m experiments run {name} --scale cpu`"
        assert f"- {find(name).title} (0 of {planned} runs): {command}" in note.data


def test_every_artifact_has_one_place_in_the_book_that_a_verdict_leads_to() -> None:
    pages = (Path(__file__).parent.parent / "book").glob("*.md")
    labels = re.findall(
        r"^\(evidence-(.+)\)=$", "\n".join(page.read_text() for page in pages), re.MULTILINE
    )
    assert sorted(labels) == sorted(artifacts())


def test_a_verdict_has_a_link_to_its_evidence() -> None:
    head, _, *rows = view.judged("fig6", "thm1").data.splitlines()
    assert head == "| claim | ours | verdict | scale | seeds |"
    names = [claim.id.partition(".")[0] for name in ("fig6", "thm1") for claim in find(name).claims]
    for name, row in zip(names, rows, strict=True):
        assert row.startswith(f"| **[{name}](#evidence-{name})** ")


def test_the_deviations_shown_are_those_of_the_records_or_of_the_plan(
    monkeypatch: pytest.MonkeyPatch, smoke_store: Store, tmp_path: Path
) -> None:
    use(Store(tmp_path), monkeypatch)
    planned = ledger.deviations(find("fig7"), "cpu")
    assert view.deviations("fig7").data == report.markdown(planned)
    assert "1,264 updates" in view.deviations("fig7").data
    use(smoke_store, monkeypatch)
    assert "| `LinearWarmup.steps` | 100, 200, 500, 1000 | none; 2; 16 |" in (
        view.deviations("fig7").data
    )


def test_what_the_language_models_wrote_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, smoke_store: Store, tmp_path: Path
) -> None:
    use(Store(tmp_path), monkeypatch)
    lacking = view.samples("fig4", best_runs).data
    assert lacking.startswith("fig4 has 0 of 24 runs so far: `")
    in_part = Store(shutil.copytree(smoke_store.root, tmp_path / "in-part"))
    in_part.forget(find("fig4").at("smoke")[:1])
    use(in_part, monkeypatch)
    assert view.samples("fig4", best_runs).data == lacking
    use(smoke_store, monkeypatch)
    head, _, *rows = view.samples("fig4", best_runs).data.splitlines()
    assert head == "| model | text |"
    assert [row.split(" | ")[0] for row in rows] == ["| Adam", "| RAdam"]
    assert all(len(row.split()) >= 60 for row in rows)
    assert view._escaped("a <eos> *b* _c_ $1 <unk>") == r"a ¶ \*b\* \_c\_ \$1 \<unk\>"


def test_a_model_that_diverged_wrote_nothing_and_is_a_dash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, runs = Store(tmp_path), find("fig4").at("smoke")
    for run, status in zip(runs, ("diverged", *["finished"] * len(runs)), strict=False):
        known = {"sample": "<eos> it ends"} if status == "finished" else {}
        store.add(Result(run, status, {"test_loss": 1.0}, [], known), "smoke")
    use(store, monkeypatch)
    models = {"the first": runs[0].id, "the last": runs[-1].id}
    _, _, *rows = view.samples("fig4", lambda records: models).data.splitlines()
    assert rows == ["| the first | – |", "| the last | ¶ it ends |"]


def test_a_page_says_what_is_recorded_above_the_scale_that_it_shows(
    monkeypatch: pytest.MonkeyPatch, smoke_store: Store, tmp_path: Path
) -> None:
    store = Store(shutil.copytree(smoke_store.root, tmp_path / "both"))
    use(store, monkeypatch)
    assert view.ahead("fig6", "table3") is None
    runs = find("fig6").at("cpu")
    store.add(Result(runs[0], "finished", {"test_accuracy": 1.0}, []), "cpu")
    note = view.ahead("fig6", "table3")
    assert note is not None
    assert f": *{find('fig6').title}* (1 of {len(runs)} runs of `cpu`)." in note.data
    standing = view.standing("fig6", "table3")
    assert standing is not None
    assert note.data in standing.data


def test_a_page_says_which_studies_compare_several_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    use(store, monkeypatch)
    runs = [run for run in find("fig6").at("smoke") if run.seed == 0]
    for run, device in zip(runs, ("cpu", "cpu", "a GPU"), strict=False):
        assert view.across("fig6", "gpt2") is None
        line = {"threads": 1, "wall_seconds": 1.0, "device": device}
        store.add(Result(run, "finished", {"a": 1.0}, [], line), "smoke")
    note = view.across("fig6", "gpt2")
    assert note is not None
    assert f"*{find('fig6').title}*" in note.data
    assert find("gpt2").title not in note.data
    both = view.standing("fig6", "gpt2")
    assert both is not None
    assert note.data in both.data
    assert find("gpt2").title in both.data  # none of its comparisons is whole


def test_a_page_whose_studies_are_whole_and_of_one_device_has_no_note(
    monkeypatch: pytest.MonkeyPatch, smoke_store: Store
) -> None:
    use(smoke_store, monkeypatch)
    assert view.standing("fig6", "gpt2") is None
