"""`srft compare`: two models on the same tasks."""

from typing import Annotated

import typer

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

    A run means the model it ended with: the one promoted last, else the best of its last round, else its episodes.
    Two models are compared over tasks. With --seeds two recipes are, over seeds and tasks: three seeds of each are
    needed, five against the base model.

    Example: `srft compare runs/demo:round-000/evaluation/base runs/demo`
    """
    from srft.env.errors import InputError
    from srft.harness.facts.compare import compare as compare_runs
    from srft.harness.look.compared import print_compared

    if plan is not None and not 0 < plan < 100:
        raise InputError(f"--plan {plan:g}: expected points between 0 and 100, say 5")
    compared = compare_runs(first, second, common=common, seeds=seeds, plan=None if plan is None else plan / 100)
    if json:
        print_json(compared)
    else:
        print_compared(compared)
