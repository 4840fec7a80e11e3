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
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, reduce
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from loguru import logger

from srft.agent.records import Step, StopReason, Trajectory, Usage
from srft.critic.labels.labels import Critique, Evidence, Information, Source, StepLabel, Verdict
from srft.critic.rules.rules import ToolErrorCritic
from srft.env.grading.grade import Grade, patch_hash
from srft.env.grading.grade import Outcome as GradeOutcome
from srft.harness.run.predictions import predictions_on_file
from srft.harness.run.store import JsonLines, Round

R = TypeVar("R")
E = TypeVar("E", bound="Entry")

FILE_NAME = ".index.sqlite3"
WORTH_KEEPING_BYTES = 16 << 20
"""What a file has grown by before the index on disk is made or brought up to date."""

CODES: dict[Verdict | None, str] = {"good": "g", "unnecessary": "u", "mistake": "m", "recover": "r", None: "-"}
VERDICTS: dict[str, Verdict | None] = {code: verdict for verdict, code in CODES.items()}

ENDED_BY_THE_WORLD = "ended by the world"
CANCELLED = "cancelled"
NO_GRADE = "no grade on file"
GRADER_FAILED = "the grader failed"
UNFINISHED = {"infra_error": ENDED_BY_THE_WORLD, "cancelled": CANCELLED}
"""Stop reasons of episodes that say nothing of the model -> why."""

_VERSION = 1
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
    recorded_resolved: bool | None
    patch_hash: str
    steps: int
    """How many."""
    wall_s: float | None
    usage: Tally
    """Of the steps: what their replies cost."""
    format_errors: int
    """Steps whose reply held no action that could be read."""
    timed_out_steps: int
    cut_observations: int
    failed_tools: str
    """A letter a step: 1 the command failed, 0 it did not, ? not known."""
    tool_error: str
    """The rule `tool_error`'s verdicts, a letter a step (see `CODES`)."""
    partial: dict[str, int]
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


def failed_tool(step: Step) -> bool | None:
    """Whether the step's command failed, `None` where that is not known."""
    if step.timed_out or step.error == "format":
        return True
    if step.exit_code is None:
        return False if step.observation is None else None
    return step.exit_code != 0


def _run(run: Trajectory, offset: int) -> RunEntry:
    usage = Tally()
    for step in run.steps:
        usage.add(step.usage)
    return RunEntry(
        offset=offset,
        id=run.id,
        task_id=run.task_id,
        repo=run.repo,
        model=run.model,
        attempt=run.attempt,
        stop_reason=run.stop_reason,
        recorded_resolved=run.recorded_resolved,
        patch_hash=patch_hash(run.patch),
        steps=len(run.steps),
        wall_s=run.wall_s,
        usage=usage,
        format_errors=sum(step.error == "format" for step in run.steps),
        timed_out_steps=sum(step.timed_out for step in run.steps),
        cut_observations=sum(step.elided_chars > 0 for step in run.steps),
        failed_tools="".join({True: "1", False: "0", None: "?"}[failed_tool(step)] for step in run.steps),
        tool_error=tool_error_codes(run),
        partial=_partial(run),
    )


def tool_error_codes(run: Trajectory) -> str:
    """The rule `tool_error`'s verdicts, a letter a step."""
    return "".join(CODES[label.verdict] for label in _tool_error.judge(run, Evidence()).labels)


def _of_patch(task_id: str, hash_: str) -> RunEntry:
    """What stands for a patch that came without its run."""
    return RunEntry(
        offset=-1,
        id="",
        task_id=task_id,
        repo=task_id.rpartition("-")[0].replace("__", "/"),
        model="",
        attempt=0,
        stop_reason="submitted",
        recorded_resolved=None,
        patch_hash=hash_,
        steps=0,
        wall_s=None,
        usage=Tally(),
        format_errors=0,
        timed_out_steps=0,
        cut_observations=0,
        failed_tools="",
        tool_error="",
        partial={},
    )


