"""Episodes on file: a folder's trajectories.jsonl and grades.jsonl, streamed, and what they came to.

    on_file = read_episodes(Path("runs/demo/round-001/evaluation/srft"))
    on_file.attempts_by_task["flask__flask-1"]          # [True, False]: a verdict an attempt
    summarize_episodes(on_file).resolved

Of each episode a few figures are kept and its text let go, so that twenty thousand of them fit. An episode that stands
in the file twice counts as it stands last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import NamedTuple, TypeVar

from srft.agent.records import Trajectory, Usage
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.look.report.files import EpisodeLine, GradeLine, StepLine
from srft.harness.look.report.records import Episodes, Spent
from srft.harness.run.store import JsonLines
from srft.harness.statistics.statistics import mean_rate, rate_interval

N = TypeVar("N", int, float)

ENDED_BY_THE_WORLD = "ended by the world"
CANCELLED = "cancelled"
NO_GRADE = "no grade on file"
GRADER_FAILED = "the grader failed"

SHOWN_OUTCOMES = ("resolved", "unresolved", "not_graded")


@dataclass(slots=True)
class Tally:
    """Sums over replies, of which some say what they cost."""

    replies: int = 0
    unknown: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None

    def add(self, usage: Usage | None) -> None:
        self.replies += 1
        if usage is None:
            self.unknown += 1
            return
        self.prompt_tokens = plus(self.prompt_tokens, usage.prompt_tokens)
        self.completion_tokens = plus(self.completion_tokens, usage.completion_tokens)
        self.cost_usd = plus(self.cost_usd, usage.cost_usd)

    def spent(self) -> Spent:
        return Spent(**{name: getattr(self, name) for name in Spent.__struct_fields__})


def plus(one: N | None, other: N | None) -> N | None:
    """The sum of what is known.

    >>> plus(None, 2), plus(1, 2), plus(None, None) is None
    (2, 3, True)
    """
    return other if one is None else one if other is None else one + other


def total(values: Iterable[N | None]) -> N | None:
    """The sum of what is known, `None` where nothing is."""
    return reduce(plus, values, None)


class Episode(NamedTuple):
    """What is kept of one. failed_tools: a letter a step: 1 the command failed, 0 it did not, ? not known."""

    id: str
    repo: str
    model: str
    patch_hash: str
    stop_reason: str
    recorded_resolved: bool | None
    wall_s: float | None
    steps: int
    format_errors: int
    timed_out_steps: int
    cut_observations: int
    failed_tools: str

    @property
    def unfinished(self) -> str | None:
        """Why it says nothing of the model, `None` where it does."""
        return {"infra_error": ENDED_BY_THE_WORLD, "cancelled": CANCELLED}.get(self.stop_reason)


@dataclass(kw_only=True)
class OnFile:
    """A folder's episodes, by (task, attempt), and its grades by (task, patch hash), a verdict before a failure.

    unreadable: file -> lines that cannot be read. partial: see `EpisodeLine.partial`.
    """

    folder: Path
    episodes: dict[tuple[str, int], Episode]
    grades: dict[tuple[str, str], GradeLine]
    lines: int = 0
    usage: Tally = field(default_factory=Tally)
    unreadable: Counter[str] = field(default_factory=Counter)
    partial: Counter[str] = field(default_factory=Counter)

    def outcome(self, task_id: str, episode: Episode) -> tuple[str, str | None]:
        """(outcome, why there is none): the grade's, else as it was recorded elsewhere."""
        if episode.unfinished:
            return "not_graded", episode.unfinished
        grade = self.grades.get((task_id, episode.patch_hash))
        if grade is not None and grade.resolved is not None:
            return grade.outcome, None
        if episode.recorded_resolved is not None:
            return ("resolved" if episode.recorded_resolved else "unresolved"), None
        return "not_graded", NO_GRADE if grade is None else GRADER_FAILED

    def resolved(self, task_id: str, episode: Episode) -> bool | None:
        outcome, _ = self.outcome(task_id, episode)
        return None if outcome == "not_graded" else outcome == "resolved"

    @property
    def attempts_by_task(self) -> dict[str, list[bool]]:
        """Task -> the verdicts on its attempts, in their order; a task without any has an empty list."""
        verdicts: dict[str, list[bool]] = {}
        for (task_id, _), episode in sorted(self.episodes.items(), key=lambda one: one[0]):
            resolved = self.resolved(task_id, episode)
            verdicts.setdefault(task_id, []).extend([] if resolved is None else [resolved])
        return verdicts


def read_episodes(folder: Path) -> OnFile | None:
    """A folder's episodes; patches that were graded without a run count as one each. `None` where it has neither.

    Raises InputError.
    """
    trajectories, grades = folder / "trajectories.jsonl", folder / "grades.jsonl"
    if not trajectories.exists() and not grades.exists():
        return None
    on_file = OnFile(folder=folder, episodes={}, grades={})
    on_file.grades = _grades(grades, on_file.unreadable)
    lines = JsonLines(trajectories, EpisodeLine, whole=Trajectory)
    for line in lines.read():
        on_file.lines += 1
        on_file.episodes[line.task_id, line.attempt] = _episode(line)
        on_file.partial.update(line.partial)
        for step in line.steps:
            on_file.usage.add(step.usage)
    on_file.unreadable[trajectories.name] = len(lines.left_out)
    if not trajectories.exists():
        on_file.episodes = _of_grades(on_file.grades)
        on_file.lines = len(on_file.episodes)
    return on_file


