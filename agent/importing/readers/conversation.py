"""A recorded conversation: messages as they were sent, and the steps that its replies are.

What the readers of all formats share. Reads chat messages, decoded from JSON; writes nothing.

    lines = [line_of({"role": "assistant", "content": "```bash\\nls\\n```"}, "runs.jsonl:1: messages[0]")]
    steps_of(lines, demo_messages=0)[0].action          # Action(tool='bash', arguments={'command': 'ls'}, ...)
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from srft.agent.formats import FORMATS, FormatError
from srft.agent.importing.readers import RawRun, Tally, from_json, within
from srft.agent.importing.readers.exit_codes import exit_code_in, timed_out_in
from srft.agent.models.contract import Reply
from srft.agent.records import Action, Step, StopReason, Usage
from srft.env.errors import InputError

ROLES = ("system", "user", "assistant", "tool")
NOT_RECORDED = "how it ended is not recorded"
"""The `detail` of a run whose file says nothing of its end; its `stop_reason` is `submitted`."""

SCAFFOLDS_TOOLS = "descriptions of tools that the run does not have, taken from its scaffold, one a run"
NEVER_SEEN = "messages after the last reply"

_OWNER_NAME = re.compile(r"(?P<owner>[\w.-]+?)__(?P<name>[\w.-]+?)(?:-\d+|\.[0-9a-f]{8}\..+)")
_XML_CALL = re.compile(r"<function=([\w.-]+)>(.*)</function>", re.DOTALL)
_XML_PARAMETER = re.compile(r"<parameter=([\w.-]+)>(.*?)</parameter>(?=\s*(?:<parameter=|\Z))", re.DOTALL)
_FENCE = re.compile(r"^```[^\n`]*\n(.*?)\n?^```", re.DOTALL | re.MULTILINE)
_THINKING = re.compile(r"\s*<(think|thinking)>\n?(.*?)\n?</\1>\n*", re.DOTALL)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it was sent, and what its file tells besides."""

    sent: dict[str, Any]
    """The message."""
    step: dict[str, Any] = {}
    """Fields of the Step that an assistant message is."""
    answers: bool = True
    """Whether the message answers the reply before it."""
    exit_code: int | None = None
    """The exit code that an answer comes with."""
    timed_out: bool = False
    """Whether an answer says that its command was killed for its time."""
    refused: bool = False
    """Whether an answer says that no action could be read from the reply."""

    @property
    def is_reply(self) -> bool:
        return bool(self.sent["role"] == "assistant")

    def with_step(self, **facts: Any) -> Line:
        """The line of a reply of which more is known."""
        return msgspec.structs.replace(self, step=self.step | facts)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its file has it: a Trajectory without id and attempt. `None`: the file does not tell."""

    task_id: str
    """The task's instance id."""
    repo: str | None = None
    """The task's repository, owner/name."""
    model: str | None = None
    """The model's name."""
    scaffold: str
    """The program that made the run, with its version."""
    origin: str | None = None
    """The published dataset that it is from, and its licence."""
    lines: Sequence[Line]
    """The conversation."""
    demo_messages: int = 0
    """Messages at the start, up to the last example that the model was shown."""
    tools: tuple[dict[str, Any], ...] = ()
    """The tools that the model was offered."""
    patch: str | None
    """What the run changed."""
    stop_reason: StopReason
    """How it ended."""
    detail: str | None = None
    """What else there is to say of its end."""
    resolved: bool | None = None
    """Whether it resolved its task."""


def line_of(message: Any, where: str, *, step: dict[str, Any] | None = None, **told: Any) -> Line:
    """A chat message, with only what a chat template needs. `told`: the other fields of Line. Raises InputError.

    Arguments of tool calls become strings that are JSON once; text parts become one text; null is the empty text where
    a server may send it, in a reply and in a tool's answer. Thinking at the beginning of a reply's text becomes its
    reasoning. The action of a reply is what its tool call says, or its one ```bash block or <function=...> call.
    step: what the file tells of a reply beside it; `None`: nothing.
    """
    if not isinstance(message, dict):
        raise InputError(f"{where}: expected an object with role and content, got {type(message).__name__}")
    role = message.get("role")
    if role not in ROLES:
        raise InputError(f"{where}.role: expected one of {', '.join(ROLES)}, got {role!r}")
    if role == "assistant":
        return _reply_line(message, where, step or {})
    sent: dict[str, Any] = {"role": role, "content": _content(message, where, may_be_null=role == "tool")}
    for key in ("tool_call_id", "name"):
        if message.get(key) is not None:
            sent[key] = optional(message, key, str, where)
    return Line(sent=sent, **told)


