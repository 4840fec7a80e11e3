"""What a round's or an evaluation's files hold, in short: the one reading of them that everything else asks.

Reads trajectories.jsonl, labels.jsonl and grades.jsonl; of large files it keeps what it has read in `.index.sqlite3`
beside them, which may be deleted at any time. Locks nothing: a run may be looked at while it grows.

    index = round_.index()                          # refreshed: what was appended since is read, and nothing else
    index.standing[3].task_id, index.outcome(index.standing[3]).resolved
    index.trajectory(index.standing[3])             # the whole record, read where it lies
    index.told(run_id)                              # what critics and people said of it, oldest first

A line counts if its whole record can be read, for everybody; others are in `damaged`. An episode that was done again
stands in the file twice, and its last line counts; so does the last verdict on a patch.
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from functools import lru_cache, reduce
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from loguru import logger

from srft.agent.records import Step, StopReason, Trajectory, Usage
from srft.critic.labels.labels import Critique, Evidence, Information, Source, StepLabel, Verdict
from srft.critic.rules.rules import ToolErrorCritic
from srft.env.errors import InputError
from srft.env.grading.grade import Grade, patch_hash
from srft.env.grading.grade import Outcome as GradeOutcome
from srft.env.grading.tampering import tampering
from srft.harness.run.predictions import predictions_on_file
from srft.harness.run.store import JsonLines, Round

R = TypeVar("R")
E = TypeVar("E", bound="Entry")
Of = TypeVar("Of", "RunEntry", "CritiqueEntry", "GradeEntry")

FILE_NAME = ".index.sqlite3"
WORTH_KEEPING_BYTES = 16 << 20
"""What a file has grown by before the index on disk is made or brought up to date."""

CODES: dict[Verdict | None, str] = {"good": "g", "unnecessary": "u", "mistake": "m", "recover": "r", None: "-"}
VERDICTS: dict[str, Verdict | None] = {code: verdict for verdict, code in CODES.items()}

ENDED_BY_INFRASTRUCTURE = "ended by infrastructure"
CANCELLED = "cancelled"
NO_GRADE = "no grade on file"
GRADER_FAILED = "the grader failed"
UNFINISHED = {"infra_error": ENDED_BY_INFRASTRUCTURE, "cancelled": CANCELLED}
"""Stop reasons of episodes that say nothing of the model -> why."""

_VERSION = 2
"""Raise it when what an entry holds changes, and not its fields alone."""

_MARK_BYTES = 1 << 16
_tool_error = ToolErrorCritic()


class Outcome(NamedTuple):
    """What an episode came to. reason: why it has no outcome, `None` where it has one."""

    name: Literal["resolved", "unresolved", "empty", "not_applied", "not_graded"]
    reason: str | None = None

    @property
    def resolved(self) -> bool | None:
        return None if self.name == "not_graded" else self.name == "resolved"


# ---- the short records ----


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A line in short. offset: where it begins."""

    offset: int


class Tally(msgspec.Struct, array_like=True):
    """Sums over replies, of which some say what they cost. unknown: those that do not.

    costs_usd: of each reply that says it: sums of sums would depend on how the replies are grouped.
    """

    replies: int = 0
    unknown: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    costs_usd: list[float] = []

    @property
    def cost_usd(self) -> float | None:
        """`None` where no reply says."""
        return total(self.costs_usd)

    def add(self, usage: Usage | None) -> None:
        self.replies += 1
        if usage is None:
            self.unknown += 1
            return
        self.prompt_tokens = plus(self.prompt_tokens, usage.prompt_tokens)
        self.completion_tokens = plus(self.completion_tokens, usage.completion_tokens)
        if usage.cost_usd is not None:
            self.costs_usd.append(usage.cost_usd)

    def add_all(self, other: "Tally") -> None:
        self.replies += other.replies
        self.unknown += other.unknown
        self.prompt_tokens = plus(self.prompt_tokens, other.prompt_tokens)
        self.completion_tokens = plus(self.completion_tokens, other.completion_tokens)
        self.costs_usd += other.costs_usd


N = TypeVar("N", int, float)


