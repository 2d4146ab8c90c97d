"""A report as one HTML file: plots inside as SVG, nothing fetched from anywhere, readable on a phone.

The page forbids itself all scripts and requests by its content security policy, so that even a text which got
through unescaped could do nothing.
"""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib

from training.document import Block, Document, Facts, Plot, Quote, Rows, Text
from training.plots import blank_figure

POLICY = "default-src 'none'; style-src 'unsafe-inline'"

STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--page:#f5f7f9;--card:#fff;--good:#0b6e4f;
--goodbg:#e5f4ee;--bad:#9a4a00;--badbg:#fdf0e2;--accent:#0072b2}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333d4a;--page:#12171d;
--card:#1b222b;--good:#6fd3ac;--goodbg:#12332a;--bad:#f2b273;--badbg:#3a2813;--accent:#69b7e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);line-height:1.55;-webkit-text-size-adjust:100%;
font-family:-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.25rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.12rem;margin:0 0 .6rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.1rem 1.2rem;
margin:1rem 0}
p{margin:.5rem 0}
.good,.bad{border-radius:10px;padding:.7rem .9rem;font-weight:600}
.good{color:var(--good);background:var(--goodbg)}
.bad{color:var(--bad);background:var(--badbg)}
.note{color:var(--soft);font-size:.92rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1rem 0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:.75rem .9rem}
.facts b{display:block;font-size:1.45rem;line-height:1.2}
.facts span{color:var(--soft);font-size:.88rem}
.scroll{overflow-x:auto;margin:.7rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
td{white-space:nowrap}
th{color:var(--soft);font-weight:600}
th.t,td.t{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:7rem}
figure{margin:1rem 0;background:#fff;border-radius:10px;padding:.4rem}
figure svg{display:block;width:100%;height:auto;max-width:44rem;margin:0 auto}
blockquote{margin:.6rem 0;padding:.5rem .9rem;border-left:3px solid var(--accent);overflow-wrap:anywhere}
blockquote small{display:block;color:var(--soft);margin-top:.2rem}
nav{font-size:.9rem;line-height:1.9}
nav a{color:var(--accent);margin-right:.9rem;white-space:nowrap}
""".strip()


def to_html(document: Document) -> str:
    """Render a report as a self-contained HTML page."""
    links = " ".join(
        f'<a href="#s{i}">{_text(section.title)}</a>' for i, section in enumerate(document.sections)
    )
    body = [
        f"<h1>{_text(document.title)}</h1>",
        *(_block(block) for block in document.lead),
        f"<nav>{links}</nav>",
    ]
    for i, section in enumerate(document.sections):
        inner = "\n".join(_block(block) for block in section.blocks)
        body.append(f'<section id="s{i}">\n<h2>{_text(section.title)}</h2>\n{inner}\n</section>')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(document.title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    # A control character has no meaning in HTML, and half a surrogate pair cannot be written as UTF-8.
    kept = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return escape(kept.encode("utf-8", "replace").decode("utf-8"))


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f'<p class="{block.tone}">{_text(block.text)}</p>'
    if isinstance(block, Facts):
        return '<div class="facts">' + "".join(
            f"<div><b>{_text(number)}</b><span>{_text(what)}</span></div>" for number, what in block.facts
        ) + "</div>"  # fmt: skip
    if isinstance(block, Rows):
        return _table(block)
    if isinstance(block, Quote):
        return f"<blockquote>{_text(block.text)}<small>{_text(block.about)}</small></blockquote>"
    return f'<figure role="img" aria-label="{_text(block.alt)}">{svg(block)}</figure>'


def _table(block: Rows) -> str:
    def cells(tag: str, row: tuple[str, ...]) -> str:
        return "".join(
            f"<{tag}{' class=t' if i in block.text_columns else ''}>{_text(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', tuple(block.header))}</tr></thead>"
    rows = "".join(f"<tr>{cells('td', tuple(row))}</tr>" for row in block.rows)
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>'


def svg(plot: Plot) -> str:
    """Draw a plot as an SVG element; text stays text, and the same figures give the same bytes."""
    figure = blank_figure(plot.width, plot.height)
    plot.draw(figure)
    target = io.StringIO()
    # the salt names this plot, so that the ids of two plots on one page never meet
    with matplotlib.rc_context({"svg.hashsalt": plot.name, "svg.fonttype": "none"}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    found = target.getvalue()
    found = found[found.index("<svg") :]
    ids = set(re.findall(r'\bid="([^"]+)"', found))
    for name in sorted(ids, key=len, reverse=True):
        for before, after in (('id="', '"'), ("url(#", ")"), ('xlink:href="#', '"')):
            found = found.replace(f"{before}{name}{after}", f"{before}{plot.name}-{name}{after}")
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", found, count=1),
        count=1,
    )
