"""Plain chat lines, the form that most trainers take: {"messages": [...]}, one run a line.

Read: `messages` (a list, or the same as a JSON string) with the roles system, user, assistant and tool; `instance_id`
or `task_id` (else the file's name and the line name the task); `repo`, `model`, `patch` (or `model_patch`,
`git_patch`), `resolved`, and `tools` as they were offered. Per-message masks of other trainers are not read.

    READER.read(RawRun("c.jsonl:1", "c", 1, {"messages": [{"role": "assistant", "content": "Hi."}]}), Tally())

These lines do not say how a run ended: its stop reason is `submitted`, with the detail that it is not recorded.
"""

from __future__ import annotations

import json
from typing import Any

from srft.agent.importing.readers.conversation import NOT_RECORDED, Line, Recorded, line_of, optional
from srft.agent.importing.readers.reader import Reader
from srft.agent.importing.readers.source import RawRun
from srft.agent.importing.readers.tally import Tally
from srft.agent.models.contract import well_formed_within
from srft.env.errors import InputError


def _marks(run: dict[str, Any]) -> bool:
    return "messages" in run


def _read(raw: RawRun, tally: Tally) -> Recorded:
    run, where = raw.content, raw.where
    task_id = optional(run, "instance_id", str, where) or optional(run, "task_id", str, where)
    messages = objects(run, "messages", where)
    return Recorded(
        task_id=task_id or (raw.name if raw.line is None else f"{raw.name}-{raw.line}"),
        repo=optional(run, "repo", str, where),
        model=optional(run, "model", str, where),
        scaffold="chat",
        lines=chat_lines(messages, where),
        tools=tuple(objects(run, "tools", where)) if run.get("tools") is not None else (),
        patch=patch_of(run, where),
        stop_reason="submitted",
        detail=NOT_RECORDED,
        resolved=optional(run, "resolved", bool, where),
    )


def chat_lines(messages: list[Any], where: str) -> list[Line]:
    """The messages of a conversation; a user's message after a reply answers it. Raises InputError."""
    return [line_of(message, f"{where}: messages[{place}]") for place, message in enumerate(messages)]


def objects(run: dict[str, Any], key: str, where: str) -> list[Any]:
    """A list, or a JSON string of one. Raises InputError."""
    value = run.get(key)
    if isinstance(value, str):
        try:
            value = well_formed_within(json.loads(value))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: {key}: a text, but not JSON ({error}); expected a list of objects") from None
    if not isinstance(value, list):
        raise InputError(f"{where}: {key}: expected a list of objects, got {type(value).__name__}")
    return value


def patch_of(run: dict[str, Any], where: str) -> str | None:
    """The patch under any of its names, to the character. Raises InputError."""
    patch: str | None
    for key in ("patch", "model_patch", "git_patch"):
        if (patch := optional(run, key, str, where)) is not None:
            return patch
    return None


READER = Reader("chat", _marks, _read)