def plus(one: N | None, other: N | None) -> N | None:
    """The sum of what is known.

    >>> plus(None, 2), plus(1, 2), plus(None, None) is None
    (2, 3, True)
    """
    return other if one is None else one if other is None else one + other


class _Patch(msgspec.Struct, frozen=True):
    """Of a Trajectory its patch, which may be long."""

    patch: str | None


def total(values: Iterable[N | None]) -> N | None:
    """The sum of what is known, one after the other; `None` where nothing is."""
    return reduce(plus, values, None)


class RunEntry(Entry, frozen=True, array_like=True):
    """A Trajectory in short."""

    id: str
    task_id: str
    repo: str
    model: str
    attempt: int
    stop_reason: StopReason
    patch_hash: str
    recorded_resolved: bool | None = None
    wall_s: float | None = None
    steps: int = 0
    """How many."""
    usage: Tally = msgspec.field(default_factory=Tally)
    """Of the steps: what their replies cost."""
    format_errors: int = 0
    """Steps whose reply held no action that could be read."""
    timed_out_steps: int = 0
    cut_observations: int = 0
    failed_tools: str = ""
    """A letter a step: 1 the command failed, 0 it did not, ? not known."""
    tool_error: str = ""
    """The rule `tool_error`'s verdicts, a letter a step (see `CODES`)."""
    tampering: bool = False
    """Whether the patch changes the tests' machinery, by its text."""
    partial: dict[str, int] = {}
    """What some of the model's replies came with -> how many came without it."""

    @property
    def unfinished(self) -> str | None:
        """Why it says nothing of the model, `None` where it does."""
        return UNFINISHED.get(self.stop_reason)

    @property
    def tokens(self) -> int | None:
        """Of all prompts and replies; `None` where no step says."""
        return plus(self.usage.prompt_tokens, self.usage.completion_tokens)

    @property
    def cost_usd(self) -> float | None:
        """`None` where no step says."""
        return self.usage.cost_usd


class CritiqueEntry(Entry, frozen=True, array_like=True):
    """A Critique in short, without its reasons."""

    trajectory_id: str
    task_id: str
    critic: str
    source: Source
    fingerprint: str
    information: Information
    steps: tuple[int, ...] | None
    """Which, where they are not all of them in their order."""
    verdicts: str
    """A letter a step, see `CODES`."""
    confidences: tuple[float | None, ...] | None
    calls: int
    usage: Usage | None
    wall_s: float | None
    remarks: dict[str, int]

    def critique(self) -> Critique:
        """The Critique without its reasons and costs: all that masks depend on."""
        steps = self.steps or range(len(self.verdicts))
        if self.confidences is None:
            labels = tuple(map(label_of, steps, self.verdicts))
        else:
            labels = tuple(map(label_of, steps, self.verdicts, self.confidences))
        return Critique(
            trajectory_id=self.trajectory_id,
            task_id=self.task_id,
            critic=self.critic,
            fingerprint=self.fingerprint,
            source=self.source,
            information=self.information,
            labels=labels,
        )

    def labels(self) -> dict[int, StepLabel]:
        """Step -> label, without the abstentions: what `effective_labels` says of this one critic alone."""
        return {label.step: label for label in self.critique().labels if label.verdict is not None}

    @property
    def says_something(self) -> bool:
        """As `srft.critic.labels.labels.says_something`: a model that gave no verdict at all has failed."""
        return self.source != "model" or bool(self.verdicts.strip("-"))

    @property
    def codes(self) -> str:
        """The verdicts in the order of their steps."""
        if self.steps is None:
            return self.verdicts
        return "".join(code for _, code in sorted(zip(self.steps, self.verdicts, strict=True)))


@lru_cache(maxsize=1 << 14)
def label_of(step: int, code: str, confidence: float | None = None) -> StepLabel:
    """Shared, as they never change: a table of 20,000 runs asks for a million of them."""
    return StepLabel(step=step, verdict=VERDICTS[code], confidence=confidence)


class GradeEntry(Entry, frozen=True, array_like=True):
    """A Grade in short."""

    task_id: str
    patch_hash: str | None
    resolved: bool | None
    outcome: GradeOutcome
    timed_out: bool
    grader: str
    tampering: bool = False


