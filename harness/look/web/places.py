"""The places of a run where trajectories lie: its rounds, and the evaluations in them.

Reads a run directory; the short records that tables are made of stay in memory, everything else on disk.

    library = Library(Path("runs/demo"))
    place = library.place("round-001~srft")             # round-001/evaluation/srft
    place.refresh()
    entry = place.by_id["9f2c..."]
    place.trajectory(entry), place.critiques(entry.id), place.outcome(entry)
"""

import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from srft.agent.records import Action, StopReason, Trajectory, Usage
from srft.critic.labels.labels import Critique, Evidence, Source, StepLabel, Verdict
from srft.critic.rules.rules import ToolErrorCritic
from srft.env.errors import InputError
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.look.web.lines import Lines, Span, mended
from srft.harness.run.store import Round

INDEX_FOLDER = ".view"
CODES: dict[Verdict | None, str] = {"good": "g", "unnecessary": "u", "mistake": "m", "recover": "r", None: "-"}
VERDICTS: dict[str, Verdict | None] = {code: verdict for verdict, code in CODES.items()}

_tool_error = ToolErrorCritic()


class _ShortStep(msgspec.Struct, frozen=True, kw_only=True):
    """What an index needs of a Step."""

    index: int
    action: Action | None = None
    observation: str | None = None
    exit_code: int | None = None
    timed_out: bool = False
    usage: Usage | None = None
    error: str | None = None


class _ShortTrajectory(msgspec.Struct, frozen=True, kw_only=True):
    """What an index needs of a Trajectory."""

    id: str
    task_id: str
    repo: str
    model: str
    attempt: int
    steps: tuple[_ShortStep, ...]
    patch: str | None
    stop_reason: StopReason
    started_at: str | None = None
    wall_s: float | None = None
    recorded_resolved: bool | None = None


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One trajectory in short. tool_error: that rule's verdicts, one letter a step (see `CODES`). tokens: of all
    prompts and replies. cost_usd, tokens: `None` where no step says."""

    span: Span
    id: str
    task_id: str
    repo: str
    model: str
    attempt: int
    stop_reason: StopReason
    recorded_resolved: bool | None
    patch_hash: str
    steps: int
    wall_s: float | None
    cost_usd: float | None
    tokens: int | None
    tool_error: str


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A Critique in short. verdicts: one letter a step. confidences: a figure a step where there are any."""

    span: Span
    trajectory_id: str
    critic: str
    source: Source
    fingerprint: str
    steps: tuple[int, ...] | None
    verdicts: str
    confidences: tuple[float | None, ...] | None

    def labels(self) -> dict[int, StepLabel]:
        """Step -> label, without the abstentions: what `effective_labels` says of this one critic alone."""
        return {label.step: label for label in self.critique().labels if label.verdict is not None}

    def critique(self) -> Critique:
        """The Critique without its reasons and costs: all that masks depend on."""
        steps = self.steps or range(len(self.verdicts))
        if self.confidences is None:
            labels = tuple(map(_label, steps, self.verdicts))
        else:
            labels = tuple(map(_label, steps, self.verdicts, self.confidences))
        return Critique(
            trajectory_id=self.trajectory_id,
            task_id="",
            critic=self.critic,
            fingerprint=self.fingerprint,
            source=self.source,
            labels=labels,
        )


@lru_cache(maxsize=1 << 14)
def _label(step: int, code: str, confidence: float | None = None) -> StepLabel:
    """Shared, as they never change: a table of 20,000 runs asks for a million of them."""
    return StepLabel(step=step, verdict=VERDICTS[code], confidence=confidence)


class Verdicted(msgspec.Struct, frozen=True, array_like=True):
    """A Grade in short."""

    span: Span
    task_id: str
    patch_hash: str | None
    resolved: bool | None


class _ShortGrade(msgspec.Struct, frozen=True, kw_only=True):
    instance_id: str
    resolved: bool | None
    patch_hash: str | None = None


_decode_trajectory = msgspec.json.Decoder(_ShortTrajectory).decode
_decode_critique = msgspec.json.Decoder(Critique).decode
_decode_grade = msgspec.json.Decoder(_ShortGrade).decode