def _partial(run: Trajectory) -> dict[str, int]:
    replies = [step for step in run.steps if step.author == "model"]
    found = {
        "token ids": [step.token_ids is not None for step in replies],
        "log-probabilities": [step.logprobs is not None for step in replies],
    }
    return {name: has.count(False) for name, has in found.items() if any(has) and not all(has)}


def _critique(told: Critique, offset: int) -> CritiqueEntry:
    steps = tuple(label.step for label in told.labels)
    confidences = tuple(label.confidence for label in told.labels)
    return CritiqueEntry(
        offset=offset,
        trajectory_id=told.trajectory_id,
        task_id=told.task_id,
        critic=told.critic,
        source=told.source,
        fingerprint=told.fingerprint,
        information=told.information,
        steps=None if steps == tuple(range(len(steps))) else steps,
        verdicts="".join(CODES[label.verdict] for label in told.labels),
        confidences=confidences if any(value is not None for value in confidences) else None,
        calls=told.calls,
        usage=told.usage,
        wall_s=told.wall_s,
        remarks=told.remarks,
    )


def _grade(grade: Grade, offset: int) -> GradeEntry:
    return GradeEntry(
        offset=offset,
        task_id=grade.instance_id,
        patch_hash=grade.patch_hash,
        resolved=grade.resolved,
        outcome=grade.outcome,
        timed_out=grade.timed_out,
        grader=grade.grader,
    )


# ---- one file ----


class State(NamedTuple):
    """By which a file is known again: its inode, its size and when it was changed."""

    inode: int
    bytes: int
    changed_ns: int


class Extent(msgspec.Struct, frozen=True, array_like=True):
    """How far a file was read. last: where its last line read begins; mark: a hash of the first and that last line."""

    state: State
    end: int = 0
    lines: int = 0
    last: int | None = None
    mark: str = ""


NOTHING = Extent(State(0, 0, 0))


class FileIndex(Generic[R, E]):
    """The short records of one file, read once and kept up with as it grows. Not thread-safe."""

    def __init__(self, lines: JsonLines[R], shorten: Callable[[R, int], E], kind: type[E]) -> None:
        self.lines, self._shorten = lines, shorten
        self._decoder = msgspec.json.Decoder(kind)
        self.entries: list[E] = []
        self.damaged: dict[int, int] = {}
        """Where a line begins that cannot be read -> its number; `lines.left_out` says why."""
        self._extent = NOTHING
        self._kept = _Kept(lines.path)
        self._is_loaded = False

    def refresh(self) -> bool:
        """Read what is new. A file that was replaced is read from its beginning. Returns whether anything changed."""
        try:
            status = self.lines.path.stat()
        except FileNotFoundError:
            was_there = bool(self.entries or self.damaged)
            self._forget()
            return was_there
        state = State(status.st_ino, status.st_size, status.st_mtime_ns)
        is_first = not self._is_loaded
        if is_first:
            self._is_loaded = True
            self._load()
        if state == self._extent.state:
            return is_first
        is_other = not _is_continued(self.lines.path, self._extent, state)
        if is_other:
            self._forget()
        before = self._extent.end
        self._scan(state)
        return is_first or is_other or self._extent.end != before

    def _scan(self, state: State) -> None:
        end, lines, last = self._extent.end, self._extent.lines, self._extent.last
        for line in self.lines.tail(offset=end, number=lines):
            end, lines, last = line.end, line.number, line.offset
            if line.record is None:
                self.damaged[line.offset] = line.number
            else:
                self.entries.append(self._shorten(line.record, line.offset))
        extent = Extent(state, end, lines, last)
        self._extent = msgspec.structs.replace(extent, mark=_mark(self.lines.path, extent))
        if extent.end - self._kept.end >= WORTH_KEEPING_BYTES:
            damaged = [(offset, number, self.lines.left_out[offset]) for offset, number in self.damaged.items()]
            self._kept.keep(self._extent, self.entries, damaged)

    def _forget(self) -> None:
        self.entries, self.damaged, self._extent, self._kept.end = [], {}, NOTHING, 0

    def _load(self) -> None:
        kept = self._kept.load()
        if kept is None:
            return
        try:
            self.entries = [self._decoder.decode(content) for content in kept.entries]
        except msgspec.DecodeError:  # of another version: made again
            self.entries = []
            return
        self._extent = kept.extent
        for offset, number, reason in kept.damaged:
            self.damaged[offset] = number
            self.lines.leave_out(offset, reason)