def failed_tool(step: Step) -> bool | None:
    """Whether the step's command failed, `None` where that is not known."""
    if step.timed_out or step.error == "format":
        return True
    if step.exit_code is None:
        return False if step.observation is None else None
    return step.exit_code != 0


def entry_of(run: Trajectory, offset: int = -1) -> RunEntry:
    """A trajectory in short. offset: where its line begins, if it is on file."""
    same = ("id", "task_id", "repo", "model", "attempt", "stop_reason", "recorded_resolved", "wall_s")
    usage = Tally()
    for step in run.steps:
        usage.add(step.usage)
    return RunEntry(
        offset=offset,
        **{name: getattr(run, name) for name in same},
        patch_hash=patch_hash(run.patch),
        steps=len(run.steps),
        usage=usage,
        format_errors=sum(step.error == "format" for step in run.steps),
        timed_out_steps=sum(step.timed_out for step in run.steps),
        cut_observations=sum(step.elided_chars > 0 for step in run.steps),
        failed_tools="".join({True: "1", False: "0", None: "?"}[failed_tool(step)] for step in run.steps),
        tool_error=tool_error_codes(run),
        tampering=bool(tampering(run.patch, repo=run.repo)),
        partial=_partial(run),
    )


def tool_error_codes(run: Trajectory) -> str:
    """The rule `tool_error`'s verdicts, a letter a step."""
    return "".join(CODES[label.verdict] for label in _tool_error.judge(run, Evidence()).labels)


def _of_patch(task_id: str, hash_: str) -> RunEntry:
    """What stands for a patch that came without its run."""
    repo = task_id.rpartition("-")[0].replace("__", "/")
    return RunEntry(-1, "", task_id, repo, "", 0, "submitted", hash_)


def _partial(run: Trajectory) -> dict[str, int]:
    replies = [step for step in run.steps if step.author == "model"]
    found = {
        "token ids": [step.token_ids is not None for step in replies],
        "log-probabilities": [step.logprobs is not None for step in replies],
    }
    return {name: has.count(False) for name, has in found.items() if any(has) and not all(has)}


def _critique(told: Critique, offset: int) -> CritiqueEntry:
    same = ("trajectory_id", "task_id", "critic", "source", "fingerprint", "information", "calls", "usage", "wall_s")
    steps = tuple(label.step for label in told.labels)
    confidences = tuple(label.confidence for label in told.labels)
    return CritiqueEntry(
        offset=offset,
        **{name: getattr(told, name) for name in (*same, "remarks")},
        steps=None if steps == tuple(range(len(steps))) else steps,
        verdicts="".join(CODES[label.verdict] for label in told.labels),
        confidences=confidences if any(value is not None for value in confidences) else None,
    )


def _grade(grade: Grade, offset: int) -> GradeEntry:
    same = ("patch_hash", "resolved", "outcome", "timed_out", "grader")
    kept = {name: getattr(grade, name) for name in same}
    return GradeEntry(offset=offset, task_id=grade.instance_id, tampering=bool(grade.tampering), **kept)


# ---- one file ----


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file was read, and by what it is known again."""

    inode: int = 0
    bytes: int = 0
    changed_ns: int = 0
    end: int = 0
    lines: int = 0
    last: int = 0
    """Where the last line read begins."""
    mark: str = ""
    """A hash of the file's beginning and of the last line read, and of how entries are made."""
    damaged: dict[int, tuple[int, str]] = {}
    """Where a line begins that cannot be read -> its number, and why."""

    def is_of(self, path: Path, status: os.stat_result) -> bool:
        """Whether that is the file, perhaps longer. An edit that kept its length is told by its time."""
        if not self.end:
            return True
        if (status.st_ino, status.st_size) == (self.inode, self.bytes):
            return status.st_mtime_ns == self.changed_ns
        return status.st_ino == self.inode and status.st_size >= self.end and _mark(path, self) == self.mark


