"""mini-swe-agent's runs: `.traj.json`, or JSON lines of them. Both generations.

1.x writes actions in ```bash blocks; 2.x calls tools or uses ```mswea_bash_command blocks, and puts the parsed commands
and exit codes into each message's `extra`. A verdict of the harness, where somebody added one, is in `resolved`.

    READER.read(RawRun("t.traj.json", "t", None, {"messages": [...], "info": {...}}), Tally()).stop_reason

`exit_status` is read as `endings.py` says. LimitsExceeded is step_limit where the calls reached the configured step
limit; a status that is not known is the name of an exception: infra_error.

Only a Submitted run has a patch: 1.x writes the text of an exception into `submission` as well. 2.x asks again after a
reply without an action and keeps that reply out of the conversation; such replies are counted, they are no steps.
"""

from __future__ import annotations

import re
from typing import Any

from srft.agent.importing.columns import known_tools
from srft.agent.importing.readers import RawRun, Reader, Tally, within
from srft.agent.importing.readers.conversation import (
    NOT_RECORDED,
    SCAFFOLDS_TOOLS,
    Line,
    Recorded,
    count_of,
    line_of,
    optional,
    task_of,
    text_action,
    usage_of,
)
from srft.agent.importing.readers.endings import Told, known_ending
from srft.agent.records import Action
from srft.env.errors import InputError

_TEXT_BLOCK = re.compile(r"```mswea_bash_command\s*\n(.*?)\n```", re.DOTALL)


def _marks(run: dict[str, Any]) -> bool:
    return str(run.get("trajectory_format")).startswith("mini-swe-agent") or (
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
    info = optional(run, "info", dict, where) or {}
    if "exit_status" not in info and "exit_status" in run:
        info = {**info, "exit_status": run["exit_status"]}  # published rows have it beside the messages
    is_told = "info" in run or "exit_status" in run
    stop_reason, detail = _ending(info, where) if is_told else Told("submitted", NOT_RECORDED)
    lines = _lines(run["messages"], where, tally)
    calls = any(line.step.get("tool_calls") for line in lines)
    if calls:
        tally.left_out[SCAFFOLDS_TOOLS] += 1
    return Recorded(
        task_id=task_of(raw),
        model=_model(run, info),
        scaffold="-".join(filter(None, ("mini-swe-agent", optional(info, "mini_version", str, where)))),
        lines=lines,
        tools=known_tools("mini-swe-agent") if calls else (),
        patch=optional(info, "submission", str, where) if stop_reason == "submitted" else None,
        stop_reason=stop_reason,
        detail=detail,
        resolved=optional(run, "resolved", bool, where),
    )


def _ending(info: dict[str, Any], where: str) -> Told:
    status = optional(info, "exit_status", str, where) or ""
    limit = count_of(within(info, "config", "agent", "step_limit"))
    calls = count_of(within(info, "model_stats", "api_calls"))
    if status == "LimitsExceeded" and limit is not None and calls is not None and 0 < limit <= calls:
        return Told("step_limit")
    return known_ending(status) or Told("infra_error", status)


def _model(run: dict[str, Any], info: dict[str, Any]) -> str | None:
    """The configured model, else the one that the first response names."""
    names = [within(info, "config", "model", "model_name")]
    names += [within(message, "extra", "response", "model") for message in run["messages"]]
    return next((name for name in names if isinstance(name, str)), None)


def _lines(messages: list[Any], where: str, tally: Tally) -> list[Line]:
    lines = []
    for place, message in enumerate(messages):
        spot = f"{where}: messages[{place}]"
        if within(message, "role") == "exit":
            tally.left_out["exit messages of mini-swe-agent"] += 1
        elif within(message, "object") == "response" or within(message, "type") == "function_call_output":
            raise InputError(f"{spot}: an item of the Responses API; expected a chat message with role and content")
        elif within(message, "role") == "assistant":
            lines.append(_reply(message, spot))
        else:
            lines.append(_answer(message, spot, tally))
    return lines


def _reply(message: dict[str, Any], where: str) -> Line:
    response = within(message, "extra", "response")
    choices = within(response, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    thoughts = [within(choice, "message", key) for key in ("reasoning_content", "reasoning")]
    step = {
        "finish_reason": _text(within(choice, "finish_reason")),
        "usage": usage_of(within(response, "usage"), cost_usd=within(message, "extra", "cost")),
    }
    line = line_of(message, where, step=step)
    if not line.step["reasoning"]:
        line = line.with_step(reasoning=next(filter(None, map(_text, thoughts)), None))
    if line.step["tool_calls"]:
        return line
    action = _text_action(line.step["content"], within(message, "extra", "actions"))
    return line.with_step(action=action, error="format" if action is None else None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _text_action(content: str, actions: Any) -> Action | None:
    """The command of a text: the recorded one where it is there, which a configured pattern may have found."""
    action = text_action(content)
    commands = [within(action, "command") for action in actions] if isinstance(actions, list) else []
    commands = [command for command in commands if isinstance(command, str)] or _TEXT_BLOCK.findall(content)
    if action is not None and action.format == "backtick":
        return action
    if len(commands) != 1:
        return None
    return Action(tool="bash", arguments={"command": commands[0]}, format="mswea_bash_command")


def _answer(message: Any, where: str, tally: Tally) -> Line:
    if within(message, "extra", "interrupt_type") == "FormatError":
        # The refused reply is not in the conversation, so this answers nothing that is.
        tally.left_out["replies that mini-swe-agent refused and did not keep"] += 1
        return line_of(message, where, answers=False)
    if within(message, "extra", "exception_type") == "TimeoutExpired":
        return line_of(message, where, timed_out=True)
    return line_of(message, where, exit_code=count_of(within(message, "extra", "returncode")))


READER = Reader("mini-swe-agent", _marks, _read)
