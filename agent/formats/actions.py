"""Action formats: how a reply says what to do, and how the answer goes back.

Reads a `Reply`, gives an `Action` or raises `FormatError` with a message for the model. Three formats:

    backtick   one ```bash block; a block that is just `submit` hands in
    xml        one <function=bash><parameter=command>ls</parameter></function>; also edit and submit
    native     one tool call of the API; also edit and submit

    FORMATS["backtick"].parse(Reply(content="I look.\n```bash\nls\n```")).arguments     # {'command': 'ls'}

A command is kept as written, except one newline after the opening mark and one before the closing mark.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Protocol

import msgspec

from srft.agent.models.contract import Reply, well_formed_within
from srft.agent.records import Action
from srft.agent.tools.edit import EDIT_SCHEMA
from srft.env.errors import InputError


class FormatError(Exception):
    """No action can be read from a reply. The text is for the model: what was found, what was expected."""


class ActionFormat(Protocol):
    """One way of writing actions.

    tools: what is offered through the API. instructions: the format in words, for the prompt.
    """

    name: str
    tools: tuple[dict[str, Any], ...]
    instructions: str

    def parse(self, reply: Reply) -> Action:
        """The one action of a reply. Raises FormatError."""
        ...

    def assistant_message(self, reply: Reply) -> dict[str, Any]:
        """The reply as the next request sends it back."""
        ...

    def render_observation(self, action: Action, text: str) -> dict[str, Any]:
        """The message that answers an action."""
        ...

    def render_format_error(self, reply: Reply, text: str) -> list[dict[str, Any]]:
        """The messages that answer a reply without a readable action."""
        ...

    def with_action(self, reply: Reply, action: Action) -> Reply:
        """The reply with this action in the place of its own; what else it says stays. See `human.py`."""
        ...


class _TextFormat:
    """What the formats that live in the message text share."""

    tools: tuple[dict[str, Any], ...] = ()

    def assistant_message(self, reply: Reply) -> dict[str, Any]:
        return {"role": "assistant", "content": reply.content}

    def render_observation(self, action: Action, text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    def render_format_error(self, reply: Reply, text: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": text}]

    def with_action(self, reply: Reply, action: Action) -> Reply:
        start, end = self.span(reply.content)
        before = reply.content[:start]
        if before and not before.endswith("\n"):
            before += "\n\n"
        content = before + self.written(action) + reply.content[end:]
        return msgspec.structs.replace(reply, content=content, tool_calls=(), finish_reason="stop")

    def span(self, text: str) -> tuple[int, int]:
        """Where the action stands. Where there is not just one: from the first of them, or the end, to the end."""
        raise NotImplementedError

    def written(self, action: Action) -> str:
        raise NotImplementedError


class BacktickFormat(_TextFormat):
    """One ```bash block."""

    name = "backtick"
    instructions = """\
Write what you think first, then exactly one fenced block, like this:

```bash
ls -la
```

The block is run with bash. Join several commands with `&&` or put them on lines of their own; a second block in the
same reply is refused. When the work is done, hand it in with a block that holds the one word submit:

```bash
submit
```
"""

    _block = re.compile(r"```bash[^\S\n]*\n(.*?)\n```", re.DOTALL)

    def parse(self, reply: Reply) -> Action:
        blocks = self._block.findall(reply.content)
        if len(blocks) != 1:
            raise FormatError(f"Expected exactly one ```bash block, found {len(blocks)}.")
        if not blocks[0].strip():
            raise FormatError("The ```bash block is empty; expected a command in it.")
        if blocks[0].strip() == "submit":
            return Action(tool="submit", format=self.name)
        return Action(tool="bash", arguments={"command": blocks[0]}, format=self.name)

    def span(self, text: str) -> tuple[int, int]:
        found = list(self._block.finditer(text))
        return found[0].span() if len(found) == 1 else (found[0].start() if found else len(text), len(text))

    def written(self, action: Action) -> str:
        if action.tool == "edit":
            raise InputError("the format backtick has no edit tool; write a command, or take the format xml or native")
        return f"```bash\n{action.arguments.get('command', 'submit')}\n```"


class XmlCall(NamedTuple):
    """A `<function=...>` call as it stands in the text."""

    function: str
    parameters: dict[str, str]


