"""The pages in a real browser: without a mouse, in both themes, on a phone, and for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import violations

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PAGES = [
    "/", "/images/3", "/explore", "/explore/copies", "/explore/labels", "/explore/quarantine", "/runs", "/api",
    "/nothing",
]  # fmt: skip


class Watched:
    """A page whose complaints and requests are noted."""

    def __init__(self, browser: Browser, server: str, **options: object) -> None:
        self.server = server
        self.context = browser.new_context(base_url=server, viewport=DESKTOP, **options)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request: object) -> None:
        url = urlsplit(request.url)  # type: ignore[attr-defined]
        if url.scheme != "data" and url.netloc != urlsplit(self.server).netloc:
            self.wrong.append(request.url)  # type: ignore[attr-defined]


@pytest.fixture
def watched(chromium: Browser, server: str) -> Iterator[Watched]:
    """A page; no console message, no error and no request to elsewhere may have come of the test."""
    opened = Watched(chromium, server)
    yield opened
    opened.context.close()
    assert opened.wrong == []


@pytest.fixture
def file(tmp_path: Path, picture: bytes) -> Path:
    path = tmp_path / "scan.png"
    path.write_bytes(picture)
    return path


def test_upload_filter_pivot(watched: Watched, file: Path) -> None:
    page = watched.page
    page.goto("/")
    page.set_input_files("#image", file)
    page.click("button[type=submit]")
    page.wait_for_url("**/cases/*")
    expect(page.locator(".bars tr")).to_have_count(3)
    shares = [float(text.replace("\u202f%", "")) for text in page.locator(".bars .number").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert shares == sorted(shares, reverse=True)
    maps = page.locator(".heat")
    assert maps.count() >= 4
    assert maps.evaluate_all("all => all.every(image => image.complete && image.naturalWidth > 0)")
    expect(page.locator("ol.cases .case")).to_have_count(10)

    page.fill("#opacity", "25")
    assert maps.first.evaluate("image => getComputedStyle(image).opacity") == "0.25"

    page.select_option("select[name=label]", "bar")
    page.select_option("select[name=sequence]", "T2")
    page.click("text=Filter")
    page.wait_for_url("**label=bar**")
    assert set(page.locator("ol.cases b").all_inner_texts()) == {"bar"}
    assert all("T2" in text for text in page.locator("ol.cases .soft").all_inner_texts())

    first = page.locator("ol.cases .case").first
    address = first.get_attribute("href")
    first.click()
    page.wait_for_url(f"**{address}")
    expect(page.locator("ol.cases .case")).to_have_count(10)
    assert address not in [each.get_attribute("href") for each in page.locator("ol.cases .case").all()]


def test_drop(watched: Watched, picture: bytes) -> None:
    page = watched.page
    page.goto("/")
    transfer = page.evaluate_handle(
        """bytes => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"})); return data; }""",
        list(picture),
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_have_class("card drop over")
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.wait_for_url("**/cases/*")
    expect(page.locator(".heat").first).to_be_visible()


def large(folder: Path) -> Path:
    path = folder / "large.png"
    path.write_bytes(bytes(21_000_000))
    return path


def test_a_file_chosen_before_the_script_came(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    held: list[Route] = []
    page.route("**/page.js", lambda route: held.append(route))  # playwright counts the parameters of what it calls
    page.goto("/", wait_until="commit")
    page.set_input_files("#image", large(tmp_path))
    expect(page.locator("#complaint")).to_be_hidden()
    held[0].continue_()
    expect(page.locator("#complaint")).to_contain_text("expected at most 20 MB")


def test_a_wrong_file_is_explained(chromium: Browser, server: str, tmp_path: Path) -> None:
    watched = Watched(chromium, server)
    path = tmp_path / "notes.png"
    path.write_text("no image")
    page = watched.page
    page.goto("/")
    page.set_input_files("#image", path)
    page.click("button[type=submit]")
    expect(page.locator("[role=alert]").first).to_contain_text("cannot be read")
    page.set_input_files("#image", large(tmp_path))
    expect(page.locator("#complaint")).to_contain_text("expected at most 20 MB")
    watched.context.close()
    assert all("422" in text for text in watched.wrong)  # what the browser itself says of such a status


def test_keyboard_only(watched: Watched, file: Path) -> None:
    page = watched.page

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"no focus to be seen on {selector}"
                return
        raise AssertionError(f"{selector} cannot be reached with Tab")

    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.set_input_files("#image", file)  # the file dialogue itself is the system's
    tab_to("#drop button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases/*")
    tab_to("#opacity")
    before = page.input_value("#opacity")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#opacity") != before
    tab_to("select[name=label]")
    page.keyboard.press("ArrowDown")
    tab_to("#similar ~ form button")
    page.keyboard.press("Enter")
    page.wait_for_url("**label=bar**")
    tab_to("ol.cases .case")
    page.keyboard.press("Enter")
    page.wait_for_url("**/images/*")

    page.goto("/explore")
    tab_to("#plane")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_be_visible()
    first = page.locator("#said").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#said").inner_text() != first
    page.keyboard.press("Enter")
    page.wait_for_url("**/images/*")


def test_explorer_with_a_mouse(watched: Watched) -> None:
    page = watched.page
    page.goto("/explore")
    mark = page.locator("#plane path[data-id='17']")
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#tip img")).to_be_visible()
    page.locator(".legend a").first.click()
    page.wait_for_url("**only=**")
    assert page.locator("#plane path.dim").count() == 80
    page.select_option("select[name=colour]", "side")
    page.get_by_role("button", name="Colour", exact=True).click()
    page.wait_for_url("**colour=side**")
    assert page.locator(".legend a").count() == 3


def test_dark_mode_is_remembered(watched: Watched) -> None:
    page = watched.page

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.goto("/")
    light = background()
    page.get_by_role("button", name="Use dark colours").click()
    dark = background()
    assert dark != light
    page.goto("/runs")
    assert background() == dark
    page.get_by_role("button", name="Use light colours").click()
    assert background() == light
    page.evaluate("localStorage.clear()")
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert background() == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_every_page(chromium: Browser, server: str, scheme: str) -> None:
    """No serious violation by axe-core, no sideways scrolling on a phone, nothing from elsewhere."""
    watched = Watched(chromium, server, color_scheme=scheme)
    page = watched.page
    for path in PAGES:
        page.set_viewport_size(DESKTOP)
        page.goto(path)
        assert violations(page) == [], path
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        found = Axe().run(page, options={"runOnly": ["color-contrast", "scrollable-region-focusable", "target-size"]})
        assert [each["id"] for each in found.response["violations"]] == [], path
    watched.context.close()
    assert all("404" in text for text in watched.wrong)  # what the browser itself says of /nothing


def test_without_a_script(chromium: Browser, server: str, file: Path) -> None:
    watched = Watched(chromium, server, java_script_enabled=False)
    page = watched.page
    page.goto("/")
    page.set_input_files("#image", file)
    page.click("button[type=submit]")
    page.wait_for_url("**/cases/*")
    expect(page.locator("ol.cases .case")).to_have_count(10)
    expect(page.locator("#opacity")).to_be_hidden()
    page.goto("/explore")
    assert page.locator("#plane path[data-id]").count() == 120
    watched.context.close()
    assert watched.wrong == []
