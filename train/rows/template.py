"""A chat template, tried once: what it writes between texts, how it ends a turn, and what it loses.

Reads a tokenizer's template; writes nothing.

    template = ChatTemplate(tokenizer, options={})
    template.ending("text", "user").shown          # '<|im_end|>'
    template.lost("tool calls")                    # None, or the sentence that says what is lost

Everything here is found with sentinels: private-use characters that no template and no run holds. What stands behind
the last sentinel of a turn, up to the next message's text, is the template's own: the end of the turn and the next
header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError

from srft.agent.records import Trajectory
from srft.env.errors import InputError
from srft.train.rows.compiled import REFUSALS, CompiledTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, Any]]
Kind = Literal["text", "calls"]
MARK = "\ue000\ue001"
_TEXT, _ARGUMENT, _THOUGHT = "\ue002text\ue003", "\ue004argument\ue005", "\ue006thought\ue007"
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_OPENS_THINKING = re.compile(r"(?:<(?![|｜]?end)[^<>/]*think[^<>/]*>|\[THINK\])\s*$", re.IGNORECASE)
_CLOSES_THINKING = re.compile(
    r"(?:</[^<>]*think[^<>]*>|<[|｜]end[^<>]*think[^<>]*>|<channel\|>|\[/THINK\])\s*$", re.IGNORECASE
)
_TAG = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")
_NO_THINKING: tuple[dict[str, Any], ...] = ({"enable_thinking": False}, {"thinking": False}, {"reasoning": False})
_KEEPS_THINKING: tuple[dict[str, Any], ...] = (
    {"preserve_thinking": True},
    {"clear_thinking": False},
    {"truncate_history_thinking": False},
    {"keep_thinking": True},
)
_LOOKS_FOR = {
    "startswith",
    "endswith",
    "split",
    "rsplit",
    "partition",
    "rpartition",
    "replace",
    "find",
    "index",
    "count",
}


class RenderError(InputError):
    """A run that this template or tokenizer cannot render faithfully. It costs the run, not the batch."""


class Ending(NamedTuple):
    """What stands behind a reply.

    written: the text that ends the turn when the model writes it; its last token is special. shown: what later prompts
    show in its place. header: what follows there, up to the next message's text. last: what stands behind the reply
    when the conversation ends with it.
    """

    written: str
    shown: str
    header: str
    last: str


class Style(NamedTuple):
    """How this template wants tool calls. arguments: as an object or as JSON text. ids: as recorded, or renamed."""

    arguments: Literal["object", "text"]
    ids: Literal["recorded", "nine", "kimi"]


class ChatTemplate:
    """One tokenizer's chat template with its options.

    Raises InputError where a turn ends without any special token, neither of its own nor of the next turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, options: dict[str, Any]) -> None:
        self.tokenizer = tokenizer
        self.options = options
        self._compiled = CompiledTemplate(tokenizer, options)
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        tokens = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
        self._special = re.compile(
            "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or "$^"
        )
        self._endings: dict[tuple[Kind, str], Ending] = {}
        self._lost: dict[str, str | None] = {}
        self.looked_for = looked_for(str(tokenizer.chat_template)) | {"\ue000", "\ue001"}
        # Tools that the trials offer: some templates refuse a conversation without any.
        self._offered: list[dict[str, Any]] = []
        if self._rendered([{"role": "user", "content": "x"}], prompt=True) is None:
            self._offered = [_tool("f", "d")]
        self.ending("text", "user")
        self._refuse_endless()

    def render(self, messages: Messages, tools: Sequence[dict[str, Any]] = (), *, prompt: bool) -> str:
        """The text of a conversation; prompt: with the generation prompt. Raises RenderError."""
        try:
            return self._compiled.render(messages, tools, prompt=prompt)
        except SecurityError as error:
            raise RenderError(
                f"the chat template of {self.tokenizer.name_or_path} does what transformers, and servers that render "
                f"with it, allow no template ({error}) Put another template of this model into its folder, as "
                "chat_template.jinja."
            ) from error
        except REFUSALS as error:
            raise RenderError(f"the chat template refuses the messages ({error})") from error

    def _rendered(
        self, messages: Messages, tools: Sequence[dict[str, Any]] = (), *, prompt: bool = False
    ) -> str | None:
        """As a trial: with the tools that trials offer; `None` where the template refuses the messages."""
        try:
            return self.render(messages, tools or self._offered, prompt=prompt)
        except RenderError:
            return None

    def special_tokens(self, text: str) -> list[str]:
        """The special tokens that a text spells, in order."""
        return self._special.findall(text)

    # ---- the end of a turn ----

    def ending(self, kind: Kind, following: str) -> Ending:
        """How a turn of this kind ends before a message of that role; "assistant": before a generation prompt."""
        key = (kind, following)
        if key not in self._endings:
            self._endings[key] = self._find_ending(kind, following)
        return self._endings[key]

    def _find_ending(self, kind: Kind, following: str) -> Ending:
        turn = self._turn(kind)
        sentinel = _ARGUMENT if kind == "calls" else _TEXT
        begin = [{"role": "user", "content": "x"}, turn]
        if following == "assistant":
            later = self.render(begin, self._offered, prompt=True)
        else:
            later = self.render([*begin, *answers(turn, following, MARK)], self._offered, prompt=False).split(MARK)[0]
        last = self._rendered(begin)
        if sentinel not in later or (last is not None and sentinel not in last):
            raise InputError(
                f"{self.tokenizer.name_or_path}: its chat template does not write a reply that is given as text (it "
                "may want a list of parts); take a template that does"
            )
        behind = later[later.rindex(sentinel) + len(sentinel) :]
        alone = behind if last is None else last[last.rindex(sentinel) + len(sentinel) :]
        return self._split(behind, alone)

    def _split(self, behind: str, alone: str) -> Ending:
        """behind: from the reply's last sentinel to the next message's text. alone: to the end of the conversation."""
        shared = behind[: _shared(behind, alone)]
        found = [match for match in self._special.finditer(behind) if match.end() <= len(shared)]
        if found:  # the end is in both
            begin = _before_space(behind, found[-1].start())
            end = behind[begin : found[-1].end()]
            return Ending(end, end, behind[found[-1].end() :], alone[begin:])
        first = self._special.search(behind)
        if first is None:
            raise InputError(
                f"{self.tokenizer.name_or_path}: its chat template ends a reply with {behind[:40]!r}, in which is no "
                "special token; a model trained on it would not know when to stop"
            )
        begin = _before_space(behind, first.start())
        shown, header = behind[begin : first.end()], behind[first.end() :]
        own = self._special.search(alone)
        if own is None:  # no end of its own: the token of the next role ends the turn
            return Ending(shown, shown, header, alone[begin:] if len(alone) > begin else "")
        begin_alone = _before_space(alone, own.start())
        return Ending(alone[begin_alone : own.end()], shown, header, alone[begin_alone:])

    def _refuse_endless(self) -> None:
        """Raises InputError for a template that writes its generation prompt where none is asked for: where a turn
        ends cannot be told from it."""
        user, said = {"role": "user", "content": MARK}, {"role": "assistant", "content": _TEXT}
        prompt, asked = (self._rendered([user], prompt=asked) for asked in (False, True))
        last = self._rendered([user, said])
        if prompt is None or prompt != asked or last is None:
            return
        behind = prompt.split(MARK)[-1]
        always = behind[len(behind) - _shared(behind[::-1], last.split(_TEXT)[-1][::-1]) :]
        if len(self.special_tokens(always)) > 1:
            raise InputError(
                f"{self.tokenizer.name_or_path}: its chat template writes a generation prompt ({always[-60:]!r}) also "
                "where none is asked for, so where a reply ends cannot be told; take a template that heeds "
                "add_generation_prompt"
            )

    def _turn(self, kind: Kind) -> dict[str, Any]:
        if kind == "text":
            return {"role": "assistant", "content": _TEXT}
        return self.styled([{"role": "assistant", "content": "", "tool_calls": [_call("f", {"a": _ARGUMENT})]}])[0]

    # ---- tool calls ----

    @cached_property
    def style(self) -> Style | None:
        """How calls must be given for their names and arguments to be written; `None` where they are lost."""
        for ids in ("recorded", "nine", "kimi"):
            for arguments in ("object", "text"):
                style = Style(arguments, ids)  # type: ignore[arg-type]
                if self._writes_calls(style):
                    return style
        return None

    def _writes_calls(self, style: Style) -> bool:
        """Whether the name, the key and the value come through; where they do with tools alone, trials offer some."""
        name, value = "sentinel_name", _ARGUMENT + '"'
        calling = [{"role": "assistant", "content": "", "tool_calls": [_call(name, {"sentinel_key": value})]}]
        said = _styled(calling, style)
        messages = [{"role": "user", "content": "x"}, *said, *answers(said[0], "tool", "y")]
        for offered in (self._offered, [_tool("f", "d")]):
            text = self._rendered(messages, offered)
            if text is not None and all(wanted in text for wanted in ("sentinel_key", _ARGUMENT, name)):
                break
        else:
            return False
        self._offered = offered
        # Encoded twice, or as Python prints an object: not what the template's author meant.
        return '\\\\\\"' not in text and str({"sentinel_key": value}) not in text

    @property
    def wants_tools(self) -> bool:
        """Whether calls are written only where tools are described."""
        return self.style is not None and bool(self._offered)

    def styled(self, messages: Messages) -> Messages:
        """The messages with their tool calls as this template wants them."""
        return _styled(messages, self.style or Style("object", "recorded"))

    # ---- what is lost ----

    def lost(self, feature: str) -> str | None:
        """Why a run with this feature cannot be rendered, `None` where it can.

        Features: "tool calls", "several calls in a reply", "text beside a call", "observations", "tool descriptions",
        "tool descriptions without a system message".
        """
        if feature not in self._lost:
            self._lost[feature] = None if self._survives(feature) else f"the chat template does not write {feature}"
        return self._lost[feature]

    def _survives(self, feature: str) -> bool:
        user = {"role": "user", "content": "x"}
        if feature == "tool calls":
            return self.style is not None
        if feature.startswith("tool descriptions"):
            system = [] if feature.endswith("message") else [{"role": "system", "content": "y"}]
            tools = [_tool("sentinel_tool", _TEXT)]
            text = self._rendered([*system, user], tools, prompt=True)
            if text is None:  # a template that takes no system message says so of each run that has one
                text = self._rendered([user], tools, prompt=True)
            return text is not None and "sentinel_tool" in text and _TEXT in text
        if self.style is None:
            return False
        several, beside = feature == "several calls in a reply", feature == "text beside a call"
        calls = [_call("f", {"a": _ARGUMENT}), _call("g", {"a": _THOUGHT}, number=1)][: 2 if several else 1]
        said = self.styled([{"role": "assistant", "content": _TEXT if beside else "", "tool_calls": calls}])
        text = self._rendered([user, *said, *answers(said[0], "tool", MARK)])
        if text is None:
            return False
        if beside:
            return _TEXT in text
        if feature == "observations":
            return text.count(MARK) == 1
        answered = text.count(MARK) == 2 or self.lost("observations") is not None
        return _ARGUMENT in text and _THOUGHT in text and answered

    # ---- thinking ----

    @cached_property
    def thinking_key(self) -> str | None:
        """The key under which the template takes a reply's thinking; `None` where it writes none."""
        for key in _REASONING_KEYS:
            said = {"role": "assistant", "content": _TEXT, key: _THOUGHT}
            text = self._rendered([{"role": "user", "content": "x"}, said])
            if text is not None and _THOUGHT in text:
                return key
        return None

    @cached_property
    def opens_thinking(self) -> bool:
        """Whether the generation prompt has the model begin inside its thinking."""
        prompt = self._rendered([{"role": "user", "content": "x"}], prompt=True) or ""
        return _OPENS_THINKING.search(prompt) is not None

    @cached_property
    def closes_thinking(self) -> bool:
        """Whether the generation prompt has the model begin behind its thinking."""
        prompt = self._rendered([{"role": "user", "content": "x"}], prompt=True) or ""
        return _CLOSES_THINKING.search(prompt) is not None

    def opening_in(self, prompt: str) -> tuple[str, str, str] | None:
        """(what stands before it, the tag, the white space behind it) of a thinking that a prompt opens at its end."""
        found = _OPENS_THINKING.search(prompt)
        if found is None:
            return None
        tag = found.group().rstrip()
        return prompt[: found.start()], tag, found.group()[len(tag) :]

    @cached_property
    def headers(self) -> tuple[str, str] | None:
        """(what a generation prompt ends with, what later prompts have in its place) where these differ.

        A prompt may close a thinking that history does not show, or have other white space. ("", "") where the prompt
        is the beginning of what history shows, or opens the thinking; `None` where it has words of its own, from which
        the model is to continue.
        """
        user = {"role": "user", "content": MARK}
        prompt = self._rendered([user], prompt=True)
        shown = self._rendered([user, {"role": "assistant", "content": _TEXT}, {"role": "user", "content": "x"}])
        if prompt is None or shown is None or self.opens_thinking:
            return "", ""
        prompt, history = prompt.split(MARK)[-1], shown.split(MARK)[-1].split(_TEXT)[0]
        if history.startswith(prompt):
            return "", ""
        common = _shared(prompt, history)
        common = next((tag.start() for tag in _TAG.finditer(prompt) if tag.start() < common < tag.end()), common)
        asked, history = prompt[common:], history[common:]
        if set(_TAG.sub(" ", asked).split()) - set(_TAG.sub(" ", history).split()) - {"thought"}:
            return None
        # A tag that the prompt lacks is the model's to write.
        own = next((tag for tag in _TAG.finditer(history) if tag.group() not in _TAG.findall(asked)), None)
        return asked, history[: own.start()] if own else history

    @property
    def thinks(self) -> bool:
        """Whether a model of this template is expected to think."""
        return self.opens_thinking or self.thinking_key is not None

    def without_thinking(self) -> dict[str, Any] | None:
        """The template's own option for replies without thinking, `None` where it has none."""
        return next((o for o in _NO_THINKING if not self.with_options(o).opens_thinking), None)

    def option_that_opens_thinking(self) -> dict[str, Any] | None:
        """The template's own option for replies that think, `None` where it has none."""
        opened = ({name: not value} for options in _NO_THINKING for name, value in options.items())
        return next((options for options in opened if not self.with_options(options).closes_thinking), None)

    def with_options(self, options: dict[str, Any]) -> ChatTemplate:
        """The same template with further options."""
        return ChatTemplate(self.tokenizer, options={**self.options, **options})

    def option_that_keeps_history(self) -> dict[str, Any] | None:
        """An option under which earlier thinking stays in later prompts, where it does not without and the template has
        one."""
        key = self.thinking_key
        if key is None:
            return None
        said = {"role": "assistant", "content": _TEXT, key: _THOUGHT}
        asked: Messages = [{"role": "user", "content": "x"}, said, {"role": "user", "content": "y"}]
        shown = self._rendered(asked, prompt=True)
        for options in _KEEPS_THINKING if shown is not None and _THOUGHT not in shown else ():
            text = self.with_options(options)._rendered(asked, prompt=True)
            if text is not None and _THOUGHT in text:
                return options
        return None


