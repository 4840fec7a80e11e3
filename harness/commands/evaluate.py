"""`srft evaluate`: official verdicts."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from srft.env.errors import InputError
from srft.harness.commands.options import (
    JsonOption,
    OnlyOption,
    RoundOption,
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
    round_number: RoundOption = None,
    only: OnlyOption = None,
    workers: WorkersOption = None,
    sandbox: SandboxOption = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", help="Seconds for one task's tests: the run's own, else 1800.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Grade a predictions file, the gold patches, or a run, exactly as the official harness does.

    Of a run that rounds made, its newest round is graded, else what --round or RUN:FOLDER names, say
    runs/demo:round-001/evaluation/srft. Sandbox, workers and time limit are those that the run was collected with.

    Example: `srft evaluate --tasks SWE-bench/SWE-bench_Verified --predictions predictions.jsonl --workers 8`
    """
    from srft.harness.config.config import GradingConfig, ImagesConfig
    from srft.harness.run.store import Run
    from srft.harness.stages.backend import open_backend
    from srft.harness.stages.evaluate import Grader, as_json
    from srft.harness.stages.evaluate import evaluate as grade_all
    from srft.harness.stages.progress import Progress

    if predictions is None:
        asked = _of_run(required(run, "--run (or --predictions)"), round_number, tasks=tasks, only=ids(only))
    else:
        path = Path(run or _default_run(tasks, predictions))
        asked = _of_predictions(path, round_number, predictions, tasks=tasks, only=ids(only))
    grading = asked.config.grading if asked.config else GradingConfig(workers=4)
    kind = sandbox or (asked.config.sandbox.kind if asked.config else "auto")
    with stopping() as stop, Run(asked.run) as opened:
        round_ = opened.at(asked.folder)
        asked.prepare(round_)
        backend = open_backend(sandbox_kind(kind), asked.config.images if asked.config else ImagesConfig())
        grader = Grader(
            backend,
            round_,
            workers=workers or grading.workers,
            timeout_s=timeout_s or grading.timeout_s,
            container=grading.container,
        )
        progress = Progress(total=len(asked.submissions))
        telling = opened.live.stage("evaluate", asked.folder, progress.counts)
        with closing(backend), closing(grader), telling, _counting(progress) as count:
            evaluation = grade_all(asked.submissions, grader, stop=stop, on_grade=count)
            if stop.is_set():
                end_at_once("stopped; run the same command to resume", 130)
        if json:
            print_json(as_json(evaluation))
        else:
            print_evaluation(evaluation)
        if stop.is_set():
            end_at_once("stopped; run the same command to resume", 130)
    _end(asked, evaluation)


class Asked(NamedTuple):
    """What is to be graded, found good before anything is made. config: what the run was collected with. prepare: what
    is written before the first patch is graded."""

    run: Path
    folder: Path
    submissions: list[Any]
    config: Any
    prepare: Callable[[Any], None] = lambda round_: None


def _end(asked: Asked, evaluation: Any) -> None:
    """Exit code 1 for what has no verdict, with what to do about it."""
    without_patch = sum(submission.state == "not_graded" for submission in asked.submissions)
    failed = evaluation.not_graded - without_patch
    if failed:
        fail(f"{failed} not graded{_why(asked)}; the same command tries again (grades.jsonl in {asked.folder})", 1)
    if without_patch:
        fail(
            f"{without_patch} episodes were ended by the infrastructure or cancelled, so they have no verdict; "
            "`srft collect` with the same options runs those that the infrastructure ended again",
            1,
        )


def _why(asked: Asked) -> str:
    """The reason of the last patch that could not be graded."""
    from srft.harness.run.store import Round

    said = [grade.detail for grade in Round(asked.folder).grades.read() if grade.resolved is None and grade.detail]
    return f": {' '.join(said[-1].split())[:300]}" if said else ""


def _default_run(tasks: str | None, predictions: str | None) -> str:
    """The run that the same tasks and predictions always get, so that a command without --run resumes too."""
    import hashlib

    named = required(predictions, "--predictions (or --run)")
    digest = hashlib.sha256(f"{tasks}\0{Path(named).resolve() if named != 'gold' else named}".encode()).hexdigest()
    return f"runs/evaluate-{Path(named).stem}-{digest[:8]}"