def _is_continued(path: Path, extent: Extent, state: State) -> bool:
    """Whether the file is the one that was read, perhaps longer. An edit that kept its length is told by its time."""
    if extent.last is None:
        return not extent.end
    if state.inode != extent.state.inode or state.bytes < extent.end:
        return False
    if state.bytes == extent.state.bytes and state.changed_ns != extent.state.changed_ns:
        return False
    return _mark(path, extent) == extent.mark


def _mark(path: Path, extent: Extent) -> str:
    """A hash of the beginning of a file and of the last line read, and of how entries are made."""
    digest = hashlib.sha256(f"{_VERSION} {_tool_error.fingerprint}".encode())
    with path.open("rb") as file:
        digest.update(file.read(min(_MARK_BYTES, extent.end)))
        if extent.last is not None:
            file.seek(extent.last)
            digest.update(file.read(min(extent.end - extent.last, _MARK_BYTES)))
    return digest.hexdigest()[:16]


# ---- the index on disk ----

_TABLES = """
CREATE TABLE IF NOT EXISTS file(name TEXT PRIMARY KEY, extent BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entry(file TEXT, offset INTEGER, content BLOB NOT NULL, PRIMARY KEY (file, offset))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS damaged(file TEXT, offset INTEGER, number INTEGER, reason TEXT, PRIMARY KEY (file, offset));
"""
_unkept: set[Path] = set()
"""Folders whose index cannot be written: said once."""


class KeptFile(NamedTuple):
    """What the index on disk has of a file."""

    extent: Extent
    entries: list[bytes]
    damaged: list[tuple[int, int, str]]


class _Kept:
    """The index of a file on disk. end: how far it goes."""

    def __init__(self, source: Path) -> None:
        self._path, self._name = source.parent / FILE_NAME, source.name
        self._source = source
        self.end = 0

    def load(self) -> KeptFile | None:
        """What is kept of the file as it is; `None` where there is nothing, or it is of another file or version."""
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True)) as index:
                extent = self._extent(index)
                if extent is None or not self._fits(extent):
                    return None
                rows = index.execute("SELECT content FROM entry WHERE file = ? ORDER BY offset", (self._name,))
                entries = [content for (content,) in rows]
                asked = "SELECT offset, number, reason FROM damaged WHERE file = ? ORDER BY offset"
                damaged = index.execute(asked, (self._name,)).fetchall()
        except (sqlite3.Error, msgspec.DecodeError):  # damaged, or another version's: made again
            return None
        self.end = extent.end
        return KeptFile(extent, entries, damaged)

    def _extent(self, index: sqlite3.Connection) -> Extent | None:
        row = index.execute("SELECT extent FROM file WHERE name = ?", (self._name,)).fetchone()
        return msgspec.json.decode(row[0], type=Extent) if row else None

    def _fits(self, extent: Extent) -> bool:
        status = self._source.stat()
        return _is_continued(self._source, extent, State(status.st_ino, status.st_size, status.st_mtime_ns))

    def keep(self, extent: Extent, entries: list[E], damaged: list[tuple[int, int, str]]) -> None:
        """Add what is new to the index, in one transaction. One that does not fit is made anew."""
        try:
            try:
                self._write(extent, entries, damaged)
            except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._path.unlink()  # no index, or a damaged one
                self._write(extent, entries, damaged)
        except (sqlite3.Error, OSError) as error:
            if self._path not in _unkept:
                _unkept.add(self._path)
                logger.warning("{}: no index is kept, so the next command reads the run again ({})", self._path, error)
            return
        self.end = extent.end

    def _write(self, extent: Extent, entries: list[E], damaged: list[tuple[int, int, str]]) -> None:
        with contextlib.closing(sqlite3.connect(self._path)) as index:
            index.executescript(_TABLES)
            with index:
                index.execute("BEGIN IMMEDIATE")
                before = self._extent(index)
                if before is None or before.end > extent.end or not self._fits(before):
                    begin = 0
                    for table, column in (("file", "name"), ("entry", "file"), ("damaged", "file")):
                        index.execute(f"DELETE FROM {table} WHERE {column} = ?", (self._name,))
                else:
                    begin = before.end
                new = ((self._name, one.offset, msgspec.json.encode(one)) for one in _from(entries, begin))
                index.executemany("INSERT INTO entry VALUES (?, ?, ?)", new)
                new_damaged = [(self._name, *one) for one in damaged if one[0] >= begin]
                index.executemany("INSERT INTO damaged VALUES (?, ?, ?, ?)", new_damaged)
                index.execute("INSERT OR REPLACE INTO file VALUES (?, ?)", (self._name, msgspec.json.encode(extent)))


