"""OpenHands' evaluation output: `output.jsonl`, one run a line. Both generations.

A line holds `history`, a list of events, of which the conversation is put together again: in the older generation
(`action` and `observation` events, also as pairs) replies are the model's own responses in `tool_call_metadata`; the
newer one (events with a `kind`) is read by `openhands_sdk.py`.

    READER.read(RawRun("output.jsonl:1", "output", 1, {"history": [...], "test_result": {...}}), Tally()).patch

`error` is read as `endings.py` says; one that is not known is an infra_error with the error as detail. Without an error
the run is submitted, and where its last action is not finish, the detail says that its end is not recorded.

What the older events do not hold is counted, not made up: the system prompt before version 0.30, what `recall` adds to
the prompt, and histories that were condensed. Runs from before tool calls (no `tool_call_metadata`) are refused.
"""

from __future__ import annotations

from typing import Any

from srft.agent.importing.readers import RawRun, Reader, Tally, within
from srft.agent.importing.readers.conversation import NOT_RECORDED, Line, Recorded, line_of, optional, usage_of
from srft.agent.importing.readers.dialects import tool_descriptions
from srft.agent.importing.readers.endings import Told, known_ending
from srft.agent.importing.readers.openhands_sdk import CONDENSED, sdk_lines, terminal_text
from srft.env.errors import InputError

_NOT_FOR_THE_MODEL = {
    "agent_state_changed",
    "change_agent_state",
    "null",
    "recall",
    "loop_detection",
    "condensation_request",
}
_SUFFIXES = {
    "error": "\n[Error occurred in processing last action]",
    "user_rejected": "\n[Last action has been rejected by the user]",
}


def _marks(run: dict[str, Any]) -> bool:
    return "history" in run and ("test_result" in run or "git_patch" in run or "instruction" in run)


def _read(raw: RawRun, tally: Tally) -> Recorded:
    run, where = raw.content, raw.where
    task_id = optional(run, "instance_id", str, where)
    if not task_id:
        raise InputError(f"{where}: no instance_id; expected the task's id next to history")
    metadata = optional(run, "metadata", dict, where) or {}
    instance = optional(run, "instance", dict, where) or {}
    result = optional(run, "test_result", dict, where) or {}
    events = _events(run.get("history"), where)
    is_sdk = any(event.get("kind") is not None for event in events)  # rows of Parquet have null there
    lines = sdk_lines(events, where, tally) if is_sdk else _lines(events, where, tally)
    stop_reason, detail = _ending(run, events, lines, where)
    version = metadata.get("openhands_sdk_version") or metadata.get("git_commit")
    return Recorded(
        task_id=task_id,
        repo=optional(instance, "repo", str, where),
        model=_model(metadata),
        scaffold=f"OpenHands-{version}" if isinstance(version, str) else "OpenHands",
        lines=lines,
        tools=_tools(events, where),
        patch=optional(result, "git_patch", str, where) or optional(run, "git_patch", str, where),
        stop_reason=stop_reason,
        detail=detail,
        resolved=_resolved(run, result, where),
    )


def _events(history: Any, where: str) -> list[dict[str, Any]]:
    """The events in order; the oldest files have pairs of an action and its observation."""
    if history is None:
        return []
    if not isinstance(history, list):
        raise InputError(f"{where}: history: expected a list of events, got {type(history).__name__}")
    events = [event for entry in history for event in (entry if isinstance(entry, list) else [entry])]
    if not all(isinstance(event, dict) for event in events):
        raise InputError(f"{where}: history: expected events, each an object")
    return events


def _model(metadata: dict[str, Any]) -> str | None:
    names = [within(metadata, key, "model") for key in ("llm_config", "llm")]
    return next((name for name in names if isinstance(name, str)), None)


def _tools(events: list[dict[str, Any]], where: str) -> tuple[dict[str, Any], ...]:
    """What the older generation's system event offered."""
    offered = [within(event, "args", "tools") for event in events if event.get("action") == "system"]
    return tool_descriptions(offered[0], f"{where}: tools") if offered and offered[0] is not None else ()


def _resolved(run: dict[str, Any], result: dict[str, Any], where: str) -> bool | None:
    for report in (run.get("report"), result.get("report")):
        if isinstance(report, dict) and report.get("resolved") is not None:
            resolved: bool = optional(report, "resolved", bool, where)
            return resolved
    return None


def _ending(run: dict[str, Any], events: list[dict[str, Any]], lines: list[Line], where: str) -> Told:
    error = optional(run, "error", str, where)
    for event in events:
        if event.get("kind") == "ConversationErrorEvent":
            error = error or f"{event.get('code')}: {event.get('detail')}"
    if error:
        return known_ending(error) or Told("infra_error", error)
    replies = [line for line in lines if line.is_reply]
    action = replies[-1].step["action"] if replies else None
    return Told("submitted", None if action is not None and action.tool == "finish" else NOT_RECORDED)


