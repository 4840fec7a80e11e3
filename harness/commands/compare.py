"""`srft compare`: two models on the same tasks."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.harness.commands.options import JsonOption, print_json

_SIDE = "RUN or RUN:FOLDER"


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=f"{_SIDE}, say runs/demo:round-000/evaluation/base.")],
    second: Annotated[str, typer.Argument(metavar="B", help=f"{_SIDE}.")],
    common: Annotated[
        bool, typer.Option("--common", help="Compare the tasks that both have, where they have others too.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare two runs task by task: the paired difference with its interval, McNemar's exact test, what changed.

    A run stands for the model it ended with: the one promoted last, else the best of its last round, else its episodes.

    Example: `srft compare runs/demo:round-000/evaluation/base runs/demo`
    """
    from srft.harness.look.compare import compare as compare_runs

    compared = compare_runs(first, second, common=common)
    if json:
        print_json(compared)
    else:
        _print_compared(compared)


def _print_compared(compared: Any) -> None:
    from srft.harness.look.report.numbers import interval_text, p_equals, percent, plain, plural, points

    console = Console()
    table = Table("", "model", title=f"Resolved, {plural(compared.tasks, 'task')}")
    table.add_column("share", justify="right")
    table.add_column("95 % interval", justify="right")
    for letter, name in (("A", "first"), ("B", "second")):
        rate, interval = getattr(compared, f"{name}_rate"), getattr(compared, f"{name}_interval")
        table.add_row(letter, plain(getattr(compared, name), most=100), percent(rate), interval_text(interval))
    console.print(table)
    console.print(
        f"B less A: {points(compared.difference)} (95 % interval {interval_text(compared.interval, signed=True)}), "
        f"{p_equals(compared.p_value)}; {plural(compared.better, 'task')} better in B, {compared.worse} worse",
        soft_wrap=True,
        highlight=False,
    )
    if compared.changed:
        console.print(_changed_table(compared))
    for line in _left_out(compared):
        console.print(line, soft_wrap=True, highlight=False)


def _changed_table(compared: Any) -> Table:
    from rich.text import Text

    from srft.harness.look.report.numbers import plain

    table = Table("task", title="What changed")
    for letter in ("A", "B"):
        table.add_column(letter, justify="right")
    for tasks in (compared.gained, compared.lost):
        for task in tasks:
            sides = [f"{resolved} of {attempts}" for resolved, attempts in compared.changed[task]]
            table.add_row(Text(plain(task, most=100)), *sides)
        table.add_section()
    return table


def _left_out(compared: Any) -> list[str]:
    counts = {
        "in A alone": compared.only_in_first,
        "in B alone": compared.only_in_second,
        "in both, without a verdict on one side": compared.not_graded,
    }
    return [
        f"left out: {count} {'task' if count == 1 else 'tasks'} {where}" for where, count in counts.items() if count
    ]
