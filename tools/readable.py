"""A chapter in plain Markdown: Jupyter knows no roles, directives and labels of the book.

A glued number is written out, a citation names its authors, a label becomes an anchor, and a link
leads to the notebook that has what it names. Figures and equations have the numbers of the book.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pybtex.database import Entry, parse_file

Notebook = dict[str, Any]

RECORD = "application/papermill.record/"
"""What myst-nb puts before the type of what a cell has glued."""
NUMBERED = {"glue:figure": "Fig. {}", "math": "Eq. ({})"}

DIRECTIVE = re.compile(
    r"^```\{(?P<kind>glue:figure|glue:md|math)\}(?P<name>[^\n]*)\n"
    r"(?P<options>(?::[^\n]*\n)*)(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
FORMULA = re.compile(
    r"^\$\$\n(?P<body>(?:(?!\$\$).)*)^\$\$ \((?P<label>[\w-]+)\)$", re.DOTALL | re.MULTILINE
)
"""The other way to write a formula with a label."""
NAMED = re.compile(r"^:(?:name|label): *(?P<label>\S+)$", re.MULTILINE)
ROLE = re.compile(r"\{(?P<kind>[a-z]+(?::[a-z]+)?)\}`(?P<body>[^`]+)`")
LABEL = re.compile(r"^\((?P<label>[\w-]+)\)=$", re.MULTILINE)
ANCHOR = re.compile(r'\bid="(?P<label>[\w-]+)"')
NOTE = re.compile(r"^:::\{(?P<kind>\w+)\}\n(?P<body>.*?)\n:::$", re.DOTALL | re.MULTILINE)
DEFINITION = re.compile(r"^(?P<term>\S[^\n]*)\n: ", re.MULTILINE)
CODE = re.compile(r"(^```[^\n]*\n.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
REFERENCE = re.compile(r'href="(?P<target>#[^"]+)"')


@dataclass(frozen=True)
class Book:
    """What the text of one notebook says of the others, and of the literature."""

    notebooks: frozenset[str]
    """The names of all, without an ending."""
    homes: Mapping[str, str]
    """The notebook that has a label."""
    numbers: Mapping[str, str]
    """How a labelled figure or equation is called, such as "Fig. 3"."""
    works: Mapping[str, Entry]
    """What can be cited, by key."""


def texts(notebook: Notebook) -> Iterator[str]:
    """Yield the Markdown and HTML of a notebook, that of the outputs too."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            yield "".join(cell["source"])
        for output in cell.get("outputs", []):
            for kind in ("text/markdown", "text/html"):
                yield "".join(output.get("data", {}).get(kind, ""))


def survey(notebooks: Mapping[str, Notebook], bibliography: Path) -> Book:
    """Find the labels of all notebooks, and number figures and equations as the book does.

    Parameters
    ----------
    notebooks
        By name, in the order of the table of contents: the numbers run through it.
    bibliography
        The BibTeX file.
    """
    homes: dict[str, str] = {}
    numbers: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for name, notebook in notebooks.items():
        for text in texts(notebook):
            for match in DIRECTIVE.finditer(in_directives(text)):
                if match["kind"] in NUMBERED and (label := labelled(match)):
                    counts[match["kind"]] += 1
                    numbers[label] = NUMBERED[match["kind"]].format(counts[match["kind"]])
                    homes[label] = name
            for pattern in (LABEL, ANCHOR):
                homes.update({match["label"]: name for match in pattern.finditer(text)})
    works = parse_file(str(bibliography), "bibtex").entries
    return Book(frozenset(notebooks), homes, numbers, works)


def in_directives(text: str) -> str:
    """Return a text with every labelled formula in a directive."""
    return FORMULA.sub("```{math}\n:label: \\g<label>\n\\g<body>```", text)


def labelled(directive: re.Match[str]) -> str | None:
    """Return the label among a directive's options, if it has one."""
    found = NAMED.search(directive["options"])
    return found["label"] if found else None