class FileIndex(Generic[R, E]):
    """The short records of one file, read once and kept up with as it grows. Not thread-safe."""

    def __init__(self, lines: JsonLines[R], shorten: Callable[[R, int], E], kind: type[E]) -> None:
        self.lines, self._shorten = lines, shorten
        self._decoder = msgspec.json.Decoder(kind)
        self.entries: list[E] = []
        self._extent = Extent()
        self._kept = _Kept(lines.path)
        self._is_loaded = False

    @property
    def damaged(self) -> list[str]:
        """Why each of the lines that are left out cannot be read, with its place."""
        return [reason for _, reason in self._extent.damaged.values()]

    def refresh(self) -> bool:
        """Read what is new. A file that was replaced is read from its beginning. Returns whether anything changed."""
        path, before, known = self.lines.path, self._extent.end, self.entries
        try:
            status = path.stat()
        except FileNotFoundError:
            self._forget()
            return before > 0
        if not self._is_loaded:
            self._is_loaded = True
            self._extent, self.entries = self._kept.load(self._decoder) or (Extent(), [])
            for offset, (_, reason) in self._extent.damaged.items():
                self.lines.leave_out(offset, reason)
        elif not self._extent.is_of(path, status):
            self._forget()
        if status.st_size != self._extent.end:
            self._scan(status)
        return self.entries is not known or self._extent.end != before

    def _scan(self, status: os.stat_result) -> None:
        end, lines, last, damaged = self._extent.end, self._extent.lines, self._extent.last, self._extent.damaged
        for line in self.lines.tail(offset=end, number=lines):
            end, lines, last = line.end, line.number, line.offset
            if line.record is None:
                damaged = damaged | {line.offset: (line.number, self.lines.left_out[line.offset])}
            else:
                self.entries.append(self._shorten(line.record, line.offset))
        extent = Extent(
            inode=status.st_ino,
            bytes=status.st_size,
            changed_ns=status.st_mtime_ns,
            end=end,
            lines=lines,
            last=last,
            damaged=damaged,
        )
        self._extent = msgspec.structs.replace(extent, mark=_mark(self.lines.path, extent))
        if end - self._kept.end >= WORTH_KEEPING_BYTES:
            self._kept.keep(self._extent, self.entries)

    def _forget(self) -> None:
        self.entries, self._extent, self._kept.end = [], Extent(), 0


def _mark(path: Path, extent: Extent) -> str:
    kinds = [kind.__struct_fields__ for kind in (RunEntry, CritiqueEntry, GradeEntry, Tally)]
    digest = hashlib.sha256(f"{_VERSION} {_tool_error.fingerprint} {kinds}".encode())
    with path.open("rb") as file:
        digest.update(file.read(min(_MARK_BYTES, extent.end)))
        file.seek(extent.last)
        digest.update(file.read(min(extent.end - extent.last, _MARK_BYTES)))
    return digest.hexdigest()[:16]


# ---- the index on disk ----

_TABLES = """
CREATE TABLE IF NOT EXISTS file(name TEXT PRIMARY KEY, extent BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entry(file TEXT, offset INTEGER, content BLOB NOT NULL, PRIMARY KEY (file, offset))
    WITHOUT ROWID;
"""
_unkept: set[Path] = set()
"""Indexes that cannot be written: said once."""


