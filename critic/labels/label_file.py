"""Labels from a file: people's, an oracle's, or another program's.

Reads JSON lines, gzipped or not, or Parquet, of four kinds, told apart by their keys; writes nothing.

    {"trajectory_id": "9f...", "labels": [{"step": 3, "verdict": "mistake", "reason": "wrong file"}]}
    {"task_id": "flask__flask-1", "attempt": 0, "labels": [...]}
    {"schema_version": 1, "critic": "judge", "fingerprint": ..., ...}          a run's labels.jsonl
    {"record_id": "tau2_airline:0:1", "step_labels": {"3": 1, "5": -1}, ...}   AgentProcessBench (arXiv 2603.14465)
    {"traj_id": ..., "step_count": 47, "incorrect_stages": [...], ...}         CodeTraceBench (arXiv 2604.11641)

    critic = FileCritic("labels.jsonl", source="human")
    critic.judge(trajectory, Evidence())            # a Critique; None where the file does not have the run

AgentProcessBench counts messages where we count steps, and its 1, 0, -1 are read as good, unnecessary, mistake.

CodeTraceBench counts steps from 1. Its incorrect_step_ids are read as mistakes, its unuseful_step_ids as unnecessary (a
step in both is a mistake), all others as good. A run that is not solved and has neither was not labelled: a failed run
without a fault is none that anybody looked at.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

import msgspec

from srft.agent.records import Trajectory
from srft.critic.labels.labels import FILE_PREFIX, Critique, Evidence, Source, StepLabel, Verdict, critique_by
from srft.env.errors import InputError

T = TypeVar("T")

VERDICTS: tuple[str, ...] = get_args(Verdict)
_BENCH_VERDICTS: dict[int, Verdict] = {1: "good", 0: "unnecessary", -1: "mistake"}


class LabelLine(NamedTuple):
    """One run's labels as a file has them.

    where: file and line. run: a trajectory id, or task and attempt as "task:attempt". counted_in: what the keys of
    `labels` count, steps or messages. critic, source: whose they are; set: the collection; task, model: of the run;
    steps: how many it has; each where the line says.
    """

    where: str
    run: str
    counted_in: Literal["steps", "messages"]
    labels: dict[int, StepLabel]
    critic: str | None = None
    source: Source | None = None
    set: str | None = None
    task: str | None = None
    model: str | None = None
    steps: int | None = None


class _Named(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    trajectory_id: str | None = None
    task_id: str | None = None
    attempt: int = 0
    labels: tuple[StepLabel, ...]


class _Explanations(msgspec.Struct, frozen=True):
    steps: dict[str, str | None] = {}


class _Benched(msgspec.Struct, frozen=True, kw_only=True):
    record_id: str
    step_labels: dict[str, int | None]
    explanations: _Explanations | None = None
    dataset: str | None = None


class _Stage(msgspec.Struct, frozen=True):
    incorrect_step_ids: list[int] | None = None
    unuseful_step_ids: list[int] | None = None
    reasoning: str | None = None


class _Traced(msgspec.Struct, frozen=True, kw_only=True):
    traj_id: str
    step_count: Annotated[int, msgspec.Meta(ge=0)]
    incorrect_stages: list[_Stage] | str | None = None
    solved: bool | None = None
    task_name: str | None = None
    model: str | None = None


def read_label_lines(path: str | Path) -> Iterator[LabelLine]:
    """Every line of a file. Raises InputError, which names file, line and field."""
    for where, line in read_json_lines(Path(path)):
        yield _label_line(line, where)


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, object) of a `.jsonl`, `.jsonl.gz` or `.parquet` file; blank lines are passed over. Raises
    InputError."""
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    number = 0
    try:
        # Binary files split on b"\n" alone; text mode would take U+2028 for the end of a line.
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", _decoded(line, f"{path}:{number}")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}:{number + 1}: the gzip file is damaged here ({error}); fetch it again") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected a file of labels, .jsonl or .jsonl.gz"
        ) from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a file of labels") from None
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"{path}: not a readable parquet file after row {number} ({error}); fetch it again") from None


def _decoded(line: bytes, where: str) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not JSON ({error}); expected one object a line") from None
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected an object, got {type(content).__name__}")
    return content


def has_labels(content: Mapping[str, Any]) -> bool:
    """Whether a line is of one of the four kinds."""
    bench, traced = {"record_id", "step_labels"}, {"traj_id", "incorrect_stages"}
    return "labels" in content or bench <= content.keys() or traced <= content.keys()


