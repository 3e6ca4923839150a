"""Check a built site without opening it: links, images, alternative texts, other hosts.

    python tools/check_site.py _build/html

Every internal link, anchor and image must resolve, every image must have an alternative text, a
table that can be downloaded must have rows, and nothing may load from another host. A link that a
reader can follow to another host is fine.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# The attributes through which an element names a file, other than <a href> and <link href>.
LOADING = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src",),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src",),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
# What a <link> may point to without the browser fetching it.
LINKS_NOT_FETCHED = {"author", "canonical", "help", "index", "license", "next", "prev", "search"}
CSS_ADDRESS = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")
# In a script of the page itself an address is something to load; namespaces are only names.
SCRIPT_ADDRESS = re.compile(r"""["'`]((?:https?:)?//(?!www\.w3\.org/)[\w.-]+\.[^"'`\s]*)""")

FIGURE_IN_WORDS = re.compile(r"<Figure size .*>")


@dataclass
class Page(HTMLParser):
    """What one page names: its anchors, the places it links to, the files it loads or offers."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    unnamed_images: list[str] = field(default_factory=list)
    figures_in_words: list[str] = field(default_factory=list)
    inside: str = ""

    def __post_init__(self) -> None:
        """Set up the parser below."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what this element names."""
        values = {name: value or "" for name, value in attrs}
        self.inside = tag
        self.anchors.update(values[name] for name in ("id", "name") if values.get(name))
        if tag in ("a", "area") and "href" in values:
            self.links.append(values["href"])
            self.downloads += [values["href"]] if "download" in values else []
        if tag == "link" and "href" in values:
            fetched = set(values.get("rel", "").lower().split()) - LINKS_NOT_FETCHED
            (self.loads if fetched else self.links).append(values["href"])
        self.loads += [values[name] for name in LOADING.get(tag, ()) if values.get(name)]
        for candidate in values.get("srcset", "").split(","):
            self.loads += candidate.split()[:1]
        self.loads += css_addresses(values.get("style", ""))
        if tag == "img" and not values.get("alt", "").strip():
            self.unnamed_images.append(values.get("src", ""))
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh":
            self.links += re.findall(r"url=(.+)", values.get("content", ""), re.IGNORECASE)

    def handle_endtag(self, tag: str) -> None:
        """Leave a <style> or <script>."""
        self.inside = ""

    def handle_data(self, data: str) -> None:
        """Note what a style sheet or a script inside the page names."""
        if self.inside == "style":
            self.loads += css_addresses(data)
        if self.inside == "script":
            self.loads += SCRIPT_ADDRESS.findall(data)
        if self.inside not in ("style", "script"):
            self.figures_in_words += FIGURE_IN_WORDS.findall(data)


def css_addresses(css: str) -> list[str]:
    """Return the addresses that a style sheet loads."""
    return [first or second for first, second in CSS_ADDRESS.findall(css)]


def read_page(path: Path) -> Page:
    """Parse one page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def is_elsewhere(address: str) -> bool:
    """Tell whether an address names another host."""
    return bool(urlsplit(address.strip()).netloc)


def target_of(address: str, source: Path, site: Path) -> tuple[Path, str] | None:
    """Return the file and anchor that an address means on `source`; None if it is no file."""
    parts = urlsplit(address.strip())
    if parts.scheme or parts.netloc:
        return None
    name = unquote(parts.path)
    start = site if name.startswith("/") else source.parent
    path = (start / name.lstrip("/")).resolve() if name else source
    return (path / "index.html" if path.is_dir() else path), unquote(parts.fragment)


def page_problems(source: Path, pages: dict[Path, Page], site: Path) -> Iterator[str]:
    """Yield what is wrong with one page."""
    page = pages[source]
    for image in page.unnamed_images:
        yield f"image without alternative text: {image}"
    for words in page.figures_in_words:
        yield f"words in the place of a figure: {words}"
    for address in page.loads:
        if is_elsewhere(address):
            yield f"loads from another host: {address}"
    for address in page.links + page.loads:
        target = target_of(address, source, site)
        if target is None:
            continue
        path, anchor = target
        if not path.is_file():
            yield f"leads nowhere: {address}"
        elif not path.is_relative_to(site):
            yield f"leads out of the site: {address}"
        elif anchor and path in pages and anchor not in pages[path].anchors:
            yield f"no such anchor: {address}"
        elif address in page.downloads and path.suffix == ".csv" and not has_rows(path):
            yield f"nothing to download: {address}"


def has_rows(table: Path) -> bool:
    """Tell whether a CSV file has a line below its head."""
    with table.open(encoding="utf-8") as lines:
        return sum(1 for _, line in zip(range(2), lines, strict=False) if line.strip()) == 2


def style_problems(sheet: Path, site: Path) -> Iterator[str]:
    """Yield what is wrong with one style sheet."""
    for address in css_addresses(sheet.read_text(encoding="utf-8")):
        target = target_of(address, sheet, site)
        if is_elsewhere(address):
            yield f"loads from another host: {address}"
        elif target is not None and not target[0].is_file():
            yield f"leads nowhere: {address}"


def problems(site: Path) -> list[str]:
    """Return everything that is wrong with the site in this folder, one sentence each.

    Parameters
    ----------
    site : Path
        The folder that holds index.html.

    Raises
    ------
    FileNotFoundError
        If there is no index.html in the folder.
    """
    site = site.resolve()
    if not (site / "index.html").is_file():
        raise FileNotFoundError(f"There is no site in {site}: build it with `make book` first.")
    static = site / "_static"
    paths = [p for p in sorted(site.rglob("*.html")) if not p.is_relative_to(static)]
    pages = {path: read_page(path) for path in paths}
    found = {path: list(page_problems(path, pages, site)) for path in pages}
    found |= {path: list(style_problems(path, site)) for path in sorted(site.rglob("*.css"))}
    lines = (f"{path.relative_to(site)}: {what}" for path, all_ in found.items() for what in all_)
    return list(dict.fromkeys(lines))


def main() -> int:
    """Print the problems of a site; succeed if there are none."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    try:
        found = problems(parser.parse_args().site)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    for line in found:
        print(line, file=sys.stderr)
    print(f"site check: {len(found)} problems" if found else "site check: nothing wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
