"""The contract of an action format: how a reply says what to do, and how the answer goes back.

Reads a `Reply`, gives an `Action` or raises `FormatError` with a message for the model.

    fmt: ActionFormat = BacktickFormat()
    fmt.parse(Reply(content="I look.\n```bash\nls\n```")).arguments     # {'command': 'ls'}

A command is kept as written, except one newline after the opening mark and one before the closing mark.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from srft.agent.models.contract import Reply, well_formed_within
from srft.agent.records import Action


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


def checked_action(tool: Any, arguments: dict[str, Any], *, format: str, call_id: str | None = None) -> Action:
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


def arguments_of(function: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments, decoded once: a JSON string, or the object itself where a server gives that. Raises
    FormatError."""
    arguments = function.get("arguments")
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments, parse_constant=refuse_no_number) if arguments.strip() else {}
        # A JSON string may spell half of a surrogate pair, which no shell and no file could take.
        arguments = well_formed_within(arguments)
    except (ValueError, RecursionError) as error:  # RecursionError: hundreds of open brackets
        raise FormatError(f"The arguments of {function.get('name')} are not JSON: {error}.") from None
    if not isinstance(arguments, dict):
        raise FormatError(
            f"The arguments of {function.get('name')} are {type(arguments).__name__}; expected an object."
        )
    return arguments


def refuse_no_number(name: str) -> Any:
    """NaN and the infinities, which Python reads as JSON. Raises ValueError."""
    raise ValueError(f"{name} is no value of JSON")
