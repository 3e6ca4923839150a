"""The book as a browser shows it, and that the checks find what they are there to find.

These tests need the built book (`make book`) and a Chromium: `make check` runs them. Where there
is no browser they are skipped, but not in CI.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from playwright.sync_api import Browser, Locator, Page, ViewportSize

from experiments.artifact import artifacts
from radam_core.algorithm import VARIANTS, Conventions, plan_update
from radam_core.factors import UntunedExponentialWarmup, UntunedLinearWarmup
from radam_core.rectification import first_rectified_step, r, rho
from tools import check_browser
from tools.check_browser import DESK, PHONE, Visit

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent
SITE = ROOT / "_build" / "html"
CONTENTS = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [CONTENTS["root"], *(chapter["file"] for chapter in CONTENTS["chapters"]), "search"]

Opener = Callable[..., Visit]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    try:
        command = check_browser.find_browser()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with check_browser.launched(command) as launched:
        yield launched


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Open an address in a window of its own, such as `colors="dark"` or `size=PHONE` make it."""
    contexts = []

    def open_(
        address: str, size: ViewportSize = DESK, colours: Any = "light", **options: Any
    ) -> Visit:
        contexts.append(browser.new_context(viewport=size, color_scheme=colours, **options))
        return check_browser.visit(contexts[-1], address)

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def book() -> Iterator[str]:
    """The address of the built book on a server."""
    assert (SITE / "index.html").is_file(), f"there is no book in {SITE}: build it with `make book`"
    with check_browser.served(SITE) as server:
        yield server


# ---- every page of the book


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_on_a_phone(opened: Opener, book: str, name: str) -> None:
    """As a file, too; it asks no other host for anything."""
    for base in (book, SITE.as_uri()):
        visit = opened(f"{base}/{name}.html", size=PHONE)
        assert list(check_browser.formula_problems(visit.page)) == []
        assert list(check_browser.picture_problems(visit.page)) == []
        assert list(check_browser.width_problems(visit.page)) == []
        assert list(check_browser.cut_problems(visit.page, check_browser.ON_A_PHONE)) == []
        assert visit.complaints == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_by_all(opened: Opener, book: str, name: str) -> None:
    """In light and in dark, figures too."""
    visit = opened(f"{book}/{name}.html")
    assert list(check_browser.weight_problems(visit)) == []
    assert list(check_browser.formula_width_problems(visit.page)) == []
    assert list(check_browser.cut_problems(visit.page, check_browser.ON_A_DESK)) == []
    found = {}
    for colours, rules in (("light", {}), ("dark", check_browser.OF_COLOURS)):
        visit.page.emulate_media(color_scheme=colours)
        visit.page.locator(f"html[data-theme={colours}]").wait_for(state="attached")
        found[colours] = [
            *check_browser.access_problems(visit.page, **rules),
            *check_browser.figure_problems(visit.page),
        ]
    assert found == {"light": [], "dark": []}


def top_of(one: Locator) -> float:
    return float(one.evaluate("(e) => e.getBoundingClientRect().top"))


def bottom_of(one: Locator) -> float:
    return float(one.evaluate("(e) => e.getBoundingClientRect().bottom"))


@pytest.mark.parametrize("kind", [".figure-box", "pre", "mjx-container[display=true]"])
def test_what_scrolls_on_a_phone_shows_where_it_goes_on(
    opened: Opener, book: str, kind: str
) -> None:
    page = opened(f"{book}/variance.html", size=PHONE).page
    page.locator(f"article {kind}.more-right:visible").first.evaluate("(e) => (e.id = 'scrolled')")
    page.locator("#scrolled.more-right:not(.more-left)").wait_for()
    page.locator("#scrolled").evaluate("(e) => (e.scrollLeft = e.scrollWidth)")
    page.locator("#scrolled.more-left:not(.more-right)").wait_for()


def test_the_number_of_a_formula_has_its_own_line_on_a_phone(opened: Opener, book: str) -> None:
    page = opened(f"{book}/radam.html", size=PHONE).page
    formulas = page.locator("div.math:has(> .eqno)")
    assert formulas.count() > 1
    for formula in formulas.all():
        assert bottom_of(formula.locator("mjx-container")) <= top_of(formula.locator(".eqno")) + 1