def _reply_line(message: dict[str, Any], where: str, known: dict[str, Any]) -> Line:
    calls = _calls(message.get("tool_calls"), f"{where}.tool_calls")
    content = _content(message, where, may_be_null=bool(calls) or "content" in message)
    reasoning = optional(message, "reasoning_content", str, where)
    thought, rest = split_thinking(content)
    if thought is not None and reasoning in (None, "", thought):
        reasoning, content = thought, rest
    sent = FORMATS["native"].assistant_message(Reply(content=content, tool_calls=calls))
    if reasoning:
        sent["reasoning_content"] = reasoning
    step = {"content": content, "reasoning": reasoning, "tool_calls": tuple(sent.get("tool_calls", ()))}
    try:
        step["action"] = call_action(*calls) if len(calls) == 1 else None if calls else text_action(content)
    except FormatError:
        step |= {"action": None, "error": "format"}
    return Line(sent=sent, step=step | {key: value for key, value in known.items() if value is not None})


def _content(message: dict[str, Any], where: str, *, may_be_null: bool) -> str:
    content = message.get("content")
    return "" if content is None and may_be_null else text_of(content, f"{where}.content")


def split_thinking(content: str) -> tuple[str | None, str]:
    r"""The thinking at the beginning of a text, `None` where there is none, and what follows it.

    >>> split_thinking("<think>\nHm.\n</think>\n\nDone."), split_thinking("Done.")
    (('Hm.', 'Done.'), (None, 'Done.'))
    """
    found = _THINKING.match(content)
    return (found[2].strip("\n"), content[found.end() :]) if found else (None, content)


def text_of(content: Any, where: str, *, joint: str = "") -> str:
    """A message's text: a string, or its text parts one after the other. Raises InputError for all else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InputError(f"{where}: expected a text or a list of text parts, got {_kind(content)}")
    texts = []
    for place, part in enumerate(content):
        kind = part.get("type", "text") if isinstance(part, dict) else _kind(part)
        text = part.get("text") if isinstance(part, dict) else part
        if kind not in ("text", "input_text", "output_text", "str") or not isinstance(text, str):
            raise InputError(f"{where}[{place}]: expected a text part, got {kind}; srft reads text alone")
        texts.append(text)
    return joint.join(texts)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def optional(holder: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A value of that type, or `None` where it is missing or null. Raises InputError."""
    value = holder.get(key)
    wrong_bool = isinstance(value, bool) and kind is not bool
    if value is not None and (wrong_bool or not isinstance(value, kind)):
        names = kind.__name__ if isinstance(kind, type) else " or ".join(one.__name__ for one in kind)
        raise InputError(f"{where}: {key}: expected {names}, got {value!r:.80}. Fix or remove the run.")
    return value


def _calls(calls: Any, where: str) -> tuple[dict[str, Any], ...]:
    if calls is None:
        return ()
    if not isinstance(calls, list):
        raise InputError(f"{where}: expected a list of tool calls, got {_kind(calls)}")
    found = []
    for place, call in enumerate(calls):
        # Some write the call's name and arguments without an object around them.
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InputError(f"{where}[{place}]: expected an object whose function has a name and arguments")
        identity = optional(call, "id", str, f"{where}[{place}]")
        function = {"name": function["name"], "arguments": once_encoded(function.get("arguments"))}
        found.append({"id": identity, "type": "function", "function": function})
    return tuple(found)


def once_encoded(arguments: Any) -> str:
    r"""A call's arguments as a JSON string, once encoded, whether they were decoded or encoded twice.

    >>> once_encoded({"a": 1}), once_encoded('{"a": 1}'), once_encoded('"{\\"a\\": 1}"')
    ('{"a": 1}', '{"a": 1}', '{"a": 1}')
    """
    if not isinstance(arguments, str):
        # default: columns may hold dates and decimals
        return json.dumps({} if arguments is None else arguments, ensure_ascii=False, default=str)
    try:
        decoded = from_json(arguments)
    except ValueError:
        return arguments  # the model's own mistake: it stays
    return once_encoded(decoded) if isinstance(decoded, str) else arguments


