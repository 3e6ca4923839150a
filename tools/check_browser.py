"""Look at the pages of a built site in a headless browser that can reach this machine alone.

    python tools/check_browser.py _build/html

prints what every page weighs and how soon it is painted. What must hold is asked by the functions
below, which yield a sentence for everything that is wrong with an open page; tests/test_browser.py
asks them of the whole book (`make check`), and of small pages with planted faults.
"""

import argparse
import io
import shutil
import statistics
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
    ViewportSize,
    sync_playwright,
)

BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
PHONE = ViewportSize(width=390, height=844)
DESK = ViewportSize(width=1280, height=900)

HEAVIEST = 1_500_000  # bytes of a page without the scripts, styles and fonts that all pages share
SHARED = ("script", "stylesheet", "font")
LEAST_CONTRAST = 4.5  # WCAG 2, 1.4.3, for text of any size
SOON = 1.0  # seconds to the first paint: what we want
LATE = 10.0  # and what no slow machine explains

PATIENCE = 120_000  # milliseconds for one answer of the browser, on a machine with much to do

RENDERED = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  await new Promise((done) => setTimeout(done, 100)); // for what the rendering asks for in turn
}"""


class SilentHandler(SimpleHTTPRequestHandler):
    """A file server that keeps its requests to itself."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder on this machine; yield its address."""
    handler = partial(SilentHandler, directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def find_browser() -> str:
    """Return the command of a browser that is installed, or raise FileNotFoundError."""
    for name in BROWSERS:
        if command := shutil.which(name):
            return command
    raise FileNotFoundError("No Chromium or Chrome was found: install one (on Debian: chromium).")


@contextmanager
def launched(command: str) -> Iterator[Browser]:
    """Start a browser that finds no host but this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=command, args=[ALONE, "--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """An open page, what went wrong while it loaded, and the bytes that it asked for, by kind."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    weights: Counter[str] = field(default_factory=Counter)

    @property
    def own_weight(self) -> int:
        """Bytes without what all pages share."""
        return sum(size for kind, size in self.weights.items() if kind not in SHARED)

    def listen(self) -> None:
        """Take down what the page does from now on."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", self._fail)
        self.page.on("request", self._ask)
        self.page.on("requestfailed", self._miss)
        self.page.on("response", self._weigh)

    def _hear(self, message: ConsoleMessage) -> None:
        # What did not load is told below, with its address.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(f"the console has an error: {message.text}")

    def _fail(self, error: Error) -> None:
        self.complaints.append(f"a script failed: {error.message}")

    def _ask(self, request: Request) -> None:
        if urlsplit(request.url).hostname not in (None, "127.0.0.1"):
            self.complaints.append(f"asks another host: {request.url}")

    def _miss(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by a page that was left
            self.complaints.append(f"failed to load: {request.url} ({request.failure})")

    def _weigh(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"failed to load: {response.url} (status {response.status})")
        size = int(response.headers.get("content-length", 0))
        self.weights[response.request.resource_type] += size


def visit(context: BrowserContext, address: str) -> Visit:
    """Open an address in a new tab, and follow where it leads.

    Return once its formulas are rendered and all has arrived.
    """
    opened = Visit(context.new_page())
    opened.page.set_default_timeout(PATIENCE)
    opened.listen()
    opened.page.goto(address)
    opened.page.wait_for_function("!document.querySelector('meta[http-equiv=refresh]')")
    opened.page.evaluate(RENDERED)
    return opened


# ---- what must hold of an open page

FORMULAS = r"""() => {
  const found = [];
  for (const math of document.querySelectorAll('.math')) {
    if (!math.querySelector('mjx-container')) found.push('not rendered: ' + math.textContent);
  }
  for (const wrong of document.querySelectorAll('mjx-merror, [data-mjx-error]')) {
    found.push('with an error: ' + wrong.textContent);
  }
  const raw = /\\[([]|\\[a-zA-Z]{2,}|\$[^$\n]+\$/;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const elsewhere = 'pre, code, script, style, noscript, textarea, mjx-container, .math';
    if (raw.test(text.data) && !text.parentElement.closest(elsewhere)) {
      found.push('left as TeX: ' + text.data.trim());
    }
  }
  return found;
}"""


def formula_problems(page: Page) -> Iterator[str]:
    """Yield the formulas that a reader would see as TeX, or as an error."""
    yield from (f"formula {what}" for what in page.evaluate(FORMULAS))


TOO_WIDE = """() => [...document.querySelectorAll('mjx-container[display=true]')]
  .map((e) => [e.scrollWidth - e.clientWidth, e.closest('.math')?.id || 'without a label'])
  .filter(([excess]) => excess > 1)"""


def formula_width_problems(page: Page) -> Iterator[str]:
    """Yield the displayed formulas that must be scrolled to be read."""
    for excess, name in page.evaluate(TOO_WIDE):
        yield f"formula {name} is {excess} px too wide"


PICTURES = """async () => {
  const missing = [];
  for (const image of document.querySelectorAll('img')) {
    image.loading = 'eager';
    await image.decode().catch(() => missing.push(image.src));
  }
  return missing;
}"""


def picture_problems(page: Page) -> Iterator[str]:
    """Yield the pictures that did not arrive."""
    yield from (f"picture not shown: {source}" for source in page.evaluate(PICTURES))


WIDTHS = """() => {
  const width = document.documentElement.clientWidth;
  const hides = (e) => getComputedStyle(e).overflowX !== 'visible';
  const scrolls = (e) => e && (hides(e) || scrolls(e.parentElement));
  const wide = [...document.querySelectorAll('body *')]
    .filter((e) => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement));
  const name = (e) => e.tagName.toLowerCase() + (e.id && '#' + e.id);
  return [document.documentElement.scrollWidth - width, wide.map(name).slice(0, 3).join(', ')];
}"""


def width_problems(page: Page) -> Iterator[str]:
    """Yield whether the page, as wide as it is now, must be scrolled sideways."""
    excess, widest = page.evaluate(WIDTHS)
    if excess > 1:
        yield f"scrolls sideways by {excess} px: {widest}"


# A number begins with a digit, whatever its sign; what names the rows is none, so the first column
# does not count.
CUT = r"""() => {
  const scroller = (e) =>
    getComputedStyle(e).overflowX === 'visible' && e.parentElement ? scroller(e.parentElement) : e;
  const numeric = (table) => {
    const cells = [...table.querySelectorAll('td:not(:first-child)')];
    const texts = cells.map((cell) => cell.textContent.trim()).filter((text) => text);
    return texts.filter((text) => /^[-−+±]?\d/.test(text)).length > texts.length / 2;
  };
  return [...document.querySelectorAll('main pre, main table')].map((e) => {
    const box = scroller(e);
    const kind = e.matches('pre') ? 'code' : numeric(e) ? 'table of numbers' : 'table of words';
    const words = e.textContent.trim().replace(/\s+/g, ' ').slice(0, 50);
    return [kind, box.scrollWidth - box.clientWidth, words];
  }).filter(([kind, excess]) => excess > 1);
}"""
ON_A_DESK = ("code", "table of numbers", "table of words")
ON_A_PHONE = ("table of words",)


def cut_problems(page: Page, kinds: Sequence[str]) -> Iterator[str]:
    """Yield the code and the tables, of these kinds, that must be scrolled sideways to be read."""
    for kind, excess, words in page.evaluate(CUT):
        if kind in kinds:
            yield f"{kind} is {excess} px too wide: {words}"


def weight_problems(opened: Visit) -> Iterator[str]:
    """Yield whether the page is too heavy."""
    if opened.own_weight > HEAVIEST:
        yield f"weighs {opened.own_weight / 1e6:.1f} MB without what all pages share"


AT_REST = "*, ::before, ::after { transition: none !important; animation: none !important }"
ONLY_WRONG = {"resultTypes": ["violations"]}  # what passes need not be told: that takes long
OF_COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
"""The rules to which light and dark make a difference, where both show the same elements."""


def access_problems(page: Page, **options: Any) -> Iterator[str]:
    """Yield what axe-core finds serious or critical for readers with disabilities."""
    page.add_style_tag(content=AT_REST)  # a colour on its way from light to dark is neither
    for violation in Axe().run(page, options=ONLY_WRONG | options).response["violations"]:
        if violation["impact"] in ("serious", "critical"):
            for node in violation["nodes"]:
                where, about = " ".join(map(str, node["target"])), node["failureSummary"]
                yield f"{violation['id']} at {where}: {' '.join(about.split())}"


# A drawing's text is placed as the page shows the picture, to know where it stands there; a
# drawing of matplotlib has its text as groups of outlines.
TEXTS = r"""async () => {
  const found = [];
  const placed = [];
  const take = (source, text, brightness) => {
    const { x, y, width, height } = text.getBoundingClientRect();
    const fill = getComputedStyle(text.querySelector('[style*="fill"]') ?? text).fill;
    const box = [x + scrollX, y + scrollY, width, height];
    if (width && height) found.push({ source, fill, brightness, box });
  };
  for (const image of document.querySelectorAll('img[src$=".svg"]')) {
    const { x, y, width, height } = image.getBoundingClientRect();
    if (!width) continue;
    const filter = getComputedStyle(image).filter;
    const known = filter === 'none' ? [0, 1] : filter.match(/^brightness\(([\d.]+)\)$/);
    const bright = known && Number(known[1]);
    const text = await (await fetch(image.src)).text();
    const drawing = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
    const place = document.createElement('div');
    place.style = `position: absolute; visibility: hidden; left: ${x + scrollX}px;` +
      `top: ${y + scrollY}px; width: ${width}px; height: ${height}px`;
    drawing.setAttribute('width', '100%');
    drawing.setAttribute('height', '100%');
    place.append(drawing);
    placed.push([place, drawing, image.src, bright]);
  }
  document.body.append(...placed.map(([place]) => place)); // together: the page is laid out once
  for (const [, drawing, source, bright] of placed) {
    drawing.querySelectorAll('text, g[id^="text_"]').forEach((e) => take(source, e, bright));
  }
  placed.forEach(([place]) => place.remove());
  document.querySelectorAll('main svg text').forEach((e) => take('a drawing', e, 1));
  return found;
}"""


def figure_problems(page: Page) -> Iterator[str]:
    """Yield the texts in SVG figures that stand out too little from what is behind them.

    The text's colour is that of the drawing, as the page's filter changes it; what is behind it is
    the commonest colour around, taken from a picture of the page. The page must come from a server.
    """
    texts = page.evaluate(TEXTS)
    if not texts:
        return
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True, scale="css"))).convert("RGB")
    worst: dict[str, tuple[float, str]] = {}
    for text in texts:
        if text["brightness"] is None:
            yield f"a filter that this check does not know, on {text['source']}"
            continue
        rgb = [int(part) for part in text["fill"].strip("rgba()").split(",")[:3]]
        colour = [min(255.0, part * text["brightness"]) for part in rgb]
        left, top, width, height = map(int, text["box"])
        around = shot.crop((left - 2, top - 2, left + width + 4, top + height + 4))
        colours, counts = np.unique(np.asarray(around).reshape(-1, 3), axis=0, return_counts=True)
        behind = colours[counts.argmax()].tolist()
        found = contrast(colour, behind), f"{text['fill']} on {behind}"
        worst[text["source"]] = min(found, worst.get(text["source"], found))
    for source, (least, pair) in worst.items():
        if least < LEAST_CONTRAST:
            yield f"text with a contrast of {least:.1f} in {source}: {pair}"


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """Contrast of two colours of 0 to 255, from 1 to 21 (WCAG 2)."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of red, green and blue from 0 to 255 (WCAG 2)."""
    parts = [part / 255 for part in colour]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# ---- what is measured

PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime / 1000"


def painted(browser: Browser, address: str) -> float:
    """Open a page with empty caches; return the seconds to its first paint."""
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_function(PAINT)
    seconds = float(page.evaluate(PAINT))
    context.close()
    return seconds


def weighed(browser: Browser, address: str) -> Visit:
    """Open a page with empty caches; return what it asked for."""
    context = browser.new_context(viewport=DESK)
    opened = visit(context, address)
    context.close()
    return opened


def report(site: Path, command: str) -> list[float]:
    """Print every page's weight and its first paint, the median of three; return the latter."""
    names = sorted(page.name for page in site.glob("*.html") if page.name != "index.html")
    if not names:
        raise FileNotFoundError(f"There is no site in {site}: build it with `make book` first.")
    print(f"{'page':32}{'its own':>12}{'shared':>12}{'first paint':>14}")
    paints = []
    with served(site) as server, launched(command) as browser:
        for name in names:
            opened = weighed(browser, f"{server}/{name}")
            seconds = statistics.median(painted(browser, f"{server}/{name}") for _ in range(3))
            shared = opened.weights.total() - opened.own_weight
            print(
                f"{name:32}{opened.own_weight / 1e3:9.0f} KB{shared / 1e3:9.0f} KB"
                f"{seconds * 1e3:11.0f} ms"
            )
            paints.append(seconds)
    return paints


def main() -> int:
    """Print what the pages of a site weigh and how soon they are painted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    site = parser.parse_args().site.resolve()
    try:
        command = find_browser()
    except FileNotFoundError as error:
        print(f"{error} Without one, no page is looked at.")
        return 0
    try:
        paints = report(site, command)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    late = sum(seconds > SOON for seconds in paints)
    print(f"painted within {SOON:g} s: {len(paints) - late} of {len(paints)} pages")
    return 1 if max(paints) > LATE else 0


if __name__ == "__main__":
    sys.exit(main())
