"""SWE-smith's published trajectories: rows of messages, instance_id, resolved, model, traj_id and patch.

The splits hold the same runs three ways: `tool` (SWE-agent's messages with tool calls, as a JSON string in some
revisions), `xml` (<function=...> calls) and `ticks` (the last fenced block is the action). In .jsonl or .parquet.

    READER.read(RawRun("train.parquet: row 1", "train", 1, row), Tally()).resolved

A run that ends with the call `submit` is `submitted`. In the xml split a run that ended at its cost limit was given a
last message that no model wrote, which submits; it is left out and counted, and the run's stop reason is `cost_limit`.
Of other runs the end is not recorded.
"""

from __future__ import annotations

from typing import Any

from srft.agent.importing.readers.chat import objects, patch_of
from srft.agent.importing.readers.conversation import NOT_RECORDED, Line, Recorded, fence_action, optional
from srft.agent.importing.readers.reader import Reader
from srft.agent.importing.readers.source import RawRun
from srft.agent.importing.readers.swe_agent import CLOSING_WORDS, history_line, is_closing
from srft.agent.importing.readers.tally import Tally
from srft.agent.records import StopReason
from srft.env.errors import InputError

# How the xml split's exporter begins the message that it puts in place of a cost limit.
_MADE_UP = "Since we have successfully fixed the issue"


def _marks(run: dict[str, Any]) -> bool:
    return "messages" in run and "traj_id" in run


def _read(raw: RawRun, tally: Tally) -> Recorded:
    run, where = raw.content, raw.where
    task_id = optional(run, "instance_id", str, where)
    if not task_id:
        raise InputError(f"{where}: no instance_id; expected the task's id next to messages")
    lines = [_line(message, f"{where}: messages[{n}]") for n, message in enumerate(objects(run, "messages", where))]
    lines, stop_reason, detail = _end(lines, tally)
    return Recorded(
        task_id=task_id,
        model=optional(run, "model", str, where),
        scaffold="SWE-agent",
        lines=lines,
        patch=patch_of(run, where),
        stop_reason=stop_reason,
        detail=detail,
        resolved=optional(run, "resolved", bool, where),
    )


def _line(message: Any, where: str) -> Line:
    line = history_line(message, where)
    if line.is_reply and line.step["action"] is None and not line.step["tool_calls"]:
        return history_line(message, where, step={"action": fence_action(line.step["content"])})
    return line


def _end(lines: list[Line], tally: Tally) -> tuple[list[Line], StopReason, str | None]:
    replies = [place for place, line in enumerate(lines) if line.is_reply]
    if not replies:
        return lines, "submitted", NOT_RECORDED
    last = lines[replies[-1]].step
    submits = last["action"] is not None and last["action"].tool == "submit"
    made_up = submits and last["content"].startswith(_MADE_UP)
    if not made_up and not is_closing(last):
        return lines, "submitted", None if submits else NOT_RECORDED
    tally.left_out[CLOSING_WORDS] += 1
    lines = lines[: replies[-1]]
    return (lines, "cost_limit", None) if made_up or "cost" in last["content"] else (lines, "submitted", NOT_RECORDED)


READER = Reader("swe-smith", _marks, _read)
