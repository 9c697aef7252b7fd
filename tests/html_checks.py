"""What holds for every page: it parses, fetches nothing, describes its pictures, and its links lead somewhere."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A page's tags; errors of nesting are collected, not raised."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.open, self.errors = html, [], []
        self.tags: list[tuple[str, dict]] = []
        self.feed(html)
        self.errors += [f"never closed: {name}" for name in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.errors.append(f"</{tag}> closes {self.open[-1:]}, at {self.getpos()}")
        else:
            self.open.pop()

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def check_page(html: str) -> Page:
    """Assert what holds for every page, and return its tags."""
    page = Page(html)
    assert not page.errors, page.errors[:3]
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            assert re.match(r"data:image/|#", attrs.get(name) or "#"), (tag, name, attrs[name][:60])
        assert not [name for name in attrs if name.startswith("on")], attrs
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", re.sub(r"data:image/[^\"]*", "", html))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in page.all("svg"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    links = [attrs["href"][1:] for attrs in page.all("a")]
    assert len(ids) == len(set(ids)) and set(links) <= set(ids) and links
    sections = [attrs["id"] for attrs in page.all("details") if attrs.get("class") == "section"]
    assert sections == links and not [attrs for attrs in page.all("details") if "open" in attrs]
    return page