def test_verdicts_are_cards_on_a_phone_in_every_chapter(opened: Opener, book: str) -> None:
    for name in ("intro", "image_classification"):
        page = opened(f"{book}/{name}.html", size=PHONE).page
        tables = page.locator("article table", has=page.locator("th", has_text="verdict"))
        assert tables.count() > 0
        for table in tables.all():
            row = table.locator("tbody tr").first
            claim, verdict = row.locator("td").first, row.locator("td[data-label=verdict]")
            assert bottom_of(claim) <= top_of(verdict)


def test_the_index_leads_to_the_start_page(opened: Opener, book: str) -> None:
    page = opened(f"{book}/index.html").page
    page.wait_for_url(f"{book}/{CONTENTS['root']}.html")


@pytest.mark.parametrize("base", ["server", "file"])
def test_search_finds_rectification(opened: Opener, book: str, base: str) -> None:
    address = book if base == "server" else SITE.as_uri()
    page = opened(f"{address}/search.html?q=rectification").page
    results = page.locator("#search-results a")
    results.filter(has_text="RAdam step by step").first.wait_for()


# ---- the table of verdicts


@pytest.fixture
def verdicts(opened: Opener, book: str) -> Page:
    return opened(f"{book}/intro.html").page


def shown_rows(page: Page) -> Locator:
    return page.locator(".tag_verdicts tbody tr:visible")


def column(page: Page, name: str) -> list[str]:
    heads = [head.strip() for head in page.locator(".tag_verdicts th").all_inner_texts()]
    cells = shown_rows(page).locator(f"td:nth-child({heads.index(name) + 1})")
    return [text.strip() for text in cells.all_inner_texts()]


CLAIMS = sum(len(artifact.claims) for artifact in artifacts().values())


def test_every_verdict_leads_to_its_evidence(verdicts: Page) -> None:
    assert shown_rows(verdicts).count() == CLAIMS
    links = shown_rows(verdicts).locator("td:first-child a")
    assert {link.inner_text() for link in links.all()} == set(artifacts())
    for name in artifacts():
        target = links.filter(has_text=re.compile(f"^{re.escape(name)}$")).first
        assert str(target.get_attribute("href")).endswith(f".html#evidence-{name}")


def test_verdicts_are_filtered(verdicts: Page) -> None:
    count = verdicts.locator(".verdict-count")
    assert count.inner_text() == f"{CLAIMS} of {CLAIMS} claims"

    verdicts.get_by_label("verdict", exact=True).select_option("✔ reproduced")
    reproduced = shown_rows(verdicts).count()
    assert 0 < reproduced < CLAIMS
    assert set(column(verdicts, "verdict")) == {"✔ reproduced"}
    assert count.inner_text() == f"{reproduced} of {CLAIMS} claims"

    verdicts.get_by_label("scale", exact=True).select_option("paper")
    assert set(column(verdicts, "scale")) == {"paper"}
    assert 0 < shown_rows(verdicts).count() < reproduced
    for label in ("verdict", "scale"):
        verdicts.get_by_label(label, exact=True).select_option("all")

    verdicts.get_by_label("chapter or artifact").select_option("fig6")
    assert shown_rows(verdicts).count() == len(artifacts()["fig6"].claims)
    assert all(text.startswith("fig6 ") for text in column(verdicts, "claim"))
    verdicts.get_by_label("chapter or artifact").select_option("all of “Image classification”")
    assert shown_rows(verdicts).count() > len(artifacts()["fig6"].claims)
    verdicts.get_by_label("chapter or artifact").select_option("all")

    verdicts.get_by_label("words").fill("radam SENSITIVE")
    assert 0 < shown_rows(verdicts).count() < CLAIMS
    assert all("sensitive" in text for text in column(verdicts, "claim"))
    verdicts.get_by_label("words").fill("no claim says this")
    assert count.inner_text() == f"0 of {CLAIMS} claims"


