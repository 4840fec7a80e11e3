"""Rows of a dataset, read as its description says (`columns.py`): one reader for all of them.

    reader_of(described("chat")).read(RawRun("c.jsonl:1", "c", 1, {"messages": [...], "resolved": True}), Tally())

A row says little of how its run ended: `submitted` where its exit status or the last reply hands in, else `submitted`
with the detail that it is not recorded. A message that SWE-agent wrote when a limit ended the run is left out.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from srft.agent.importing.columns import Dataset, datasets, known_tools
from srft.agent.importing.readers import RawRun, Reader, Tally, from_json, within
from srft.agent.importing.readers.conversation import (
    NOT_RECORDED,
    SCAFFOLDS_TOOLS,
    Line,
    Recorded,
    fence_action,
    line_of,
    optional,
    repository,
)
from srft.agent.importing.readers.dialects import chat_messages, objects, pruned_arguments, tool_descriptions
from srft.agent.importing.readers.endings import Told, ending_of_status
from srft.agent.importing.readers.swe_agent import CLOSING_WORDS, is_closing
from srft.agent.records import Action
from srft.env.errors import InputError

_OUTCOMES = ("resolved", "target", "verified", "reward", "success", "passed", "solved", "score")
_SUBMITS = ("submit", "finish")

ARROW_NULLS = "nulls that Arrow put into the arguments of calls"
DEVELOPER = "messages of the role developer, kept as the role system"
OTHER_PATCHES = "patches that are another row's"


def reader_of(dataset: Dataset) -> Reader:
    return Reader(dataset.name, functools.partial(_marks, dataset=dataset), functools.partial(_read, dataset=dataset))


def _marks(run: dict[str, Any], *, dataset: Dataset) -> bool:
    """`chat` takes whatever has messages; the others take their own columns, and a file of the rest needs a name."""
    if dataset.name == "chat":
        return any(name in run for name in dataset.columns.paths("messages"))
    return bool(dataset.marks) and run.keys() >= set(dataset.marks)


def _read(raw: RawRun, tally: Tally, *, dataset: Dataset) -> Recorded:
    row = _Row(raw, dataset)
    tools = tool_descriptions(given, f"{raw.where}: tools") if (given := row.value("tools")) is not None else ()
    messages = _messages(row, tools, tally)
    if not tools and dataset.known_tools and any(message.get("tool_calls") for message in messages):
        tools = known_tools(dataset.known_tools)
        tally.left_out[SCAFFOLDS_TOOLS] += 1
    lines = [_line(message, where, dataset) for message, where in zip(messages, row.places, strict=True)]
    lines, cut_short = _without_made_up(lines, dataset, tally)
    status = ending_of_status(given, tally) if (given := row.text("exit_status")) else None
    if cut_short is not None and (status is None or status.detail is not None):
        status = cut_short
    stop_reason, detail = status or _end(lines)
    task_id = row.task()
    return Recorded(
        task_id=task_id,
        repo=row.text("repo") or repository(task_id),
        model=row.text("model"),
        scaffold=row.text("scaffold") or dataset.scaffold,
        origin=_origin(row),
        lines=lines,
        tools=tools,
        patch=_patch(row, tally),
        stop_reason=stop_reason,
        detail=detail,
        resolved=_outcome(row, tally),
    )


class _Row:
    """A row, and where a dataset has what in it. places: of its messages, for complaints."""

    def __init__(self, raw: RawRun, dataset: Dataset) -> None:
        self.raw, self.dataset = raw, dataset
        self.places: list[str] = []

    def value(self, what: str) -> Any:
        """The first of these columns that is not null."""
        return next((value for path in self.paths(what) if (value := _at(self.raw.content, path)) is not None), None)

    def paths(self, what: str) -> tuple[str, ...]:
        return self.dataset.columns.paths(what)

    def is_as_any(self, what: str) -> bool:
        """Whether nothing is known of where this dataset has it: the columns are those tried of any rows."""
        return self.paths(what) == datasets()["chat"].columns.paths(what)

    def text(self, what: str) -> str | None:
        """The same where it is a text. Raises InputError for anything else."""
        for path in self.paths(what):
            value: str | None = optional({path: _at(self.raw.content, path)}, path, str, self.raw.where)
            if value is not None:
                return value
        return None

    def task(self) -> str:
        task = self.text("task")
        if not task:
            if self.paths("task") and not self.is_as_any("task"):
                names = " or ".join(self.paths("task"))
                raise InputError(f"{self.raw.where}: no {names}; expected the task's id next to messages")
            return self.raw.place
        if self.dataset.task_pattern is None:
            return task
        found = re.search(self.dataset.task_pattern, task)
        if not found or not found[1]:
            pattern = self.dataset.task_pattern
            raise InputError(f"{self.raw.where}: {self.paths('task')[0]}: {task!r:.80} does not match {pattern}")
        return str(found[1])


def _at(row: dict[str, Any], path: str) -> Any:
    """The value at a path, through JSON text too; `None` where a level is missing."""
    if path in row:
        return row[path]
    value: Any = row
    for key in path.split("."):
        if isinstance(value, str):
            try:
                value = from_json(value)
            except ValueError:
                return None
        value = within(value, key)
    return value


def _messages(row: _Row, tools: tuple[dict[str, Any], ...], tally: Tally) -> list[dict[str, Any]]:
    where, paths = row.raw.where, row.paths("messages")
    path = next((path for path in paths if _at(row.raw.content, path) is not None), None)
    if path is None:
        expected = " or ".join(paths) or "a column given with --set columns.messages=COLUMN"
        there = ", ".join(name for name in paths if name in row.raw.content)
        missing = f"{there}: expected a list of objects, got NoneType" if there else f"no messages; expected {expected}"
        raise InputError(f"{where}: {missing}")
    messages: list[dict[str, Any]] = []
    for place, given in enumerate(objects({path: _at(row.raw.content, path)}, path, where)):
        spot = f"{where}: {path}[{place}]"
        found = chat_messages(given, spot, roles=row.dataset.roles)
        tally.left_out[DEVELOPER] += isinstance(given, dict) and given.get("role") == "developer"
        messages += found
        row.places += [spot] * len(found)
    system = row.value("system")
    if system and not any(message["role"] == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": system})
        row.places.insert(0, f"{where}: system")
    _prune(messages, tools, tally)
    tally.left_out = +tally.left_out
    return messages


def _prune(messages: list[dict[str, Any]], tools: tuple[dict[str, Any], ...], tally: Tally) -> None:
    """Take Arrow's nulls out of decoded arguments; arguments that are a text are the model's own."""
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}
    for message in messages:
        calls = message.get("tool_calls")
        if not isinstance(calls, list):
            continue
        message["tool_calls"] = calls = list(calls)
        for place, call in enumerate(calls):
            function = call.get("function", call) if isinstance(call, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
                continue
            schema = schemas.get(name) if isinstance(name := function.get("name"), str) else None
            arguments, dropped = pruned_arguments(function["arguments"], schema)
            tally.left_out[ARROW_NULLS] += dropped
            calls[place] = {**call, "function": {**function, "arguments": arguments}}


def _line(message: dict[str, Any], where: str, dataset: Dataset) -> Line:
    line = line_of(message, where)
    if line.is_reply and not line.step["tool_calls"]:
        if dataset.actions == "terminus":
            return line.with_step(action=_terminus_action(line.step["content"]))
        if dataset.actions == "thought_action" and line.step["action"] is None:
            return line.with_step(action=fence_action(line.step["content"]))
    return line


def _terminus_action(text: str) -> Action | None:
    """What a reply of Terminus 2 does: {"commands": [{"keystrokes": ...}], "task_complete": ...}, maybe in a fence."""
    try:
        said = from_json(text[text.find("{") : text.rfind("}") + 1])
    except ValueError:
        return None
    commands = within(said, "commands")
    if not isinstance(commands, list):
        return None
    keys = [within(command, "keystrokes") for command in commands]
    typed = "".join(key for key in keys if isinstance(key, str))
    if not typed.strip() and said.get("task_complete") is True:
        return Action(tool="submit", format="terminus")
    return Action(tool="bash", arguments={"command": typed}, format="terminus")


def _without_made_up(lines: list[Line], dataset: Dataset, tally: Tally) -> tuple[list[Line], Told | None]:
    """Without a last reply that no model wrote, and how the run ended then."""
    place = max((place for place, line in enumerate(lines) if line.is_reply), default=None)
    if place is None:
        return lines, None
    last = lines[place].step
    submits = last["action"] is not None and last["action"].tool == "submit"
    made_up = submits and last["content"].startswith(dataset.made_up_ending or ())
    if not made_up and not is_closing(last):
        return lines, None
    tally.left_out[CLOSING_WORDS] += 1
    told = Told("cost_limit") if made_up or "cost" in last["content"] else Told("submitted", NOT_RECORDED)
    return lines[:place], told


def _end(lines: list[Line]) -> Told:
    last = next((line.step for line in reversed(lines) if line.is_reply), None)
    submits = last is not None and last["action"] is not None and last["action"].tool in _SUBMITS
    return Told("submitted", None if submits else NOT_RECORDED)


def _patch(row: _Row, tally: Tally) -> str | None:
    others = row.dataset.patches_of_other_rows
    if others is not None and _at(row.raw.content, others):
        tally.left_out[OTHER_PATCHES] += 1
    return row.text("patch")


def _outcome(row: _Row, tally: Tally) -> bool | None:
    """Whether the run resolved its task. Raises InputError for what is neither true or false nor a number of 0 to 1."""
    if row.dataset.all_resolved:
        return True
    for path in row.paths("outcome"):
        value = _at(row.raw.content, path)
        if value is None or (value == -1 and not isinstance(value, bool)):
            continue
        if isinstance(value, bool) or (isinstance(value, int | float) and 0 <= value <= 1):
            return value == 1
        raise InputError(
            f"{row.raw.where}: {path}: expected true, false or a number of 0 to 1, got {value!r:.80}. Fix or "
            "remove the run."
        )
    if row.is_as_any("outcome"):
        for name in _OUTCOMES:
            if name not in row.paths("outcome") and isinstance(row.raw.content.get(name), bool | int | float):
                tally.left_out[f"values of the column {name}; is it the outcome? --set columns.outcome={name}"] += 1
    return None


def _origin(row: _Row) -> str | None:
    """The dataset's name and the licence of its rows."""
    if row.dataset.name == "chat":
        return None
    licence = row.text("licence") or row.dataset.licence
    return f"{row.dataset.name} ({licence})" if licence else row.dataset.name
