"""The interface of an export format, and the parts that several formats share.

MessageFormat(False, line, settings).line(conversation)      # one line of the file, as a dict
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from srft.train.exports.conversation import Conversation

Line = dict[str, Any]


def _as_it_is(conversation: Conversation) -> Conversation | str:
    return conversation


class MessageFormat(NamedTuple):
    """One trainer's form. fractional: whether it knows weights between 0 and 1 and above.

    line: the run in that form, as one row or several, or the reason why it cannot be said. settings: what the trainer's
    configuration needs. prepare: what of a run the form can say at all, or the reason why nothing. endings: of its
    file; "" is a folder. finish: makes the file of the JSON lines, where it is no such file.
    """

    fractional: bool
    line: Callable[[Conversation], Line | list[Line] | str]
    settings: Callable[[Path, bool], str]
    prepare: Callable[[Conversation], Conversation | str] = _as_it_is
    endings: tuple[str, ...] = (".jsonl",)
    finish: Callable[[Path, Path], None] | None = None


def origin(conversation: Conversation) -> Line:
    return {"run_id": conversation.run_id, "task_id": conversation.task_id}


def json_text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)


def with_text_arguments(message: Line) -> Line:
    """Objects of different keys would be one another's columns once Arrow has read the file."""
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json_text(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def with_ids(messages: list[Line]) -> list[Line]:
    """The messages with an id at every call and answer: those that are recorded, else `call_N`, answers in order of the
    calls that have none yet."""
    said, open_ids, number = [], [], 0
    for message in messages:
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                calls.append({**call, "id": call.get("id") or f"call_{number}", "type": "function"})
                number += 1
            open_ids = [call["id"] for call in calls]
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            identity = message.get("tool_call_id") or (open_ids[0] if open_ids else f"call_{number}")
            open_ids = [it for it in open_ids if it != identity]
            message = {**message, "tool_call_id": identity}
        said.append(message)
    return said


def pairs(conversation: Conversation) -> zip[tuple[Line, float | None]]:
    return zip(conversation.messages, conversation.weights, strict=True)