@pytest.mark.parametrize("name", ["claim", "ours", "verdict", "scale", "seeds"])
def test_verdicts_are_sorted(verdicts: Page, name: str) -> None:
    head = verdicts.locator(".tag_verdicts th", has_text=name)
    before = column(verdicts, name)
    head.get_by_role("button").press("Enter")
    rising = column(verdicts, name)
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert sorted(rising) == sorted(before)
    filled, falling = list(filter(None, rising)), list(filter(None, column(verdicts, name)))
    assert rising == filled + [""] * (len(rising) - len(filled))
    groups = [key for key, _ in itertools.groupby(falling)]
    assert groups == [key for key, _ in itertools.groupby(filled)][::-1]
    if name == "seeds":
        numbers = [int(text) for text in filled if text.isdigit()]
        assert numbers == sorted(numbers)
    if name == "verdict":
        assert filled == sorted(filled, key=lambda text: text.partition(" ")[2])
    assert verdicts.locator(".tag_verdicts th[aria-sort]").count() == 1


def test_on_a_desk_the_claims_scroll_under_their_heads(verdicts: Page) -> None:
    head, last = verdicts.locator(".tag_verdicts th").first, shown_rows(verdicts).last
    before = top_of(head)
    assert top_of(last) > before + DESK["height"]
    last.evaluate("row => row.closest('.pst-scrollable-table-container').scrollTo(0, 1e6)")
    assert top_of(head) == pytest.approx(before, abs=2)
    assert before < top_of(last) < before + DESK["height"]


