"""The ways in which messages are written, as chat messages: role, content, tool_calls, tool_call_id, name, reasoning.

    chat_messages({"from": "human", "value": "Fix it."}, "a.jsonl:1: messages[0]")     # [{"role": "user", ...}]

| dialect | message |
|---|---|
| OpenAI | role, content as text, parts or null, tool_calls, function_call, the role developer |
| ShareGPT, LLaMA-Factory | from (system, human, gpt, function_call, observation), value |
| SWE-agent's history | tool_call_ids, thinking_blocks |
| nebius' SWE-agent rows | role ai, text or system_prompt |
| Anthropic | content blocks: text, thinking, tool_use; tool_result, which becomes a message of its own |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srft.agent.importing.readers import from_json, within
from srft.agent.importing.readers.conversation import ROLES, text_of
from srft.env.errors import InputError

ALIASES = {
    "developer": "system",
    "human": "user",
    "ai": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "environment": "user",
}
_REASONING = ("reasoning_content", "reasoning", "thinking")
_TEXTS = ("content", "value", "text", "system_prompt")


def chat_messages(message: Any, where: str, *, roles: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """A message as chat messages; several where it holds the results of several calls. Raises InputError.

    roles: names of a dataset's own for the chat's roles.
    """
    if not isinstance(message, dict):
        raise InputError(f"{where}: expected an object with role and content, got {type(message).__name__}")
    if not isinstance(given := message.get("role", message.get("from")), str):
        raise InputError(f"{where}.role: expected one of {', '.join(ROLES)}, got {given!r}")
    role = (roles or {}).get(given, ALIASES.get(given, given))
    said: dict[str, Any] = {"role": role}
    for key in _TEXTS:  # an unread key must not make an empty message of a full one
        if message.get(key) is not None or (key == "content" and key in message and role in ("assistant", "tool")):
            said["content"] = message[key]
            break
    if given in ("function_call", "tool_call"):
        return [{"role": "assistant", "content": "", "tool_calls": _written_calls(said.get("content"), where)}]
    if role == "assistant":
        return [_reply(said, message, where)]
    blocks = said.get("content")
    if isinstance(blocks, list) and any(_kind(block) == "tool_result" for block in blocks):
        return _results(blocks, where)
    said |= {key: message[key] for key in ("tool_call_id", "name") if message.get(key) is not None}
    if ids := message.get("tool_call_ids"):
        return _answers(said, ids, where)
    return [said]


def _reply(said: dict[str, Any], message: dict[str, Any], where: str) -> dict[str, Any]:
    for key in _REASONING:
        if isinstance(message.get(key), str) and message[key]:
            said["reasoning_content"] = message[key]
            break
    calls = message.get("tool_calls")
    if isinstance(calls, str):  # as JSON text
        calls = _json(calls, f"{where}.tool_calls")
    if calls is None and isinstance(message.get("function_call"), dict):
        calls = [{"function": message["function_call"]}]
    blocks = [*_list(said.get("content")), *_list(message.get("thinking_blocks"))]
    thinking = [block["thinking"] for block in blocks if isinstance(within(block, "thinking"), str)]
    if thinking and "reasoning_content" not in said:
        said["reasoning_content"] = "\n".join(thinking)
    if isinstance(said.get("content"), list):
        used = [block for block in said["content"] if _kind(block) == "tool_use"]
        others = ("tool_use", "thinking", "redacted_thinking")
        said["content"] = [block for block in said["content"] if _kind(block) not in others]
        calls = calls or [
            {"id": block.get("id"), "function": {"name": block.get("name"), "arguments": block.get("input")}}
            for block in used
        ]
    return said | {"tool_calls": calls} if calls else said


def _results(blocks: list[Any], where: str) -> list[dict[str, Any]]:
    """Anthropic's tool results, each a message, and what the user says besides."""
    messages: list[dict[str, Any]] = []
    texts: list[Any] = []
    for place, block in enumerate(blocks):
        if _kind(block) != "tool_result":
            texts.append(block)
            continue
        answer = {"role": "tool", "content": block.get("content"), "tool_call_id": block.get("tool_use_id")}
        if answer["content"] is not None:
            answer["content"] = text_of(answer["content"], f"{where}.content[{place}].content", joint="\n")
        messages.append(answer)
    return [*messages, {"role": "user", "content": texts}] if texts else messages