class _Kept:
    """What the index on disk has of one file. end: how far it goes."""

    def __init__(self, source: Path) -> None:
        self._source, self._path, self.end = source, source.parent / FILE_NAME, 0

    def load(self, decoder: msgspec.json.Decoder[E]) -> tuple[Extent, list[E]] | None:
        """`None` where there is nothing, or it is of another file or version: it is made again."""
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True)) as index:
                extent = self._extent(index)
                if extent is None or not self._is_of(extent):
                    return None
                asked = "SELECT content FROM entry WHERE file = ? ORDER BY offset"
                entries = [decoder.decode(content) for (content,) in index.execute(asked, (self._source.name,))]
        except (sqlite3.Error, msgspec.DecodeError):
            return None
        self.end = extent.end
        return extent, entries

    def _extent(self, index: sqlite3.Connection) -> Extent | None:
        row = index.execute("SELECT extent FROM file WHERE name = ?", (self._source.name,)).fetchone()
        return msgspec.json.decode(row[0], type=Extent) if row else None

    def keep(self, extent: Extent, entries: list[E]) -> None:
        """Add what is new, in one transaction. An index that cannot be read is made anew."""
        try:
            try:
                self._write(extent, entries)
            except sqlite3.OperationalError:
                raise
            except (sqlite3.DatabaseError, msgspec.DecodeError):
                self._path.unlink()
                self._write(extent, entries)
        except (sqlite3.Error, OSError) as error:
            if self._path not in _unkept:
                _unkept.add(self._path)
                logger.warning("{}: no index is kept, so the next command reads the run again ({})", self._path, error)
        else:
            self.end = extent.end

    def _write(self, extent: Extent, entries: list[E]) -> None:
        name = self._source.name
        with contextlib.closing(sqlite3.connect(self._path)) as index:
            index.executescript(_TABLES)
            with index:
                index.execute("BEGIN IMMEDIATE")
                before = self._extent(index)
                # What another process has written meanwhile, or what could not be read, is written anew.
                begin = self.end if before and before.end == self.end and self._is_of(before) else 0
                if not begin:
                    index.execute("DELETE FROM entry WHERE file = ?", (name,))
                new = ((name, one.offset, msgspec.json.encode(one)) for one in entries if one.offset >= begin)
                index.executemany("INSERT INTO entry VALUES (?, ?, ?)", new)
                index.execute("INSERT OR REPLACE INTO file VALUES (?, ?)", (name, msgspec.json.encode(extent)))

    def _is_of(self, extent: Extent) -> bool:
        return extent.is_of(self._source, self._source.stat()) and _mark(self._source, extent) == extent.mark


# ---- a folder ----


