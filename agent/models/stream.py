"""Streamed replies: the pieces of a stream, put together as the answer that the server would have sent without one.

answer = gathered(chunks, on_text=print)        # decoded chunks; a decoded chat completion, for `read_answer`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from srft.agent.models.answer import REASONING_FIELDS, split_content
from srft.agent.models.contract import Reply

OnText = Callable[[str], None]


@runtime_checkable
class StreamingModel(Protocol):
    """A model whose replies can be seen while they come."""

    def stream(
        self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = (), on_text: OnText
    ) -> Reply:
        """As `reply`; on_text is given the pieces of thinking and text in their order."""
        ...


def gathered(chunks: Iterable[Any], on_text: OnText) -> dict[str, Any]:
    """The whole answer of a stream of one choice. A stream without one gives an answer without choices.

    Raises ValueError for a stream that ends before its reply does: a part would be taken for the whole reply.
    """
    head: dict[str, Any] = {}
    choice: dict[str, Any] | None = None
    for chunk in (chunk for chunk in chunks if isinstance(chunk, dict)):
        said = {name: value for name, value in chunk.items() if value is not None}
        for piece in _objects(said.pop("choices", None)):
            choice = choice or {"index": 0, "finish_reason": None, "message": {"role": "assistant", "content": None}}
            _add(choice, piece, on_text)
        head |= said
    if choice is not None and choice["finish_reason"] is None:
        raise ValueError("the stream ended before the reply did")
    return {**head, "object": "chat.completion", "choices": [choice] if choice else []}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [member for member in value if isinstance(member, dict)] if isinstance(value, list) else []


def _add(choice: dict[str, Any], piece: dict[str, Any], on_text: OnText) -> None:
    delta, message = piece.get("delta"), choice["message"]
    if isinstance(delta, dict):
        _add_texts(message, delta, on_text)
        for call in _objects(delta.get("tool_calls")):
            _add_call(message.setdefault("tool_calls", []), call, on_text)
    for name in ("finish_reason", "error"):
        if piece.get(name) is not None:
            choice[name] = piece[name]
    if isinstance(ids := piece.get("token_ids"), list):
        choice["token_ids"] = [*choice.get("token_ids", ()), *ids]
    logprobs = piece.get("logprobs")
    if isinstance(logprobs, dict) and isinstance(content := logprobs.get("content"), list):
        choice.setdefault("logprobs", {"content": []})["content"] += content


def _add_texts(message: dict[str, Any], delta: dict[str, Any], on_text: OnText) -> None:
    text, thoughts = split_content(delta.get("content"))
    pieces = {name: piece for name in REASONING_FIELDS if (piece := delta.get(name))}
    pieces |= {"reasoning_content": thoughts} if thoughts else {}
    for number, (name, piece) in enumerate(pieces.items()):
        if isinstance(piece, list):
            message[name] = [*message.get(name, ()), *piece]
        elif isinstance(piece, str):
            message[name] = (message.get(name) or "") + piece
            if number == 0:  # some give the same under two names
                on_text(piece)
    if text:
        message["content"] = (message["content"] or "") + text
        on_text(text)


def _add_call(calls: list[dict[str, Any]], piece: dict[str, Any], on_text: OnText) -> None:
    """Add a piece of a tool call: its id and its name come at once, its arguments in pieces."""
    place = piece.get("index")
    if type(place) is not int or not 0 <= place <= len(calls):  # some give none: a piece without an id continues
        place = len(calls) if piece.get("id") or not calls else len(calls) - 1
    if place == len(calls):
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[place], piece.get("function")
    function = function if isinstance(function, dict) else {}
    call["id"] = call["id"] or piece.get("id")
    for name in ("name", "arguments"):
        text = function.get(name)
        text = text if isinstance(text, str) else json.dumps(text) if text else ""
        if text:
            call["function"][name] += text
            on_text(text)
