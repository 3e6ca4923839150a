"""The executed notebooks read well in Jupyter, which knows no roles and directives of the book."""

from typing import Any

from tools.book import readable


def output(name: str, kind: str, text: str) -> dict[str, Any]:
    data = {f"application/papermill.record/{kind}": text}
    return {"metadata": {"scrapbook": {"name": name}}, "data": data}


def shown(text: str) -> str:
    outputs = [
        output("lead", "text/plain", "'2.60'"),
        output("lines", "text/markdown", "| a |"),
        output("fig-data", "text/markdown", "The data: [by run](_data/fig-runs.csv)."),
    ]
    code = {"cell_type": "code", "source": "x", "outputs": outputs}
    notebook = readable({"cells": [code, {"cell_type": "markdown", "source": text}]})
    assert notebook["cells"][0] == code
    return str(notebook["cells"][1]["source"])


def test_a_glued_number_is_written_out() -> None:
    assert shown("A lead of {glue:text}`lead` points.") == "A lead of 2.60 points."
    assert shown("{glue:text}`unknown`") == "{glue:text}`unknown`"


def test_a_reference_is_its_name() -> None:
    assert shown("As {cite:t}`liu2020variance` in {eq}`r`.") == "As [liu2020variance] in [r]."


def test_a_formula_stands_between_dollar_signs() -> None:
    assert shown("```{math}\n:label: r\nx^2\n```\n") == "$$\nx^2\n$$\n"


def test_a_figure_leaves_its_caption_with_its_numbers() -> None:
    text = "```{glue:figure} fig\n:name: f\n:alt: Two lines.\n\nThe lead is {glue:text}`lead`.\n```"
    assert shown(text) == "\nThe lead is 2.60.\n"


def test_a_glued_table_is_written_out() -> None:
    assert shown("```{glue:md} lines\n:format: myst\n```") == "| a |"


def test_the_data_behind_a_figure_can_be_followed() -> None:
    text = "```{glue:figure} fig\n:alt: Two lines.\n\nA lead.\n{glue:md}`fig-data:myst`\n```"
    assert shown(text) == "\nA lead.\nThe data: [by run](_data/fig-runs.csv).\n"