def test_verdicts_are_a_plain_table_without_scripts(browser: Browser, book: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{book}/intro.html")
    assert shown_rows(page).count() == CLAIMS
    assert page.locator(".verdict-filters").count() == 0
    context.close()


# ---- the explorer


EXPLORED = {**VARIANTS, "exact": Conventions(rectification="exact")}
BETAS = [0.6, 0.62, 0.65, 0.68, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999]
UPDATES = [*range(1, 31), 50, 100, 333, 1000, 2000, 5000, 20_000, 100_000]


@pytest.fixture
def explorer(opened: Opener, book: str) -> Page:
    return opened(f"{book}/radam.html").page


def set_slider(page: Page, label: str, value: str) -> None:
    """Move a slider to a value by its keys' event, as a reader's hand does."""
    slider = page.get_by_role("slider", name=label)
    slider.evaluate(
        """(input, value) => {
        input.value = input.stops.findIndex((stop) => String(stop) === value);
        input.dispatchEvent(new Event('input'));
    }""",
        value,
    )


def factor_of(t: int, beta2: float, choice: Conventions) -> float:
    adaptive = plan_update(t, (0.9, beta2), 0.0, choice).kind == "adaptive"
    return r(t, beta2, choice.rectification) if adaptive else 0.0


def test_the_page_computes_what_the_package_does(explorer: Page) -> None:
    values = explorer.evaluate(
        """([betas, updates]) => {
            const variants = JSON.parse(document.querySelector('.explorer').dataset.variants);
            const f = rectification;
            const row = (t, beta2) => ({
                rho: f.rho(t, beta2), linear: f.untunedLinear(t, beta2),
                exponential: f.untunedExponential(t, beta2),
                ...Object.fromEntries(Object.entries(variants).map(
                    ([name, variant]) => [name, f.factor(t, beta2, variant)])),
            });
            return betas.map((beta2) => updates.map((t) => row(t, beta2)));
        }""",
        [BETAS, UPDATES],
    )
    for beta2, rows in zip(BETAS, values, strict=True):
        for t, row in zip(UPDATES, rows, strict=True):
            expected = {name: factor_of(t, beta2, choice) for name, choice in EXPLORED.items()}
            expected |= {"rho": rho(t, beta2), "linear": UntunedLinearWarmup(beta2)(t)}
            expected["exponential"] = UntunedExponentialWarmup(beta2)(t)
            assert row == pytest.approx(expected, rel=1e-9, abs=0), (beta2, t)


def test_the_closest_linear_warmup_is_the_closest(explorer: Page) -> None:
    betas = [0.6, 0.9, 0.99, 0.999]
    found = explorer.evaluate(
        """(betas) => {
            const variants = JSON.parse(document.querySelector('.explorer').dataset.variants);
            return Object.fromEntries(Object.entries(variants).map(([name, variant]) => [
                name, betas.map((beta2) => [
                    rectification.firstAdaptive(beta2, variant),
                    rectification.closestLinear(beta2, variant),
                ]),
            ]));
        }""",
        betas,
    )
    for name, choice in EXPLORED.items():
        for beta2, (first, closest) in zip(betas, found[name], strict=True):
            assert first == first_rectified_step(beta2, choice.least_rho)
            if first is None:
                assert closest is None
                continue
            updates = np.arange(1, int(30 / (1 - beta2)))
            curve = np.array([factor_of(int(t), beta2, choice) for t in updates])
            candidates = range(1, int(5 / (1 - beta2)))
            distances = [
                np.square(curve - np.minimum(1, updates / steps)).sum() for steps in candidates
            ]
            withheld = float((1 - curve).sum())
            assert closest["nearest"] == candidates[int(np.argmin(distances))], (name, beta2)
            assert closest["withheld"] == pytest.approx(withheld, rel=1e-6)
            assert closest["fair"] == round(2 * withheld + 1)


def curves(page: Page) -> dict[str, str | None]:
    paths = page.locator(".explorer-plot .curve").all()
    return {str(path.get_attribute("class")): path.get_attribute("d") for path in paths}


def test_the_sliders_change_the_curves(explorer: Page) -> None:
    before, words = curves(explorer), explorer.locator(".explorer-words").inner_text()
    assert len(before) == 5
    explorer.get_by_role("slider", name="β₂").press("ArrowLeft")
    after = curves(explorer)
    assert all(before[name] != after[name] for name in before)
    assert explorer.locator(".explorer-words").inner_text() != words

    dots = explorer.locator(".explorer-plot .dot")
    at = dots.first.get_attribute("cx")
    explorer.get_by_role("slider", name="update t").press("ArrowRight")
    assert dots.first.get_attribute("cx") != at
    assert curves(explorer) == after

    explorer.get_by_label("variant", exact=True).select_option("exact")
    assert curves(explorer)["curve rectified"] != after["curve rectified"]
    explorer.get_by_label("axes").select_option("linear")
    assert curves(explorer)["curve exponential"] != after["curve exponential"]


def test_the_explorer_says_its_values_in_words(explorer: Page) -> None:
    set_slider(explorer, "update t", "5")
    words = explorer.locator(".explorer-words")
    assert words.get_attribute("aria-live") == "polite"
    assert f"the average is ρ = {rho(5, 0.999):.4g} gradients long" in words.inner_text()
    assert f"Adam's times r = {r(5, 0.999):.3g}." in words.inner_text()
    set_slider(explorer, "update t", "4")
    assert "not more than 4 yet: momentum SGD" in words.inner_text()
    explorer.get_by_label("variant", exact=True).select_option("authors-shipped")
    assert "not at least 5 yet: the weights rest" in words.inner_text()
    set_slider(explorer, "β₂", "0.6")
    assert "no update is adaptive" in words.inner_text()
    assert explorer.get_by_role("slider", name="β₂").get_attribute("aria-valuetext") == "0.6"


def test_the_explorer_says_what_every_variant_does(explorer: Page) -> None:
    rows = explorer.locator(".explorer-table tbody tr")
    assert rows.count() == len(EXPLORED)
    for row, (name, choice) in zip(rows.all(), EXPLORED.items(), strict=True):
        said = [cell.strip() for cell in row.locator("th, td").all_inner_texts()]
        kinds = [plan_update(t, (0.9, 0.999), 0.0, choice).kind for t in range(1, 20)]
        before = {"sgd": "momentum SGD", "skip": "the weights rest"}[kinds[0]]
        first = kinds.index("adaptive") + 1
        assert [said[0], said[1], said[3]] == [name, str(first), before]
        assert float(said[2]) == pytest.approx(factor_of(first, 0.999, choice), rel=5e-3)


def test_the_text_and_the_explorer_agree(explorer: Page) -> None:
    found = re.search(r"comes closest lasts ([\d,]+) updates", explorer.inner_text(".explorer"))
    assert found is not None
    tips = explorer.locator("#two-sliders li", has_text="the closest linear warmup lasts")
    assert f"the closest linear warmup lasts {found[1]} updates" in tips.inner_text()


def test_a_press_in_the_plot_moves_the_update(explorer: Page) -> None:
    before = explorer.get_by_role("slider", name="update t").input_value()
    explorer.locator(".explorer-plot").click(position={"x": 400, "y": 300})
    assert explorer.get_by_role("slider", name="update t").input_value() != before
    marker = explorer.locator(".explorer-plot .marker").get_attribute("d")
    assert float(str(marker)[1:].split()[0]) == pytest.approx(400, abs=6)


def test_without_scripts_the_explorer_is_a_sentence(browser: Browser, book: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{book}/radam.html")
    assert "needs JavaScript" in page.inner_text(".explorer")
    for link in page.locator(".explorer a").all():
        assert page.locator(str(link.get_attribute("href"))).count() == 1
    context.close()


# ---- the checks find planted faults

SOUND = """<!doctype html>
<html lang="en"><head><title>Sound</title><meta name="viewport" content="width=device-width">
<style>body { background: #ffffff; color: #222222 } </style></head>
<body><main><h1>Sound</h1><p>Words, and $5 or so.</p>
<p>As in <code>\\alpha</code>.</p><img src="plot.svg" alt="Words" width="200">
<div style="overflow-x: auto" tabindex="0"><div style="width: 2000px">wide</div></div>
</main></body></html>
"""
PLOT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 40">
<rect width="100" height="40" fill="BEHIND"/>
<g id="text_1"><g style="fill: TEXT">
<path d="M10 8v10h2v-10zm20 0v10h2v-10zm20 0v10h2v-10z"/></g></g></svg>"""


WIDE = """<div style='width: 100px; overflow: auto' tabindex='0'>
<table style='width: 300px'><tr><td></td><td>CELL</td></tr></table></div>"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serve a sound page with a snippet in it, and a figure with text of some colour."""
    with check_browser.served(tmp_path) as server:

        def make(snippet: str = "", text: str = "#333333", behind: str = "none") -> str:
            plot = PLOT.replace("TEXT", text).replace("BEHIND", behind)
            (tmp_path / "plot.svg").write_text(plot)
            (tmp_path / "index.html").write_text(SOUND.replace("</main>", f"{snippet}</main>"))
            (tmp_path / "favicon.ico").write_bytes(b"")
            return f"{server}/index.html"

        yield make


def everything(visit: Visit) -> list[str]:
    """All that the checks say of a page."""
    page = visit.page
    checks: tuple[Callable[[Page], Iterator[str]], ...] = (
        check_browser.formula_problems,
        check_browser.formula_width_problems,
        check_browser.picture_problems,
        check_browser.width_problems,
        partial(check_browser.cut_problems, kinds=check_browser.ON_A_DESK),
        check_browser.access_problems,
        check_browser.figure_problems,
    )
    found = [problem for check in checks for problem in check(page)]
    return [*visit.complaints, *found, *check_browser.weight_problems(visit)]


def test_a_sound_page_has_no_problems(opened: Opener, made: Callable[..., str]) -> None:
    assert everything(opened(made(), size=PHONE)) == []


@pytest.mark.parametrize(
    ("snippet", "found"),
    [
        ("<script>console.error('broken')</script>", "the console has an error: broken"),
        ("<script>undefined.x</script>", "a script failed: Cannot read"),
        ("<script src='gone.js'></script>", "failed to load: http://127.0.0.1"),
        ("<script>fetch('https://example.org/a').catch(() => 0)</script>", "asks another host"),
        ("<img src='https://example.org/a.png' alt='x'>", "asks another host"),
        ("<span class='math'>\\(x\\)</span>", "formula not rendered: \\(x\\)"),
        ("<p>so \\(x\\) is</p>", "formula left as TeX: so \\(x\\) is"),
        ("<p>so $x$ is</p>", "formula left as TeX: so $x$ is"),
        ("<p>a \\beta here</p>", "formula left as TeX: a \\beta here"),
        ("<mjx-merror>bad</mjx-merror>", "formula with an error: bad"),
        (
            "<mjx-container display='true' style='display: block; width: 99px; overflow: auto'>"
            "<div style='width: 300px'>x</div></mjx-container>",
            "formula without a label is 201 px too wide",
        ),
        ("<img src='gone.png' alt='x'>", "picture not shown: http://127.0.0.1"),
        ("<div id='w' style='width: 600px'>x</div>", "scrolls sideways by"),
        (
            "<pre style='width: 99px; overflow: auto' tabindex='0'>" + 99 * "x" + "</pre>",
            "code is ",
        ),
        (WIDE.replace("CELL", "word"), "table of words is 200 px too wide: word"),
        (WIDE.replace("CELL", "-0.5"), "table of numbers is 200 px too wide: -0.5"),
        ("<p style='color: #aaaaaa'>pale</p>", "color-contrast at p"),
        ("<input type='range'>", "label at input"),
        ("<img src='plot.svg' width='9'>", "image-alt at img"),
        ("<button></button>", "button-name at button"),
        ("<svg><text y='9' fill='#dddddd'>pale</text></svg>", "text with a contrast of 1.4 in a"),
        ("<!--" + 1_500_000 * "x" + "-->", "weighs 1.5 MB"),
    ],
)
def test_what_is_wrong_on_a_page_is_found(
    opened: Opener, made: Callable[..., str], snippet: str, found: str
) -> None:
    problems = everything(opened(made(snippet), size=PHONE))
    assert any(problem.startswith(found) for problem in problems), problems


def test_what_is_pale_in_the_dark_alone_is_found(opened: Opener, made: Callable[..., str]) -> None:
    dark = "body { background: #222; color: #eee } p { color: #555 }"
    page = opened(made(f"<style>@media (prefers-color-scheme: dark) {{ {dark} }}</style>")).page
    assert list(check_browser.access_problems(page)) == []
    page.emulate_media(color_scheme="dark")
    found = list(check_browser.access_problems(page, **check_browser.OF_COLOURS))
    assert any(problem.startswith("color-contrast at p") for problem in found), found


def test_only_numbers_may_be_scrolled_on_a_phone(opened: Opener, made: Callable[..., str]) -> None:
    tables = WIDE.replace("CELL", "1,000"), WIDE.replace("CELL", "words")
    page = opened(made("".join(tables)), size=PHONE).page
    (problem,) = check_browser.cut_problems(page, check_browser.ON_A_PHONE)
    assert problem == "table of words is 200 px too wide: words"


@pytest.mark.parametrize(
    ("text", "behind", "style", "found"),
    [
        ("#7a7a7a", "none", "", "text with a contrast of 4.3"),
        ("#333333", "#222222", "", "text with a contrast of 1.3"),
        ("#333333", "none", "filter: brightness(3)", "text with a contrast of 2.8"),
        ("#333333", "none", "filter: invert(1)", "a filter that this check does not know"),
        ("#333333", "#ffffff", "", None),
        ("#999999", "#222222", "filter: brightness(1.2)", None),
    ],
)
def test_text_in_a_figure_is_measured_against_what_is_behind_it(
    opened: Opener, made: Callable[..., str], text: str, behind: str, style: str, found: str | None
) -> None:
    address = made(f"<style>img {{ {style} }}</style>", text=text, behind=behind)
    problems = list(check_browser.figure_problems(opened(address).page))
    assert len(problems) == (0 if found is None else 1), problems
    assert all(problem.startswith(str(found)) for problem in problems)


def test_contrast_is_that_of_the_guidelines() -> None:
    assert check_browser.contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert check_browser.contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(
        4.48, abs=0.005
    )


def test_what_all_pages_share_does_not_count(opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<script src='big.js'></script><img src='a.svg' alt=''>")
    (tmp_path / "big.js").write_text("//" + "x" * 2_000_000)
    (tmp_path / "a.svg").write_text(PLOT)
    with check_browser.served(tmp_path) as server:
        visit = opened(f"{server}/index.html")
    own = [tmp_path / "index.html", tmp_path / "a.svg"]
    assert visit.own_weight == sum(path.stat().st_size for path in own)
    assert list(check_browser.weight_problems(visit)) == []


def test_weights_and_paints_are_reported(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError, match="build it with `make book` first"):
        check_browser.report(tmp_path, "no browser is asked")
    (tmp_path / "page.html").write_text("<p>x</p>")
    address = (tmp_path / "page.html").as_uri()
    assert check_browser.painted(browser, address) > 0
    assert check_browser.weighed(browser, address).complaints == []
