"""What the README tells of the results, in a table and a picture, and the ratios that RESULTS.md begins with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.runner import Ratios, Section, seconds_text


class Headline(NamedTuple):
    """A column of ratios, of a section of the results, and how the README calls it."""

    section: str
    column: str
    text: str


class Wanted(NamedTuple):
    """A row of a section, what it computes, in which line, and who stands beside: contestants, or words in their place."""

    text: str
    line: str
    section: str
    row: str
    jax: str
    others: str = ""


class Told(NamedTuple):
    """What the README says of a column of ratios of `forms`, of functions that nothing was tuned on."""

    column: str
    text: str  # with the mean, the worst of them, and of which function that is


# A column that the results do not hold (yet) is left out.
HEADLINES = (
    Headline("gradients", "run", "gradients / `jax.grad`"),
    Headline("jacobians", "run", "Jacobians of many scalars / better of `jacfwd`, `jacrev`"),
    Headline("forms", "telling, Jacobians", "Jacobians of one array, untuned / better of `jacfwd`, `jacrev`"),
    Headline("forms", "telling, Hessians", "Hessians of one array, untuned / `jax.hessian`"),
    Headline("jacobians", "dense", "Jacobians of nets on a batch / the same"),
    Headline("jacobians", "operator", "the same as operators / the same"),
    Headline("sparse", "run / asdex's", "sparse derivatives / asdex"),
    Headline("sparse", "run / by hand", "sparse derivatives / by hand"),
    Headline("loops", "run / asdex's", "sparse derivatives through loops / asdex"),
    Headline("loops", "run / dense JAX's", "the same / JAX's dense ones"),
)
WANTED = (
    Wanted(
        "Jacobian of a stencil, n = 10,000",
        'jacobian(f, format="sparse")',
        "sparse",
        "Burgers, 10,000 points",
        "dense: 800 MB, not tried",
        "asdex",
    ),
    Wanted("of an arrow, n = 1,500", 'jacobian(f, format="sparse")', "sparse", "arrow, n = 1,500", "dense", "asdex"),
    Wanted("of a net over a batch", 'jacobian(f, format="operator")', "jacobians", "MLP by inputs, operator", "jacrev"),
    Wanted("H⁻¹ b, a net of 64 layers", "inverse_hvp(f, (x,), b)", "solves", "64 layers against others, whole", "dense"),
    Wanted("one more b", "factored().solve(b)", "solves", "64 layers against others, solve", "dense", "MINRES"),
)
TOLD = (
    Told(
        "telling, Jacobians",
        "- Small functions that nothing was tuned on, one array to one, under `vmap`: Jacobians {mean} × as fast as the "
        "better of `jacfwd` and `jacrev`, at the least {worst} × ({name})",
    ),
    Told("telling, Jacobians, float64", "; in float64 {mean} ×, at the least {worst} × ({name})"),
    Told("telling, Hessians", "; Hessians {mean} ×, at the least {worst} × ({name})"),
    Told("telling, one point", "; at one point {mean} ×, at the least {worst} × ({name})"),
    Told("telling, trace + compile", ".\n- They trace and compile {mean} × as fast, at the least {worst} × ({name}).\n"),
)
MARKS = {
    name: re.compile(rf"(<!-- {name}[^>]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL) for name in ("results", "speed")
}


def written(page: str, sections: Mapping[str, Section]) -> str:
    """The page with the table of WANTED between its marks <!-- results ... --> and <!-- end of results -->, and so TOLD.

    What stands between <!-- speed ... --> and <!-- end of speed --> stays where the results do not hold that (yet).
    """
    for name, text in (("results", _wanted(sections)), ("speed", _told(sections))):
        if not MARKS[name].search(page):
            raise ValueError(f"the page has no marks <!-- {name} --> and <!-- end of {name} -->")
        page = MARKS[name].sub(partial(_between, text), page)
    return page


def _between(text: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}{text}{marks[2]}" if text else marks[0]


def _told(sections: Mapping[str, Section]) -> str:
    found = {column.name: column for column in sections["forms"].ratios} if "forms" in sections else {}
    text = ""
    for told in TOLD:
        if told.column not in found:
            return ""
        column = found[told.column]
        worst = max(column.values, key=column.values.__getitem__)
        name = worst.removeprefix("telling: ").partition(",")[0]
        mean, least = (f"{1 / ratio:.2g}" for ratio in (column.geometric_mean, column.values[worst]))
        text += told.text.format(mean=mean, worst=least, name=name)
    first, _, second = text.partition("\n")
    return f"{fill(first, 110, subsequent_indent='  ')}\n{second}"


def _wanted(sections: Mapping[str, Section]) -> str:
    lines = [["wanted", "one line", "backsolve", "JAX", "others"]]
    for wanted in WANTED:
        rows = sections[wanted.section].rows if wanted.section in sections else []
        for row in rows:
            if row.name == wanted.row:
                ours = next(iter(row.seconds.values()))  # ours are first
                theirs = [_beside(who, row.seconds) for who in (wanted.jax, wanted.others)]
                lines.append([wanted.text, f"`{wanted.line}`", "–" if ours is None else seconds_text(ours), *theirs])
    return _table(lines)


def _beside(who: str, seconds: Mapping[str, float | None]) -> str:
    taken = seconds.get(who)
    return who if taken is None else f"{who} {seconds_text(taken)}"


def ratios(sections: Mapping[str, Section]) -> list[str]:
    """The lines of a table: mean, best and worst of each column of HEADLINES; none where there is no column."""
    found = columns(sections)
    lines = [["time, ours / theirs", "rows", "geometric mean", "best", "worst"]]
    for text, column in found:
        spread = (column.geometric_mean, min(column.values.values()), max(column.values.values()))
        lines.append([text, str(len(column.values)), *(f"{value:.3g}" for value in spread)])
    return [_table(lines), "![Every ratio as a dot](pictures/summary.svg)\n"] if found else []


def _table(lines: Iterable[Iterable[str]]) -> str:
    rows = [f"| {' | '.join(line)} |\n" for line in lines]
    return "".join([rows[0], "|---" * rows[0].count(" |"), "|\n", *rows[1:]])


def columns(sections: Mapping[str, Section]) -> list[tuple[str, Ratios]]:
    """The columns of HEADLINES that there are, each with what the README calls it."""
    return [
        (headline.text, column)
        for headline in HEADLINES
        if headline.section in sections
        for column in sections[headline.section].ratios
        if column.name == headline.column and column.values
    ]


def picture(sections: Mapping[str, Section]) -> Figure:
    """Every ratio of time as a dot on a log scale, a line for each column, with its geometric mean as a bar."""
    found = columns(sections)
    figure = Figure(figsize=(8.4, 0.7 + 0.34 * len(found)), facecolor="white", layout="constrained")
    ax = figure.subplots()
    spread = np.random.default_rng(0)
    for height, (_, column) in enumerate(found):
        values = np.array([value for value in column.values.values() if value > 0])
        heights = height + spread.uniform(-0.2, 0.2, len(values))
        ax.scatter(values, heights, s=13, c=np.where(values <= 1, "#2563eb", "#dc2626"), alpha=0.75, linewidths=0, zorder=2)
        ax.plot([column.geometric_mean] * 2, [height - 0.36, height + 0.36], color="#111827", lw=2, zorder=3)
    ax.axvline(1, color="#9ca3af", lw=1, zorder=1)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    figure.supxlabel("time, ours / theirs: left of the line we are faster; dark bars are geometric means", fontsize=9)
    ax.set_yticks(range(len(found)), [text.replace("`", "") for text, _ in found], fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.grid(axis="x", alpha=0.25)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure
