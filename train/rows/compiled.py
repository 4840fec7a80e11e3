"""A compiled chat template: the texts of `tokenizer.apply_chat_template`, in less than half of its time.

Reads a tokenizer's chat template; writes nothing.

    template = CompiledTemplate(tokenizer, {"enable_thinking": False})
    template.render([{"role": "user", "content": "Hello"}], [], prompt=True)

It is transformers' own jinja environment, with its filters, globals and sandbox. Two things are left out: transformers
copies every message to the bottom three times a rendering, which only matters for what is not JSON, and jinja's sandbox
asks anew at each look-up whether an attribute may be read, which depends on its name and its object's type alone.
Whether the texts are the same is tried when a template is loaded; where they are not, transformers renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFUSALS = (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)
"""What a template raises for a conversation that it does not take."""

_REASONING = ("reasoning_content", "thinking", "reasoning")
_OF_A_DICT = frozenset(dir(dict))
_OF_A_TEXT = frozenset(name for name in dir(str) if not name.startswith("_")) - {"format", "format_map"}
_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
_SAFE: dict[tuple[type, str], bool] = {}
_USER = {"role": "user", "content": "a"}
_SAID = {"role": "assistant", "content": "b", "tool_calls": None}
_TRIALS: list[list[dict[str, Any]]] = [
    [],
    [_USER],
    [{"role": "system", "content": "c"}, _USER, _SAID, _USER],
]
_TRIALS += [[_USER, {**_SAID, key: "d"}, _USER, {**_SAID, key: "e"}] for key in _REASONING]


class CompiledTemplate:
    """One tokenizer's template with its options."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: dict[str, Any]) -> None:
        self._tokenizer, self._options = tokenizer, options
        self._variables = {"documents": None, **tokenizer.special_tokens_map, **options}
        self._template = _compiled(str(tokenizer.chat_template))
        self.is_quick = all(
            _outcome(self._quickly, trial, tools, prompt) == _outcome(self._by_transformers, trial, tools, prompt)
            for trial in _TRIALS
            for tools in ([], [_TOOL])
            for prompt in (False, True)
        )

    def render(self, messages: list[dict[str, Any]], tools: Sequence[dict[str, Any]], *, prompt: bool) -> str:
        """The text of a conversation; prompt: with the generation prompt. Raises one of `REFUSALS`."""
        return (self._quickly if self.is_quick else self._by_transformers)(messages, tools, prompt)

    def _by_transformers(self, messages: list[dict[str, Any]], tools: Sequence[dict[str, Any]], prompt: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(  # type: ignore[assignment]
            messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=prompt, **self._options
        )
        return text

    def _quickly(self, messages: list[dict[str, Any]], tools: Sequence[dict[str, Any]], prompt: bool) -> str:
        if not messages:
            raise ValueError("no messages")
        return self._template.render(
            {
                **self._variables,
                "messages": [_as_given(message) for message in messages],
                "tools": list(tools) or None,
                "add_generation_prompt": prompt,
            }
        )


def _as_given(message: dict[str, Any]) -> dict[str, Any]:
    """The message as transformers gives it to a template: without nulls, its reasoning under every name."""
    given = {key: value for key, value in message.items() if value is not None}
    reasoning = next((given[key] for key in _REASONING if key in given), None)
    return given if reasoning is None else {"thinking": reasoning, **given, "reasoning_content": reasoning}


def _outcome(render: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool) -> str | None:
    try:
        text: str = render(messages, tools, prompt)
    except REFUSALS:
        return None
    return text


@lru_cache(maxsize=64)
def _compiled(text: str) -> jinja2.Template:
    from transformers.utils.chat_template_utils import _compile_jinja_template  # what vLLM takes too

    environment: jinja2.Environment = _compile_jinja_template(text).environment.overlay()
    environment.__class__ = _Sandbox
    return environment.from_string(text)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The same sandbox: what it looks up, and what it refuses."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        key = (type(obj), attr)
        if key not in _SAFE:
            _SAFE[key] = super().is_safe_attribute(obj, attr, value)
        return _SAFE[key]

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute not in _OF_A_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if type(obj) is str and attribute in _OF_A_TEXT:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)
