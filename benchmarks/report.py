"""Sections as JSON, as RESULTS.md and as pictures. Wins and losses are written alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.runner import Ratios, Row, Section, seconds_text, slope

ACROSS = 3  # curves side by side
COLOURS = ("#2563eb", "#94a3b8", "#f59e0b", "#10b981", "#a855f7", "#ef4444")  # ours first
PREAMBLE = """# Benchmarks

Written by `make bench`; the numbers with all digits are in `results.json`. Times are medians. After a peer's time
stands the ratio ours / theirs, the median over rounds in which all took turns: below 1 backsolve is faster (win),
above 1 it is slower (loss). All answers were compared with each other before anything was timed; the largest relative
difference stands in the last column.
"""


def load(path: Path) -> dict[str, Section]:
    """The sections of an earlier run, by name; none if there is no such file."""
    if not path.exists():
        return {}
    sections = [Section(**section) for section in json.loads(path.read_text(encoding="utf-8"))["sections"]]
    return {
        section.name: replace(
            section,
            rows=[_row(row) for row in section.rows],
            ratios=[Ratios(**ratios) for ratios in section.ratios],  # type: ignore[arg-type]
        )
        for section in sections
    }


def _row(stored: object) -> Row:
    if not isinstance(stored, dict):
        raise TypeError(f"a stored row is a JSON object, got {type(stored).__name__}")
    return Row(**{key: value for key, value in stored.items() if key not in DERIVED})


DERIVED = ("target_value", "met")  # written for readers of the JSON, computed from the rest


def write(folder: Path, sections: Sequence[Section]) -> None:
    """Write results.json, RESULTS.md and pictures/ into the folder. Other sections of earlier runs stay."""
    merged = {**load(folder / "results.json"), **{section.name: section for section in sections}}
    ordered = [merged[name] for name in sorted(merged)]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    stored = [
        {
            **asdict(section),
            "rows": [{**asdict(row), **{key: getattr(row, key) for key in DERIVED}} for row in section.rows],
        }
        for section in ordered
    ]
    text = json.dumps({"sections": stored}, indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(markdown(ordered), encoding="utf-8")
    for section in sections:
        picture(section).savefig(folder / "pictures" / f"{section.name}.png", dpi=130, bbox_inches="tight")


def markdown(sections: Iterable[Section]) -> str:
    """All sections as one page."""
    return "\n".join([PREAMBLE, *(_section(section) for section in sections)])


def _section(section: Section) -> str:
    picture_line = f"![{section.title}](pictures/{section.name}.png)"
    return "\n".join([table(section), "", picture_line, "", f"Measured on {section.machine}.", ""])


def table(section: Section) -> str:
    """A section's title, text, table and slopes, as Markdown."""
    contestants = list(dict.fromkeys(key for row in section.rows for key in row.seconds))
    header = ["", *contestants, "target", "difference"]
    lines = [f"## {section.title}", "", section.text, "", _table_row(header), _table_row(["---"] * len(header))]
    lines += [_table_row([row.name, *(_cell(row, key) for key in contestants), *_verdict(row)]) for row in section.rows]
    growth = slopes(section)
    lines += ["", *(f"- {text}" for text in growth)] if growth else []
    return "\n".join(lines + (["", *_ratio_lines(section.ratios)] if section.ratios else []))


