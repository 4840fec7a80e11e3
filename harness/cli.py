"""The command line. Results on stdout, everything else on stderr; exit code 0 only on success.

Exit codes: 0 all done; 1 not all done (the world failed, or a record could not be written): the same command again goes
on; 2 the input is wrong; 130 stopped by Ctrl-C.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from loguru import logger
from rich.console import Console
from rich.table import Table

from srft.env.errors import EngineError, InputError, SrftError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Step Rejection Fine-Tuning for software-engineering agents: episodes in containers, graded officially.",
)

TasksOption = Annotated[
    str | None,
    typer.Option(
        "--tasks", metavar="NAME|FILE|TASK_REPO", help="A hub dataset, a .jsonl/.json/.parquet file, a task repo."
    ),
]
OnlyOption = Annotated[str | None, typer.Option("--only", metavar="ID,ID", help="These instance ids alone.")]
RunOption = Annotated[str | None, typer.Option("--run", metavar="DIR", help="The run directory.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Containers at a time.")]
SandboxOption = Annotated[
    str | None, typer.Option("--sandbox", metavar="KIND", help="docker, local, auto; or unsandboxed, at your own risk.")
]
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="FILE", help="A YAML file of options.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One option, say episode.steps=30.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def main() -> NoReturn:
    """Run a command; turn what srft raises on purpose into one sentence."""
    logger.remove()
    logger.add(
        sys.stderr,
        format="<dim>{time:HH:mm:ss}</dim> <level>{message}</level>",
        level=os.environ.get("SRFT_LOG", "INFO"),
    )
    try:
        app(standalone_mode=True)
    except InputError as error:
        _fail(error, 2)
    except SrftError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    raise AssertionError("typer ends the process")


def _fail(error: Exception | str, code: int) -> NoReturn:
    print(f"srft: {error}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets. The second ends the process where it stands.

    That loses nothing: a sandbox ends with the process that opened it, and a record is on file or it is not.
    """
    stop = threading.Event()

    def on_signal(number: int, _frame: Any) -> None:
        if stop.is_set():
            _end_at_once("stopped at once; the same command goes on from what is on file", 130)
        stop.set()
        print("srft: finishing the steps under way; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(message: str, code: int) -> NoReturn:
    """Leave without waiting for anything: running sandboxes end with this process.

    What does not (a container that was not started yet, a snapshot), another process removes.
    """
    print(f"srft: {message}", file=sys.stderr)
    null = subprocess.DEVNULL
    cleaner = [sys.executable, "-m", "srft.harness.cli", "clean"]
    subprocess.Popen(cleaner, stdin=null, stdout=null, stderr=null, start_new_session=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@app.command()
def collect(
    tasks: TasksOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="URL|replay:FILE|script:FILE", help="http://HOST/v1#NAME, recorded runs, or a script."
        ),
    ] = None,
    run: RunOption = None,
    only: OnlyOption = None,
    attempts: Annotated[int | None, typer.Option("--attempts", min=1, help="Episodes a task.")] = None,
    workers: WorkersOption = None,
    sandbox: SandboxOption = None,
    mode: Annotated[str | None, typer.Option("--mode", metavar="MODE", help="stateless or persistent shell.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="NAME|FILE", help="default, mini, or a YAML file.")
    ] = None,
    format: Annotated[str | None, typer.Option("--format", metavar="NAME", help="backtick, xml or native.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the first attempt; each further one adds 1.")] = None,
    grade: Annotated[
        bool | None, typer.Option("--grade/--no-grade", help="Grade each episode when it is finished.")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Collect episodes: trajectories, predictions and official grades. The same command again goes on.

    Example: `srft collect --tasks tasks.jsonl --model http://localhost:8000/v1#my-model --attempts 4 --run runs/first`
    """
    from srft.harness.collect import collect as collect_episodes
    from srft.harness.config import CollectConfig, read_config
    from srft.harness.progress import watch
    from srft.harness.store import Run

    settings = read_config(
        CollectConfig,
        file=config,
        sets=sets or (),
        **{
            "tasks": tasks,
            "model": model,
            "only": _ids(only),
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
    with _stopping() as stop, Run(_required(run, "--run")) as opened:
        summary = collect_episodes(settings, opened, stop=stop, watch=watch)
        _print_json(summary._asdict()) if json else _print_collected(summary, run)
        if stop.is_set():
            _end_at_once(summary.reason or "stopped; the same command goes on", 1 if summary.reason else 130)
    if not summary.complete:
        _fail("not all was done: the same command again tries what failed", 1)


@app.command()
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
    from srft.harness.evaluate import Grader, as_json
    from srft.harness.evaluate import evaluate as grade_all
    from srft.harness.store import Run

    if run and not predictions and not Path(run, "run.yaml").is_file():
        raise InputError(f"{run}: not a run (it has no run.yaml); check --run, or give --predictions")
    with _stopping() as stop, Run(run or _default_run(tasks, predictions)) as opened:
        chosen = _submissions(opened, tasks=tasks, predictions=predictions, only=_ids(only))
        backend = choose_backend(_kind(sandbox))
        grader = Grader(backend, opened.round(0), workers=workers or 4, timeout_s=timeout_s)
        with closing(backend), closing(grader), _counting(len(chosen)) as count:
            evaluation = grade_all(chosen, grader, stop=stop, on_grade=count)
            if stop.is_set():
                _end_at_once("stopped; the same command goes on", 130)
        if json:
            _print_json(as_json(evaluation))
        else:
            _print_evaluation(evaluation)
        if stop.is_set():
            _end_at_once("stopped; the same command goes on", 130)
    if evaluation.not_graded:
        _fail(
            f"{evaluation.not_graded} not graded, see grades.jsonl in {opened.path}; the same command tries again",
            1,
        )


@app.command()
def clean(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what belongs to srft processes that are still running.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Remove the containers and snapshots that killed srft processes left.

    Example: `srft clean`
    """
    from srft.env.backends import choose_backend

    removed = []
    for kind in ("docker", "local"):
        try:
            removed += choose_backend(kind).reap(everything=everything)
        except EngineError as error:
            logger.info("{} sandboxes: none here ({})", kind, error)
    if json:
        _print_json({"removed": removed})
        return
    for name in removed:
        print(f"removed {name}")
    print(f"{len(removed)} removed")


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        import srft

        print(srft.__version__)
        raise typer.Exit


def _required(value: str | None, option: str) -> str:
    if value is None:
        raise InputError(f"{option} is missing; see --help for an example")
    return value


def _ids(only: str | None) -> tuple[str, ...] | None:
    return None if only is None else tuple(name.strip() for name in only.split(",") if name.strip())


def _kind(sandbox: str | None) -> Any:
    kinds = ("auto", "docker", "local", "unsandboxed")
    if sandbox not in kinds:
        raise InputError(f"--sandbox {sandbox}: expected one of {', '.join(kinds)}")
    return sandbox


def _default_run(tasks: str | None, predictions: str | None) -> str:
    """The run that the same tasks and predictions always get, so that a command without --run resumes too."""
    import hashlib

    named = _required(predictions, "--predictions (or --run)")
    digest = hashlib.sha256(f"{tasks}\0{Path(named).resolve() if named != 'gold' else named}".encode()).hexdigest()
    return f"runs/evaluate-{Path(named).stem}-{digest[:8]}"


def _submissions(opened: Any, *, tasks: str | None, predictions: str | None, only: Any) -> list[Any]:
    """What to grade: the patches of a file, or those of the run's own episodes."""
    from srft.env.task import load_tasks
    from srft.harness.collect import endings
    from srft.harness.evaluate import Submission, submissions_of_run
    from srft.harness.predictions import read_predictions
    from srft.harness.run_yaml import kept_config, tasks_of_run

    if predictions is None:
        collected = endings(opened.round(0))
        config = kept_config(opened)
        if not collected or config is None:
            raise InputError(f"{opened.path}: no finished episodes in it; collect some first, or give --predictions")
        return submissions_of_run(tasks_of_run(opened, tasks=tasks, only=only), config.attempts, collected)
    loaded = load_tasks(_required(tasks, "--tasks"), only=only)
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


def _print_json(content: Any) -> None:
    sys.stdout.write(msgspec.json.encode(content).decode() + "\n")


def _print_collected(summary: Any, run: str | None) -> None:
    table = Table("episodes", "finished", "failed", title=f"Collected in {run}")
    table.add_row(str(summary.episodes), str(summary.finished), str(summary.failed))
    Console().print(table)
    if summary.evaluation is not None:
        _print_evaluation(summary.evaluation)


def _print_evaluation(evaluation: Any) -> None:
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


if __name__ == "__main__":
    main()