def readable(name: str, notebook: Notebook, book: Book) -> Notebook:
    """Turn the text of a notebook, and what its cells show as text, into plain Markdown."""
    values = glued(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = plain("".join(cell["source"]), name, values, book)
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if "text/markdown" in data:
                data["text/markdown"] = plain("".join(data["text/markdown"]), name, values, book)
            if "text/html" in data:
                data["text/html"] = references("".join(data["text/html"]), name, book)
    return notebook


def glued(cells: list[dict[str, Any]]) -> dict[str, str]:
    """Return what the cells glued as text or Markdown, by name."""
    values: dict[str, str] = {}
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        data = output.get("data", {})
        for kind in ("text/markdown", "text/plain"):
            text = data.get(RECORD + kind)
            if name is not None and text is not None and name not in values:
                values[name] = "".join(text).strip("'")
    return values


def plain(text: str, name: str, values: Mapping[str, str], book: Book) -> str:
    """Return a text of the notebook `name` in plain Markdown; code in it stays as it is."""
    text = DIRECTIVE.sub(lambda match: directive(match, values, book), in_directives(text))
    parts = CODE.split(text)  # every second one is code
    parts[::2] = [prose(part, name, values, book) for part in parts[::2]]
    return "".join(parts)


def directive(match: re.Match[str], values: Mapping[str, str], book: Book) -> str:
    """Write a formula between dollar signs; of a figure leave the caption.

    The figure itself is shown by the cell above.
    """
    if match["kind"] == "glue:md":
        return values.get(match["name"].strip(), match[0])
    label, body = labelled(match), match["body"].strip()
    anchor = f'<a id="{label}"></a>' if label else ""
    number = book.numbers[label] if label else ""
    if match["kind"] == "glue:figure":
        return anchor + (f"**{number}.** " if number else "") + body
    tag = f" \\tag{{{re.sub(r'[^0-9]', '', number)}}}" if number else ""
    return (anchor and f"{anchor}\n\n") + f"$$\n{body}{tag}\n$$"


def prose(text: str, name: str, values: Mapping[str, str], book: Book) -> str:
    """Return a text without directives and code in plain Markdown."""
    text = ROLE.sub(lambda match: role(match, values, book), text)
    text = NOTE.sub(quoted, text)
    text = LABEL.sub(r'<a id="\g<label>"></a>', text)
    text = DEFINITION.sub(r"- **\g<term>**: ", text)  # what goes on is indented as it should be
    text = LINK.sub(lambda match: link(match, name, book), text)
    return references(text, name, book)


def role(match: re.Match[str], values: Mapping[str, str], book: Book) -> str:
    """Write out a value, a citation, a number or a name; leave what has none as it is."""
    kind, body = match["kind"], match["body"]
    if kind in ("glue:text", "glue:md"):
        return values.get(body.removesuffix(":myst"), match[0])
    if kind in ("eq", "numref") and body in book.numbers:
        return f"[{book.numbers[body]}](#{body})"
    if kind.startswith("cite"):
        return cited(body.split(","), book, in_the_sentence=kind == "cite:t")
    if kind.startswith("py:"):
        return f"`{body.rpartition('.')[2] if body.startswith('~') else body}`"
    return match[0]


def cited(keys: list[str], book: Book, *, in_the_sentence: bool) -> str:
    """Return such as "(Liu et al., 2020)", or "Liu et al. (2020)", with links where there are any.

    Raises
    ------
    ValueError
        If the bibliography has no such key.
    """
    words = []
    for key in map(str.strip, keys):
        if key not in book.works:
            raise ValueError(f"{key} is cited, and references.bib has no such key: add it there")
        work = book.works[key]
        year = work.fields["year"]
        text = f"{authors(work)} ({year})" if in_the_sentence else f"{authors(work)}, {year}"
        address = work.fields.get("url")
        if not address and "doi" in work.fields:
            address = f"https://doi.org/{quote(work.fields['doi'])}"
        words.append(f"[{text}]({address})" if address else text)
    return ", ".join(words) if in_the_sentence else f"({'; '.join(words)})"


def authors(work: Entry) -> str:
    """Return the family names of one or two authors, and of more the first alone."""
    names = [
        " ".join(map(str, [*person.rich_prelast_names, *person.rich_last_names]))
        for person in work.persons["author"]
    ]
    return f"{names[0]} et al." if len(names) > 2 or "others" in names else " and ".join(names)


def quoted(match: re.Match[str]) -> str:
    """Return a box of the book as a quotation that begins with its kind."""
    lines = [f"**{match['kind'].capitalize()}**", "", *match["body"].split("\n")]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def link(match: re.Match[str], name: str, book: Book) -> str:
    """Return a link that leads somewhere from the notebook `name`, or else its words alone."""
    target = address(match["target"], name, book)
    return match["text"] if target is None else f"[{match['text']}]({target})"


def references(html: str, name: str, book: Book) -> str:
    """Let the links of HTML to a label lead to the notebook that has it."""

    def led(match: re.Match[str]) -> str:
        return f'href="{address(match["target"], name, book) or match["target"]}"'

    return REFERENCE.sub(led, html)


def address(target: str, name: str, book: Book) -> str | None:
    """Return where a link of the notebook `name` leads among the notebooks; None for nowhere.

    What is no page and no label, such as the address of another host or a file, stays as it is.
    """
    page, _, label = target.partition("#")
    if "/" in page or ":" in page:
        return target
    if page.endswith(".md"):
        if (page := page.removesuffix(".md")) not in book.notebooks:
            return None
        return f"{page}.ipynb#{label}" if label else f"{page}.ipynb"
    label = label or page  # MyST takes a label for a target as it stands, too
    if label not in book.homes:
        return None if target.startswith("#") else target
    return f"#{label}" if book.homes[label] == name else f"{book.homes[label]}.ipynb#{label}"
