"""What a round's or an evaluation's files hold, in short: the one reading of them that everything else asks.

Reads trajectories.jsonl, labels.jsonl and grades.jsonl; of large files it keeps what it has read in `.index.sqlite3`
beside them, which may be deleted at any time. Locks nothing: a run may be looked at while it grows.

    index = round_.index()                          # refreshed: what was appended since is read, and nothing else
    index.standing[3].task_id, index.outcome(index.standing[3]).resolved
    index.trajectory(index.standing[3])             # the whole record, read where it lies
    index.told(run_id)                              # what critics and people said of it, oldest first

A line counts if its whole record can be read, for everybody; others are in `damaged`. An episode that was done again
is in the file twice, and its last line counts; so does the last verdict on a patch.
"""

from typing import Literal, NamedTuple, TypeVar

import msgspec

from srft.agent.records import Trajectory
from srft.critic.labels.labels import Critique, Source
from srft.env.errors import InputError
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.run.entries import (
    CritiqueEntry,
    GradeEntry,
    RunEntry,
    critique_entry,
    entry_of,
    entry_of_patch,
    grade_entry,
)
from srft.harness.run.file_index import FileIndex
from srft.harness.run.predictions import predictions_on_file
from srft.harness.run.store import JsonLines, Round

Of = TypeVar("Of", RunEntry, CritiqueEntry, GradeEntry)

NO_GRADE = "no grade on file"
GRADER_FAILED = "the grader failed"


class Outcome(NamedTuple):
    """What an episode came to. reason: why it has no outcome, `None` where it has one."""

    name: Literal["resolved", "unresolved", "empty", "not_applied", "not_graded"]
    reason: str | None = None

    @property
    def resolved(self) -> bool | None:
        return None if self.name == "not_graded" else self.name == "resolved"


class _Patch(msgspec.Struct, frozen=True):
    """Of a Trajectory its patch, which may be long."""

    patch: str | None


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
        self._critiques = FileIndex(round_.critiques, critique_entry, CritiqueEntry)
        self._grades = FileIndex(round_.grades, grade_entry, GradeEntry)
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
        return {(task_id, 0): entry_of_patch(task_id, hash_) for task_id, hash_ in last.items()}

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