def _ratio_lines(ratios: Sequence[Ratios]) -> list[str]:
    """The ratios side by side: a row for each name, their geometric mean, and the bounds. A miss is bold."""
    names = list(dict.fromkeys(name for column in ratios for name in column.values))
    cells = [["ours / JAX's", *(column.name for column in ratios)]]
    cells += [[name, *(_ratio_cell(column, name) for column in ratios)] for name in names]
    means = [_bold(_ratio_text(column.geometric_mean), "mean" in column.missed) for column in ratios]
    cells.append(["geometric mean", *means])
    cells.append(["bound on each", *("" if column.each is None else f"≤ {column.each:.2f}" for column in ratios)])
    cells.append(["bound on the mean", *("" if column.mean is None else f"≤ {column.mean:.2f}" for column in ratios)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in cells]
    padded.insert(1, ["-" * width for width in widths])
    return [_table_row(row) for row in padded]


def _ratio_cell(column: Ratios, name: str) -> str:
    value = column.values.get(name)
    return "" if value is None else _bold(_ratio_text(value), name in column.missed)


def _ratio_text(value: float) -> str:
    """Three digits; six where three would hide that it is not one."""
    return f"{value:.6f}" if 0 < abs(value - 1) < 5e-4 else f"{value:.3f}"


def _bold(text: str, really: bool) -> str:
    return f"**{text}**" if really else text


def _table_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(row: Row, contestant: str) -> str:
    seconds = row.seconds.get(contestant)
    if seconds is None:
        return "absent"
    ratio = row.ratios.get(contestant)
    if ratio is None:
        return seconds_text(seconds)
    return f"{seconds_text(seconds)} ({ratio:.2f}, {'win' if ratio < 1 else 'loss'})"


def _verdict(row: Row) -> tuple[str, str]:
    worst = max((value for value in row.differences.values() if value is not None), default=None)
    difference = "" if not worst else f"{worst:.0e}"
    if row.limit is None:
        return "", difference
    bound = f"≤ {row.limit:g} × {' and '.join(row.limit_peers)}" if row.limit_peers else f"≤ {row.limit:g} s"
    if row.met is None:
        return f"{bound}: not measured", difference
    value = f"{row.target_value:.2f}" if row.limit_peers else seconds_text(row.target_value or 0.0)
    return f"{bound}: {value}, {'met' if row.met else '**missed**'}", difference


RESULTS = re.compile(r"(<!-- results[^>]*-->\n).*?(<!-- end of results -->)", re.DOTALL)


def with_results(page: str, sections: Iterable[Section]) -> str:
    """The page with the summary between its marks <!-- results ... --> and <!-- end of results -->."""
    if not RESULTS.search(page):
        raise ValueError("the page has no marks <!-- results --> and <!-- end of results -->")
    text = summary(list(sections))
    return RESULTS.sub(lambda marks: f"{marks[1]}{text}{marks[2]}", page)


def summary(sections: Sequence[Section]) -> str:
    """A line for every row whose target is beside a peer, and one for every quantity compared with JAX."""
    lines = [
        _table_row([f"{section.title}, {row.name}", *_beside_fastest(row)])
        for section in sections
        for row in section.rows
        if row.limit_peers and row.target_value is not None
    ]
    if lines:
        lines = [_table_row(["", "backsolve", "beside", "ratio"]), _table_row(["---"] * 4), *lines, ""]
    for section in sections:
        if section.ratios:
            head = _table_row([f"{section.title}, ours / JAX's", "geometric mean", "best", "worst"])
            lines += [head, _table_row(["---"] * 4), *(_table_row(_spread(column)) for column in section.ratios), ""]
    return "\n".join(lines)


def _beside_fastest(row: Row) -> list[str]:
    peer = max((p for p in row.limit_peers if row.ratios[p] is not None), key=lambda p: row.ratios[p] or 0.0)
    ours = next(iter(row.seconds.values())) or 0.0
    return [seconds_text(ours), f"{peer}, {seconds_text(row.seconds[peer] or 0.0)}", f"{row.ratios[peer]:.2f}"]


def _spread(column: Ratios) -> list[str]:
    values = [column.geometric_mean, min(column.values.values()), max(column.values.values())]
    return [column.name, *map(_ratio_text, values)]


def _series(section: Section) -> dict[str, list[Row]]:
    series: dict[str, list[Row]] = {}
    for row in section.rows:
        if row.series is not None and row.size is not None:
            series.setdefault(row.series, []).append(row)
    return series


def growth(section: Section) -> dict[str, float]:
    """For each series, the power of the size by which our time grows: 1 is linear."""
    powers = {}
    for name, rows in _series(section).items():
        ours = next(iter(rows[0].seconds))
        powers[name] = slope([row.size or 0 for row in rows], [row.seconds[ours] or 0.0 for row in rows])
    return powers


def missed(section: Section) -> list[str]:
    """The names of the rows and series that miss their targets."""
    limit = section.slope_limit
    steep = [name for name, power in growth(section).items() if limit is not None and power > limit]
    late = [row.name for row in section.rows if row.met is False]
    ratios = [f"{column.name}, {name}" for column in section.ratios for name in column.missed]
    return [f"{section.name}: {name}" for name in [*late, *steep, *ratios]]


def slopes(section: Section) -> list[str]:
    """For each series, a sentence on how our time grows, with the section's limit."""
    texts = []
    for name, power in growth(section).items():
        limit = section.slope_limit
        verdict = "" if limit is None else f" (target ≤ {limit:g}: {'met' if power <= limit else '**missed**'})"
        texts.append(f"{name}: time grows as {section.unit}s to the power {power:.2f}{verdict}")
    return texts


def picture(section: Section) -> Figure:
    """Time per unit over size where the section has series, and the times side by side otherwise."""
    series = _series(section)
    if series:
        lines = -(-len(series) // ACROSS)
        across = min(len(series), ACROSS)
        figure = Figure(figsize=(5 * across, 3.8 * lines), facecolor="white", layout="constrained")
        axes = figure.subplots(lines, across, sharey=True, squeeze=False)
        for ax, (name, rows) in zip(axes.ravel(), series.items()):
            _curves(ax, name, rows, section.unit)
        for ax in axes.ravel()[len(series) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel(f"µs per {section.unit}")
        shares = [
            1e6 * s / row.size for rows in series.values() for row in rows for s in row.seconds.values() if s and row.size
        ]
        axes[0, 0].set_ylim(0.5 * min(shares), 2 * max(shares))
        return figure
    height = 0.4 + sum(0.45 + 0.22 * len(row.seconds) for row in section.rows)
    figure = Figure(figsize=(7, height), facecolor="white", layout="constrained")
    axes = figure.subplots(max(len(section.rows), 1), 1, squeeze=False).ravel()
    for ax, row in zip(axes, section.rows):
        _bars(ax, row.name, row.seconds)
    axes[-1].set_xlabel("shorter is better; each group has its own scale")
    return figure


def _curves(ax: Axes, name: str, rows: Sequence[Row], unit: str) -> None:
    for colour, key in zip(COLOURS, rows[0].seconds):
        points = [(row.size, seconds) for row in rows if row.size and (seconds := row.seconds[key]) is not None]
        if points:
            ax.loglog([n for n, _ in points], [1e6 * s / n for n, s in points], "o-", color=colour, label=key)
    ax.set_title(name)
    ax.set_xlabel(f"{unit}s")
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)


def _bars(ax: Axes, name: str, seconds: Mapping[str, float | None]) -> None:
    present = {key: 1e3 * value for key, value in seconds.items() if value is not None}
    bars = ax.barh(list(present), list(present.values()), color=[COLOURS[0]] + [COLOURS[1]] * (len(present) - 1))
    ax.bar_label(bars, [seconds_text(value / 1e3) for value in present.values()], padding=4, fontsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.14)
    ax.set_title(name, loc="left", fontsize=10)
    ax.set_xticks([])  # the bars say it
    ax.spines[["top", "right", "bottom"]].set_visible(False)
