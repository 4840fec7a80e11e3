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
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Compare the models' arms: all seeds of the same round that were evaluated.")
    ] = False,
    plan: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="With --seeds: how many seeds and tasks would find a difference of so many points."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare two runs task by task: the difference with its interval, a test, what changed.

    A run stands for the model it ended with: the one promoted last, else the best of its last round, else its episodes.
    Two models are compared over tasks. With --seeds two recipes are, over seeds and tasks: three seeds of each are
    needed, five against the base model.

    Example: `srft compare runs/demo:round-000/evaluation/base runs/demo`
    """
    from srft.env.errors import InputError
    from srft.harness.look.compare import compare as compare_runs

    if plan is not None and not 0 < plan < 100:
        raise InputError(f"--plan {plan:g}: expected points between 0 and 100, say 5")
    compared = compare_runs(first, second, common=common, seeds=seeds, plan=None if plan is None else plan / 100)
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
    figures = f"{compared.test} {p_equals(compared.p_value)}; " if compared.test else ""
    interval = f" (95 % interval {interval_text(compared.interval, signed=True)})" if compared.interval else ""
    lines = [
        f"B minus A: {points(compared.difference)}{interval}; {figures}"
        f"{plural(compared.better, 'task')} better in B, {compared.worse} worse",
        plain(compared.shows, most=400),
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    if compared.plan:
        effect, spread = f"{100 * compared.plan.effect:g}", percent(compared.plan.seed_spread)
        line = f"To find {effect} points in 80 % of experiments (seeds differ by {spread}, one standard deviation):"
        console.print(line, soft_wrap=True, highlight=False)
        console.print(_plan_table(compared.plan))
    if compared.changed:
        console.print(_changed_table(compared))
    for line in _left_out(compared):
        console.print(line, soft_wrap=True, highlight=False)


def _plan_table(plan: Any) -> Table:
    from srft.harness.statistics.power import MOST_TASKS

    table = Table("seeds of each arm")
    table.add_column("tasks", justify="right")
    for seeds, tasks in plan.tasks.items():
        table.add_row(str(seeds), f"more than {MOST_TASKS:,}" if tasks is None else f"{tasks:,}")
    return table


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
