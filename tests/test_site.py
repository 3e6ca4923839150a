"""The site check finds what it is there to find, and the book's build knows when it is stale."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import book, draft
from tools.book import digest, is_notebook, notebooks, timed
from tools.check_site import main, problems

SOUND = """
<html><head>
  <link rel="stylesheet" href="_static/style.css?v=1"><link rel="next" href="other.html">
  <script>const name = "http://www.w3.org/2000/svg";</script>
</head><body>
  <p id="here"><a href="#here">here</a> <a href="other.html#there%20too">there</a></p>
  <a href="https://example.org/paper">a link that a reader may follow</a>
  <a href="mailto:someone@example.org">mail</a> <a download href="_static/points.csv">data</a>
  <img src="_static/plot.png" alt="A line that falls"><img src="data:image/png;base64,AA" alt="x">
</body></html>
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small site with nothing wrong."""
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "plot.png").write_bytes(b"png")
    (tmp_path / "_static" / "points.csv").write_text("x,y\n1,2\n")
    (tmp_path / "_static" / "none.csv").write_text("x,y\n")
    (tmp_path / "_static" / "style.css").write_text("body { background: url('plot.png') }")
    (tmp_path / "other.html").write_text(
        '<h1 id="there too">Other</h1><a href="/index.html">up</a>'
    )
    (tmp_path / "index.html").write_text(SOUND)
    return tmp_path


def test_a_sound_site_has_no_problems(site: Path) -> None:
    assert problems(site) == []


@pytest.mark.parametrize(
    ("snippet", "found"),
    [
        ('<a href="gone.html">x</a>', "leads nowhere: gone.html"),
        ('<a href="#gone">x</a>', "no such anchor: #gone"),
        ('<a href="other.html#gone">x</a>', "no such anchor: other.html#gone"),
        ('<a href="../../etc">x</a>', "leads nowhere: ../../etc"),
        ('<img src="_static/gone.png" alt="x">', "leads nowhere: _static/gone.png"),
        ('<img src="_static/plot.png">', "image without alternative text: _static/plot.png"),
        ('<img src="_static/plot.png" alt=" ">', "image without alternative text"),
        ('<img alt="x" srcset="gone.png 2x">', "leads nowhere: gone.png"),
        ('<script src="https://example.org/a.js"></script>', "loads from another host"),
        ('<script src="//example.org/a.js"></script>', "loads from another host"),
        ("<script>load('https://example.org/a.js')</script>", "loads from another host"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "loads from another host"),
        ('<link rel="preconnect" href="https://example.org">', "loads from another host"),
        ('<iframe src="https://example.org/"></iframe>', "loads from another host"),
        ("<style>@import 'https://example.org/a.css';</style>", "loads from another host"),
        ('<p style="background: url(//example.org/a.png)">x</p>', "loads from another host"),
        ('<a download href="gone.csv">x</a>', "leads nowhere: gone.csv"),
        ('<a download href="_static/none.csv">x</a>', "nothing to download: _static/none.csv"),
        ("<pre>&lt;Figure size 800x100 with 0 Axes&gt;</pre>", "words in the place of a figure"),
    ],
)
def test_what_is_wrong_on_a_page_is_found(site: Path, snippet: str, found: str) -> None:
    (site / "index.html").write_text(SOUND.replace("</body>", f"{snippet}</body>"))
    (problem,) = problems(site)
    assert problem.startswith(f"index.html: {found}")


def test_what_is_wrong_in_a_style_sheet_is_found(site: Path) -> None:
    sheet = "@import url(https://example.org/a.css); p { background: url(gone.png) }"
    (site / "_static" / "style.css").write_text(sheet)
    assert problems(site) == [
        "_static/style.css: loads from another host: https://example.org/a.css",
        "_static/style.css: leads nowhere: gone.png",
    ]


def test_a_link_out_of_the_site_is_found(site: Path) -> None:
    inner = site / "_static"
    (inner / "index.html").write_text('<a href="../other.html">x</a>')
    assert problems(inner) == ["index.html: leads out of the site: ../other.html"]


def test_no_site_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["check_site.py", str(tmp_path)])
    assert main() == 2
    assert "build it with `make book` first" in capsys.readouterr().err


def test_a_build_is_stale_when_a_source_changes_and_only_then(tmp_path: Path) -> None:
    code, lock = tmp_path / "code", tmp_path / "requirements.lock"
    (code / "__pycache__").mkdir(parents=True)
    (code / "a.py").write_text("a = 1\n")
    lock.write_text("numpy==2.0\n")
    states = [digest(tmp_path, ("code", "requirements.lock"))]

    (code / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (code / ".a.py.swp").write_bytes(b"an editor's file")
    (code / "_data").mkdir()
    (code / "_data" / "fig.csv").write_text("what the build itself writes\n")
    (tmp_path / "elsewhere.py").write_text("b = 1\n")
    assert digest(tmp_path, ("code", "requirements.lock")) == states[0]

    (code / "a.py").write_text("a = 2\n")
    states.append(digest(tmp_path, ("code", "requirements.lock")))
    (code / "a.py").rename(code / "b.py")
    states.append(digest(tmp_path, ("code", "requirements.lock")))
    lock.write_text("numpy==2.1\n")
    states.append(digest(tmp_path, ("code", "requirements.lock")))
    assert len(set(states)) == 4


def test_a_notebook_is_told_by_the_kernel_in_its_header(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("---\nkernelspec:\n  name: python3\n---\n# Title\n")
    assert is_notebook(page)
    page.write_text("# Title\n\n---\n\nkernelspec: in the text\n")
    assert not is_notebook(page)
    page.write_text("")
    assert not is_notebook(page)


def test_the_notebooks_come_in_the_order_of_the_table_of_contents() -> None:
    names = [page.stem for page in notebooks()]
    assert names[0] == "intro"
    assert names.index("variance") < names.index("radam") < names.index("image_classification")
    pages = Path(__file__).parent.parent.joinpath("book").glob("*.md")
    assert sorted(names) == sorted(page.stem for page in pages if is_notebook(page))


@pytest.mark.parametrize("is_draft", [False, True])
def test_a_draft_makes_no_assertions_and_says_on_every_page_that_it_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_draft: bool
) -> None:
    monkeypatch.setattr(book, "BUILD", tmp_path)
    settings = book.notebook_environment(draft=is_draft)
    program = """
