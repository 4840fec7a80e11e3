"""The newer OpenHands events (of its software-agent SDK), each with a `kind`, as a conversation.

    sdk_lines([{"kind": "MessageEvent", "source": "user", "llm_message": {...}}, ...], "output.jsonl:1", Tally())

SystemPromptEvent, MessageEvent, ActionEvent (several of one response are one reply), ObservationEvent, AgentErrorEvent
and UserRejectObservation are what the model is sent; Condensation is counted; other kinds are for the application.
Several text parts of a message are joined by newlines, as the SDK does for servers that take text alone.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import msgspec

from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.conversation import Line, line_of, optional, text_of
from srft.env.errors import InputError

CONDENSED = "condensations of the history, after which the model saw less than is here"
_ERROR_HEADER = "[An error occurred during execution.]\n"


def sdk_lines(events: list[dict[str, Any]], where: str, tally: Tally) -> list[Line]:
    """The conversation of a run's events. Raises InputError."""
    lines: list[Line] = []
    # Events of one response come together; all others are groups of one.
    for _, group in groupby(enumerate(events), key=lambda pair: _response(*pair)):
        members = list(group)
        place, event = members[0]
        spot = f"{where}: history[{place}]"
        kind = optional(event, "kind", str, spot) or ""
        if kind == "ActionEvent":
            lines.append(_reply([member for _, member in members], spot))
        elif kind == "Condensation":
            tally.left_out[CONDENSED] += 1
        elif kind in _SENT:
            _add(lines, _SENT[kind](event, spot))
    # Calls that could not be turned into an action: of an unknown tool, or with arguments that are not its own.
    calls = [event for event in events if event.get("kind") == "ActionEvent" and event.get("action") is None]
    refused = [event.get("tool_call_id") for event in calls]
    is_refused = [line.sent["role"] == "tool" and line.sent.get("tool_call_id") in refused for line in lines]
    return [msgspec.structs.replace(line, refused=is_) for line, is_ in zip(lines, is_refused, strict=True)]


def _response(place: int, event: dict[str, Any]) -> Any:
    is_action = event.get("kind") == "ActionEvent" and event.get("llm_response_id") is not None
    return event["llm_response_id"] if is_action else place


def _add(lines: list[Line], line: Line) -> None:
    """User messages in a row are sent as one."""
    if line.sent["role"] == "user" and lines and lines[-1].sent["role"] == "user":
        content = f"{lines[-1].sent['content']}\n{line.sent['content']}"
        lines[-1] = Line(sent={**line.sent, "content": content})
    else:
        lines.append(line)


def _reply(events: list[dict[str, Any]], where: str) -> Line:
    calls = []
    for event in events:
        call = optional(event, "tool_call", dict, where)
        if call is None:
            raise InputError(f"{where}: tool_call: missing; expected the call as the model made it")
        function = call.get("function") or {"name": call.get("name"), "arguments": call.get("arguments")}
        calls.append({"id": call.get("id") or event.get("tool_call_id"), "function": function})
    content = text_of(events[0].get("thought") or "", f"{where}.thought", joint="\n")
    step = {"reasoning": optional(events[0], "reasoning_content", str, where)}
    return line_of({"role": "assistant", "content": content, "tool_calls": calls}, where, step=step)


def _system(event: dict[str, Any], where: str) -> Line:
    parts = [part for part in (event.get("system_prompt"), event.get("dynamic_context")) if part is not None]
    return line_of({"role": "system", "content": text_of(parts, f"{where}.system_prompt", joint="\n")}, where)


def _message(event: dict[str, Any], where: str) -> Line:
    said = optional(event, "llm_message", dict, where) or {}
    content = optional(said, "content", (str, list), f"{where}.llm_message") or []
    added = optional(event, "extended_content", list, where) or []
    parts = [*([content] if isinstance(content, str) else content), *added]
    message = {"role": said.get("role"), "content": text_of(parts, f"{where}.llm_message.content", joint="\n")}
    if said.get("role") != "assistant":
        return line_of(message, f"{where}.llm_message")
    return line_of(message, where, step={"reasoning": optional(said, "reasoning_content", str, where)})


def _observation(event: dict[str, Any], where: str) -> Line:
    found = optional(event, "observation", dict, where) or {}
    content = found.get("content") if found.get("content") is not None else found.get("output")
    text = text_of(content if content is not None else "", f"{where}.observation.content")
    status = optional(found, "metadata", dict, where)
    exit_code = optional(found, "exit_code", int, where)
    if status is not None and "exit_code" in status:
        text = terminal_text(text, status)
        exit_code = exit_code if exit_code is not None else optional(status, "exit_code", int, where)
    added = optional(event, "extended_content", list, where) or []
    parts = [*[_ERROR_HEADER] * bool(found.get("is_error")), text, *added]
    return line_of(
        _tool_message(event, text_of(parts, f"{where}.observation", joint="\n")),
        where,
        exit_code=None if exit_code == -1 else exit_code,
        timed_out=bool(found.get("timeout")),
    )


def _tool_message(event: dict[str, Any], content: Any) -> dict[str, Any]:
    names = {"tool_call_id": event.get("tool_call_id"), "name": event.get("tool_name")}
    return {"role": "tool", "content": content, **names}


def terminal_text(content: str, status: dict[str, Any]) -> str:
    """A command's output as the model sees it: what is known of its end goes below it."""
    text = f"{status.get('prefix') or ''}{content}{status.get('suffix') or ''}"
    if status.get("working_dir"):
        text += f"\n[Current working directory: {status['working_dir']}]"
    if status.get("py_interpreter_path"):
        text += f"\n[Python interpreter: {status['py_interpreter_path']}]"
    if status.get("exit_code", -1) not in (-1, None):
        text += f"\n[Command finished with exit code {status['exit_code']}]"
    return text


def _error(event: dict[str, Any], where: str) -> Line:
    return line_of(_tool_message(event, event.get("error")), f"{where}.error")


def _rejection(event: dict[str, Any], where: str) -> Line:
    return line_of(_tool_message(event, f"Action rejected: {event.get('rejection_reason')}"), where)


_SENT = {
    "SystemPromptEvent": _system,
    "MessageEvent": _message,
    "ObservationEvent": _observation,
    "AgentErrorEvent": _error,
    "UserRejectObservation": _rejection,
}