def answers(turn: dict[str, Any], role: str, content: str) -> Messages:
    """Messages of that role that answer a turn: one for each of its calls, or one."""
    calls = turn.get("tool_calls") or []
    if role != "tool" or not calls:
        return [{"role": role, "content": content}]
    return [
        {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": content}
        for call in calls
    ]


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _before_space(text: str, place: int) -> int:
    return len(text[:place].rstrip())


def _call(name: str, arguments: dict[str, Any], *, number: int = 0) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _tool(name: str, description: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"a": {"type": "string", "description": "b"}}, "required": ["a"]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _styled(messages: Messages, style: Style) -> Messages:
    styled: Messages = []
    renamed: dict[str, str] = {}
    number = 0
    for message in messages:
        message = dict(message)
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                function = dict(call["function"])
                before = str(call.get("id") or f"call_{number}")
                renamed.pop(before, None)  # an id that comes again is the newest one
                renamed[before] = _new_id(before, function.get("name"), number, style)
                if style.arguments == "text" and not isinstance(function.get("arguments"), str):
                    function["arguments"] = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
                calls.append({**call, "id": renamed[before], "function": function})
                number += 1
            message["tool_calls"] = calls
        elif message.get("role") == "tool":
            before = str(message.get("tool_call_id") or "")
            last = next(reversed(renamed.values()), before)
            message["tool_call_id"] = renamed.get(before, before if before else last)
        styled.append(message)
    return styled


def _new_id(before: str, name: Any, number: int, style: Style) -> str:
    if style.ids == "nine":
        return f"{number:09d}"
    return f"functions.{name}:{number}" if style.ids == "kimi" else before


def chat_messages(trajectory: Trajectory) -> tuple[Messages, list[int]]:
    """The messages in the shape that templates want, and the place of each step's reply among them.

    Arguments of tool calls are objects there, not JSON in a string, which templates would encode once more.
    Raises InputError where steps and replies do not go together.
    """
    messages = [_template_message(message) for message in trajectory.messages]
    said = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    places = [place for place in said if place >= trajectory.demo_messages]
    if len(places) != len(trajectory.steps):
        raise InputError(
            f"{trajectory.id}: {len(places)} assistant messages and {len(trajectory.steps)} steps; expected one a step"
        )
    return messages, places


def _template_message(message: dict[str, Any]) -> dict[str, Any]:
    shaped = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        shaped["tool_calls"] = [_template_call(call) for call in message["tool_calls"]]
    else:
        shaped.pop("tool_calls", None)
    return shaped


def _template_call(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"] or "{}")
        except ValueError as error:
            raise InputError(f"the arguments of a {function.get('name')} call are not JSON ({error})") from None
    return {**call, "function": function}


def looked_for(template: str) -> set[str]:
    r"""The texts that a template looks for in something: `'x' in y`, `y.startswith('x')`, `y.split('x')`.

    White space is not among them: to trim it shows in the rendered text, and every content holds some.

    >>> sorted(looked_for("{% if '</think>' in m.content %}{{ m.content.split('<think>')[0] }}{% endif %}{{ 'user' }}"))
    ['</think>', '<think>']
    """
    environment = jinja2.Environment(extensions=[_GenerationTag, jinja2.ext.loopcontrols])
    tree = environment.parse(template)
    # A bare word is a key that is asked of a message (`'tool_calls' in message`).
    return {text for text in (*_compared(tree), *_called(tree)) if text.strip() and not text.isidentifier()}


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}`, which transformers' templates may hold: its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own attribute

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _compared(tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all(nodes.Compare):
        if isinstance(node.expr, nodes.Const) and any(operand.op in ("in", "notin") for operand in node.ops):
            yield str(node.expr.value)


def _called(tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all(nodes.Call):
        if isinstance(node.node, nodes.Getattr) and node.node.attr in _LOOKS_FOR:
            yield from (str(argument.value) for argument in node.args if isinstance(argument, nodes.Const))