def call_action(call: dict[str, Any]) -> Action:
    """What a tool call asks for, the tool by the name it has in its own system. Raises FormatError."""
    function = call["function"]
    try:
        arguments = from_json(function["arguments"] or "{}")
    except ValueError as error:
        raise FormatError(f"the arguments are not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise FormatError(f"the arguments are {_kind(arguments)}")
    return Action(tool=function["name"], arguments=arguments, format="native", call_id=call.get("id"))


def text_action(text: str) -> Action | None:
    """The action of a text: its one <function=...> call, else its one ```bash block. `None`: neither."""
    if text.count("<function=") == 1 and (call := _XML_CALL.search(text)):
        parameters = {
            found[1]: found[2].removeprefix("\n").removesuffix("\n") for found in _XML_PARAMETER.finditer(call[2])
        }
        return Action(tool=call[1], arguments=parameters, format="xml")
    try:
        return FORMATS["backtick"].parse(Reply(content=text))
    except FormatError:
        return None


def fence_action(text: str) -> Action | None:
    """SWE-agent's thought and action: the last fenced block of a text, whatever its language."""
    blocks = _FENCE.findall(text)
    if not blocks:
        return None
    command = blocks[-1]
    if command.strip() == "submit":
        return Action(tool="submit", format="thought_action")
    return Action(tool="bash", arguments={"command": command}, format="thought_action")


def usage_of(usage: Any, *, cost_usd: Any = None) -> Usage | None:
    """Tokens and money as OpenAI-compatible servers count them; `None` where nothing is told."""
    cost = within(usage, "cost")
    found = Usage(
        prompt_tokens=count_of(within(usage, "prompt_tokens")),
        completion_tokens=count_of(within(usage, "completion_tokens")),
        cached_tokens=count_of(within(usage, "prompt_tokens_details", "cached_tokens")),
        cost_usd=number_of(cost if cost is not None else cost_usd),
    )
    return found if found != Usage() else None


def count_of(value: Any) -> int | None:
    """A whole number; `None` for all else, truth values included."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number_of(value: Any) -> float | None:
    """A finite number; `None` for all else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if is_number else None


def seen(lines: Sequence[Line], tally: Tally) -> list[Line]:
    """The lines up to the last reply, for no model was sent what comes after it; the rest is counted."""
    last = max((place for place, line in enumerate(lines) if line.is_reply), default=-1)
    if after := len(lines) - last - 1:
        tally.left_out[NEVER_SEEN] += after
    return list(lines[: last + 1])


def steps_of(lines: Sequence[Line], *, demo_messages: int) -> tuple[Step, ...]:
    """One step a reply after the examples, with what the messages up to the next reply answer.

    Several answers (of parallel calls) are one observation, line by line; the exit code is the first that is not 0, as
    the file gives it or as the answer words it. The text of an answer after the last reply is no observation, as nobody
    saw it; its exit code is kept.
    """
    places = [place for place, line in enumerate(lines) if line.is_reply and place >= demo_messages]
    steps = []
    for index, place in enumerate(places):
        is_last = index + 1 == len(places)
        after = lines[place + 1 : None if is_last else places[index + 1]]
        answers = [line for line in after if line.answers]
        timed_out = any(line.timed_out or timed_out_in(line.sent["content"]) for line in answers)
        asked = _asked(lines[place])
        codes = [code for line in answers if (code := _exit_code(line, asked)) is not None]
        facts: dict[str, Any] = {
            "observation": None if is_last or not answers else "\n".join(line.sent["content"] for line in answers),
            "exit_code": next((code for code in codes if code != 0), codes[0] if codes else None),
            "timed_out": timed_out,
        }
        if any(line.refused for line in answers):
            facts |= {"error": "format", "action": None}
        steps.append(Step(index=index, **{**lines[place].step, **facts}))
    return tuple(steps)


def _asked(reply: Line) -> str:
    """The text of a reply and of the arguments that it calls with."""
    calls = reply.sent.get("tool_calls", ())
    return "\n".join([reply.sent["content"], *(call["function"]["arguments"] for call in calls)])


def _exit_code(answer: Line, asked: str) -> int | None:
    if answer.exit_code is not None or answer.timed_out or timed_out_in(answer.sent["content"]):
        return answer.exit_code
    return exit_code_in(answer.sent["content"], asked=asked)


def task_of(raw: RawRun) -> str:
    """The task of a run that is a file of its own, by its `instance_id` or the file's name. Raises InputError."""
    task_id: str | None = optional(raw.content, "instance_id", str, raw.where)
    if not task_id and raw.line is not None:
        raise InputError(f"{raw.where}: no instance_id; expected the task's id in it, or a file named after the task")
    return task_id or raw.name


def repository(task_id: str) -> str | None:
    """owner/name of an instance id of SWE-bench or SWE-smith.

    >>> repository("scikit-learn__scikit-learn-25747"), repository("pandas-dev__pandas.95280573.pr_53652")
    ('scikit-learn/scikit-learn', 'pandas-dev/pandas')
    """
    found = _OWNER_NAME.fullmatch(task_id)
    return f"{found['owner']}/{found['name']}" if found else None
