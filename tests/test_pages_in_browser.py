"""Pages in headless Chromium: on a phone and on a desk, light and dark, on paper, and with a pointer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import REPOSITORY
from test_study_fits import make_study, make_table
from test_study_page import page_of

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# The smallest text of a figure that one still reads on a phone, in its pixels.
SMALLEST = 10.5
PAGES = ("results/fashion/index.html", "results/openmoji/index.html", "results/demo/short/index.html", "made")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is absent: pages are not looked at in a browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A page whose names are as long as they may be."""
    folder = tmp_path_factory.mktemp("page")
    table = make_table(np.random.default_rng(0)).replace({"crt_variant": {"l2_pre": "l2_" + "very_" * 12 + "long"}})
    (folder / "index.html").write_text(page_of(table, make_study(), folder))
    return folder / "index.html"


@pytest.fixture
def opened(browser, made):
    """Open a page; whatever it asks for beyond itself, or writes as an error, fails the test."""
    wrong, pages = [], []

    def open_page(name: str, width: int = 390, **options):
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        file = made if name == "made" else REPOSITORY / name
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type != "error" or wrong.append(said.text))
        page.goto(file.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not wrong


def unfold(page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen_and_figures_can_be_read(name, width, opened):
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """[...document.querySelectorAll("svg.chart:not(.map) text")].map(text => {
            const drawing = text.ownerSVGElement;
            return parseFloat(getComputedStyle(text).fontSize) * drawing.clientWidth / drawing.viewBox.baseVal.width;
        })"""
    )
    assert sizes and min(sizes) >= SMALLEST
    widths = page.evaluate("[...document.querySelectorAll('svg.chart')].map(drawing => drawing.clientWidth)")
    assert max(widths) <= 4.6 * 96  # CSS pixels to an inch


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_cards_on_a_phone(name, opened):
    page = opened(name)
    unfold(page)
    assert set(page.evaluate("[...document.querySelectorAll('table.cards td:not(:empty)')].map(cell => getComputedStyle(cell).display)")) == {"block"}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_contents_open_the_sections_they_lead_to(name, opened):
    page = opened(name, 1280)
    links = page.locator("nav.contents a")
    for i in range(links.count()):
        target = links.nth(i).get_attribute("href")[1:]
        section = page.locator(f"details#{target}")
        assert section.get_attribute("open") is None
        links.nth(i).click()
        assert section.get_attribute("open") is not None
        assert page.evaluate(
            "id => Math.abs(document.getElementById(id).getBoundingClientRect().top) < innerHeight", target
        )
        page.evaluate("scrollTo(0, 0)")
    page.locator("[data-open-all]").click()
    assert page.locator("details.section[open]").count() == 0
    page.goto(f"{page.url.partition('#')[0]}#provenance")
    page.reload()
    assert page.locator("details#provenance").get_attribute("open") is not None


@pytest.mark.parametrize("name", PAGES)
def test_figures_read_out_the_point_under_the_pointer(name, opened):
    page = opened(name, 1280)
    unfold(page)
    figure = page.locator("figure:has(svg[data-points])").first
    figure.scroll_into_view_if_needed()
    assert figure.locator(".readout").inner_text() == ""
    figure.locator("svg[data-points]").hover()
    said = figure.locator(".readout").inner_text()
    assert said and said in figure.locator("svg[data-points]").get_attribute("data-points").encode().decode(
        "unicode_escape"
    )
    page.mouse.move(0, 0)
    assert figure.locator(".readout").inner_text() == ""


def test_dark_pages_are_dark_and_paper_is_white_and_unfolded(opened):
    dark = opened(PAGES[0], color_scheme="dark")
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg.chart text')).fill]"
    on_screen = dark.evaluate(colours)
    dark.emulate_media(media="print", color_scheme="dark")
    assert dark.evaluate(colours) == opened(PAGES[0]).evaluate(colours) != on_screen
    assert dark.evaluate("dispatchEvent(new Event('beforeprint'))") and dark.locator("details:not([open])").count() == 0
    dark.evaluate("dispatchEvent(new Event('afterprint'))")
    assert dark.locator("details[open]").count() == 0


def test_names_over_columns_lie_over_them(opened):
    page = opened(PAGES[2])
    unfold(page)
    for sheet in page.locator(".sheet").all():
        columns, picture = sheet.locator(".captions span").count(), sheet.locator("img").bounding_box()
        for i in range(columns):
            box = sheet.locator(".captions span").nth(i).bounding_box()
            middle, wanted = box["x"] + box["width"] / 2, picture["x"] + picture["width"] * (i + 0.5) / columns
            assert abs(middle - wanted) < picture["width"] / columns / 3 and box["height"] > 12
