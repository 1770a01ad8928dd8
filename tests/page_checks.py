"""What every HTML page promises: whole by itself, small, and readable for a screen reader."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

MOST_BYTES = 3_000_000
_VOID = {"meta", "img", "input", "link", "br", "hr"}


class _Page(HTMLParser):
    """Collects the elements of a page, and its JSON scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.json: list[str] = []
        self._open: list[str] = []
        self._reads_json = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found, tuple(self._open)))
        if tag not in _VOID:
            self._open.append(tag)
        self._reads_json = tag == "script" and found.get("type") == "application/json"

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()
        self._reads_json = False

    def handle_data(self, data: str) -> None:
        if self._reads_json:
            self.json.append(data)


def json_of(page: str) -> list[Any]:
    """The values of a page's JSON scripts."""
    read = _Page()
    read.feed(page)
    return [json.loads(text) for text in read.json]


def check_page(page: str) -> None:
    """Fails if the page loads something, is too large, or lacks what a screen reader needs."""
    read = _Page()
    read.feed(page)
    read.close()
    tags = [tag for tag, _, _ in read.elements]
    attributes = {tag: found for tag, found, _ in read.elements}
    assert len(page.encode()) < MOST_BYTES
    assert tags.count("h1") == tags.count("main") == 1
    assert attributes["html"]["lang"] == "en"
    assert tags.count("table") == tags.count("caption")
    for tag, found, above in read.elements:
        if tag == "th":
            assert found.get("scope") in ("row", "col")
        if tag == "caption":
            assert above[-1] == "table"
        if tag == "img":
            assert found.get("alt")
        if tag in ("input", "select"):
            assert "label" in above or found.get("aria-label")
        for name in ("src", "srcset", "href", "action", "poster", "data"):
            address = found.get(name) or ""
            assert not re.match(r"(\w+:)?//", address), f"<{tag} {name}={address}> loads from afar"
        assert tag != "link", "style sheets are part of the page"
    for style in re.findall(r"<style>(.*?)</style>", page, re.DOTALL):
        assert not re.search(r"url\(|@import", style)
    assert "default-src 'none'" in page, "a browser would refuse to load anything"
    for text in read.json:
        json.loads(text)
