"""Runs of other systems, read into records of ours.

Reads mini-swe-agent, SWE-agent, OpenHands, SWE-smith and plain chat runs (see `readers/`); writes nothing.

    for trajectory in read_runs("runs.jsonl.gz"):
        trajectory.task_id, len(trajectory.steps), trajectory.recorded_resolved

A trajectory's messages are what the model was sent, with its replies; each reply is a step, to the character. What the
model never saw is left out and counted. Sampling settings and seed are not known; `prompt` is "recorded". A model or a
repository that the file does not name is "", as the record wants a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from srft.agent.importing.readers import chat, mini, openhands, swe_agent, swe_smith
from srft.agent.importing.readers.conversation import Recorded, repository, seen, steps_of
from srft.agent.importing.readers.reader import Reader
from srft.agent.importing.readers.source import RawRun, raw_runs, run_files
from srft.agent.importing.readers.tally import Tally
from srft.agent.records import Trajectory, trajectory_id
from srft.env.errors import InputError

# In this order: the later ones also mark runs of the earlier ones.
_READERS = (mini.READER, openhands.READER, swe_agent.READER, swe_smith.READER, chat.READER)
FORMATS: dict[str, Reader] = {reader.name: reader for reader in _READERS}
_DECODER = msgspec.json.Decoder(Trajectory)
NO_REPLY = "no reply of a model in it"
NO_TOOLS = "descriptions of the tools that the model was offered, one a run"


def read_runs(path: str | Path, *, format: str = "auto", tally: Tally | None = None) -> Iterator[Trajectory]:
    """The runs of a file, or of all .traj files below a folder, one at a time.

    format: a key of FORMATS, or "auto": each file's is told by the keys of its first run that is whole. Attempts are
    counted a task, in order of appearance. Raises InputError at the first damaged run; with a tally, damage is entered
    there and reading goes on, and InputError means that no run of the path could be read.
    """
    chosen = None if format == "auto" else _reader(format)
    tally = Tally(strict=True) if tally is None else tally
    attempts: Counter[str] = Counter()
    damaged_before, before = len(tally.damaged), tally.read + tally.dropped[NO_REPLY]
    for file in run_files(Path(path)):
        reader = chosen
        for raw in raw_runs(file, tally):
            of_run = Tally()  # of a damaged run, nothing is counted
            try:
                recorded = (found := reader or _detect(raw)).read(raw, of_run)
                trajectory = _trajectory(recorded, attempts[recorded.task_id], raw.where, of_run)
            except InputError as error:
                tally.damage(error)
                continue
            reader = found
            tally.formats[str(file)] = reader.name
            if trajectory is None:
                tally.dropped[NO_REPLY] += 1
                continue
            tally.read += 1
            tally.left_out += of_run.left_out
            attempts[recorded.task_id] += 1
            yield trajectory
    if tally.read + tally.dropped[NO_REPLY] == before:
        damaged = tally.damaged[damaged_before:]
        raise InputError(damaged[0] if len(damaged) == 1 else _nothing(path, damaged))


def _nothing(path: str | Path, damaged: list[str]) -> str:
    if not damaged:
        return f"{path}: no run in it; expected one of the formats {', '.join(FORMATS)}"
    return f"{path}: none of its {len(damaged)} runs can be read; the first: {damaged[0]}"


def _reader(format: str) -> Reader:
    if format not in FORMATS:
        raise InputError(f"format {format}: expected auto, {', '.join(FORMATS)}")
    return FORMATS[format]


def _detect(raw: RawRun) -> Reader:
    for reader in _READERS:
        if reader.marks(raw.content):
            return reader
    raise InputError(
        f"{raw.where}: no known format, its keys are {', '.join(raw.content) or 'none'}; expected one of "
        f"{', '.join(FORMATS)}: messages, or a history of messages or events"
    )


def _trajectory(recorded: Recorded, attempt: int, where: str, tally: Tally) -> Trajectory | None:
    """The run as a trajectory; `None` where no model replied in it."""
    lines = recorded.lines
    # An answer after the last reply is not sent any more, but its exit code is the last step's.
    steps = steps_of(lines, demo_messages=recorded.demo_messages)
    if not steps:
        return None
    if any(step.tool_calls for step in steps) and not recorded.tools:
        tally.left_out[NO_TOOLS] += 1
    messages: tuple[dict[str, Any], ...] = tuple(line.sent for line in seen(lines, tally))
    unnumbered = Trajectory(
        id="",
        task_id=recorded.task_id,
        repo=recorded.repo or repository(recorded.task_id) or "",
        model=recorded.model or "",
        sampling={},
        scaffold=recorded.scaffold,
        prompt="recorded",
        seed=None,
        attempt=attempt,
        messages=messages,
        steps=steps,
        patch=recorded.patch,
        stop_reason=recorded.stop_reason,
        detail=recorded.detail,
        tools=recorded.tools,
        recorded_resolved=recorded.resolved,
        demo_messages=recorded.demo_messages,
    )
    return _checked(as_attempt(unnumbered, attempt), where)


def _checked(trajectory: Trajectory, where: str) -> Trajectory:
    """The trajectory as it comes back from its file, where a value of another type would make the file unreadable."""
    try:
        return _DECODER.decode(msgspec.json.encode(trajectory))
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:  # numbers or depths beyond any file
        raise InputError(f"{where}: {error}; mend or remove the run") from None


def as_attempt(trajectory: Trajectory, attempt: int) -> Trajectory:
    """The same run as another attempt of its task, under the id that this gives it."""
    identity = trajectory_id(
        task_id=trajectory.task_id, model=trajectory.model, attempt=attempt, messages=trajectory.messages
    )
    return msgspec.structs.replace(trajectory, attempt=attempt, id=identity)