class Index:
    """A round's or an evaluation's files. Refresh it before use; not thread-safe while it is refreshed.

    only: the tasks that count, all for `None`.
    version: counts the changes seen. runs, critiques: every line, oldest first. episodes: (task, attempt) -> its last
    line, in the order in which they first came. standing: the same in the order of the file. attempts: what figures
    count: the episodes, or, where patches were graded without their runs, a stand-in for each patch. grades: (task,
    patch hash) -> the last verdict on the patch, a verdict before a failure of the grader.
    """

    def __init__(self, round_: Round, *, only: frozenset[str] | None = None) -> None:
        self.round, self.only = round_, only
        self._runs = FileIndex(round_.trajectories, entry_of, RunEntry)
        self._critiques = FileIndex(round_.critiques, _critique, CritiqueEntry)
        self._grades = FileIndex(round_.grades, _grade, GradeEntry)
        self._patches = JsonLines(round_.trajectories.path, _Patch)
        self.version = 0
        self.episodes: dict[tuple[str, int], RunEntry] = {}
        self.attempts: dict[tuple[str, int], RunEntry] = {}
        self.standing: list[RunEntry] = []
        self.by_id: dict[str, RunEntry] = {}
        self.grades: dict[tuple[str, str], GradeEntry] = {}
        self._told: dict[str, list[CritiqueEntry]] = {}
        self.critics: dict[str, Source] = {}
        """Everyone who has said something here -> what they are."""

    @property
    def runs(self) -> list[RunEntry]:
        return self._of_tasks(self._runs.entries)

    @property
    def critiques(self) -> list[CritiqueEntry]:
        return self._of_tasks(self._critiques.entries)

    def _of_tasks(self, entries: list[Of]) -> list[Of]:
        return entries if self.only is None else [one for one in entries if one.task_id in self.only]

    def refresh(self) -> bool:
        """Take in what was appended meanwhile; whether anything was."""
        runs, critiques, grades = self._runs.refresh(), self._critiques.refresh(), self._grades.refresh()
        if runs:
            self.episodes = {(run.task_id, run.attempt): run for run in self.runs}
            self.standing = sorted(self.episodes.values(), key=lambda run: run.offset)
            self.by_id = {run.id: run for run in self.standing}
        if critiques:
            told: dict[str, list[CritiqueEntry]] = {}
            for one in self.critiques:
                told.setdefault(one.trajectory_id, []).append(one)
            self._told = told
            self.critics = {one.critic: one.source for one in self.critiques}
        if grades:
            last: dict[tuple[str, str], GradeEntry] = {}
            for grade in self._of_tasks(self._grades.entries):
                key = (grade.task_id, grade.patch_hash or "")
                if grade.resolved is not None or key not in last:
                    last[key] = grade
            self.grades = last
        if not self.round.trajectories.path.exists():
            self.attempts = self._graded_patches()
        elif runs:
            self.attempts = self.episodes
        self.version += runs or critiques or grades
        return runs or critiques or grades

    def _graded_patches(self) -> dict[tuple[str, int], RunEntry]:
        """Patches that were graded without their runs, one a task: that of predictions.jsonl, else the last graded."""
        last = {grade.task_id: grade.patch_hash or "" for grade in self._of_tasks(self._grades.entries)}
        if self.round.predictions.exists():
            predictions = predictions_on_file(self.round.predictions)
            asked = {task_id: one for task_id, one in predictions.items() if not self.only or task_id in self.only}
            last = {task_id: patch_hash(one.model_patch) for task_id, one in asked.items()}
        return {(task_id, 0): _of_patch(task_id, hash_) for task_id, hash_ in last.items()}

    def refuse_unreadable(self) -> None:
        """Raises InputError for a file that has lines of which none can be read."""
        for file in (self._runs, self._critiques, self._grades):
            if file.damaged and not file.entries:
                raise InputError(
                    f"{file.damaged[0]}; no line of the file can be read: is it of another version of srft?"
                )

    @property
    def damaged(self) -> dict[str, list[str]]:
        """File name -> why each of its lines that is left out cannot be read, with its place."""
        files = (self._grades, self._runs, self._critiques)
        return {file.lines.path.name: file.damaged for file in files}

    def outcome(self, run: RunEntry) -> Outcome:
        """What a run came to: by the grade of its patch, else as it was recorded elsewhere. An episode that
        infrastructure ended, or that was cancelled, has none: whatever patch it left says nothing of the model."""
        if run.unfinished:
            return Outcome("not_graded", run.unfinished)
        grade = self.grades.get((run.task_id, run.patch_hash))
        if grade is not None and grade.resolved is not None:
            return Outcome(grade.outcome)
        if run.recorded_resolved is not None:
            return Outcome("resolved" if run.recorded_resolved else "unresolved")
        return Outcome("not_graded", NO_GRADE if grade is None else GRADER_FAILED)

    def told(self, run_id: str) -> list[CritiqueEntry]:
        """What critics and people said of a run, oldest first."""
        return self._told.get(run_id, [])

    def trajectory(self, run: RunEntry) -> Trajectory:
        """The whole record. Raises InputError where the file was replaced since."""
        return self.round.trajectories.at(run.offset)

    def patch(self, run: RunEntry) -> str | None:
        """Its patch, without reading the rest into memory. Raises InputError where the file was replaced since."""
        return self._patches.at(run.offset).patch

    def critiques_of(self, run_id: str) -> list[Critique]:
        """What critics and people said of a run, oldest first, with their reasons. Raises InputError."""
        return [self.round.critiques.at(told.offset) for told in self.told(run_id)]

    def grade(self, run: RunEntry) -> Grade | None:
        """The last grade of the run's patch that is a verdict. Raises InputError."""
        found = self.grades.get((run.task_id, run.patch_hash))
        return None if found is None or found.resolved is None else self.round.grades.at(found.offset)

    def tampers(self, run: RunEntry) -> bool:
        """Whether the run's patch changes the tests' machinery, by its text or by its grade."""
        found = self.grades.get((run.task_id, run.patch_hash))
        return run.tampering or (found is not None and found.tampering)

    def attempts_by_task(self) -> dict[str, list[bool]]:
        """Task -> the verdicts on its attempts, in their order; a task without any has an empty list."""
        verdicts: dict[str, list[bool]] = {}
        for (task_id, _), run in sorted(self.attempts.items(), key=lambda one: one[0]):
            resolved = self.outcome(run).resolved
            verdicts.setdefault(task_id, []).extend([] if resolved is None else [resolved])
        return verdicts
