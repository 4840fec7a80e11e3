"""What a folder's episodes came to: a round's, or an evaluation's.

    on_file = read_episodes(Path("runs/demo/round-001/evaluation/srft"))
    on_file.attempts_by_task()          # {"flask__flask-1": [True, False]}: a verdict an attempt
    summarize_episodes(on_file, run=Path("runs/demo")).resolved

Patches that were graded without their runs (`srft evaluate --predictions`) are episodes too, one a task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from srft.harness.facts.records import Episodes, Spent
from srft.harness.run.entries import RunEntry, Tally, total
from srft.harness.run.index import Index
from srft.harness.run.store import Round
from srft.harness.statistics.statistics import mean_rate, rate_interval

SHOWN_OUTCOMES = ("resolved", "unresolved", "not_graded")


def spent(tally: Tally) -> Spent:
    return Spent(**{name: getattr(tally, name) for name in Spent.__struct_fields__})


def read_episodes(folder: Path, *, only: frozenset[str] | None = None) -> Index | None:
    """A folder's episodes and grades; `None` where it has neither. only: the tasks that count. Raises InputError."""
    round_ = Round(folder)
    if not round_.trajectories.path.exists() and not round_.grades.path.exists():
        return None
    if only is None:
        return round_.index()
    index = Index(round_, only=only)
    index.refresh()
    return index


Read = Callable[[Path], Index | None]
"""As `read_episodes`: the viewer keeps what it has read."""


def summarize_episodes(on_file: Index, *, run: Path, tasks: int | None = None) -> Episodes:
    """What they came to. tasks: how many there were to be; those without a file are missing, which is not resolved."""
    outcomes: Counter[str] = Counter()
    not_graded: Counter[str] = Counter()
    stop_reasons: dict[str, Counter[str]] = defaultdict(Counter)
    repositories: dict[str, list[bool]] = defaultdict(list)
    for episode in on_file.attempts.values():
        outcome, reason = on_file.outcome(episode)
        if reason is not None:
            not_graded[reason] += 1
        else:
            outcomes[outcome] += 1
            repositories[episode.repo].append(outcome == "resolved")
        if episode.id:
            stop_reasons[_shown(outcome)][episode.stop_reason] += 1
    by_task = on_file.attempts_by_task()
    missing = max(0, (tasks or 0) - len(by_task))
    verdicts = [*by_task.values(), *([[False]] * missing)]
    finished = [episode for episode in on_file.attempts.values() if not episode.unfinished]
    return Episodes(
        folder=relative(on_file.round.path, run),
        models=dict(Counter(episode.model for episode in on_file.attempts.values() if episode.model)),
        tasks=len(by_task) + missing,
        predictions=len(on_file.attempts) + missing,
        **{name: outcomes[name] for name in ("resolved", "unresolved", "empty", "not_applied")},
        not_graded=dict(not_graded),
        missing=missing,
        timed_out=_timed_out(on_file),
        rate=mean_rate(verdicts),
        interval=rate_interval(verdicts),
        resolved_any=sum(any(attempts) for attempts in by_task.values()),
        done_again=max(0, len(on_file.runs) - len(on_file.attempts)),
        unreadable={name: len(reasons) for name, reasons in on_file.damaged.items() if reasons},
        partial=dict(sum((Counter(run.partial) for run in on_file.runs if run.partial), Counter())),
        stop_reasons={outcome: dict(stop_reasons[outcome]) for outcome in SHOWN_OUTCOMES if outcome in stop_reasons},
        steps=sum(episode.steps for episode in on_file.attempts.values()),
        finished=len(finished),
        finished_steps=sum(episode.steps for episode in finished),
        format_errors=sum(episode.format_errors for episode in finished),
        timed_out_steps=sum(episode.timed_out_steps for episode in finished),
        cut_observations=sum(episode.cut_observations for episode in finished),
        commands=_commands(finished),
        spent=spent(_usage(on_file.runs)),
        wall_s=total(episode.wall_s for episode in on_file.attempts.values()),
        graders=sorted({grade.grader for grade in on_file.grades.values()}),
        by_repository={repo: (len(all_), sum(all_)) for repo, all_ in sorted(repositories.items())},
    )


def relative(path: Path, run: Path) -> str:
    """The path as seen from the run's folder, `.` for the folder itself."""
    return path.relative_to(run).as_posix()


def _usage(runs: Iterable[RunEntry]) -> Tally:
    """Of all lines: what was done again has been paid for too."""
    usage = Tally()
    for run in runs:
        usage.add_all(run.usage)
    return usage


def _shown(outcome: str) -> str:
    return outcome if outcome in ("resolved", "not_graded") else "unresolved"


def _timed_out(on_file: Index) -> int:
    graded = (on_file.grades.get((one.task_id, one.patch_hash)) for one in on_file.attempts.values())
    return sum(grade is not None and grade.timed_out for grade in graded)


def _commands(episodes: Sequence[RunEntry]) -> dict[str, int]:
    named = {"succeeded": "0", "failed": "1", "not known": "?"}
    counts = {name: sum(one.failed_tools.count(letter) for one in episodes) for name, letter in named.items()}
    return {name: count for name, count in counts.items() if count}
