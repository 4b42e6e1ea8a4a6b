"""Sections as JSON, as RESULTS.md and as pictures. Wins and losses are written alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks import headlines
from benchmarks.runner import Ratios, Row, Section, seconds_text, slope

ACROSS = 3  # curves side by side
LINES = 24  # rows below each other; more stand in columns, so that a picture fits on a screen
COLOURS = ("#2563eb", "#94a3b8", "#f59e0b", "#10b981", "#a855f7", "#ef4444", "#0f172a", "#0e7490")  # ours first
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
    """Write results.json, RESULTS.md and pictures/ into the folder. Other sections of earlier runs stay.

    Handed the sections that were loaded, it draws and writes all anew, and measures nothing.
    """
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
    if headlines.columns(merged):
        with rc_context({"svg.hashsalt": "backsolve"}):  # the same numbers are the same file
            headlines.picture(merged).savefig(folder / "pictures" / "summary.svg", metadata={"Date": None})
    for section in sections:
        picture(section).savefig(folder / "pictures" / f"{section.name}.png", dpi=120, bbox_inches="tight")


def markdown(sections: Iterable[Section]) -> str:
    """All sections as one page, after the ratios that tell most."""
    ordered = list(sections)
    head = headlines.ratios({section.name: section for section in ordered})
    return "\n".join([PREAMBLE, *head, *(_section(section) for section in ordered)])


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
    listed = _lines(section.rows)
    columns = max(-(-len(listed) // LINES), 1)
    lines = -(-len(listed) // columns)
    figure = Figure(figsize=(8.4 if columns < 2 else 13, 0.9 + 0.24 * lines), facecolor="white", layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharex=True).ravel()
    contestants = dict.fromkeys(key for row in section.rows for key in row.seconds)
    for k, ax in enumerate(axes):
        _dots(ax, listed[k * lines : (k + 1) * lines], list(contestants))
    axes[-1].set_xscale("log")
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: seconds_text(seconds)))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False, fontsize=9)
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


def _lines(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """What stands on each line: a row; of more than two columns' rows those that differ in the last part of their name."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        name = row.name if len(rows) <= 2 * LINES else row.name.rpartition(", ")[0] or row.name
        lines.setdefault(name, []).append(row)
    return list(lines.items())


def _dots(ax: Axes, lines: Sequence[tuple[str, list[Row]]], contestants: Sequence[str]) -> None:
    """A line for each row or kin of rows, a dot for each contestant of a row; ours is large."""
    for k, key in enumerate(contestants):
        points = [
            (t, height) for height, (_, kin) in enumerate(lines) for row in kin if (t := row.seconds.get(key)) is not None
        ]
        times, heights = [seconds for seconds, _ in points], [height for _, height in points]
        ax.scatter(times, heights, s=26 if k else 60, c=COLOURS[k % len(COLOURS)], label=key)
    ax.set_yticks(range(len(lines)), [name for name, _ in lines], fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right", "left"]].set_visible(False)