def _entry(line: bytes, span: Span) -> Entry:
    run = _decode_trajectory(line)
    usages = [step.usage for step in run.steps if step.usage]
    costs = [usage.cost_usd for usage in usages if usage.cost_usd is not None]
    tokens = [
        (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        for usage in usages
        if usage.prompt_tokens is not None or usage.completion_tokens is not None
    ]
    steps: Any = run  # the rule reads of a run what its short form has too
    judged = _tool_error.judge(steps, Evidence())
    return Entry(
        span,
        run.id,
        run.task_id,
        run.repo,
        run.model,
        run.attempt,
        run.stop_reason,
        run.recorded_resolved,
        patch_hash(run.patch),
        len(run.steps),
        run.wall_s,
        sum(costs) if costs else None,
        sum(tokens) if tokens else None,
        "".join(CODES[label.verdict] for label in judged.labels),
    )


def _told(line: bytes, span: Span) -> Told:
    told = _decode_critique(line)
    steps = tuple(label.step for label in told.labels)
    has_confidence = any(label.confidence is not None for label in told.labels)
    return Told(
        span,
        told.trajectory_id,
        told.critic,
        told.source,
        told.fingerprint,
        None if steps == tuple(range(len(steps))) else steps,
        "".join(CODES[label.verdict] for label in told.labels),
        tuple(label.confidence for label in told.labels) if has_confidence else None,
    )


def _verdicted(line: bytes, span: Span) -> Verdicted:
    grade = _decode_grade(line)
    return Verdicted(span, grade.instance_id, grade.patch_hash, grade.resolved)


class Place:
    """One folder with trajectories. `refresh` before use; `lock` while the labels are being changed.

    key: its name in addresses. standing: of each task's attempt the last trajectory, in the order of the file;
    superseded: how many others there are.
    version: counts the changes seen. only: the tasks that count, all for `None`. left_out: run id -> why it is left
    out of all that is shown.
    """

    def __init__(self, run: Path, folder: Path, *, only: frozenset[str] | None = None) -> None:
        parts = folder.relative_to(run).parts
        self.run = run
        self.key = "~".join((parts[0], *parts[2:]))
        number = parts[0].removeprefix("round-")
        name = f"round {int(number)}" if number.isdecimal() else parts[0]
        self.title = name + (f", evaluation of {parts[2]}" if len(parts) > 2 else "")
        self.round = Round(folder)
        self.only = only
        index = run / INDEX_FOLDER

        def lines(path: Path, shorten: Any, kind: Any) -> Lines[Any]:
            return Lines(path, shorten=shorten, kind=kind, cache=index / f"{self.key}.{path.stem}.index")

        self._runs: Lines[Entry] = lines(self.round.trajectories.path, _entry, Entry)
        self._told: Lines[Told] = lines(self.round.critiques.path, _told, Told)
        self._grades: Lines[Verdicted] = lines(self.round.grades.path, _verdicted, Verdicted)
        self.lock = threading.RLock()
        self.version = 0
        self.left_out: dict[str, str] = {}
        self.standing: list[Entry] = []
        self.superseded = 0
        self.by_id: dict[str, Entry] = {}
        self._told_by_run: dict[str, list[Told]] = {}
        self._grade_by_patch: dict[tuple[str, str], Verdicted] = {}
        self._critics: dict[str, Source] = {}

    def refresh(self) -> None:
        """Take in what was appended meanwhile."""
        with self.lock:
            changed = [self._runs.refresh(), self._told.refresh(), self._grades.refresh()]
            self.version += any(changed)
            if changed[0]:
                last = {(entry.task_id, entry.attempt): place for place, entry in enumerate(self._runs.records)}
                standing = (self._runs.records[place] for place in sorted(last.values()))
                asked = (entry for entry in standing if self.only is None or entry.task_id in self.only)
                self.standing = [entry for entry in asked if entry.id not in self.left_out]
                self.superseded = len(self._runs.records) - len(last)
                self.by_id = {entry.id: entry for entry in self.standing}
            if changed[1]:
                self._told_by_run = {}
                for told in self._told.records:
                    self._told_by_run.setdefault(told.trajectory_id, []).append(told)
                self._critics = {told.critic: told.source for told in self._told.records}
            if changed[2]:
                graded = (one for one in self._grades.records if one.resolved is not None and one.patch_hash)
                self._grade_by_patch = {(one.task_id, str(one.patch_hash)): one for one in graded}

    def leave_out_unreadable(self) -> None:
        """The runs that the short records know and whose whole records cannot be read (another version's, say): reads
        everything once."""
        with self.lock:
            for entry in self.standing:
                try:
                    self.trajectory(entry)
                    self.critiques(entry.id)
                    self.grade(entry)
                except InputError as error:
                    self.left_out[entry.id] = str(error)
            self.standing = [entry for entry in self.standing if entry.id not in self.left_out]
            self.by_id = {entry.id: entry for entry in self.standing}
            self.version += bool(self.left_out)

    def damaged(self) -> Iterator[str]:
        """Every line that cannot be read, as file:line: reason."""
        yield from self.left_out.values()
        for lines in (self._runs, self._told, self._grades):
            yield from (f"{lines.path}:{line}: {reason}" for line, reason in lines.damaged)

    def told(self, run_id: str) -> list[Told]:
        """What critics and people said of a run, oldest first, in short."""
        return self._told_by_run.get(run_id, [])

    def is_labelled(self, run_id: str) -> bool:
        """Whether a verdict of a person stands: the last line of each says all that they said."""
        last = {told.critic: told for told in self.told(run_id) if told.source == "human"}
        return any(told.verdicts.strip("-") for told in last.values())

    def human_told(self, name: str) -> list[Told]:
        """All that a person said, in short."""
        return [told for told in self._told.records if told.source == "human" and told.critic == name]

    def critics(self) -> dict[str, Source]:
        """Everyone who has said something here -> what they are."""
        return self._critics

    def outcome(self, entry: Entry) -> bool | None:
        """By its grade, else as it was recorded elsewhere."""
        grade = self._grade_by_patch.get((entry.task_id, entry.patch_hash))
        return entry.recorded_resolved if grade is None else grade.resolved

    def trajectory(self, entry: Entry) -> Trajectory:
        """Raises InputError."""
        return self._read(self._runs, entry.span, Trajectory)

    def critiques(self, run_id: str) -> list[Critique]:
        """What critics and people said of a run, oldest first, with their reasons. Raises InputError."""
        return [self._read(self._told, told.span, Critique) for told in self.told(run_id)]

    def grade(self, entry: Entry) -> Grade | None:
        """The newest grade of the run's patch that is a verdict. Raises InputError."""
        short = self._grade_by_patch.get((entry.task_id, entry.patch_hash))
        return None if short is None else self._read(self._grades, short.span, Grade)

    def _read(self, lines: Lines[Any], span: Span, kind: Any) -> Any:
        try:
            line = lines.at(span)
            return mended(line, lambda content: msgspec.json.decode(content, type=kind))
        except (msgspec.DecodeError, ValueError, OSError) as error:
            raise InputError(
                f"{lines.path}: at byte {span.offset}: not a {kind.__name__} of this version of srft ({error}); the "
                "file may have been replaced: load the page again"
            ) from None


class Library:
    """All places of a run, oldest round first, a round before its evaluations. Raises InputError for none.

    only: the tasks that count, all for `None`.
    """

    def __init__(self, run: Path, *, only: frozenset[str] | None = None) -> None:
        self.run, self.only = run, only
        self._places: dict[str, Place] = {}
        self._lock = threading.Lock()
        if not self.places():
            raise InputError(f"{run}: no trajectories in it; check the folder, or collect or import some first")

    def places(self) -> list[Place]:
        """Those that are there now: a loop makes new ones while it is looked at."""
        with self._lock:
            for folder in _folders(self.run):
                place = Place(self.run, folder, only=self.only)
                self._places.setdefault(place.key, place)
            return [self._places[key] for key in sorted(self._places)]

    def place(self, key: str) -> Place:
        """Refreshed. Raises InputError."""
        known = {place.key: place for place in self.places()}
        if key not in known:
            raise InputError(f"{key}: no such round or evaluation in {self.run}; there are {', '.join(known)}")
        known[key].refresh()
        return known[key]


def _folders(run: Path) -> Iterator[Path]:
    for pattern in ("round-*", "round-*/evaluation/*"):
        yield from (folder for folder in run.glob(pattern) if (folder / "trajectories.jsonl").is_file())
