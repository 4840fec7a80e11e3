"""mini-swe-agent's runs: `.traj.json`, or JSON lines of them. Both generations.

1.x writes actions in ```bash blocks; 2.x calls tools or uses ```mswea_bash_command blocks, and puts the parsed commands
and exit codes into each message's `extra`. A verdict of the harness, where somebody added one, stands in `resolved`.

    READER.read(RawRun("t.traj.json", "t", None, {"messages": [...], "info": {...}}), Tally()).stop_reason

| exit_status | stop reason |
|---|---|
| Submitted | submitted |
| LimitsExceeded | step_limit where the calls reached the configured step limit, else cost_limit |
| TimeExceeded | wall_limit |
| RepeatedFormatError | format_errors |
| ContextWindowExceededError | context_limit |
| UserInterruption, KeyboardInterrupt, empty | cancelled |
| any other (the name of an exception) | infra_error, with the name as detail |

Only a Submitted run has a patch: 1.x writes the text of an exception into `submission` as well. 2.x asks again after a
reply without an action and keeps that reply out of the conversation; such replies are counted, they are no steps.
"""

from __future__ import annotations

import re
from typing import Any

from srft.agent.importing.columns import known_tools
from srft.agent.importing.readers import RawRun, Reader, Tally
from srft.agent.importing.readers.conversation import (
    NOT_RECORDED,
    SCAFFOLDS_TOOLS,
    Line,
    Recorded,
    count_of,
    line_of,
    optional,
    text_action,
    usage_of,
)
from srft.agent.records import Action, StopReason
from srft.env.errors import InputError

ENDINGS: dict[str, StopReason] = {
    "Submitted": "submitted",
    "TimeExceeded": "wall_limit",
    "RepeatedFormatError": "format_errors",
    "ContextWindowExceededError": "context_limit",
    "UserInterruption": "cancelled",
    "KeyboardInterrupt": "cancelled",
    "": "cancelled",
}
_TEXT_BLOCK = re.compile(r"```mswea_bash_command\s*\n(.*?)\n```", re.DOTALL)


def _marks(run: dict[str, Any]) -> bool:
    return str(run.get("trajectory_format", "")).startswith("mini-swe-agent") or (
        "messages" in run
        and isinstance(run.get("info"), dict)
        and not {"exit_status", "mini_version"}.isdisjoint(run["info"])
    )


def _read(raw: RawRun, tally: Tally) -> Recorded:
    run, where = raw.content, raw.where
    kind = run.get("trajectory_format", "mini-swe-agent-1")
    if not str(kind).startswith("mini-swe-agent-1"):
        raise InputError(f"{where}: trajectory_format is {kind!r}; expected mini-swe-agent-1")
    if not isinstance(run.get("messages"), list):
        raise InputError(f"{where}: expected an object with messages, as mini-swe-agent writes it")
    task_id = optional(run, "instance_id", str, where) or (raw.name if raw.line is None else None)
    if task_id is None:
        raise InputError(f"{where}: no instance_id; expected the task's id next to messages")
    info = optional(run, "info", dict, where) or {}
    if "exit_status" not in info and "exit_status" in run:
        info = {**info, "exit_status": run["exit_status"]}  # published rows have it beside the messages
    is_told = "info" in run or "exit_status" in run
    stop_reason, detail = _ending(info, where) if is_told else ("submitted", NOT_RECORDED)
    lines = _lines(run["messages"], where, tally)
    calls = any(line.step.get("tool_calls") for line in lines)
    if calls:
        tally.left_out[SCAFFOLDS_TOOLS] += 1
    return Recorded(
        task_id=task_id,
        model=_model(run, info),
        scaffold="-".join(filter(None, ("mini-swe-agent", optional(info, "mini_version", str, where)))),
        lines=lines,
        tools=known_tools("mini-swe-agent") if calls else (),
        patch=optional(info, "submission", str, where) if stop_reason == "submitted" else None,
        stop_reason=stop_reason,
        detail=detail,
        resolved=optional(run, "resolved", bool, where),
    )


def _ending(info: dict[str, Any], where: str) -> tuple[StopReason, str | None]:
    status = optional(info, "exit_status", str, where) or ""
    if status == "LimitsExceeded":
        limit = count_of(_within(info, "config", "agent", "step_limit")) or 0
        calls = count_of(_within(info, "model_stats", "api_calls")) or 0
        return "step_limit" if 0 < limit <= calls else "cost_limit", None
    return (ENDINGS[status], None) if status in ENDINGS else ("infra_error", status)


def _within(value: Any, *keys: str) -> Any:
    """The value under nested keys, `None` where a level is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _model(run: dict[str, Any], info: dict[str, Any]) -> str | None:
    """The configured model, else the one that the first response names."""
    names = [_within(info, "config", "model", "model_name")]
    names += [_within(message, "extra", "response", "model") for message in run["messages"]]
    return next((name for name in names if isinstance(name, str)), None)


def _lines(messages: list[Any], where: str, tally: Tally) -> list[Line]:
    lines = []
    for place, message in enumerate(messages):
        spot = f"{where}: messages[{place}]"
        if _within(message, "role") == "exit":
            tally.left_out["exit messages of mini-swe-agent"] += 1
        elif _within(message, "object") == "response" or _within(message, "type") == "function_call_output":
            raise InputError(f"{spot}: an item of the Responses API; expected a chat message with role and content")
        elif _within(message, "role") == "assistant":
            lines.append(_reply(message, spot))
        else:
            lines.append(_answer(message, spot, tally))
    return lines


def _reply(message: dict[str, Any], where: str) -> Line:
    response = _within(message, "extra", "response")
    choices = _within(response, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    step: dict[str, Any] = {
        "finish_reason": _text(_within(choice, "finish_reason")),
        "usage": usage_of(_within(response, "usage"), cost_usd=_within(message, "extra", "cost")),
    }
    line = line_of(message, where, step=step)
    said = _within(choice, "message")
    reasoning = line.step["reasoning"] or _text(_within(said, "reasoning_content")) or _text(_within(said, "reasoning"))
    found: dict[str, Any] = {"reasoning": reasoning}
    if not line.step["tool_calls"]:
        found["action"] = _text_action(line.step["content"], _within(message, "extra", "actions"))
        found["error"] = "format" if found["action"] is None else None
    return line_of(message, where, step={**step, **found})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _text_action(content: str, actions: Any) -> Action | None:
    """The command of a text: the recorded one where it is there, which a configured pattern may have found."""
    action = text_action(content)
    commands = [_within(action, "command") for action in actions] if isinstance(actions, list) else []
    commands = [command for command in commands if isinstance(command, str)] or _TEXT_BLOCK.findall(content)
    if action is not None and action.format == "backtick":
        return action
    if len(commands) != 1:
        return None
    return Action(tool="bash", arguments={"command": commands[0]}, format="mswea_bash_command")


def _answer(message: Any, where: str, tally: Tally) -> Line:
    if _within(message, "extra", "interrupt_type") == "FormatError":
        # The refused reply is not in the conversation, so this answers nothing that is.
        tally.left_out["replies that mini-swe-agent refused and did not keep"] += 1
        return line_of(message, where, answers=False)
    if _within(message, "extra", "exception_type") == "TimeoutExpired":
        return line_of(message, where, timed_out=True)
    return line_of(message, where, exit_code=count_of(_within(message, "extra", "returncode")))


READER = Reader("mini-swe-agent", _marks, _read)
