"""Reads a server's answer as a `Reply`: every field gets its type here, or is left out.

    read = read_answer({"choices": [{"message": {"content": [{"type": "text", "text": "I look."}]}}]}, first_call=2)
    read.reply.content, read.left_out               # ('I look.', ())

Content comes as text, as parts or not at all; thinking under five names, among the parts, or between tags at the start
of the text; tool calls without ids; usage, token ids and log-probabilities in any shape. What is in no usable shape is
left out, and `left_out` names it. An answer without a reply raises `AnswerError`, or `ContextOverflow`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from srft.agent.models.contract import ContextOverflow, Reply, well_formed, well_formed_within
from srft.agent.models.overflow import is_overflow
from srft.agent.records import Usage
from srft.env.errors import ModelError

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")

# A provider's codes for what is the same however often it is asked.
_NEVER_PASSES = frozenset({"400", "401", "402", "403", "404", "405", "422"})

_INLINE_THINKING = re.compile(
    r"\s*(?:<(think|thinking|seed:think)>(.*?)</\1>|\[THINK\](.*?)\[/THINK\])\n*", re.DOTALL | re.IGNORECASE
)
_TEXT_KEYS = ("text", "content", "thinking", "reasoning", "summary", "value", "refusal")
_THINKING_PARTS = frozenset({"thinking", "reasoning", "reasoning_content", "reasoning_text"})
_MOST = 2**53  # of a count: no server's figures are larger


class AnswerError(ModelError):
    """An answer without a reply in it. passes: whether the next answer may have one."""

    def __init__(self, message: str, *, passes: bool) -> None:
        super().__init__(message)
        self.passes = passes


class Thinking(NamedTuple):
    """What the model thought. field: the message's field that it came in; `None` where it came in the content.
    value: that field as it came, which is what may have to be sent back."""

    text: str
    field: str | None
    value: Any


class Read(NamedTuple):
    """left_out: what of the answer was in no usable shape, by name, say "log-probabilities"."""

    reply: Reply
    thinking: Thinking | None
    left_out: tuple[str, ...]


def read_answer(answer: Any, *, first_call: int) -> Read:
    """The reply in a decoded answer. first_call: a number for the ids of calls that came without.

    Raises AnswerError, ContextOverflow.
    """
    left_out: list[str] = []
    choice, message = _choice(answer)
    content, parts_thinking = _content(message, left_out)
    thinking = _thinking(message, parts_thinking)
    if thinking is None and (inline := _INLINE_THINKING.match(content)):
        content = content[inline.end() :]
        text = (inline[2] or inline[3] or "").strip("\n")
        thinking = Thinking(text, None, None) if text.strip() else None
    reply = Reply(
        content=content,
        reasoning=thinking.text if thinking else None,
        tool_calls=_tool_calls(message, first_call, left_out),
        finish_reason=_finish_reason(choice, left_out),
        prompt_token_ids=_ids(answer.get("prompt_token_ids") or choice.get("prompt_token_ids"), left_out),
        token_ids=_ids(choice.get("token_ids"), left_out),
        logprobs=_logprobs(choice.get("logprobs"), left_out),
        usage=_usage(answer.get("usage"), left_out),
    )
    if not content and not reply.tool_calls and reply.finish_reason and is_overflow(reply.finish_reason):
        raise ContextOverflow(f"the reply is empty and ended with {reply.finish_reason}")
    return Read(reply, thinking, tuple(dict.fromkeys(left_out)))


def _choice(answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first choice and its message. Raises AnswerError, ContextOverflow."""
    answer = answer if isinstance(answer, dict) else {"answer": answer}
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict) and isinstance(choice.get("text"), str):
        message = {"content": choice["text"]}
    if choice.get("error") or choice.get("finish_reason") == "error":
        raise _failure(choice.get("error") or answer.get("error") or "finish_reason is error, without a reason")
    if isinstance(message, dict) and (choice.get("finish_reason") or not answer.get("error")):
        return choice, message
    if answer.get("error"):
        raise _failure(answer["error"])
    raise AnswerError(
        f"expected a chat completion with a choice in it, got {str(answer.get('answer', answer))[:300]!r}; check that "
        "the URL is the API's (most end in /v1) and look at the server's log",
        passes=True,
    )


def _failure(error: Any) -> Exception:
    """A provider's failure that came with status 200."""
    said = error_text(error)
    if is_overflow(said):
        return ContextOverflow(said)
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return AnswerError(
        f"expected a chat completion, got a failure with status 200 ({said}); look at the server's log",
        passes=code not in _NEVER_PASSES,
    )


def error_text(error: Any) -> str:
    """The text of an error's body: its message where there is one, with its code or type where that is a word."""
    if isinstance(error, list) and len(error) == 1:  # Gemini
        error = error[0]
    if isinstance(error, dict) and isinstance(error.get("error"), dict | str):
        error = error["error"]
    if not isinstance(error, dict):
        return error if isinstance(error, str) else json.dumps(error, default=str)
    said = error.get("message") or error.get("detail") or error.get("error") or error
    text = said if isinstance(said, str) else json.dumps(said, default=str)
    code = next((c for c in (error.get("code"), error.get("type")) if isinstance(c, str) and not c.isdigit()), None)
    return f"{text} [{code}]" if code and code not in text else text


def _content(message: Mapping[str, Any], left_out: list[str]) -> tuple[str, str]:
    """The text, and the thinking among its parts."""
    content = message.get("content")
    if content is None or content == "":
        content = message.get("refusal") or ""
    if isinstance(content, dict) and not set(_TEXT_KEYS) & content.keys():
        return well_formed(json.dumps(content, ensure_ascii=False, default=str)), ""  # decoded on the way
    for part in content if isinstance(content, list) else ():
        if part and not _text(part):
            left_out.append(f"content of type {part.get('type') if isinstance(part, dict) else type(part).__name__}")
    text, thoughts = split_content(content)
    return well_formed(text), well_formed(thoughts)


