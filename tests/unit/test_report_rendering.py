"""What comes from traffic stays text, whatever it is rendered to."""

import io
import re
from html.parser import HTMLParser

from matplotlib.figure import Figure
from rich.console import Console

from training.document import Block, Document, Facts, Plot, Quote, Rows, Section, Text
from training.render_html import to_html
from training.render_markdown import print_document, to_markdown

HOSTILE = '<script>alert("x")</script><img src=http://evil.example/a onerror=alert(1)>\x1b[2J | `rm` ![x](http://evil)'


def draw(figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1])


def document() -> Document:
    blocks: list[Block] = [
        Text(HOSTILE, "bad"),
        Facts([(HOSTILE, HOSTILE)]),
        Rows((HOSTILE, "n"), [(HOSTILE, "1")]),
        Quote(HOSTILE, HOSTILE),
        Plot("one", HOSTILE, draw),
        Plot("two", "another", draw),
    ]
    return Document(HOSTILE, blocks, [Section(HOSTILE, blocks[:4])])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_holds_no_script_no_handler_and_nothing_that_is_fetched() -> None:
    page = to_html(document())
    found = Tags()
    found.feed(page)
    names = {tag for tag, _ in found.tags}
    assert names.isdisjoint({"script", "img", "link", "iframe", "object", "form"})
    for _, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "default-src 'none'" in page
    assert "\x1b" not in page
    page.encode("utf-8")


def test_no_two_plots_on_a_page_share_an_id_and_the_same_report_gives_the_same_bytes() -> None:
    page = to_html(document())
    found = Tags()
    found.feed(page)
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert page == to_html(document())


def test_markdown_escapes_marks_and_keeps_one_row_a_line() -> None:
    text = to_markdown(document())
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert not re.search(r"(?<!\\)!\[x", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) % 3 == 0


def test_the_terminal_gets_no_control_characters() -> None:
    out = io.StringIO()
    print_document(Console(file=out, width=120), document())
    assert "\x1b" not in out.getvalue()
    assert "<script>" in out.getvalue()