def _label_line(content: dict[str, Any], where: str) -> LabelLine:
    if "step_labels" in content:
        return _bench_line(_converted(content, _Benched, where), where)
    if "incorrect_stages" in content:
        return _traced_line(_converted(content, _Traced, where), where)
    if "labels" not in content:
        raise InputError(
            f"{where}: has neither labels nor step_labels, but {', '.join(content) or 'nothing'}; expected "
            '{"trajectory_id": ..., "labels": [{"step": 0, "verdict": "good"}]}'
        )
    _refuse_unknown_verdicts(content["labels"], where)
    if "fingerprint" in content:
        critique = _converted(content, Critique, where)
        labels = _by_step(critique.labels, where)
        return LabelLine(where, critique.trajectory_id, "steps", labels, critique.critic, critique.source)
    named = _converted(content, _Named, where)
    run = f"{named.task_id}:{named.attempt}" if named.trajectory_id is None else named.trajectory_id
    if named.trajectory_id is None and named.task_id is None:
        raise InputError(f"{where}: says of no run; expected trajectory_id, or task_id and attempt")
    return LabelLine(where, run, "steps", _by_step(named.labels, where))


def _converted(content: dict[str, Any], kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}; the head of srft.critic.labels.label_file lists the kinds") from None


def _bench_line(benched: _Benched, where: str) -> LabelLine:
    reasons = benched.explanations.steps if benched.explanations else {}
    labels: dict[int, StepLabel] = {}
    for key, number in benched.step_labels.items():
        if not key.isdecimal():
            raise InputError(f"{where}: step_labels has the key {key!r}; expected a message's index")
        if number is not None and number not in _BENCH_VERDICTS:
            raise InputError(f"{where}: step_labels[{key}] is {number}; expected 1, 0, -1 or null")
        verdict = None if number is None else _BENCH_VERDICTS[number]
        labels[int(key)] = StepLabel(step=int(key), verdict=verdict, reason=reasons.get(key))
    return LabelLine(where, benched.record_id, "messages", labels, set=benched.dataset)


def _traced_line(traced: _Traced, where: str) -> LabelLine:
    stages = _stages(traced, where)
    found: dict[int, StepLabel] = {}
    kinds: tuple[tuple[Verdict, str], ...] = (("mistake", "incorrect_step_ids"), ("unnecessary", "unuseful_step_ids"))
    for verdict, name in kinds:
        for stage in stages:
            for number in getattr(stage, name) or ():
                if not 1 <= number <= traced.step_count:
                    raise InputError(
                        f"{where}: incorrect_stages: {name} has {number}; the run has steps 1 to {traced.step_count}"
                    )
                found.setdefault(number - 1, StepLabel(step=number - 1, verdict=verdict, reason=stage.reasoning))
    if found or traced.solved:
        found |= {step: StepLabel(step=step, verdict="good") for step in range(traced.step_count) if step not in found}
    return LabelLine(
        where,
        traced.traj_id,
        "steps",
        dict(sorted(found.items())),
        task=traced.task_name,
        model=traced.model,
        steps=traced.step_count,
    )


def _stages(traced: _Traced, where: str) -> list[_Stage]:
    """Some copies hold the stages as JSON text."""
    if not isinstance(traced.incorrect_stages, str):
        return traced.incorrect_stages or []
    try:
        return msgspec.json.decode(traced.incorrect_stages or "[]", type=list[_Stage])
    except msgspec.DecodeError as error:
        raise InputError(f"{where}: incorrect_stages: {error}; expected a list of stages") from None


def _refuse_unknown_verdicts(labels: Any, where: str) -> None:
    for place, label in enumerate(labels if isinstance(labels, list) else ()):
        verdict = label.get("verdict") if isinstance(label, dict) else None
        if verdict is not None and verdict not in VERDICTS:
            near = difflib.get_close_matches(str(verdict), VERDICTS, n=1)
            meant = f"did you mean {near[0]}?" if near else f"expected {', '.join(VERDICTS)}, or null"
            raise InputError(f"{where}: labels[{place}] has the verdict {verdict!r}; {meant}")


def _by_step(labels: tuple[StepLabel, ...], where: str) -> dict[int, StepLabel]:
    by_step = {label.step: label for label in labels}
    if len(by_step) < len(labels):
        steps = [label.step for label in labels]
        twice = next(step for step in steps if steps.count(step) > 1)
        raise InputError(f"{where}: step {twice} is labelled twice; keep one of them")
    return by_step


