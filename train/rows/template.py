"""Chat templates: messages as a template takes them, and prompts without rendering each one.

A run of n steps has n prompts, each the beginning of the next, and to render them all takes time that grows with the
square of n. `Placeholders` renders each pattern of roles once, with placeholders for the contents, and puts the
contents in. That is exact where the template does not look into the contents, so it is used only where

    1. for the placeholders every prompt begins with all that came before it,
    2. no content holds a text that the template looks for (`'</think>' in content` and the like), and
    3. the last prompt of the run, rendered with the real contents, is what putting them in gives.

Everything else is rendered prompt by prompt (`None`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes

from srft.agent.records import Trajectory
from srft.env.errors import InputError

Messages = list[dict[str, Any]]
_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
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
    return shaped


def _template_call(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"] or "{}")
        except ValueError as error:
            raise InputError(f"the arguments of a {function.get('name')} call are not JSON ({error})") from None
    return {**call, "function": function}


class Placeholders:
    """What a template puts between contents, by pattern of roles.

    prompts: renders conversations with the generation prompt. end: the text that ends a turn.
    """

    def __init__(
        self, prompts: Callable[[list[Messages], Sequence[dict[str, Any]]], list[str]], template: str, *, end: str
    ) -> None:
        self._prompts = prompts
        self._end = end
        self._prompt_patterns: dict[tuple[str, str], str] = {}
        self._sought = sorted(looked_for(template) | {_OPEN, _CLOSE})

    def contexts(self, messages: Messages, places: list[int], tools: Sequence[dict[str, Any]]) -> list[str] | None:
        """The text before each reply, from the end of the turn before. `None`: render the prompts one by one."""
        if not places or any(set(message) != {"role", "content"} for message in messages):
            return None
        if any(not isinstance(message["content"], str) for message in messages):
            return None
        if any(text in message["content"] for message in messages for text in self._sought):
            return None
        patterns = self._patterns(messages, places, tools)
        if patterns is None:
            return None
        contents = [message["content"] for message in messages]
        contexts = [_fill(pattern, contents) for pattern in patterns]
        pieces = [contexts[0]]
        for place, context in zip(places, contexts[1:], strict=False):
            pieces += [contents[place], self._end, context]
        last = self._prompts([messages[: places[-1]]], tools)[0]
        return contexts if "".join(pieces) == last else None

    def _patterns(self, messages: Messages, places: list[int], tools: Sequence[dict[str, Any]]) -> list[str] | None:
        """The contexts with placeholders, of this pattern of roles; `None` where a prompt rewrites what was before."""
        roles = [message["role"] for message in messages]
        keys = [(" ".join(roles[:place]), json.dumps(list(tools))) for place in places]
        missing = [place for place, key in zip(places, keys, strict=True) if key not in self._prompt_patterns]
        blank = [{**message, "content": f"{_OPEN}{number}{_CLOSE}"} for number, message in enumerate(messages)]
        if missing:
            rendered = self._prompts([blank[:place] for place in missing], tools)
            new = dict(zip(missing, rendered, strict=True))
            self._prompt_patterns |= {key: new[place] for place, key in zip(places, keys, strict=True) if place in new}
        contexts, before = [], ""
        for place, key in zip(places, keys, strict=True):
            prompt = self._prompt_patterns[key]
            if not prompt.startswith(before):
                return None
            contexts.append(prompt[len(before) :])
            before = prompt + blank[place]["content"] + self._end
        return contexts


def _fill(pattern: str, contents: list[str]) -> str:
    return _PLACEHOLDER.sub(lambda found: contents[int(found[1])], pattern)


def looked_for(template: str) -> set[str]:
    r"""The texts that a template looks for in something: `'x' in y`, `y.startswith('x')`, `y.split('x')`.

    White space is not among them: to trim it shows in the rendered text, and every content holds some.

    >>> sorted(looked_for("{% if '</think>' in m.content %}{{ m.content.split('<think>')[0] }}{% endif %}{{ 'user' }}"))
    ['</think>', '<think>']
    """
    environment = jinja2.Environment(extensions=[_GenerationTag, jinja2.ext.loopcontrols])
    tree = environment.parse(template)
    return {text for text in (*_compared(tree), *_called(tree)) if text.strip()}


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