def _of_run(name: str, number: int | None, *, tasks: str | None, only: Any) -> Asked:
    """The patches of a run's own episodes."""
    from srft.env.tasks.task import load_tasks
    from srft.harness.run.evidence import tasks_source
    from srft.harness.run.find import find_place
    from srft.harness.run.run_yaml import config_folder, kept_config
    from srft.harness.stages.evaluate import submissions_of_run, submissions_on_file

    place = find_place(name, number)
    round_ = place.round
    index, config = round_.index(), kept_config(config_folder(round_))
    source = tasks or tasks_source(place.run, round_)
    if source is None:
        raise InputError(
            f"{place.folder}: its runs were imported, and where their tasks lie is not on file; give --tasks"
        )
    if config is not None:
        loaded = load_tasks(source, only=only or (config.only if not tasks else None) or None)
        return Asked(place.run, place.folder, submissions_of_run(loaded, config, index), config)
    loaded = load_tasks(source, only=only)
    submissions = submissions_on_file(loaded, index)
    if left_out := len(index.episodes) - len(submissions):
        typer.echo(f"srft: left out: {left_out} runs on tasks that are not among the {len(loaded)} asked for", err=True)
    if not submissions:
        raise InputError(
            f"{place.folder}: none of its {len(index.episodes)} runs is on a task of {source}; check --tasks"
        )
    return Asked(place.run, place.folder, submissions, config)


def _of_predictions(path: Path, number: int | None, predictions: str, *, tasks: str | None, only: Any) -> Asked:
    """The patches of a file."""
    from functools import partial

    from srft.env.tasks.task import load_tasks
    from srft.harness.run.find import round_folders
    from srft.harness.run.predictions import keep_predictions, read_predictions
    from srft.harness.stages.evaluate import Submission

    if number is not None and number not in dict(round_folders(path)):
        raise InputError(f"{path}: no round {number}; check --round and --run, or leave --round out")
    loaded = load_tasks(required(tasks, "--tasks"), only=only)
    read = read_predictions(predictions, loaded, subset=only is not None)
    submissions = [
        Submission(task, read[task.instance_id].model_patch)
        if task.instance_id in read
        else Submission(task, None, state="missing")
        for task in loaded
    ]
    keep = partial(keep_predictions, predictions=read, asked=[task.instance_id for task in loaded])
    return Asked(path, path / f"round-{number or 0:03d}", submissions, None, keep)


@contextmanager
def _counting(progress: Any) -> Iterator[Any]:
    """A progress bar on stderr where that is a terminal; the function it gives is called once a grade."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn("graded"),
        MofNCompleteColumn(),
        TextColumn("resolved {task.fields[resolved]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        line = bar.add_task("grade", total=progress.total, resolved=0)
        resolved = 0

        def count(grade: Any) -> None:
            nonlocal resolved
            resolved += bool(grade.resolved)
            progress.add(done=1)
            bar.update(line, advance=1, resolved=resolved)

        yield count


def print_evaluation(evaluation: Any) -> None:
    from srft.harness.look.format import interval_text, percent, plural, words
    from srft.harness.look.tables import Table
    from srft.harness.look.terminal import console_for_tables, print_line, print_table

    outcomes = ("resolved", "unresolved", "empty", "not_applied", "not_graded", "missing")
    names = ["predictions", *(name for name in outcomes if name == "resolved" or getattr(evaluation, name))]
    rows = [
        [repo, *(f"{counts.get(name, 0):,}" for name in names)] for repo, counts in evaluation.by_repository.items()
    ]
    rows.append(["all", *(f"{getattr(evaluation, name):,}" for name in names)])
    last = frozenset({len(rows) - 1})
    console = console_for_tables()
    columns = ["repository", *(f">{words(name)}" for name in names)]
    print_table(console, Table("Official verdicts", columns, rows, strong=last, breaks=last))
    if evaluation.rate is not None:
        print_line(
            console,
            f"resolved {percent(evaluation.rate)} (95 % interval {interval_text(evaluation.interval)}, "
            f"{plural(evaluation.tasks, 'task')}, {plural(evaluation.predictions, 'prediction')}; "
            f"{plural(evaluation.resolved_any, 'task')} resolved at least once)",
        )
    if evaluation.not_run:
        print_line(
            console,
            f"not run: {evaluation.not_run:,} of {evaluation.not_run + evaluation.predictions:,} attempts that were "
            "asked for; they are in no figure above, and the command that collects runs them",
        )