def _grades(path: Path, unreadable: Counter[str]) -> dict[tuple[str, str], GradeLine]:
    grades: dict[tuple[str, str], GradeLine] = {}
    lines = JsonLines(path, GradeLine, whole=Grade)
    for grade in lines.read():
        key = (grade.instance_id, grade.patch_hash or "")
        if grade.resolved is not None or key not in grades:
            grades[key] = grade
    unreadable[path.name] = len(lines.left_out)
    return grades


def _of_grades(grades: Mapping[tuple[str, str], GradeLine]) -> dict[tuple[str, int], Episode]:
    attempts: Counter[str] = Counter()
    episodes = {}
    for task_id, hash_ in grades:
        repo = task_id.rpartition("-")[0].replace("__", "/")
        episodes[task_id, attempts[task_id]] = Episode("", repo, "", hash_, "submitted", None, None, 0, 0, 0, 0, "")
        attempts[task_id] += 1
    return episodes


def _episode(line: EpisodeLine) -> Episode:
    return Episode(
        id=line.id,
        repo=line.repo,
        model=line.model,
        patch_hash=patch_hash(line.patch),
        stop_reason=line.stop_reason,
        recorded_resolved=line.recorded_resolved,
        wall_s=line.wall_s,
        steps=len(line.steps),
        format_errors=sum(step.error == "format" for step in line.steps),
        timed_out_steps=sum(step.timed_out for step in line.steps),
        cut_observations=sum(step.elided_chars > 0 for step in line.steps),
        failed_tools="".join(_letter(step) for step in line.steps),
    )


def _letter(step: StepLine) -> str:
    return {True: "1", False: "0", None: "?"}[step.failed_tool]


def summarize_episodes(on_file: OnFile, *, run: Path, tasks: int | None = None) -> Episodes:
    """What they came to. tasks: how many there were to be; those without a file are missing, which is not resolved."""
    outcomes: Counter[str] = Counter()
    not_graded: Counter[str] = Counter()
    stop_reasons: dict[str, Counter[str]] = defaultdict(Counter)
    repositories: dict[str, list[bool]] = defaultdict(list)
    for (task_id, _), episode in on_file.episodes.items():
        outcome, reason = on_file.outcome(task_id, episode)
        if reason is not None:
            not_graded[reason] += 1
        else:
            outcomes[outcome] += 1
            repositories[episode.repo].append(outcome == "resolved")
        if episode.id:
            stop_reasons[_shown(outcome)][episode.stop_reason] += 1
    by_task = on_file.attempts_by_task
    missing = max(0, (tasks or 0) - len(by_task))
    verdicts = [*by_task.values(), *([[False]] * missing)]
    finished = [episode for episode in on_file.episodes.values() if not episode.unfinished]
    return Episodes(
        folder=relative(on_file.folder, run),
        models=dict(Counter(episode.model for episode in on_file.episodes.values() if episode.model)),
        tasks=len(by_task) + missing,
        predictions=len(on_file.episodes) + missing,
        **{name: outcomes[name] for name in ("resolved", "unresolved", "empty", "not_applied")},
        not_graded=dict(not_graded),
        missing=missing,
        timed_out=_timed_out(on_file),
        rate=mean_rate(verdicts),
        interval=rate_interval(verdicts),
        resolved_any=sum(any(attempts) for attempts in by_task.values()),
        done_again=on_file.lines - len(on_file.episodes),
        unreadable=dict(+on_file.unreadable),
        partial=dict(+on_file.partial),
        stop_reasons={outcome: dict(stop_reasons[outcome]) for outcome in SHOWN_OUTCOMES if outcome in stop_reasons},
        steps=sum(episode.steps for episode in on_file.episodes.values()),
        finished=len(finished),
        finished_steps=sum(episode.steps for episode in finished),
        format_errors=sum(episode.format_errors for episode in finished),
        timed_out_steps=sum(episode.timed_out_steps for episode in finished),
        cut_observations=sum(episode.cut_observations for episode in finished),
        commands=_commands(finished),
        spent=on_file.usage.spent(),
        wall_s=total(episode.wall_s for episode in on_file.episodes.values()),
        graders=sorted({grade.grader for grade in on_file.grades.values()}),
        by_repository={repo: (len(all_), sum(all_)) for repo, all_ in sorted(repositories.items())},
    )


def relative(path: Path, run: Path) -> str:
    """The path as seen from the run's folder, `.` for the folder itself."""
    return path.relative_to(run).as_posix()


def _shown(outcome: str) -> str:
    return outcome if outcome in ("resolved", "not_graded") else "unresolved"


def _timed_out(on_file: OnFile) -> int:
    graded = (on_file.grades.get((task_id, one.patch_hash)) for (task_id, _), one in on_file.episodes.items())
    return sum(grade is not None and grade.timed_out for grade in graded)


def _commands(episodes: Sequence[Episode]) -> dict[str, int]:
    letters = Counter(letter for episode in episodes for letter in episode.failed_tools)
    named = {"succeeded": letters["0"], "failed": letters["1"], "not known": letters["?"]}
    return {name: count for name, count in named.items() if count}
