"""The format `xml`: one <function=bash><parameter=command>ls</parameter></function>; also edit and submit.

reply = Reply(content="<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>")
XmlFormat().parse(reply).arguments     # {'command': 'ls'}
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from srft.agent.formats.contract import FormatError, checked_action
from srft.agent.formats.text import EDIT_ARGUMENTS, TextFormat
from srft.agent.models.contract import Reply
from srft.agent.records import Action


class XmlCall(NamedTuple):
    """A `<function=...>` call as the text has it."""

    function: str
    parameters: dict[str, str]


def _value_of(written: str) -> str:
    """A parameter's value: without the newlines next to its tags; of a CRLF reply with plain newlines."""
    if written.startswith("\r\n"):
        written = written.replace("\r\n", "\n")
    return written.removeprefix("\n").removesuffix("\n")


def _check_end(call: XmlCall, behind: str) -> None:
    """Refuse a call that was ended by a text within it. Raises FormatError."""
    closing = re.search(r"</parameter>|</function>", behind)
    values = "\n".join(call.parameters.values())
    is_open = values.count("<parameter=") > values.count("</parameter>") and behind.strip()
    if closing or is_open:
        raise FormatError(
            f"Behind the call of {call.function} stands {closing[0] if closing else 'more'}, so it is not clear where "
            "it ends. A value cannot hold a whole <function=...> call: write such a text in parts, and nothing behind "
            "the call."
        )


class XmlFormat(TextFormat):
    """One `<function=...>` call."""

    name = "xml"
    instructions = (
        """\
Write what you think first, then exactly one function call, like this:

<function=bash>
<parameter=command>
ls -la
</parameter>
</function>

The functions are:

bash: run a bash command. Parameter: command.
edit: view and change files. Parameters:
"""
        + EDIT_ARGUMENTS
        + """\
submit: hand in the work as it is. No parameters.

One newline after an opening tag and one before a closing tag do not belong to the value. Hand in with:

<function=submit>
</function>
"""
    )

    _open = re.compile(r"<function=([\w.-]+)>")
    _parameter = re.compile(r"\s*<parameter=([\w.-]+)>")
    # A closing tag ends the value only where a parameter or the function's end follows: file texts may hold the tag.
    _value = re.compile(r"(.*?)</parameter>(?=\s*(?:<parameter=[\w.-]+>|</function>))", re.DOTALL)
    _close = re.compile(r"\s*</function>")

    def parse(self, reply: Reply) -> Action:
        calls = self._calls(reply.content)
        if len(calls) != 1:
            raise FormatError(f"Expected exactly one <function=...> call, found {len(calls)}.")
        _check_end(calls[0], reply.content[self._call_end(reply.content) :])
        return checked_action(calls[0].function, calls[0].parameters, format=self.name)

    def _call_end(self, text: str) -> int:
        """Where the first call ends."""
        opening = self._open.search(text)
        assert opening is not None
        return self._call(text, opening)[1]

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
            parameters[name] = _value_of(value[1])
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
