"""`srft evaluate`: official verdicts."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.env.errors import InputError
from srft.harness.commands.options import (
    JsonOption,
    OnlyOption,
    RunOption,
    SandboxOption,
    TasksOption,
    WorkersOption,
    end_at_once,
    fail,
    ids,
    print_json,
    required,
    sandbox_kind,
    stopping,
)


def evaluate(
    tasks: TasksOption = None,
    predictions: Annotated[
        str | None,
        typer.Option("--predictions", metavar="FILE|gold", help="Official formats: .jsonl, .json list or dict."),
    ] = None,
    run: RunOption = None,
    only: OnlyOption = None,
    workers: WorkersOption = 4,
    sandbox: SandboxOption = "auto",
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for one task's tests.")] = 1800.0,
    json: JsonOption = False,
) -> None:
    """Grade a predictions file, the gold patches, or a run, exactly as the official harness does.

    Example: `srft evaluate --tasks SWE-bench/SWE-bench_Verified --predictions predictions.jsonl --workers 8`
    """
    from srft.env.backends import choose_backend
    from srft.harness.run.store import Run
    from srft.harness.stages.evaluate import Grader, as_json
    from srft.harness.stages.evaluate import evaluate as grade_all

    if run and not predictions and not Path(run, "run.yaml").is_file():
        raise InputError(f"{run}: not a run (it has no run.yaml); check --run, or give --predictions")
    with stopping() as stop, Run(run or _default_run(tasks, predictions)) as opened:
        chosen = _submissions(opened, tasks=tasks, predictions=predictions, only=ids(only))
        backend = choose_backend(sandbox_kind(sandbox))
        grader = Grader(backend, opened.round(0), workers=workers or 4, timeout_s=timeout_s)
        with closing(backend), closing(grader), _counting(len(chosen)) as count:
            evaluation = grade_all(chosen, grader, stop=stop, on_grade=count)
            if stop.is_set():
                end_at_once("stopped; the same command goes on", 130)
        if json:
            print_json(as_json(evaluation))
        else:
            print_evaluation(evaluation)
        if stop.is_set():
            end_at_once("stopped; the same command goes on", 130)
    if evaluation.not_graded:
        fail(
            f"{evaluation.not_graded} not graded, see grades.jsonl in {opened.path}; the same command tries again",
            1,
        )


def _default_run(tasks: str | None, predictions: str | None) -> str:
    """The run that the same tasks and predictions always get, so that a command without --run resumes too."""
    import hashlib

    named = required(predictions, "--predictions (or --run)")
    digest = hashlib.sha256(f"{tasks}\0{Path(named).resolve() if named != 'gold' else named}".encode()).hexdigest()
    return f"runs/evaluate-{Path(named).stem}-{digest[:8]}"


def _submissions(opened: Any, *, tasks: str | None, predictions: str | None, only: Any) -> list[Any]:
    """What to grade: the patches of a file, or those of the run's own episodes."""
    from srft.env.tasks.task import load_tasks
    from srft.harness.run.predictions import read_predictions
    from srft.harness.run.run_yaml import config_folder, kept_config, tasks_of_round
    from srft.harness.stages.collect import outlines
    from srft.harness.stages.evaluate import Submission, submissions_of_run

    if predictions is None:
        round_ = opened.round(0)
        collected, config = outlines(round_), kept_config(config_folder(round_))
        if not collected or config is None:
            raise InputError(f"{opened.path}: no finished episodes in it; collect some first, or give --predictions")
        return submissions_of_run(tasks_of_round(round_, tasks=tasks, only=only), config.attempts, collected)
    loaded = load_tasks(required(tasks, "--tasks"), only=only)
    read = read_predictions(predictions, loaded, subset=only is not None)
    return [
        Submission(task, read[task.instance_id].model_patch)
        if task.instance_id in read
        else Submission(task, None, state="missing")
        for task in loaded
    ]


@contextmanager
def _counting(total: int) -> Iterator[Any]:
    """A progress bar on stderr where that is a terminal; the function it gives is called once a grade."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("graded"),
        MofNCompleteColumn(),
        TextColumn("resolved {task.fields[resolved]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        line = bar.add_task("grade", total=total, resolved=0)
        resolved = 0

        def count(grade: Any) -> None:
            nonlocal resolved
            resolved += bool(grade.resolved)
            bar.update(line, advance=1, resolved=resolved)

        yield count


def print_evaluation(evaluation: Any) -> None:
    outcomes = ("resolved", "unresolved", "empty", "not_applied", "not_graded", "missing")
    columns = ["predictions", *(name for name in outcomes if name == "resolved" or getattr(evaluation, name))]
    table = Table("repository", title="Official verdicts")
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for repo, counts in evaluation.by_repository.items():
        table.add_row(repo, *(str(counts.get(name, 0)) for name in columns))
    table.add_section()
    table.add_row("all", *(str(getattr(evaluation, name)) for name in columns), style="bold")
    console = Console()
    console.print(table)
    if evaluation.rate is not None and evaluation.interval is not None:
        low, high = evaluation.interval
        console.print(
            f"resolved {evaluation.rate:.1%}  (95 % interval {low:.1%} to {high:.1%}, {evaluation.tasks} tasks, "
            f"{evaluation.predictions} predictions; {evaluation.resolved_any} tasks resolved at least once)",
            soft_wrap=True,
        )
