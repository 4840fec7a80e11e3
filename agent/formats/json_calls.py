"""The format `json`: one <tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>; also edit and submit.

reply = Reply(content='<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>')
JsonFormat().parse(reply).arguments     # {'command': 'ls'}
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from srft.agent.formats.contract import FormatError, arguments_of, checked_action, refuse_no_number
from srft.agent.formats.text import EDIT_ARGUMENTS, TextFormat
from srft.agent.models.contract import Reply
from srft.agent.records import Action


class _Call(NamedTuple):
    """What stands between the tags, and where the closing one ends."""

    content: Any
    end: int


class JsonFormat(TextFormat):
    """One `<tool_call>`. A tag inside a JSON string is text: the call ends where its JSON ends."""

    name = "json"
    instructions = (
        """\
Write what you think first, then exactly one call, a JSON object, like this:

<tool_call>
{"name": "bash", "arguments": {"command": "ls -la"}}
</tool_call>

The functions are:

bash: run a bash command. Argument: command.
edit: view and change files. Arguments:
"""
        + EDIT_ARGUMENTS
        + """\
submit: hand in the work as it is. No arguments.

Write a newline in a text as \\n. Hand in with:

<tool_call>
{"name": "submit", "arguments": {}}
</tool_call>
"""
    )

    _open = re.compile(r"<tool_call>\s*")
    _close = re.compile(r"\s*</tool_call>")
    _decoder = json.JSONDecoder(parse_constant=refuse_no_number)

    def parse(self, reply: Reply) -> Action:
        calls = self._calls(reply.content)
        if len(calls) != 1:
            raise FormatError(f"Expected exactly one <tool_call>, found {len(calls)}.")
        call = calls[0].content
        if not isinstance(call, dict) or set(call) - {"arguments"} != {"name"}:
            raise FormatError('Between <tool_call> and </tool_call>: expected {"name": ..., "arguments": {...}}.')
        return checked_action(call["name"], arguments_of({"arguments": {}, **call}), format=self.name)

    def _calls(self, text: str) -> list[_Call]:
        calls, position = [], 0
        while opening := self._open.search(text, position):
            calls.append(self._call(text, opening))
            position = calls[-1].end
        return calls

    def _call(self, text: str, opening: re.Match[str]) -> _Call:
        """The call that starts here."""
        try:
            content, end = self._decoder.raw_decode(text, opening.end())
        except (ValueError, RecursionError) as error:  # RecursionError: hundreds of open brackets
            raise FormatError(f"What follows <tool_call> is not JSON: {error}.") from None
        if not (closing := self._close.match(text, end)):
            raise FormatError("A <tool_call> does not end; expected </tool_call> after its JSON object.")
        return _Call(content, closing.end())

    def span(self, text: str) -> tuple[int, int]:
        opening = self._open.search(text)
        if opening is None:
            return len(text), len(text)
        try:
            if len(calls := self._calls(text)) == 1:
                return opening.start(), calls[0].end
        except FormatError:
            pass
        return opening.start(), len(text)

    def written(self, action: Action) -> str:
        call = json.dumps({"name": action.tool, "arguments": action.arguments}, ensure_ascii=False)
        return f"<tool_call>\n{call}\n</tool_call>"
