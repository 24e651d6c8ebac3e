"""The documentation as a site: everybody can read it, search it and scroll it, from a folder as well."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import violations

ROOT = Path(__file__).resolve().parents[1]


class Fetched(HTMLParser):
    """What a browser would fetch for a page, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.assets: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and found.get("src"):
            self.assets.append(str(found["src"]))
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next") and found.get("href"):
            self.assets.append(str(found["href"]))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("docs") / "site"
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_the_site(chromium: Browser, site: Path, scheme: str) -> None:
    for name in (
        "index",
        "findings",
        "howto/kaggle",
        "results/protocols",
        "reference/parameters",
        "reference/learning",
    ):
        opened = chromium.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        opened.goto((site / f"{name}.html").as_uri())
        assert violations(opened) == [], name


def test_the_search_answers_without_a_server(chromium: Browser, site: Path) -> None:
    opened = chromium.new_page()
    opened.goto((site / "howto/kaggle.html").as_uri())
    opened.keyboard.press("/")
    opened.keyboard.type("canary", delay=30)
    found = opened.locator(".md-search-result__item a").first
    found.wait_for(timeout=20_000)
    address = found.get_attribute("href")
    assert address is not None
    assert address.startswith("file:")
    found.click()
    opened.wait_for_url(re.compile(r"file:.*\.html"))
    assert "canary" in opened.locator("article").inner_text().lower()


@pytest.mark.parametrize("width", [1280, 390])
def test_wide_tables_scroll_from_the_keyboard(chromium: Browser, site: Path, width: int) -> None:
    """On a phone the page itself never scrolls sideways, and every table that does can be reached and moved by keys."""
    scrolled = 0
    for name in ("results/protocols", "howto/compare", "reference/parameters", "glossary", "index"):
        opened = chromium.new_page(viewport={"width": width, "height": 800})
        opened.goto((site / f"{name}.html").as_uri())
        opened.wait_for_selector("article")
        assert opened.evaluate("document.documentElement.scrollWidth") <= width, name
        boxes = opened.locator("article .scroll")
        assert boxes.count() == opened.locator("article table:not([class])").count(), name
        for box in boxes.all():
            if box.evaluate("box => box.scrollWidth > box.clientWidth + 1"):
                box.focus()
                opened.keyboard.press("ArrowRight")
                opened.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())
                scrolled += 1
                break
        opened.close()
    assert scrolled or width == 1280


def test_the_site_fetches_nothing(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        found = Fetched(page.read_text(encoding="utf-8"))
        for asset in found.assets:
            assert not re.match(r"(\w+:)?//", asset), asset
            assert (page.parent / asset.split("?")[0]).exists() or page.name == "404.html", asset
        for link in found.links:
            if not re.match(r"(\w+:|#|/)", link):
                assert (page.parent / link.split("#")[0]).exists(), (page, link)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet
