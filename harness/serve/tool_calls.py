r"""Tool calls in a reply's text, read back as the model's own chat template writes them.

    calls = ToolCalls.of(renderer.template)          # None where the template's calls cannot be read back
    calls.read('I look.\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>')
    calls.parser                                     # 'hermes': what vLLM calls it, None where it is not known

The template is given a call whose name and argument are sentinels. What stands before the name, between name and
arguments and behind them is how it writes calls. Arguments must be a JSON object there; templates that spell each
argument with tags of its own (Qwen3-Coder, GLM) are served by vLLM. What is no call stays text.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any, NamedTuple, Self

from srft.env.errors import InputError
from srft.train.rows.template import MARK, ChatTemplate, answers

_NAME, _VALUE, _TEXT = "\ue002name\ue003", "\ue004value\ue005", "\ue006text\ue007"
_ARGUMENTS = {"\ue008": _VALUE}

VLLM_PARSERS = {
    "<function=": "qwen3_coder",
    "<arg_key>": "glm45",
    "<|tool_calls_section_begin|>": "kimi_k2",
    "<｜tool▁calls▁begin｜>": "deepseek_v3",
    "<|channel|>": "openai",
    "[TOOL_CALLS]": "mistral",
    "<|tool_call|>": "granite",
    "<tool_call>": "hermes",
    '"parameters":': "llama3_json",
}
"""Text in a template's calls -> vLLM's parser for it; the first that fits."""


NO_CALLS = (
    "this model's chat template writes no tool calls, or writes them in a way that the engine in this process cannot "
    "read back. Collect with format backtick, xml or json, or serve it with vLLM (serve.kind: vllm)."
)


class CalledText(NamedTuple):
    """A reply's text without its calls, and the calls as the chat API has them."""

    content: str
    calls: tuple[dict[str, Any], ...]


class ToolCalls:
    """How one template writes tool calls. beside: what stands between a reply's text and its first call."""

    def __init__(self, *, written: str, parser: str | None, pattern: re.Pattern[str], end: str, beside: str) -> None:
        self.written, self.parser = written, parser
        self._pattern, self._end, self._beside = pattern, re.compile(_spaced(end)), beside

    @classmethod
    def of(cls, template: ChatTemplate) -> Self | None:
        """`None` where the template writes no calls, or writes them in a way that is not read here."""
        written = written_call(template)
        text = "" if written is None else written
        before, _, behind = text.partition(_NAME)
        found = re.search(r'\{\s*"(?:\ue008|\\ue008)"\s*:\s*"[^"]*"\s*\}', behind)
        if not before.strip() or found is None:
            return None
        middle, end = behind[: found.start()], behind[found.end() :]
        with_text = written_call(template, beside=_TEXT) or ""
        beside = with_text.partition(_TEXT)[2].partition(before.lstrip())[0] if _TEXT in with_text else ""
        name = r"(?P<name>[^\s\"'<>{}]+)"
        pattern = re.compile(_spaced(before.lstrip()) + name + _spaced(middle))
        return cls(written=text, parser=_parser(text), pattern=pattern, end=end.rstrip(), beside=beside)

    def read(self, text: str) -> CalledText:
        """The text before the first call, and all calls; the whole text where there is none."""
        calls: list[dict[str, Any]] = []
        begin = place = -1
        while found := self._pattern.search(text, max(place, 0)):
            call, end = self._call(text, found)
            if call is None:
                break
            begin = found.start() if begin < 0 else begin
            place = end
            calls.append(call)
        if not calls:
            return CalledText(text, ())
        return CalledText(text[:begin].removesuffix(self._beside), tuple(calls))

    def _call(self, text: str, found: re.Match[str]) -> tuple[dict[str, Any] | None, int]:
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, found.end())
        except ValueError:
            return None, found.end()
        closing = self._end.match(text, end)
        if closing is None or not isinstance(arguments, dict):
            return None, end
        function = {"name": found["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
        return {"id": f"call_{uuid.uuid4().hex[:16]}", "type": "function", "function": function}, closing.end()


def written_call(template: ChatTemplate, *, beside: str = "") -> str | None:
    """What the template writes of a reply of one call, with an answer behind it; `None` where it loses calls."""
    if template.style is None:
        return None
    call = {"id": "call_0", "type": "function", "function": {"name": _NAME, "arguments": _ARGUMENTS}}
    asked = [{"role": "user", "content": "x"}]
    said = template.styled([{"role": "assistant", "content": beside, "tool_calls": [call]}])
    try:
        prompt = template.render(asked, prompt=True)
        whole = template.render([*asked, *said, *answers(said[0], "tool", MARK)], prompt=False)
        ended = template.ending("calls", "tool").shown.strip()
    except InputError:
        return None
    pairs = zip(prompt, whole, strict=False)
    shared = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(prompt), len(whole)))
    reply = whole[shared:].partition(MARK)[0]
    place = reply.find(ended, reply.find(_VALUE)) if ended else len(reply)
    return reply[:place].rstrip() if place >= 0 else None


def _parser(written: str) -> str | None:
    return next((parser for words, parser in VLLM_PARSERS.items() if words in written), None)


def vllm_parser(template: ChatTemplate) -> str | None:
    """The name of vLLM's parser for the calls of this template; `None` where no known one fits."""
    written = written_call(template)
    return None if written is None else _parser(written)


def _spaced(text: str) -> str:
    r"""A pattern of the text in which white space is free, as models leave some out.

    >>> _spaced('a: {')
    'a:\\s*\\{'
    """
    return r"\s*".join(re.escape(part) for part in re.split(r"\s+", text))