class XmlFormat(_TextFormat):
    """One `<function=...>` call."""

    name = "xml"
    instructions = """\
Write what you think first, then exactly one function call, like this:

<function=bash>
<parameter=command>
ls -la
</parameter>
</function>

The functions are:

bash: run a bash command. Parameter: command.
edit: view and change files. Parameters:
  command: view, create, replace, insert or undo.
  path: a file, or for view also a folder; absolute, or relative to the repository.
  view_range: for view, the first and the last line, like [20, 60]; -1 is the last line of the file.
  file_text: for create, the whole text of a new file.
  old_text, new_text: for replace; old_text must stand in the file exactly once, white space included.
  insert_line, new_text: for insert; the text goes after that line, 0 is the top of the file.
submit: hand in the work as it is. No parameters.

One newline after an opening tag and one before a closing tag do not belong to the value. Hand in with:

<function=submit>
</function>
"""

    _open = re.compile(r"<function=([\w.-]+)>")
    _parameter = re.compile(r"\s*<parameter=([\w.-]+)>")
    # A closing tag ends the value only where a parameter or the function's end follows: file texts may hold the tag.
    _value = re.compile(r"(.*?)</parameter>(?=\s*(?:<parameter=[\w.-]+>|</function>))", re.DOTALL)
    _close = re.compile(r"\s*</function>")

    def parse(self, reply: Reply) -> Action:
        calls = self._calls(reply.content)
        if len(calls) != 1:
            raise FormatError(f"Expected exactly one <function=...> call, found {len(calls)}.")
        return _action(calls[0].function, calls[0].parameters, format=self.name)

    def _calls(self, text: str) -> list[XmlCall]:
        calls, position = [], 0
        while opening := self._open.search(text, position):
            call, position = self._call(text, opening)
            calls.append(call)
        return calls

    def _call(self, text: str, opening: re.Match[str]) -> tuple[XmlCall, int]:
        """The call that starts here and the position after it."""
        parameters: dict[str, str] = {}
        position, function = opening.end(), opening[1]
        while parameter := self._parameter.match(text, position):
            name, value = parameter[1], self._value.match(text, parameter.end())
            if value is None:
                raise FormatError(
                    f"<parameter={name}> of <function={function}> does not end; expected </parameter> and </function>."
                )
            if name in parameters:
                raise FormatError(f"<function={function}> has the parameter {name} twice.")
            parameters[name] = value[1].removeprefix("\n").removesuffix("\n")
            position = value.end()
        if not (closing := self._close.match(text, position)):
            raise FormatError(f"<function={function}> does not end; expected </function> after its parameters.")
        return XmlCall(function, parameters), closing.end()

    def span(self, text: str) -> tuple[int, int]:
        opening = self._open.search(text)
        if opening is None:
            return len(text), len(text)
        try:
            if len(self._calls(text)) == 1:
                return opening.start(), self._call(text, opening)[1]
        except FormatError:
            pass
        return opening.start(), len(text)

    def written(self, action: Action) -> str:
        values = {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in action.arguments.items()
        }
        parameters = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in values.items())
        return f"<function={action.tool}>\n{parameters}</function>"


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
        arguments = _arguments(function)
        return _action(function.get("name"), arguments, format=self.name, call_id=reply.tool_calls[0].get("id"))

    def assistant_message(self, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.content}
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


def _arguments(function: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments, decoded once: a JSON string, or the object itself where a server gives that."""
    arguments = function.get("arguments")
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments) if arguments.strip() else {}
        # A JSON string may spell half of a surrogate pair, which no shell and no file could take.
        arguments = well_formed_within(arguments)
    except (ValueError, RecursionError) as error:  # RecursionError: hundreds of open brackets
        raise FormatError(f"The arguments of {function.get('name')} are not JSON: {error}.") from None
    if not isinstance(arguments, dict):
        raise FormatError(
            f"The arguments of {function.get('name')} are {type(arguments).__name__}; expected an object."
        )
    return arguments


def _sendable(call: dict[str, Any]) -> dict[str, Any]:
    """The call with its arguments as the string of an object, whatever the model wrote.

    Servers decode the arguments of earlier calls and refuse the whole request where that fails, so arguments that are
    no object travel inside one.
    """
    function = dict(call.get("function") or {})
    function["arguments"] = function.get("arguments") or "{}"
    try:
        _arguments(function)
    except FormatError:
        function["arguments"] = json.dumps({"unreadable": function["arguments"]}, ensure_ascii=False)
    if not isinstance(function["arguments"], str):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": function}


def _action(tool: Any, arguments: dict[str, Any], *, format: str, call_id: str | None = None) -> Action:
    """A checked action. Arguments of `edit` are left to the edit tool, whose answers say more."""
    if tool == "submit":
        return Action(tool="submit", format=format, call_id=call_id)
    if tool == "edit":
        return Action(tool="edit", arguments=arguments, format=format, call_id=call_id)
    if tool != "bash":
        raise FormatError(f"There is no tool {tool!r}; expected bash, edit or submit.")
    command = arguments.get("command")
    if list(arguments) != ["command"] or not isinstance(command, str):
        raise FormatError(f"bash takes one text, command; got {', '.join(map(str, arguments)) or 'nothing'}.")
    if not command.strip():
        raise FormatError("The command is empty; expected a bash command.")
    return Action(tool="bash", arguments={"command": command}, format=format, call_id=call_id)


FORMATS: dict[str, ActionFormat] = {
    "backtick": BacktickFormat(),
    "xml": XmlFormat(),
    "native": NativeFormat(),
}
