r"""Tool calls as text, for models whose chat template has none.

Reads a trajectory; gives one whose calls stand in the replies' texts and whose observations are a user's messages.

    text = calls_as_text(trajectory, "xml")
    text.steps[0].content       # 'I look.\n\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>'

xml    <function=NAME><parameter=KEY>value</parameter></function>
json   <tool_call>{"name": ..., "arguments": {...}}</tool_call>

Both are what `srft collect --format xml` (or json) speaks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from srft.agent.records import Action, Trajectory

Syntax = Literal["xml", "json"]


def calls_as_text(trajectory: Trajectory, syntax: Syntax) -> Trajectory:
    """The same run with its calls, observations and tool descriptions written as text."""
    if not any(step.tool_calls for step in trajectory.steps):
        return trajectory
    messages = _messages(trajectory.messages, syntax)
    if trajectory.tools:
        messages = _described(messages, _description(trajectory.tools, syntax))
    steps = tuple(
        msgspec.structs.replace(
            step,
            content=_written(step.content, step.tool_calls, syntax),
            tool_calls=(),
            action=step.action and Action(tool=step.action.tool, arguments=step.action.arguments, format=syntax),
            token_ids=None,
            prompt_token_ids=None,
            logprobs=None,
        )
        for step in trajectory.steps
    )
    demo = len(_messages(trajectory.messages[: trajectory.demo_messages], syntax))
    extra = len(messages) - len(_messages(trajectory.messages, syntax))
    return msgspec.structs.replace(
        trajectory, messages=tuple(messages), steps=steps, tools=(), demo_messages=demo + extra if demo else 0
    )


def _messages(messages: Iterable[dict[str, Any]], syntax: Syntax) -> list[dict[str, Any]]:
    """Consecutive answers of tools become one message of the user."""
    said: list[dict[str, Any]] = []
    was_tool = False
    for message in messages:
        content = message.get("content") or ""
        is_tool = message["role"] == "tool"
        if is_tool and was_tool:
            said[-1] = {"role": "user", "content": f"{said[-1]['content']}\n\n{content}"}
        elif is_tool:
            said.append({"role": "user", "content": content})
        elif message.get("tool_calls"):
            kept = {key: value for key, value in message.items() if key != "tool_calls"}
            said.append({**kept, "content": _written(content, message["tool_calls"], syntax)})
        else:
            said.append(message)
        was_tool = is_tool
    return said


def _written(content: str, calls: Iterable[dict[str, Any]], syntax: Syntax) -> str:
    """A reply's text with its calls behind it."""
    parts = [content] if content.strip() else []
    for call in calls:
        function = call.get("function") or {}
        name, arguments = str(function.get("name")), _arguments(function.get("arguments"))
        if syntax == "json":
            body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
            parts.append(f"<tool_call>\n{body}\n</tool_call>")
            continue
        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in arguments.items()}
        parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
        parts.append(f"<function={name}>\n{parameters}</function>")
    return "\n\n".join(parts) if len(parts) != 1 or parts[0] is not content else content


def _arguments(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            return {"unreadable": arguments}
    return arguments if isinstance(arguments, dict) else {}


def _description(tools: Iterable[dict[str, Any]], syntax: Syntax) -> str:
    """The tools in words, with the syntax to call them in."""
    lines = ["# Functions", "", "Call a function like this:", ""]
    if syntax == "xml":
        lines += ["<function=NAME>", "<parameter=PARAMETER>", "value", "</parameter>", "</function>", ""]
    else:
        lines += ["<tool_call>", '{"name": NAME, "arguments": {PARAMETER: value}}', "</tool_call>", ""]
    for tool in tools:
        function = tool.get("function") or tool
        lines.append(f"{function.get('name')}: {function.get('description') or ''}".rstrip())
        for name, schema in ((function.get("parameters") or {}).get("properties") or {}).items():
            told = schema.get("description") if isinstance(schema, dict) else None
            lines.append(f"  {name}: {told or ''}".rstrip())
    return "\n".join(lines)


def _described(messages: list[dict[str, Any]], description: str) -> list[dict[str, Any]]:
    """The description at the end of the system message, or as one."""
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0].get('content') or ''}\n\n{description}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": description}, *messages]