def split_content(content: Any) -> tuple[str, str]:
    """The text and the thinking of content that is a text or a list of parts."""
    if not isinstance(content, list):
        return _text(content), ""
    is_thought = [isinstance(part, dict) and part.get("type") in _THINKING_PARTS for part in content]
    texts = (_text(part) for part, thought in zip(content, is_thought, strict=True) if not thought)
    thoughts = (_text(part) for part, thought in zip(content, is_thought, strict=True) if thought)
    return "".join(texts), "".join(thoughts)


def _text(value: Any) -> str:
    """The text in a text, a part, or a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(member) for member in value)
    if isinstance(value, dict):
        return next((text for key in _TEXT_KEYS if (text := _text(value.get(key)))), "")
    return "" if value is None or isinstance(value, bool) else str(value)


def _thinking(message: Mapping[str, Any], among_parts: str) -> Thinking | None:
    for field in REASONING_FIELDS:
        text = well_formed(_text(message.get(field)))
        if text.strip():
            return Thinking(text, field, well_formed_within(message[field]))
    return Thinking(among_parts, None, None) if among_parts.strip() else None


def _tool_calls(message: Mapping[str, Any], first_call: int, left_out: list[str]) -> tuple[dict[str, Any], ...]:
    given = message.get("tool_calls")
    if not given and isinstance(message.get("function_call"), dict):  # the API before tools
        given = [{"function": message["function_call"]}]
    given = given if isinstance(given, list) else [given] if isinstance(given, dict) else []
    calls: list[dict[str, Any]] = []
    for number, call in enumerate(given):
        if not isinstance(call, dict):
            left_out.append("a tool call that is no object")
            continue
        known = {other["id"] for other in calls}
        id_ = call.get("id")
        id_ = well_formed(str(id_)) if isinstance(id_, str | int) and not isinstance(id_, bool) else ""
        if not id_ or id_ in known:
            # nine letters and digits, as Mistral wants them
            id_ = f"call{first_call % 1000:03d}{number % 100:02d}"
        calls.append({"id": id_, "type": "function", "function": _function(call), **_beside(call)})
    return tuple(calls)


def _beside(call: Mapping[str, Any]) -> dict[str, Any]:
    """What a server gives beside a call and wants back with it: Gemini's signature of a thought."""
    extra = call.get("extra_content")
    return {"extra_content": well_formed_within(extra)} if isinstance(extra, dict) else {}


def _function(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or call.get("custom") or {}
    function = function if isinstance(function, dict) else {"name": function}
    name, arguments = function.get("name"), function.get("arguments", function.get("input"))
    if not isinstance(arguments, str):
        arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False, default=str)
    return {"name": well_formed(name) if isinstance(name, str) else "", "arguments": well_formed(arguments)}


def _finish_reason(choice: Mapping[str, Any], left_out: list[str]) -> str | None:
    reason = choice.get("finish_reason")
    if isinstance(reason, dict):  # SGLang's own API
        reason = reason.get("type")
    if reason is not None and not isinstance(reason, str):
        left_out.append("finish_reason")
        return None
    return well_formed(reason) if reason else None


def _ids(ids: Any, left_out: list[str]) -> tuple[int, ...] | None:
    if not ids:
        return None
    if isinstance(ids, list) and all(type(one) is int and 0 <= one < _MOST for one in ids):
        return tuple(ids)
    left_out.append("token ids")
    return None


def _logprobs(logprobs: Any, left_out: list[str]) -> tuple[float, ...] | None:
    """The sampled tokens' log-probabilities; none of them where one is not a number."""
    if not logprobs or (isinstance(logprobs, dict) and not any(logprobs.values())):
        return None
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    values = [_number(one.get("logprob")) if isinstance(one, dict) else None for one in _members(tokens)]
    numbers = tuple(value for value in values if value is not None)
    if not values or len(numbers) != len(values):
        left_out.append("log-probabilities")
        return None
    return numbers


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    """A finite number, `None` for all else.

    >>> [_number(value) for value in (-1, "0.5", float("nan"), "-inf", True, [1])]
    [-1.0, None, None, None, None, None]
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 and math.isfinite(value) else None


def _usage(usage: Any, left_out: list[str]) -> Usage | None:
    if usage is None or usage == {}:
        return None
    if not isinstance(usage, dict):
        left_out.append("usage")
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = usage.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))  # Moonshot, DeepSeek
    read = Usage(
        prompt_tokens=_count(usage.get("prompt_tokens", usage.get("input_tokens")), left_out),
        completion_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens")), left_out),
        cached_tokens=_count(cached, left_out),
        cost_usd=_cost(usage.get("cost"), left_out),
    )
    return None if read == Usage() else read


def _count(value: Any, left_out: list[str]) -> int | None:
    """A number of tokens; a text or a float of a whole number is one."""
    number = _amount(value)
    if number is not None and number == math.floor(number) and 0 <= number < _MOST:
        return int(number)
    if value is not None:
        left_out.append("usage")
    return None


def _cost(value: Any, left_out: list[str]) -> float | None:
    """Dollars: OpenRouter gives a number, others a text, or an object with the total and its parts."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("total_cost", "total", "cost", "usd") if key in value), "no total")
    number = _amount(value)
    if value is not None and (number is None or number < 0):
        left_out.append("cost")
        return None
    return number


def _amount(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return _number(value)
