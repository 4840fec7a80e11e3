"""Runs of other systems, read into records of ours.

Reads mini-swe-agent's, SWE-agent's, OpenHands' and Harbor's own files (see `readers/`) and published datasets (see
`datasets/`), from files, folders and the Hub; writes nothing.

    for trajectory in read_runs("nebius/SWE-rebench-openhands-trajectories"):
        trajectory.task_id, len(trajectory.steps), trajectory.recorded_resolved

A trajectory's messages are what the model was sent, with its replies; each reply is a step, to the character. What the
model never saw is left out and counted. Sampling settings and seed are not known; `prompt` is "recorded", with the name
and the licence of a published dataset. A model or a repository that the file does not name is "", as the record wants a
text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from srft.agent.importing.columns import Dataset, datasets, described, named
from srft.agent.importing.readers import RawRun, Reader, Tally, atif, mini, openhands, swe_agent
from srft.agent.importing.readers.conversation import Recorded, repository, seen, steps_of
from srft.agent.importing.readers.rows import reader_of
from srft.agent.importing.readers.source import Source, sources
from srft.agent.records import Trajectory, trajectory_id
from srft.env.errors import InputError

_PROGRAMS = (mini.READER, openhands.READER, swe_agent.READER, atif.READER)
FORMATS: dict[str, Reader] = {
    reader.name: reader
    for reader in (*_PROGRAMS, *(reader_of(dataset) for dataset in datasets().values()), atif.REPLIES)
}
"""The files of programs, the published datasets by name, `chat`, which is any rows with chat messages, and what is only
read under its name."""
# The more columns a dataset is told by, the earlier; `chat` takes what is left.
_MARKED = sorted((dataset for dataset in datasets().values() if dataset.marks), key=lambda it: -len(it.marks))
_DETECTED = (*(FORMATS[dataset.name] for dataset in _MARKED), *_PROGRAMS, FORMATS["chat"])
_DECODER = msgspec.json.Decoder(Trajectory)
NO_REPLY = "no reply of a model in it"
NO_TOOLS = "descriptions of the tools that the model was offered, one a run"
TOOLS_GIVEN = "descriptions of tools that the run does not have, taken from --tools, one a run"
_HOPELESS = 100
"""A source whose first so many runs are all damaged is not what it was taken for."""


def read_runs(
    path: str | Path,
    *,
    format: str | Dataset = "auto",
    tally: Tally | None = None,
    tools: tuple[dict[str, Any], ...] = (),
) -> Iterator[Trajectory]:
    """The runs of a file, of a folder (see `source.py`) or of a dataset on the Hub, one at a time.

    format: a key of FORMATS; a description of a dataset; or "auto": a Hub dataset by its name, and a file by the keys
    of its first good run. tools: for the runs that call tools and do not come with their descriptions.
    Attempts are counted a task, in order of appearance. Raises InputError at the first damaged run; with a tally,
    damage is counted there and reading continues, and InputError means that no run of the path could be read.
    """
    chosen = None if format == "auto" else reader_of(format) if isinstance(format, Dataset) else _reader(format)
    tally = Tally(strict=True) if tally is None else tally
    attempts: Counter[str] = Counter()
    damaged, dropped, read = tally.damaged_runs, tally.dropped.total(), tally.read
    for source in sources(path):
        reader = chosen or _by_name(source)
        for raw in source.runs(tally):
            of_run = Tally()  # of a damaged run, nothing is counted
            try:
                recorded = (found := reader or _detect(raw, source)).read(raw, of_run)
                trajectory = _trajectory(recorded, attempts[recorded.task_id], raw.where, of_run, tools)
            except InputError as error:
                tally.damage(error)
                if tally.read == read and tally.damaged_runs - damaged == _HOPELESS:
                    raise InputError(_nothing(path, tally, _HOPELESS)) from None
                continue
            reader = found
            tally.formats[source.name] = reader.name
            if trajectory is None:
                tally.dropped[NO_REPLY] += 1
                continue
            tally.read += 1
            tally.left_out += of_run.left_out
            attempts[recorded.task_id] += 1
            yield trajectory
    if (tally.read, tally.dropped.total()) == (read, dropped):
        raise InputError(_nothing(path, tally, tally.damaged_runs - damaged))


def _nothing(path: str | Path, tally: Tally, damaged: int) -> str:
    if not damaged:
        return f"{path}: no run in it; expected one of the formats {', '.join(FORMATS)}"
    if damaged == 1:
        return tally.damaged[-1]
    first = tally.damaged[-damaged:][0]  # of many, not all are kept
    which = f"the first {damaged}" if damaged == _HOPELESS else f"its {damaged}"
    return f"{path}: none of {which} runs can be read; the first: {first}"


def _by_name(source: Source) -> Reader | None:
    dataset = None if source.dataset is None else named(source.dataset)
    return None if dataset is None else FORMATS[dataset.name]


def _detect(raw: RawRun, source: Source) -> Reader:
    for reader in _DETECTED:
        if reader.marks(raw.content):
            if source.dataset is not None and reader.name == "chat":
                return reader_of(described(source.dataset))
            return reader
    raise InputError(
        f"{raw.where}: no known format, its keys are {', '.join(raw.content) or 'none'}; expected the runs of "
        f"{', '.join(reader.name for reader in _PROGRAMS)}, rows of a dataset that `srft import --list` names, or chat "
        "messages, whose column --set columns.messages=COLUMN can name"
    )


def _reader(format: str) -> Reader:
    if format in FORMATS:
        return FORMATS[format]
    if (dataset := named(format)) is not None:
        return FORMATS[dataset.name]
    raise InputError(f"format {format}: expected auto, {', '.join(FORMATS)}")


def _trajectory(
    recorded: Recorded, attempt: int, where: str, tally: Tally, given: tuple[dict[str, Any], ...]
) -> Trajectory | None:
    """The run as a trajectory; `None` where no model replied in it."""
    # An answer after the last reply is not sent any more, but its exit code is the last step's.
    steps = steps_of(recorded.lines, demo_messages=recorded.demo_messages)
    if not steps:
        return None
    tools = recorded.tools
    if any(step.tool_calls for step in steps) and not tools:
        tally.left_out[TOOLS_GIVEN if given else NO_TOOLS] += 1
        tools = given
    unnumbered = Trajectory(
        id="",
        task_id=recorded.task_id,
        repo=recorded.repo or repository(recorded.task_id) or "",
        model=recorded.model or "",
        sampling={},
        scaffold=recorded.scaffold,
        prompt=f"recorded: {recorded.origin}" if recorded.origin else "recorded",
        seed=None,
        attempt=attempt,
        messages=tuple(line.sent for line in seen(recorded.lines, tally)),
        steps=steps,
        patch=recorded.patch,
        stop_reason=recorded.stop_reason,
        detail=recorded.detail,
        tools=tools,
        recorded_resolved=recorded.resolved,
        demo_messages=recorded.demo_messages,
    )
    return _checked(as_attempt(unnumbered, attempt), where)


def _checked(trajectory: Trajectory, where: str) -> Trajectory:
    """The trajectory as its file gives it back: a value of another type would make the file unreadable."""
    try:
        return _DECODER.decode(msgspec.json.encode(trajectory))
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:  # numbers or depths beyond any file
        raise InputError(f"{where}: {error}. Fix or remove the run.") from None


def as_attempt(trajectory: Trajectory, attempt: int) -> Trajectory:
    """The same run as another attempt of its task, under the id that this gives it."""
    identity = trajectory_id(
        task_id=trajectory.task_id, model=trajectory.model, attempt=attempt, messages=trajectory.messages
    )
    return msgspec.structs.replace(trajectory, attempt=attempt, id=identity)
