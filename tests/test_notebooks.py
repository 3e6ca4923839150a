"""The executed notebooks read well in Jupyter, which knows no roles and directives of the book."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jupyter_cache.readers import get_reader

from tools.book import READER, notebooks
from tools.readable import Notebook, readable, survey, texts

ROOT = Path(__file__).parent.parent
BIBLIOGRAPHY = ROOT / "book" / "references.bib"

OTHER = """\
(elsewhere)=
## A section

```{math}
:label: first
x
```

```{glue:figure} one
:name: fig-one
:alt: A line.

One.
```
"""


def output(name: str, kind: str, text: str) -> dict[str, Any]:
    data = {f"application/papermill.record/{kind}": text}
    return {"metadata": {"scrapbook": {"name": name}}, "data": data}


def code(*outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": "x", "outputs": list(outputs)}


GLUED = code(
    output("lead", "text/plain", "'2.60'"),
    output("lines", "text/markdown", "| a |"),
    output("fig-data", "text/markdown", "The data: [by run](_data/fig-runs.csv)."),
)


def changed(text: str, *cells: dict[str, Any]) -> Notebook:
    """A notebook of one text, after a page that has labels."""
    page = {"cells": [*cells, {"cell_type": "markdown", "source": text}]}
    other = {"cells": [{"cell_type": "markdown", "source": OTHER}]}
    book = survey({"other": other, "page": page}, BIBLIOGRAPHY)
    return readable("page", page, book)


def shown(text: str) -> str:
    notebook = changed(text, GLUED)
    assert notebook["cells"][0] == GLUED
    return str(notebook["cells"][1]["source"])


def test_a_glued_number_is_written_out() -> None:
    assert shown("A lead of {glue:text}`lead` points.") == "A lead of 2.60 points."
    assert shown("{glue:text}`unknown`") == "{glue:text}`unknown`"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{cite}`liu2020variance`", "([Liu et al., 2020](https://arxiv.org/abs/1908.03265))"),
        ("{cite:t}`ma2021adequacy`", "[Ma and Yarats (2021)](https://arxiv.org/abs/1910.04209)"),
        ("{cite}`le2015tiny,gautschi1959some`", "(Le and Yang, 2015; Gautschi, 1959)"),
        ("{cite}`grave2017efficient`", "([Grave et al., 2017](https://arxiv.org/abs/1609.04309))"),
        ("{cite}`robbins1951stochastic`", "([Robbins and Monro, 1951](https://doi.org/10.1214/"),
        ("{cite}`polyak1964methods`", "/10.1016/0041-5553%2864%2990137-5))"),
    ],
)
def test_a_citation_names_authors_and_year_and_leads_to_the_work(text: str, words: str) -> None:
    assert words in shown(text)


def test_a_work_that_is_not_in_the_bibliography_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"nobody1999nothing is cited.*add it there"):
        shown("{cite}`nobody1999nothing`")


def test_a_formula_stands_between_dollar_signs_with_the_number_that_the_book_gives_it() -> None:
    assert shown("```{math}\nx^2\n```\n") == "$$\nx^2\n$$\n"
    numbered = '<a id="r"></a>\n\n$$\nx^2 \\tag{2}\n$$\n'
    assert shown("```{math}\n:label: r\nx^2\n```\n") == numbered
    assert shown("$$\nx^2\n$$ (r)\n") == numbered
    assert shown("By {eq}`r`.\n\n$$\nx^2\n$$ (r)\n") == f"By [Eq. (2)](#r).\n\n{numbered}"
    assert shown("$$\ny\n$$\n\n{eq}`first`") == "$$\ny\n$$\n\n[Eq. (1)](other.ipynb#first)"


def test_a_figure_leaves_its_number_and_its_caption() -> None:
    text = "```{glue:figure} fig\n:name: f\n:alt: Two lines.\n\nThe lead is {glue:text}`lead`.\n```"
    assert shown(text) == '<a id="f"></a>**Fig. 2.** The lead is 2.60.'
    assert shown("{numref}`fig-one` has both.") == "[Fig. 1](other.ipynb#fig-one) has both."


def test_a_glued_table_is_written_out() -> None:
    assert shown("```{glue:md} lines\n:format: myst\n```") == "| a |"


def test_the_data_behind_a_figure_can_be_followed() -> None:
    text = "```{glue:figure} fig\n:alt: Two lines.\n\nA lead.\n{glue:md}`fig-data:myst`\n```"
    assert shown(text) == "A lead.\nThe data: [by run](_data/fig-runs.csv)."


def test_a_label_is_an_anchor_and_a_name_is_code() -> None:
    assert shown("(here)=\n## Title") == '<a id="here"></a>\n## Title'
    assert shown("{py:class}`~a.b.C` and {py:func}`a.f`") == "`C` and `a.f`"


def test_a_definition_is_an_item() -> None:
    text = "Scale\n: how large,\n  and why.\n\n[Seeds](other.md)\n: how many."
    assert shown(text) == (
        "- **Scale**: how large,\n  and why.\n\n- **[Seeds](other.ipynb)**: how many."
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[x](other.md)", "[x](other.ipynb)"),
        ("[x\ny](other.md#elsewhere)", "[x\ny](other.ipynb#elsewhere)"),
        ("[x](#elsewhere)", "[x](other.ipynb#elsewhere)"),
        ("[x](elsewhere)", "[x](other.ipynb#elsewhere)"),
        ("(here)=\n[x](#here)", '<a id="here"></a>\n[x](#here)'),
        ("the [names](api.md).", "the names."),  # a page that is no notebook
        ("[x](#nowhere)", "x"),
        ("[x](_data/a.csv)", "[x](_data/a.csv)"),
        ("[x](https://example.org/a.md)", "[x](https://example.org/a.md)"),
        ("$E[X](t)$", "$E[X](t)$"),
        ("```sh\n[x](other.md)\n(a)=\n```\n[x](other.md)", None),
    ],
)
def test_a_link_leads_to_the_notebook_that_has_what_it_names(text: str, words: str | None) -> None:
    assert shown(text) == (words or "```sh\n[x](other.md)\n(a)=\n```\n[x](other.ipynb)")


def test_what_cells_show_as_text_is_made_readable_too() -> None:
    cell = code(
        {"data": {"text/markdown": "[x](#elsewhere)\n\n:::{note}\nNothing\n\n- yet\n:::"}},
        {"data": {"text/html": '<b id="b"><a href="#elsewhere">x</a> <a href="#b">b</a></b>'}},
    )
    outputs = [one["data"] for one in changed("", cell)["cells"][0]["outputs"]]
    assert outputs[0]["text/markdown"] == (
        "[x](other.ipynb#elsewhere)\n\n> **Note**\n>\n> Nothing\n>\n> - yet"
    )
    assert outputs[1]["text/html"] == (
        '<b id="b"><a href="other.ipynb#elsewhere">x</a> <a href="#b">b</a></b>'
    )


# Every page of the book, with a value for each name that it glues and not executed.

RAW = {
    "a role": r"\{[\w:+-]+\}`",
    "a directive": r"^ *(```+|~~~+|:::+) *\{",
    "a label": r"^\([\w-]+\)=",
    "the label of a formula": r"^\$\$ +\(",
    "a definition": r"^: ",
    "a comment": r"^%",
    "a break between cells": r"^\+\+\+",
    "a substitution": r"\{\{ ",
    "attributes": r"^\{[.#]|[)\]`]\{[.#]",
    "the key of a work": r"\b[a-z]+(19|20)\d\d[a-z]+\b",
    "a link to a source": r"\]\([\w./-]*\.md\b",
}
LINKED = re.compile(r'\]\(([^()\s]+)\)|href="([^"]+)"')
SHOWN = re.compile(r"^```(?!\{)[^\n]*\n.*?^```$", re.DOTALL | re.MULTILINE)


def faked(notebook: Notebook, labels: set[str]) -> Notebook:
    """The notebook with what its cells would glue, and with a table that links to every label."""
    words = "\n".join(texts(notebook))
    glued = re.findall(r"\{glue:(text|md)\}(?:`([^`:]+)| (\S+))", words)
    values = [
        output(inline or block, f"text/{'plain' if kind == 'text' else 'markdown'}", "1.23")
        for kind, inline, block in glued
    ]
    table = {"data": {"text/markdown": "| " + " | ".join(f"[x](#{one})" for one in labels)}}
    return {"cells": [*notebook["cells"], code(*values, table)]}


@pytest.fixture(scope="module")
def sources() -> dict[str, Notebook]:
    reader = get_reader(READER)
    return {page.stem: dict(reader(str(page))) for page in notebooks()}


@pytest.fixture(scope="module")
def published(sources: dict[str, Notebook]) -> dict[str, Notebook]:
    everything = "\n".join(text for page in sources.values() for text in texts(page))
    labels = set(re.findall(r"^\(([\w-]+)\)=$", everything, re.MULTILINE))
    pages = {
        name: {"cells": [dict(cell) for cell in faked(page, labels)["cells"]]}
        for name, page in sources.items()
    }
    book = survey(pages, BIBLIOGRAPHY)
    return {name: readable(name, page, book) for name, page in pages.items()}


def left(notebook: Notebook) -> Iterator[str]:
    """What markup of the book a notebook has, code apart."""
    for text in texts(notebook):
        for kind, pattern in RAW.items():
            for match in re.finditer(pattern, SHOWN.sub("", text), re.MULTILINE):
                yield f"{kind}: {match[0]}"


def dead(notebooks: Mapping[str, Notebook]) -> Iterator[str]:
    """The links of notebooks that lead nowhere."""
    pages = {name: "\n".join(texts(notebook)) for name, notebook in notebooks.items()}
    for name, text in pages.items():
        for target in map("".join, LINKED.findall(SHOWN.sub("", text))):
            page, _, label = target.partition("#")
            home = page.removesuffix(".ipynb") if page else name
            if "://" in target or target.startswith("_data/"):
                continue
            if home not in pages or (label and f'id="{label}"' not in pages[home]):
                yield f"{name}: {target}"


def test_no_markup_of_the_book_is_left_in_any_notebook(published: dict[str, Notebook]) -> None:
    assert len(published) > 10
    assert {name: list(left(page)) for name, page in published.items() if any(left(page))} == {}


def test_every_link_of_every_notebook_leads_somewhere(published: dict[str, Notebook]) -> None:
    assert list(dead(published)) == []


def test_what_is_looked_for_is_found_where_it_is(sources: dict[str, Notebook]) -> None:
    found = {found.partition(":")[0] for page in sources.values() for found in left(page)}
    common = {"a role", "a directive", "a label", "a definition", "a link to a source"}
    assert common | {"the label of a formula", "the key of a work"} <= found
    for text in ("% no", "+++", "{{ a }}", "{.wide}", "[a](b){.c}", ":::{note}"):
        assert any(left({"cells": [{"cell_type": "markdown", "source": text}]})), text
    assert any(dead(sources))