import draft
from types import SimpleNamespace
config = SimpleNamespace(html_theme_options={})
draft.setup(SimpleNamespace(connect=lambda event, call: call(None, config)))
print(config.html_theme_options.get("announcement", ""))
assert config is None, "rewrite it"
"""
    environment = os.environ | settings | {"PYTHONPATH": str(Path(draft.__file__).parent)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == (f"{draft.BANNER}\n" if is_draft else "\n")
    assert ("AssertionError: rewrite it" in done.stderr) is not is_draft


def test_the_times_of_notebooks_are_told_slowest_first() -> None:
    lines = timed({"quick": 3.4, "slow": 75.2, "limit": 60.0}).splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["75", "s", "slow", "(over", "60", "s)"],
        ["60", "s", "limit"],
        ["3", "s", "quick"],
    ]


@pytest.mark.parametrize(
    ("errors", "tries"),
    [
        ([None], 1),
        ([f"RuntimeError: {book.NOT_BEGUN}", None], 2),
        ([f"RuntimeError: {book.NOT_BEGUN}"] * 2, 2),
        (["NameError: name 'x' is not defined"], 1),
    ],
)
def test_only_a_kernel_that_has_not_begun_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, errors: list[str | None], tries: int
) -> None:
    said: list[str | None] = []

    def run(filter_uris: list[str], timeout: int) -> SimpleNamespace:
        said.append(errors[len(said)])
        return SimpleNamespace(succeeded=[] if said[-1] else filter_uris)

    record = SimpleNamespace(get_project_record=lambda _: SimpleNamespace(traceback=said[-1]))
    monkeypatch.setattr(book, "get_cache", lambda _: record)
    monkeypatch.setattr(book, "load_executor", lambda *_: SimpleNamespace(run_and_cache=run))
    assert book.execute("page.md", timeout=1) == (errors[-1] is None)
    assert len(said) == tries
