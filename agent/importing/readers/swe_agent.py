"""SWE-agent's runs: `<instance id>.traj`. All generations that have a `history`.

The conversation is `history`: content as text or as text parts, actions in the text or as tool calls. `trajectory` has
an entry a reply, of which the execution time is taken. The file's name is the task's id.

    READER.read(RawRun("x__y-1.traj", "x__y-1", None, {"history": [...], "info": {...}}), Tally()).demo_messages

`exit_status` is read as `endings.py` says; null is cancelled, and a file without one does not tell.

Examples (`is_demo`) are shown to the model: they stay in the messages and are no steps. When a limit ends a run,
SWE-agent writes a last assistant message itself ("Exit due to cost limit"): no model said it, so it is left out and
counted. Replies that were refused and asked for again are not in `history`. The others were asked with what `history`
holds, except where a history processor shortened it or a refused reply stood at its end (`query` differs): counted.
"""

from __future__ import annotations

import re
from typing import Any

from srft.agent.importing.readers import RawRun, Reader, Tally, from_json, within
from srft.agent.importing.readers.conversation import (
    NOT_RECORDED,
    Line,
    Recorded,
    fence_action,
    line_of,
    number_of,
    optional,
    split_thinking,
    task_of,
    text_of,
)
from srft.agent.importing.readers.dialects import chat_messages
from srft.agent.importing.readers.endings import Told, ending_of_status
from srft.agent.records import Action
from srft.env.errors import InputError

CLOSING_WORDS = "last messages that the scaffold wrote itself"

_CLOSING = re.compile(r"Exit(?:ing)? due to ")


def _marks(run: dict[str, Any]) -> bool:
    history = run.get("history")
    return isinstance(history, list) and (
        "trajectory" in run or any(isinstance(entry, dict) and "role" in entry for entry in history[:1])
    )


def _read(raw: RawRun, tally: Tally) -> Recorded:
    run, where = raw.content, raw.where
    info = optional(run, "info", dict, where) or {}
    history = _own_history(run.get("history"), where, tally)
    lines = [_history_line(entry, f"{where}: history[{place}]") for place, entry in enumerate(history)]
    demo_messages = max((place + 1 for place, entry in enumerate(history) if entry.get("is_demo")), default=0)
    lines = _without_closing(lines, demo_messages, tally)
    stop_reason, detail = _ending(info, where, tally)
    return Recorded(
        task_id=task_of(raw),
        model=_model(run.get("replay_config")),
        scaffold="-".join(filter(None, ("SWE-agent", optional(info, "swe_agent_version", str, where)))),
        lines=_with_times(lines, run.get("trajectory"), demo_messages, tally),
        demo_messages=demo_messages,
        patch=optional(info, "submission", str, where),
        stop_reason=stop_reason,
        detail=detail,
        resolved=optional(run, "resolved", bool, where),
    )


def _own_history(history: Any, where: str, tally: Tally) -> list[dict[str, Any]]:
    """The entries of the agent that began: others (reviewers, summaries) have conversations of their own."""
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise InputError(f"{where}: history: expected a list of messages, as SWE-agent writes it")
    agent = history[0].get("agent") if history else None
    own = [entry for entry in history if entry.get("agent", agent) == agent or entry.get("is_demo")]
    if others := len(history) - len(own):
        tally.left_out["messages of other agents in the run"] += others
    return own


def _history_line(entry: Any, where: str) -> Line:
    message, *others = chat_messages(entry, where)
    if others:
        raise InputError(f"{where}.tool_call_ids: expected one id, as SWE-agent makes one call a reply")
    line = line_of(message, where)
    return line.with_step(action=_action(entry, line)) if line.is_reply else line


def _action(entry: dict[str, Any], line: Line) -> Action | None:
    """The tool call, or the call in the text, or the command that SWE-agent read from the text."""
    found: Action | None = line.step.get("action")
    command = entry.get("action")
    if found is not None and found.format in ("native", "xml"):
        return found
    if line.step["tool_calls"] or not isinstance(command, str) or not command.strip():
        return None if line.step["tool_calls"] or isinstance(command, str) else found
    fenced = fence_action(line.step["content"])
    if fenced is not None and fenced.arguments.get("command", "submit").strip() == command.strip():
        return fenced
    if command.strip() == "submit":
        return Action(tool="submit", format="thought_action")
    return Action(tool="bash", arguments={"command": command}, format="thought_action")


def _with_times(lines: list[Line], trajectory: Any, demo_messages: int, tally: Tally) -> list[Line]:
    """The lines with each reply's execution time; counts the replies that were asked with another history."""
    entries = [entry for entry in trajectory if isinstance(entry, dict)] if isinstance(trajectory, list) else []
    timed = list(lines)
    for place, line in enumerate(lines):
        if not line.is_reply or place < demo_messages:
            continue
        # Entries of refused replies come between; entries and replies are in the same order.
        matching = (n for n, entry in enumerate(entries) if _said(entry) == line.step["content"])
        if (found := next(matching, None)) is None:
            continue
        entry, entries = entries[found], entries[found + 1 :]
        timed[place] = line.with_step(wall_s=number_of(entry.get("execution_time")))
        if _asked_otherwise(entry.get("query"), lines[:place]):
            tally.left_out["steps that were asked with a shortened or longer history"] += 1
    return timed


def _said(entry: dict[str, Any]) -> Any:
    response = entry.get("response")
    return split_thinking(response)[1] if isinstance(response, str) else response


def _asked_otherwise(query: Any, lines: list[Line]) -> bool:
    if not isinstance(query, list):
        return False
    try:
        asked = [text_of(message.get("content") or "", "query") for message in query if isinstance(message, dict)]
    except InputError:
        return True
    return asked != [line.sent["content"] for line in lines]


def is_closing(step: dict[str, Any]) -> bool:
    """Whether a reply is one that SWE-agent wrote itself when a limit ended the run."""
    command = step["action"].arguments.get("command", "") if step["action"] is not None else ""
    return bool(_CLOSING.match(step["content"])) and (not command or command.startswith("exit_"))


def _without_closing(lines: list[Line], demo_messages: int, tally: Tally) -> list[Line]:
    last = max((place for place, line in enumerate(lines) if line.is_reply and place >= demo_messages), default=None)
    if last is None or not is_closing(lines[last].step):
        return lines
    tally.left_out[CLOSING_WORDS] += 1
    return lines[:last]


def _ending(info: dict[str, Any], where: str, tally: Tally) -> Told:
    if "exit_status" not in info:
        return Told("submitted", NOT_RECORDED)
    return ending_of_status(optional(info, "exit_status", str, f"{where}: info") or "", tally)


def _model(config: Any) -> str | None:
    """The model's name in the configuration that newer files carry, an object or the JSON of one."""
    if isinstance(config, str):
        try:
            config = from_json(config)
        except ValueError:
            return None
    name = within(config, "agent", "model", "name")
    return name if isinstance(name, str) else None


READER = Reader("swe-agent", _marks, _read)
