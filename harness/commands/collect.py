"""`srft collect`: episodes of a model on tasks."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.harness.commands.evaluate import print_evaluation
from srft.harness.commands.options import (
    ConfigOption,
    FormatOption,
    JsonOption,
    ModelOption,
    ModeOption,
    OnlyOption,
    PromptOption,
    RunOption,
    SandboxOption,
    SetOption,
    TasksOption,
    WorkersOption,
    end_at_once,
    fail,
    ids,
    print_json,
    required,
    stopping,
)


def collect(
    tasks: TasksOption = None,
    model: ModelOption = None,
    run: RunOption = None,
    only: OnlyOption = None,
    attempts: Annotated[int | None, typer.Option("--attempts", min=1, help="Episodes a task.")] = None,
    workers: WorkersOption = None,
    sandbox: SandboxOption = None,
    mode: ModeOption = None,
    prompt: PromptOption = None,
    format: FormatOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the first attempt; each further one adds 1.")] = None,
    grade: Annotated[
        bool | None, typer.Option("--grade/--no-grade", help="Grade each episode when it is finished.")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Collect episodes: trajectories, predictions and official grades. Run the same command again to resume.

    Example: `srft collect --tasks tasks.jsonl --model http://localhost:8000/v1#my-model --attempts 4 --run runs/first`
    """
    from srft.harness.config.config import CollectConfig, read_config
    from srft.harness.run.store import Run
    from srft.harness.stages.collect import collect as collect_episodes
    from srft.harness.stages.progress import watch

    settings = read_config(
        CollectConfig,
        file=config,
        sets=sets or (),
        **{
            "tasks": tasks,
            "model": model,
            "only": ids(only),
            "attempts": attempts,
            "workers": workers,
            "sandbox.kind": sandbox,
            "sandbox.mode": mode,
            "prompt": prompt,
            "format": format,
            "seed": seed,
            "grading.enabled": grade,
        },
    )
    with stopping() as stop, Run(required(run, "--run")) as opened:
        summary = collect_episodes(settings, opened, stop=stop, watch=lambda progress: watch(progress, figures))
        print_json(summary._asdict()) if json else _print_collected(summary, run)
        if stop.is_set():
            end_at_once(summary.reason or "stopped; run the same command to resume", 1 if summary.reason else 130)
    if not summary.complete:
        fail("not all was done: the same command again tries what failed", 1)


def figures(progress: Any) -> list[str]:
    """What the progress line says of a collection."""
    return [
        f"episodes {progress.finished}/{progress.total}",
        f"running {progress.running}",
        f"steps {progress.steps:,}",
        f"tokens {progress.tokens:,}",
        f"resolved {progress.resolved}/{progress.graded}",
    ]


def _print_collected(summary: Any, run: str | None) -> None:
    table = Table("episodes", "finished", "failed", title=f"Collected in {run}")
    table.add_row(str(summary.episodes), str(summary.finished), str(summary.failed))
    Console().print(table)
    if summary.evaluation is not None:
        print_evaluation(summary.evaluation)
