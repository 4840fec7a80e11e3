r"""A person in the model's place: an action of their own, or the model's reply with another action.

Writes replies in an action format, to be taken as any model's; reads and writes no file.

    reply = model.reply(messages)                                       # "I look.\n```bash\nls\n```"
    edited(reply, action_of("ls -la", tool="bash", fmt=fmt), fmt=fmt, index=4)     # "I look.\n```bash\nls -la\n```"
    typed(action_of("git status", tool="bash", fmt=fmt), thought="First the state.", fmt=fmt, index=4)

What was sampled does not hold any more: neither reply has token ids or logprobs. The usage of an edited one stays, as
it was paid for. `author` says whose it is, and `Step.author` keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from srft.agent.formats import ActionFormat, FormatError
from srft.agent.formats.text import TextFormat
from srft.agent.models.contract import Reply, well_formed_within
from srft.agent.records import Action
from srft.env.errors import InputError


class HumanModel:
    """A person as the model: whatever is asked, they write it themselves, with `typed`."""

    name = "human"

    def __init__(self) -> None:
        self.sampling: dict[str, Any] = {}

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> HumanModel:
        return self

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """Raises InputError."""
        raise InputError("no model is asked here: write the action yourself, or name a model with --model")


def action_text(action: Action) -> str:
    """An action as a person edits it: the command, the word submit, or the edit tool's arguments as JSON."""
    if action.tool == "edit":
        return json.dumps(action.arguments, ensure_ascii=False, indent=1)
    return str(action.arguments.get("command", "submit"))


def action_of(text: str, *, tool: str, fmt: ActionFormat) -> Action:
    """The inverse of `action_text`. tool: "edit" where the text is arguments as JSON. Raises InputError."""
    if tool == "edit":
        try:
            arguments = well_formed_within(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise InputError(f"the edit tool's arguments are not JSON ({error}); correct them") from None
        if not isinstance(arguments, dict):
            raise InputError(f"the edit tool's arguments are {type(arguments).__name__}; expected an object")
        return Action(tool="edit", arguments=arguments, format=fmt.name)
    if not text.strip():
        raise InputError("the action is empty; expected a bash command, or the word submit")
    if text.strip() == "submit":
        return Action(tool="submit", format=fmt.name)
    return Action(tool="bash", arguments={"command": well_formed_within(text)}, format=fmt.name)


def thought_of(reply: Reply, *, fmt: ActionFormat) -> str:
    """What a reply says before its action."""
    return reply.content[: _action_at(reply, fmt)].strip("\n")


def edited(
    reply: Reply,
    action: Action,
    *,
    fmt: ActionFormat,
    index: int,
    thought: str | None = None,
    thinking: str | None = None,
) -> Reply:
    """The model's reply with another action. index: the step's. thought: other words before the action. thinking: in
    the place of its reasoning, "" for none. Raises InputError where the format cannot carry it."""
    if thought is not None and thought != thought_of(reply, fmt=fmt):
        at = _action_at(reply, fmt)
        between = reply.content[len(reply.content[:at].rstrip("\n")) : at] or "\n\n"
        after = reply.content[at:]
        reply = msgspec.structs.replace(reply, content=f"{thought}{between if after and thought else ''}{after}")
        if thought_of(reply, fmt=fmt) != thought.strip("\n"):
            raise InputError(
                f"the thought holds an action as the format {fmt.name} writes it; write it without the marks"
            )
    if thinking is not None and thinking != (reply.reasoning or ""):
        # What goes back to the server must say the same; in a form that is not plain text nobody can write it.
        sent_back = {name: thinking for name, value in reply.sent_back.items() if thinking and isinstance(value, str)}
        reply = msgspec.structs.replace(reply, reasoning=thinking or None, sent_back=sent_back)
    return _written(reply, action, fmt=fmt, index=index, author="edited")


def _action_at(reply: Reply, fmt: ActionFormat) -> int:
    """Where the action begins in the text; behind it, where it is a native call."""
    return fmt.span(reply.content)[0] if isinstance(fmt, TextFormat) else len(reply.content)


def typed(action: Action, *, thought: str = "", fmt: ActionFormat, index: int) -> Reply:
    """A reply of a person's own. Raises InputError where the format cannot carry it."""
    return _written(Reply(content=thought), action, fmt=fmt, index=index, author="human")


def _written(reply: Reply, action: Action, *, fmt: ActionFormat, author: Any, index: int) -> Reply:
    named = msgspec.structs.replace(action, call_id=f"call_{index}")
    reply = msgspec.structs.replace(
        fmt.with_action(reply, named), prompt_token_ids=None, token_ids=None, logprobs=None, author=author
    )
    try:
        read = fmt.parse(reply)
    except FormatError as error:
        raise InputError(
            f"the format {fmt.name} cannot carry this action ({error}); write it without the marks"
        ) from None
    if (read.tool, _spelled(read)) != (action.tool, _spelled(action)):
        raise InputError(
            f"the format {fmt.name} cannot carry this action: it would be read as {action_text(read)!r}; write it "
            "without the format's own marks, or take another format"
        )
    return reply


def _spelled(action: Action) -> dict[str, str]:
    """The arguments as texts: the format xml has no others."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in action.arguments.items()}
