"""One HTML page that needs nothing else: the pictures are inside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from backsolve.demo.checks import Check
from backsolve.demo.pictures import Drawing, in_both_themes

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1d2433; --faint: #5d6779; --line: #dfe3ea; --code: #f4f6f9;
        --good: #1b7f3b; --bad: #c62828; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181f; --ink: #e8ebf1; --faint: #9aa4b5; --line: #2c3440; --code: #1c222c; --good: #57d27f;
          --bad: #ff7b72; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
       font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .5rem 0; }
.faint, figcaption { color: var(--faint); font-size: .92rem; }
pre { background: var(--code); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; font-size: .95rem; }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td + td { white-space: nowrap; }
td, th { text-align: left; padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 500; font-size: .92rem; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
"""


def _image(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def figure(draw: Drawing, caption: str, width: int) -> str:
    """A drawing as a <figure> that follows the reader's colour scheme, at most `width` pixels wide."""
    light, dark = in_both_themes(draw)
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{_image(dark)}">'
        f'<img src="{_image(light)}" alt="{escape(caption)}" style="width: {width}px"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def checks_table(checks: Sequence[Check]) -> str:
    """The checks as a table: what, the number, its bound, and whether it is kept."""
    rows = []
    for check in checks:
        word, kind = ("pass", "good") if check.passed else ("fail", "bad")
        cells = [check.what, check.number, check.limit]
        rows.append(f'<tr>{"".join(f"<td>{escape(c)}</td>" for c in cells)}<td class="{kind}">{word}</td></tr>')
    head = "<tr><th>what</th><th>measured</th><th>bound</th><th></th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def write(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write the page. `parts` are pieces of HTML, in their order."""
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
    )
    path.write_text(head + "\n".join([f"<h1>{escape(title)}</h1>", *parts]) + "</body></html>\n", encoding="utf-8")
