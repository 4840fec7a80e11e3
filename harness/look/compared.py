"""What `srft compare` prints and the page "task by task" shows: two models or arms on the same tasks.

tables_of(compare("runs/a", "runs/b"))[0].title           # 'Resolved, 40 tasks'
"""

from __future__ import annotations

from collections.abc import Iterator

from srft.harness.facts.compare import Compared, Plan
from srft.harness.look.format import SPACE, interval_text, p_equals, percent, plain, plural, points
from srft.harness.look.tables import Cell, Range, Row, Table
from srft.harness.look.terminal import console_for_tables, print_line, print_table
from srft.harness.statistics.power import MOST_TASKS


def print_compared(compared: Compared) -> None:
    console = console_for_tables()
    print_table(console, score_table(compared))
    for line in sentences(compared):
        print_line(console, line)
    if compared.plan:
        spread = percent(compared.plan.seed_spread)
        effect = f"{100 * compared.plan.effect:g}{SPACE}points"
        print_line(
            console, f"To find {effect} in 80 % of experiments (seeds differ by {spread}, one standard deviation):"
        )
        print_table(console, _plan_table(compared.plan))
    if compared.changed:
        print_table(console, _changed_table(compared))
    for line in left_out(compared):
        print_line(console, line)


def score_table(compared: Compared) -> Table:
    sides = (
        ("A", compared.first, compared.first_rate, compared.first_interval),
        ("B", compared.second, compared.second_rate, compared.second_interval),
    )
    top = max([0.05, *(rate for _, _, rate, _ in sides), *(ends.high for *_, ends in sides if ends)])
    rows: list[Row] = [
        [letter, plain(name, most=100), percent(rate), Cell(interval_text(ends), Range(rate, ends, top))]
        for letter, name, rate, ends in sides
    ]
    return Table(f"Resolved, {plural(compared.tasks, 'task')}", ["", "model", ">share", ">95 % interval"], rows)


def sentences(compared: Compared) -> list[str]:
    """The difference, and what it can show."""
    figures = f"{compared.test} {p_equals(compared.p_value)}; " if compared.test else ""
    interval = f" (95 % interval {interval_text(compared.interval, signed=True)})" if compared.interval else ""
    return [
        f"B minus A: {points(compared.difference)}{interval}; {figures}"
        f"{plural(compared.better, 'task')} better in B, {compared.worse:,} worse",
        plain(compared.shows, most=400),
    ]


def _plan_table(plan: Plan) -> Table:
    rows = [
        [str(seeds), f"more than {MOST_TASKS:,}" if tasks is None else f"{tasks:,}"]
        for seeds, tasks in plan.tasks.items()
    ]
    return Table("", ["seeds of each arm", ">tasks"], rows)


def _changed_table(compared: Compared) -> Table:
    rows = [
        [plain(task, most=100), *(f"{resolved} of {attempts}" for resolved, attempts in compared.changed[task])]
        for task in (*compared.gained, *compared.lost)
    ]
    return Table("What changed", ["task", ">A", ">B"], rows, breaks=frozenset({len(compared.gained)}))


def left_out(compared: Compared) -> Iterator[str]:
    counts = {
        "in A alone": compared.only_in_first,
        "in B alone": compared.only_in_second,
        "in both, without a verdict on one side": compared.not_graded,
    }
    for where, count in counts.items():
        if count:
            yield f"left out: {plural(count, 'task')} {where}"
