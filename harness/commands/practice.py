"""`srft practice`: tasks made by putting bugs into small projects."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.harness.commands.options import (
    ConfigOption,
    JsonOption,
    SandboxOption,
    SetOption,
    WorkersOption,
    end_at_once,
    fail,
    ids,
    print_json,
    required,
    sandbox_kind,
    stopping,
)

PackagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from-package",
        metavar="NAME==VERSION|DIR",
        help="A package of pip's index, or a git directory. Repeatable.",
    ),
]
RequirementsOption = Annotated[
    list[str] | None,
    typer.Option("--requirement", metavar="SPEC", help="What the packages' tests need besides pytest. Repeatable."),
]
SplitOption = Annotated[
    str | None,
    typer.Option("--split", metavar="family|mutant", help="Test on other families, or on other bugs of the same."),
]


def practice(
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where the tasks are written.")] = None,
    families: Annotated[
        str | None, typer.Option("--families", metavar="NAME,NAME", help="Of srft's own modules; all unless given.")
    ] = None,
    packages: PackagesOption = None,
    requirements: RequirementsOption = None,
    train: Annotated[int | None, typer.Option("--train", min=0, help="Training tasks.")] = None,
    test: Annotated[int | None, typer.Option("--test", min=0, help="Test tasks.")] = None,
    split: SplitOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Decides which bugs, and the words of the issues.")] = None,
    workers: WorkersOption = None,
    sandbox: SandboxOption = "auto",
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make practice tasks: bugs that real tests see, as task repos DIR/train and DIR/test.

    Example: `srft practice --out runs/practice --train 100 --test 40 --split family --seed 0`, then
    `srft evaluate --tasks runs/practice/test --predictions gold --run runs/gold`. Run the same command again to resume.
    """
    from srft.env.practice import PracticeConfig
    from srft.harness.config.config import read_config
    from srft.harness.stages.practice import practice as make
    from srft.harness.stages.progress import watch

    options = {
        "families": ids(families),
        "packages": tuple(packages) if packages else None,
        "requirements": tuple(requirements) if requirements else None,
        "train": train,
        "test": test,
        "split": split,
        "seed": seed,
        "workers": workers,
    }
    settings = read_config(PracticeConfig, file=config, sets=sets or (), **options)
    folder = Path(required(out, "--out"))
    with stopping() as stop:
        summary = make(
            settings, folder, sandbox=sandbox_kind(sandbox), stop=stop, watch=lambda making: watch(making, figures)
        )
        print_json(summary) if json else _print_made(summary, out)
        if not summary.finished:
            end_at_once("stopped; run the same command to resume", 130)
    if summary.missing:
        fail(
            f"{summary.missing} tasks fewer than asked for: the tests see no more bugs in these families; ask for "
            "fewer, or name more families or packages",
            1,
        )


def figures(making: Any) -> list[str]:
    """What the progress line says of the making."""
    return [f"tasks {making.done}/{making.total}", f"mutants tried {making.tried}"]


def _print_made(summary: Any, out: str | None) -> None:
    table = Table("what", "count", title=f"Practice tasks in {out}{' (as they were)' if summary.resumed else ''}")
    rows = {
        "training tasks": summary.train,
        "test tasks": summary.test,
        "families and packages": summary.sources,
        "mutants tried": summary.tried,
        "of them kept": summary.kept,
        **{f"dropped: {why}": count for why, count in summary.dropped.items()},
        **{f"kind: {kind}": count for kind, count in summary.kinds.items()},
    }
    for what, count in rows.items():
        table.add_row(what, f"{count:,}")
    Console().print(table)