def _from(entries: list[E], offset: int) -> Iterator[E]:
    return (one for one in entries if one.offset >= offset)


# ---- a folder ----


class Index:
    """A round's or an evaluation's files. Refresh it before use; not thread-safe while it is refreshed.

    version: counts the changes seen. runs, critiques: every line, oldest first. episodes: (task, attempt) -> its last
    line, in the order in which they first came. standing: the same in the order of the file. attempts: what figures
    count: the episodes, or, where patches were graded without their runs, a stand-in for each patch. grades: (task,
    patch hash) -> the last verdict on the patch, a verdict before a failure of the grader.
    """

    def __init__(self, round_: Round) -> None:
        self.round = round_
        self._runs = FileIndex(round_.trajectories, _run, RunEntry)
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
        return self._runs.entries

    @property
    def critiques(self) -> list[CritiqueEntry]:
        return self._critiques.entries

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
            for grade in self._grades.entries:
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
        last = {grade.task_id: grade.patch_hash or "" for grade in self._grades.entries}
        if self.round.predictions.exists():
            predictions = predictions_on_file(self.round.predictions)
            last = {task_id: patch_hash(one.model_patch) for task_id, one in predictions.items()}
        return {(task_id, 0): _of_patch(task_id, hash_) for task_id, hash_ in last.items()}

    def refuse_unreadable(self) -> None:
        """Raises InputError for a file that has lines of which none can be read."""
        for file in (self._runs, self._critiques, self._grades):
            if file.damaged and not file.entries:
                file.lines.refuse_unreadable()

    @property
    def damaged(self) -> dict[str, list[str]]:
        """File name -> why each of its lines that is left out cannot be read, with its place."""
        files = (self._grades, self._runs, self._critiques)
        return {file.lines.path.name: [file.lines.left_out[offset] for offset in file.damaged] for file in files}

    def outcome(self, run: RunEntry) -> Outcome:
        """What a run came to: by the grade of its patch, else as it was recorded elsewhere. An episode that the world
        ended, or that was cancelled, has none: whatever patch it left says nothing of the model."""
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

    def attempts_by_task(self) -> dict[str, list[bool]]:
        """Task -> the verdicts on its attempts, in their order; a task without any has an empty list."""
        verdicts: dict[str, list[bool]] = {}
        for (task_id, _), run in sorted(self.attempts.items(), key=lambda one: one[0]):
            resolved = self.outcome(run).resolved
            verdicts.setdefault(task_id, []).extend([] if resolved is None else [resolved])
        return verdicts