def _lines(events: list[dict[str, Any]], where: str, tally: Tally) -> list[Line]:
    lines: list[Line] = []
    replies: set[str] = set()
    for place, event in enumerate(events):
        spot = f"{where}: history[{place}]"
        kind = optional(event, "action", str, spot) or optional(event, "observation", str, spot)
        if kind == "condensation":
            tally.left_out[CONDENSED] += 1
        elif kind in _NOT_FOR_THE_MODEL:
            tally.left_out["recalled knowledge that the file does not quote"] += event.get("observation") == "recall"
        elif kind == "delegate":
            raise InputError(f"{spot}: a delegated task, whose events are another conversation's; remove the run")
        elif event.get("action") is not None:
            lines += _action_lines(event, spot, replies, lines)
        elif event.get("observation") is not None:
            lines.append(_observation_line(event, spot, lines))
        else:
            raise InputError(f"{spot}: neither an action nor an observation")
    if lines and lines[0].sent["role"] != "system":
        tally.left_out["system prompts that the file does not hold"] += 1
    return _without_unanswered(lines, tally)


def _action_lines(event: dict[str, Any], where: str, replies: set[str], before: list[Line]) -> list[Line]:
    args, spot = optional(event, "args", dict, where) or {}, f"{where}: args"
    metadata = optional(event, "tool_call_metadata", dict, where)
    if event["action"] == "system":
        return [line_of({"role": "system", "content": args.get("content")}, spot)]
    if metadata is not None:
        response = optional(metadata, "model_response", dict, where) or {}
        identity = str(response.get("id"))
        if identity in replies:  # one of several calls of a reply that is here already
            return []
        replies.add(identity)
        return [_reply(response, f"{where}: tool_call_metadata.model_response")]
    if event["action"] in ("message", "finish"):
        content = args.get("content") if event["action"] == "message" else args.get("thought")
        if event.get("source") == "user":
            return [line_of({"role": "user", "content": _apart(content, before)}, spot)]
        return [line_of({"role": "assistant", "content": content}, spot)]
    if event.get("source") == "user" and event["action"] == "run":
        content = f"User executed the command:\n{args.get('command')}"
        return [line_of({"role": "user", "content": _apart(content, before)}, spot)]
    raise InputError(
        f"{where}: action {event['action']!r} without tool_call_metadata: the model's reply is not recorded; this is a "
        "run of an OpenHands from before tool calls"
    )


def _apart(content: Any, before: list[Line]) -> Any:
    """OpenHands sets a user message after another one off by an empty line."""
    return f"\n\n{content}" if isinstance(content, str) and before and before[-1].sent["role"] == "user" else content


def _reply(response: dict[str, Any], where: str) -> Line:
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    message = within(choice, "message")
    if not isinstance(message, dict):
        raise InputError(f"{where}.choices: expected one choice with a message")
    said = {key: message.get(key) for key in ("content", "tool_calls")}
    step = {
        "finish_reason": optional(choice, "finish_reason", str, where),
        "usage": usage_of(response.get("usage")),
        "reasoning": optional(message, "reasoning_content", str, where),
    }
    return line_of({"role": "assistant", **said}, f"{where}.choices[0].message", step=step)


def _observation_line(event: dict[str, Any], where: str, before: list[Line]) -> Line:
    """An observation as OpenHands words it for the model."""
    content = optional(event, "content", str, where) or ""
    extras = optional(event, "extras", dict, where) or {}
    call = optional(event, "tool_call_metadata", dict, where)
    exit_code, timed_out = None, False
    if event["observation"] == "run":
        status = optional(extras, "metadata", dict, where) or {"exit_code": extras.get("exit_code")}
        exit_code = optional(status, "exit_code", int, where)
        content, timed_out = terminal_text(content, status), "timed out" in str(status.get("suffix"))
        content = content if call else f"\nObserved result of command executed by user:\n{content}"
    content = "OBSERVATION:\n" * (event["observation"] == "user_rejected") + content
    content += _SUFFIXES.get(event["observation"], "")
    sent: dict[str, Any] = {"role": "user", "content": _apart(content, before)}
    if call:
        sent = {"role": "tool", "content": content, "tool_call_id": call.get("tool_call_id")}
        sent["name"] = call.get("function_name")
    return line_of(sent, where, exit_code=None if exit_code == -1 else exit_code, timed_out=timed_out)


def _without_unanswered(lines: list[Line], tally: Tally) -> list[Line]:
    """Without the earlier replies whose calls were never answered, and their answers: OpenHands sends neither."""
    answered = {line.sent.get("tool_call_id") for line in lines}
    replies = [line for line in lines if line.is_reply]
    gone: set[Any] = set()
    for line in replies[:-1]:
        calls = {call["id"] for call in line.sent.get("tool_calls", ())}
        if calls - answered:
            tally.left_out["replies whose calls were never answered"] += 1
            gone |= calls
    kept = []
    for line in lines:
        calls = {call["id"] for call in line.sent.get("tool_calls", ())}
        if not calls & gone and line.sent.get("tool_call_id") not in gone:
            kept.append(line)
    return kept


READER = Reader("openhands", _marks, _read)
