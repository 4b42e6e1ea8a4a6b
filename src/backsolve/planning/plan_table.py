"""A plan as a table: its steps, what each costs, and the totals beside those of other orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backsolve.planning.plan import Plan, Step

__all__ = ["as_table"]

SHOWN = 60  # steps; of a longer plan the first and the last half of these
NAME, SPACE = 30, 19  # columns


def as_table(plan: Plan) -> str:
    """The plan as text, at most 100 columns wide."""
    lines = [_summary(plan)]
    others = ", ".join(f"{name} {total:,}" for name, total in plan.totals.items())
    if others:
        lines.append(f"multiplications of other orders: {others}")
    if plan.method != "elimination":
        side = "columns, as forward mode does" if plan.method == "columns" else "rows, as reverse mode does"
        lines.append(f"plain substitution with an identity on the right is cheaper: by {side}; the elimination would be")
    if plan.steps:
        head = f"{'step':>5} {'node':>5}  {'name':<{NAME}} {'in × out':>9} {'space':>{SPACE}} {'mults':>9}"
        head += f" {'fill':>5} {'total':>10}"
        lines += [head, "─" * len(head), *_rows(plan.steps)]
    return "\n".join(lines)


def _summary(plan: Plan) -> str:
    return (
        f"Plan: {len(plan.steps)} nodes to eliminate, {plan.multiplications:,} multiplications, cost {plan.cost:,.0f} "
        f"by {plan.method}"
    )


def _rows(steps: tuple[Step, ...]) -> list[str]:
    rows = [_row(k, step) for k, step in enumerate(steps, 1)]
    if len(rows) <= SHOWN:
        return rows
    half = SHOWN // 2
    return [*rows[:half], f"{'…':>5}  ({len(rows) - SHOWN} steps more)", *rows[-half:]]


def _row(k: int, step: Step) -> str:
    name = _cut(step.name)
    space = step.space if len(step.space) <= SPACE else step.space[: SPACE - 1] + "…"
    degrees = f"{step.ins} × {step.outs}"
    return (
        f"{k:>5} {step.node:>5}  {name:<{NAME}} {degrees:>9} {space:>{SPACE}} {step.multiplications:>9,} "
        f"{step.fill:>5} {step.total:>10,}"
    )


def _cut(name: str) -> str:
    """A name in its column, the file without its folders."""
    primitive, bracket, place = name.partition(" (")
    if bracket:
        name = f"{primitive} ({place.replace(chr(92), '/').rpartition('/')[2]}"
    return name if len(name) <= NAME else name[: NAME - 1] + "…"
