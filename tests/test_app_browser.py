"""The app in headless Chromium: every page, and the way from a folder of images to samples."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app_process import running_app
from vistok.start.plan import Stage, StartPlan, plan_file

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
SWITCHES = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGES = ("Runs", "Run", "Generate", "Reconstruct", "Compare", "Advise", "Study", "Train")
RESULTS = Path(__file__).resolve().parent.parent / "results"
MINUTES = 600_000  # milliseconds
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason=f"there is no Chromium at {CHROMIUM}; CHROMIUM names it"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield opened
        opened.close()


class Visit:
    """A page of the browser that notes what must not be: errors, and requests to anywhere but this machine."""

    def __init__(self, browser, address: str, width: int, dark: bool = False) -> None:
        self.wrong: list[str] = []
        self.width = width
        scheme = "dark" if dark else "light"
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.tab.route("**/*", self._route)
        self.tab.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.goto(address)
        self.tab.wait_for_selector("[role=tab]", timeout=MINUTES)

    def _route(self, route) -> None:
        url = route.request.url
        if re.match(r"https?://(127\.0\.0\.1|localhost)[:/]|data:|blob:", url):
            route.continue_()
        else:
            self.wrong.append(f"asked for {url}")
            route.abort()

    def open(self, name: str) -> None:
        self.tab.get_by_role("tab", name=name, exact=True).click()
        self.tab.wait_for_timeout(800)

    def see(self, selector: str):
        found = self.tab.locator(f"{selector} >> visible=true").first
        found.wait_for(state="visible", timeout=MINUTES)
        return found

    def press(self, name: str) -> None:
        self.tab.get_by_role("button", name=name, exact=True).click()

    def choose(self, label: str, text: str) -> None:
        field = self.tab.get_by_label(label, exact=True)
        field.click()
        field.fill(text)
        self.tab.keyboard.press("Enter")

    def require_fine(self, what: str) -> None:
        assert not self.wrong, f"{what}: {self.wrong}"
        scrolled = self.tab.evaluate("document.documentElement.scrollWidth")
        assert scrolled <= self.width, f"{what} is {scrolled} pixels wide on {self.width}"

    def colour(self, selector: str) -> str:
        return str(self.tab.evaluate(f"getComputedStyle(document.querySelector({selector!r})).backgroundColor"))


def write_photos(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            low = 150 * label
            pixels = generator.integers(low, low + 100, (4, 4, 3), np.uint8).repeat(10, 0).repeat(10, 1)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def write_small_plan(runs: Path, photos: Path) -> None:
    """The plan of `vistok start`, as if a very slow machine had made it: a few steps of tiny networks."""
    small = (
        "tokenizer.encoder.channels=8", "tokenizer.decoder.channels=8", "tokenizer.latent_channels=8", "batch_size=4",
        "tokenizer.quantizer.start_after=2", "tokenizer.quantizer.codebook_size=32", "execution.tensorboard=false",
        "execution.num_workers=0", "execution.threads=1",
    )  # fmt: skip
    network = ("generator.width=24", "generator.depth=1", "generator.num_heads=2", "batch_size=8", *small[-3:])
    plan = StartPlan(
        str(photos), 32, 64, 32, Stage("images32_crt", small, 6, 1.0), Stage("images64_ar", network, 4, 1.0), None, 60.0
    )
    file = plan_file(runs, str(photos), 60.0)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(plan.to_json()))


@pytest.fixture(scope="module")
def trained(browser, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """An app in which a folder of images has been trained on, by clicking: (address, folder)."""
    folder = tmp_path_factory.mktemp("app")
    photos = write_photos(folder / "photos")
    write_small_plan(folder / "runs", photos)
    with running_app(folder, runs=folder / "runs", results=RESULTS) as address:
        visit = Visit(browser, address, 1280)
        visit.open("Train")
        visit.tab.get_by_label("Folder of images").fill(str(folder / "nowhere"))
        visit.choose("Time", "1m")
        visit.press("Train")
        assert "no such folder" in visit.see(".answer.bad").inner_text()
        visit.tab.get_by_label("Folder of images").fill(str(photos))
        visit.press("Look and plan")
        visit.see("text=24 colour pictures in 2 classes")
        visit.press("Train")
        visit.see(".state.running")
        visit.see(".state.done")
        visit.see(".job figure img")
        visit.require_fine("Train")
        visit.tab.close()
        yield address, folder


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_every_page_is_shown_without_errors_and_without_leaving_this_machine(trained, browser, width, dark):
    visit = Visit(browser, trained[0], width, dark)
    for name in PAGES:
        visit.open(name)
        visit.see({"Generate": "text=Guidance", "Reconstruct": "text=Tokenizers"}.get(name, ".vistok"))
        if name == "Advise":
            visit.see("text=Expected gFMD by training budget")
        visit.require_fine(f"{name}, {width} pixels, {'dark' if dark else 'light'}")
    used = visit.see(".vistok").bounding_box()["width"]
    assert used > 0.85 * min(width, 1200), "narrow screens have narrow margins"
    red, green, blue = map(int, re.findall(r"\d+", visit.colour("body"))[:3])
    assert (max(red, green, blue) < 60) if dark else (min(red, green, blue) > 200)
    visit.tab.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_from_a_trained_folder_to_samples(trained, browser, width):
    visit = Visit(browser, trained[0], width)
    visit.open("Runs")
    visit.see("[data-open^=images64-ar]")
    visit.see("[data-curve^=images32-crt]").click()
    visit.see("svg.chart")
    chart = visit.see("svg.chart").bounding_box()
    visit.tab.mouse.move(chart["x"] + chart["width"] / 2, chart["y"] + chart["height"] / 2)
    visit.tab.wait_for_function(
        "document.querySelector('.readout').textContent.includes('images32-crt')", timeout=MINUTES
    )
    visit.see("[data-open^=images64-ar]").click()
    visit.see("h1:has-text('images64-ar')")
    visit.require_fine("Run")
    visit.open("Generate")
    visit.tab.get_by_text("dark", exact=True)
    visit.tab.get_by_label("Classes", exact=True).click()
    visit.tab.get_by_role("option", name="light").click(timeout=MINUTES)
    visit.tab.keyboard.press("Escape")
    visit.press("Draw")
    visit.see(".pictures img")
    captions = visit.tab.locator(".pictures figcaption").all_inner_texts()
    assert captions == ["light"] * 20
    assert visit.tab.locator("a.save").first.get_attribute("href").startswith("data:image/png")
    visit.press("Nearest training images")
    visit.see("text=the nearest of 20 training images")
    visit.require_fine("Generate")
    visit.tab.close()


def test_a_click_on_a_token_changes_the_picture(trained, browser):
    address, folder = trained
    visit = Visit(browser, address, 1280)
    visit.open("Reconstruct")
    visit.press("Encode and decode")
    assert "drop a picture" in visit.see(".answer.bad").inner_text()
    visit.tab.locator("input[type=file]").first.set_input_files(folder / "photos" / "light" / "0.png")
    visit.tab.wait_for_timeout(1500)
    visit.press("Encode and decode")
    visit.see(".tokens")
    before = visit.tab.locator(".tokens img").get_attribute("src")
    visit.see("[data-token='27']").click()
    visit.see("text=at row 4, column 4")
    chosen = int(visit.tab.get_by_label("Token", exact=True).input_value())
    visit.tab.get_by_label("Token", exact=True).fill(str((chosen + 1) % 32))
    visit.press("Put it there")
    visit.see("text=with 1 changed")
    assert visit.tab.locator(".tokens img").get_attribute("src") != before
    visit.press("All as they were")
    visit.tab.wait_for_function("document.querySelectorAll('.cells .changed').length === 0", timeout=MINUTES)
    assert visit.tab.locator(".tokens img").get_attribute("src") == before
    (folder / "broken.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    visit.tab.close()
    visit = Visit(browser, address, 1280)
    visit.open("Reconstruct")
    visit.tab.locator("input[type=file]").first.set_input_files(folder / "broken.png")
    visit.tab.wait_for_timeout(1500)
    visit.press("Encode and decode")
    assert "cannot be read" in visit.see(".answer.bad").inner_text()
    visit.require_fine("Reconstruct")
    visit.tab.close()


# Draw a picture of two colours and put it where copying puts one.
COPY = """async () => {
  const canvas = new OffscreenCanvas(48, 48), pen = canvas.getContext("2d");
  pen.fillStyle = "#c03020"; pen.fillRect(0, 0, 48, 48);
  pen.fillStyle = "#2040d0"; pen.fillRect(0, 24, 48, 24);
  const png = await canvas.convertToBlob({type: "image/png"});
  await navigator.clipboard.write([new ClipboardItem({"image/png": png})]);
}"""


def test_a_picture_can_be_pasted(trained, browser):
    address, _ = trained
    visit = Visit(browser, address, 1280)
    visit.tab.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address.rstrip("/"))
    visit.open("Reconstruct")
    visit.tab.evaluate(COPY)
    visit.see("button[aria-label='Paste from clipboard']").click()
    visit.tab.wait_for_timeout(1500)
    visit.press("Encode and decode")
    visit.see(".tokens")
    visit.require_fine("Reconstruct")
    visit.tab.close()
