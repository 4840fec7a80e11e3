"""The format `native`: one tool call of the chat API: bash, edit or submit.

call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
NativeFormat().parse(Reply(content="I look.", tool_calls=(call,))).arguments     # {'command': 'ls'}
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from srft.agent.formats.contract import FormatError, arguments_of, checked_action
from srft.agent.models.contract import Reply
from srft.agent.records import Action
from srft.agent.tools.edit import EDIT_SCHEMA


class NativeFormat:
    """One tool call of the chat API."""

    name = "native"
    instructions = """\
Call exactly one tool in each reply, and say before the call what you think. `bash` runs a command, `edit` views and
changes files, `submit` hands in the work as it is.
"""
    tools: tuple[dict[str, Any], ...] = (
        {
            "type": "function",
            "function": {
                "name": "bash",
                "description": "Run a bash command and see its output.",
                "parameters": {
                    "type": "object",
                    "properties": {"command": {"type": "string", "description": "The command."}},
                    "required": ["command"],
                },
            },
        },
        {"type": "function", "function": {"name": "edit", **EDIT_SCHEMA}},
        {
            "type": "function",
            "function": {
                "name": "submit",
                "description": "Hand in the work as it is. Nothing can be changed after it.",
                "parameters": {"type": "object", "properties": {}},
            },
        },
    )

    def parse(self, reply: Reply) -> Action:
        if len(reply.tool_calls) != 1:
            raise FormatError(f"Expected exactly one tool call, found {len(reply.tool_calls)}.")
        function = reply.tool_calls[0].get("function") or {}
        arguments = arguments_of(function)
        return checked_action(function.get("name"), arguments, format=self.name, call_id=reply.tool_calls[0].get("id"))

    def assistant_message(self, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.content, **reply.sent_back}
        if reply.tool_calls:
            message["tool_calls"] = [_sendable(call) for call in reply.tool_calls]
        return message

    def render_observation(self, action: Action, text: str) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": action.call_id, "content": text}

    def render_format_error(self, reply: Reply, text: str) -> list[dict[str, Any]]:
        if not reply.tool_calls:
            return [{"role": "user", "content": text}]
        # Servers refuse a conversation in which a call is left without an answer.
        return [{"role": "tool", "tool_call_id": call.get("id"), "content": text} for call in reply.tool_calls]

    def with_action(self, reply: Reply, action: Action) -> Reply:
        function = {"name": action.tool, "arguments": json.dumps(action.arguments, ensure_ascii=False)}
        call_id = next((call["id"] for call in reply.tool_calls if call.get("id")), action.call_id)
        call = {"id": call_id, "type": "function", "function": function}
        return msgspec.structs.replace(reply, tool_calls=(call,), finish_reason="tool_calls")


def _sendable(call: dict[str, Any]) -> dict[str, Any]:
    """The call with its arguments as the string of an object, whatever the model wrote.

    Servers decode the arguments of earlier calls and refuse the whole request where that fails, so arguments that are
    no object travel inside one.
    """
    function = dict(call.get("function") or {})
    function["arguments"] = function.get("arguments") or "{}"
    try:
        arguments_of(function)
    except FormatError:
        function["arguments"] = json.dumps({"unreadable": function["arguments"]}, ensure_ascii=False)
    if not isinstance(function["arguments"], str):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": function}