class FileCritic:
    """Gives the labels that a file has; steps without one are abstained from.

    A file of people's labels is named `file:` and its own name, so that no person who labels here is called so; an
    oracle's file is `oracle`.

    A run is found by its trajectory id, by "task:attempt", or by its task id alone; of CodeTraceBench also by its
    task's name, and its model's where several models were labelled on it. Where a file has several lines for a run,
    the last counts if all are of one critic (a run's labels.jsonl only grows); else the file is refused.
    """

    def __init__(self, path: str | Path, *, source: Literal["human", "oracle"] = "human") -> None:
        self.source: Source = source
        self.name: str = f"{FILE_PREFIX}{Path(path).name}" if source == "human" else source
        self._lines = _by_run(Path(path))
        content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self.settings: dict[str, Any] = {"file": Path(path).name, "sha256": content}
        # By content alone: the same file elsewhere, or under another name, says the same.
        self.fingerprint = hashlib.sha256(f"file\0{source}\0{content}".encode()).hexdigest()[:16]

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique | None:
        """The file's labels for this run, `None` where it has none. Raises InputError for a step that is not there."""
        names = (trajectory.id, f"{trajectory.task_id}:{trajectory.attempt}", trajectory.task_id)
        line = next((self._lines[name] for name in names if name in self._lines), None) or self._by_task(trajectory)
        if line is None:
            return None
        if line.steps is not None and line.steps != len(trajectory.steps):
            raise InputError(
                f"{line.where}: labels {line.steps} steps, but the run {trajectory.id} ({trajectory.task_id}) has "
                f"{len(trajectory.steps)}: another run of the task, or steps that are counted otherwise"
            )
        given = _on_steps(line, trajectory)
        labels = tuple(given.get(step.index, StepLabel(step=step.index, verdict=None)) for step in trajectory.steps)
        missing = sum(label.verdict is None for label in labels)
        return critique_by(self, trajectory, labels=labels, remarks={"not_labelled": missing})

    def _by_task(self, trajectory: Trajectory) -> LabelLine | None:
        """The line on the run's task, where lines name tasks. Raises InputError for one of several."""
        lines = [line for line in self._lines.values() if line.task == trajectory.task_id]
        if len(lines) > 1:
            model = _bare(trajectory.model)
            lines = [line for line in lines if model and _bare(line.model or "") == model] or lines
        if len(lines) > 1:
            raise InputError(
                f"{lines[1].where}: {len(lines)} labelled runs are on the task {trajectory.task_id}, and which of them "
                f"the run {trajectory.id} (model {trajectory.model or 'unknown'}) is cannot be told; "
                "give the lines of one agent and model"
            )
        return lines[0] if lines else None


def _bare(model: str) -> str:
    """A model's name without its provider, in lower case."""
    return model.rpartition("/")[2].lower()


def _by_run(path: Path) -> dict[str, LabelLine]:
    lines: dict[str, LabelLine] = {}
    for line in read_label_lines(path):
        before = lines.get(line.run)
        if before is not None and (line.critic is None or line.critic != before.critic):
            raise InputError(
                f"{line.where}: the run {line.run} is already in {before.where}"
                + (f", by {before.critic}; keep the lines of one critic" if before.critic else "; keep one of them")
            )
        lines[line.run] = line
    if not lines:
        raise InputError(f"{path}: has no labels; expected one run a line")
    return lines


def _on_steps(line: LabelLine, trajectory: Trajectory) -> dict[int, StepLabel]:
    """Step index -> label."""
    steps = len(trajectory.steps)
    if line.counted_in == "steps":
        for step in line.labels:
            if not 0 <= step < steps:
                raise InputError(
                    f"{line.where}: labels step {step}, but the run {trajectory.id} has the steps 0 to {steps - 1}"
                )
        return line.labels
    places = [
        place
        for place, message in enumerate(trajectory.messages)
        if message.get("role") == "assistant" and place >= trajectory.demo_messages
    ]
    if len(places) != steps:
        raise InputError(
            f"{line.where}: counts messages, but the run {trajectory.id} has {len(places)} assistant messages for "
            f"{steps} steps, so which is which cannot be told; give labels by step"
        )
    step_of = {place: step for step, place in enumerate(places)}
    for place in line.labels:
        if place not in step_of:
            raise InputError(
                f"{line.where}: labels message {place}, which is no assistant message of the run {trajectory.id}; "
                f"those are {', '.join(map(str, places))}"
            )
    return {step_of[place]: msgspec.structs.replace(label, step=step_of[place]) for place, label in line.labels.items()}
