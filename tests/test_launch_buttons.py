"""The launch buttons point at the published notebooks, and the notebooks help themselves there."""

import ast
import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tools import book
from tools.launch_buttons import add, links

ROOT = Path(__file__).parent.parent
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
ADDRESS = "https://github.com/someone/something"


def buttons(address: str, page: str = "warmup") -> list[dict[str, Any]]:
    """The header of a page, with the options that Jupyter Book makes of our configuration."""
    options = {
        "repository_url": address,
        "repository_branch": CONFIG["repository"]["branch"],
        "path_to_docs": CONFIG["repository"]["path_to_book"],
    }
    app = SimpleNamespace(
        config=SimpleNamespace(html_theme_options=options),
        env=SimpleNamespace(metadata={"warmup": {"kernelspec": {}}, "api": {}}),
    )
    context: dict[str, Any] = {"header_buttons": []}
    add(app, page, "page.html", context, None)  # type: ignore[arg-type]
    return list(context["header_buttons"])


def test_a_notebook_opens_on_both_hosts() -> None:
    (group,) = buttons(ADDRESS)
    assert {one["text"]: one["url"] for one in group["buttons"]} == {
        "Binder": "https://mybinder.org/v2/gh/someone/something/notebooks"
        "?urlpath=lab%2Ftree%2Fnotebooks%2Fwarmup.ipynb",
        "Colab": "https://colab.research.google.com/github/someone/something/blob/notebooks/"
        "notebooks/warmup.ipynb",
    }


def test_without_an_address_there_are_no_buttons_nor_on_pages_without_cells() -> None:
    assert buttons("") == []
    assert buttons(ADDRESS, "api") == []


@pytest.mark.parametrize("address", [ADDRESS + "/", ADDRESS + ".git"])
def test_an_address_may_be_written_in_other_ways(address: str) -> None:
    assert links(address, "b", "f", "p") == links(ADDRESS, "b", "f", "p")


@pytest.mark.parametrize(
    "address", ["https://example.org/a/b", "someone/something", "https://github.com/someone"]
)
def test_an_address_that_the_hosts_cannot_open_is_a_sentence(address: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(address)) + ".*give https://github.com/"):
        links(address, "b", "f", "p")


def test_jupyter_book_knows_the_extension() -> None:
    (place,) = CONFIG["sphinx"]["local_extensions"].items()
    assert place[0] in CONFIG["sphinx"]["config"]["extensions"]
    assert (ROOT / place[1] / f"{place[0]}.py").is_file()


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[list[str]]]:
    """The source of the installing cell, and the commands that it runs where it is run."""
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr("os.chdir", lambda _: None)
    return book.installing({**CONFIG["repository"], "url": ADDRESS})["source"], commands


def test_the_first_cell_does_nothing_where_all_is_there(
    cell: tuple[str, list[list[str]]],
) -> None:
    source, commands = cell
    exec(source, {})
    assert commands == []


def test_the_first_cell_gets_a_bare_machine_what_it_needs(
    cell: tuple[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, commands = cell
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr("sys.path", [])
    exec(source, {})
    clone, install = commands
    assert clone[:2] == ["git", "clone"]
    assert clone[-4:] == ["--branch", "notebooks", ADDRESS, "radam"]
    extras = re.findall(r"\[(.*)\]", " ".join(install))[0].split(",")
    assert install[1:4] == ["-m", "pip", "install"]
    assert "myst-nb" in install
    declared = book_extras()
    assert set(extras) <= declared


def book_extras() -> set[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_notebooks_begin_with_that_cell_once_there_is_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    (tmp_path / "book" / "_data").mkdir(parents=True)
    (tmp_path / "book" / "_data" / "fig.csv").write_text("a\n")
    (tmp_path / "book" / "page.md").write_text("---\nkernelspec:\n  name: python3\n---\n# T\n")
    repository = {**CONFIG["repository"], "url": address}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump({"repository": repository}))
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "_build")
    monkeypatch.setattr(book, "DATA", tmp_path / "book" / "_data")

    executed = {"cells": [{"cell_type": "markdown", "source": "# T"}], "nbformat": 4}
    monkeypatch.setattr(book, "execute_notebooks", lambda force: 0)
    monkeypatch.setattr(book, "with_outputs", lambda page: executed)
    assert book.build_notebooks() == 0
    made = tmp_path / "_build" / "notebooks"
    cells = json.loads((made / "page.ipynb").read_text())["cells"]
    assert [one["cell_type"] for one in cells] == ["code"] * bool(address) + ["markdown"]
    assert (made / "_data" / "fig.csv").read_text() == "a\n"
    if address:
        ast.parse(cells[0]["source"])
        assert address in cells[0]["source"]