def _answers(said: dict[str, Any], ids: Any, where: str) -> list[dict[str, Any]]:
    """SWE-agent's answer, to one call or to several at once: the text answers the first, the others get none."""
    if not isinstance(ids, list) or not all(isinstance(identity, str) for identity in ids):
        raise InputError(f"{where}.tool_call_ids: expected a list of ids, got {ids!r:.80}")
    return [{**said, "tool_call_id": ids[0]}, *({**said, "content": "", "tool_call_id": other} for other in ids[1:])]


def _written_calls(value: Any, where: str) -> list[Any]:
    """LLaMA-Factory's calls: JSON of {"name": ..., "arguments": ...}, or of a list of them."""
    calls = _json(value, f"{where}.value") if isinstance(value, str) else value
    return [{"function": call} for call in (calls if isinstance(calls, list) else [calls])]


def _json(text: str, where: str) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise InputError(f"{where}: a text, but not JSON ({error}). Fix or remove the run.") from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(block: Any) -> Any:
    return within(block, "type")


def objects(holder: dict[str, Any], key: str, where: str) -> list[Any]:
    """A list, or a JSON text of one. Raises InputError."""
    value = holder.get(key)
    value = _json(value, f"{where}: {key}") if isinstance(value, str) else value
    if not isinstance(value, list):
        raise InputError(f"{where}: {key}: expected a list of objects, got {type(value).__name__}")
    return value


def tool_descriptions(value: Any, where: str) -> tuple[dict[str, Any], ...]:
    """Descriptions of tools as a chat API takes them, without the nulls that Arrow made. Raises InputError.

    Read: a list of them, its JSON text, a list of JSON texts; with or without the object `function` around name and
    parameters; Anthropic's `input_schema`.
    """
    if isinstance(value, str):
        value = _json(value, where) if value.strip() else []
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list of tool descriptions, got {type(value).__name__}")
    found = []
    for place, tool in enumerate(value):
        tool = _json(tool, f"{where}[{place}]") if isinstance(tool, str) else tool
        function = tool.get("function") or tool if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InputError(f"{where}[{place}]: expected an object with a name, or one whose function has a name")
        function = {key: member for key, member in function.items() if key != "type"}
        if "input_schema" in function:
            function["parameters"] = function.pop("input_schema")
        if isinstance(function.get("parameters"), str):
            function["parameters"] = _json(function["parameters"], f"{where}[{place}].parameters")
        found.append({"type": "function", "function": without_nulls(function)})
    return tuple(found)


def without_nulls(value: Any) -> Any:
    """The value without the keys whose value is null, at any depth.

    >>> without_nulls({"a": None, "b": [{"c": None}, None]})
    {'b': [{}, None]}
    """
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(member) for member in value] if isinstance(value, list) else value


def pruned_arguments(arguments: dict[str, Any], schema: Any) -> tuple[dict[str, Any], int]:
    """A call's decoded arguments without the nulls that Arrow made, and how many those were.

    Arrow gives every call the arguments of all others, as null. A null stays where the tool's schema takes one; at
    depth, and where no schema is known, all go.
    """
    kept = {
        name: without_nulls(value)
        for name, value in arguments.items()
        if value is not None or _takes_null(within(schema, "properties", name))
    }
    return kept, _nulls(arguments) - _nulls(kept)


def _takes_null(schema: Any) -> bool:
    kinds = within(schema, "type")
    return kinds == "null" or "null" in _list(kinds) or any(map(_takes_null, _list(within(schema, "anyOf"))))


def _nulls(value: Any) -> int:
    """How many keys of objects are null, at any depth."""
    if isinstance(value, dict):
        return sum(1 if member is None else _nulls(member) for member in value.values())
    return sum(_nulls(member) for member in value if member is not None) if isinstance(value, list) else 0
