"""Replies as they come: the pieces of a stream, put together as the completion that the server would have sent whole.

chunks = client.chat.completions.create(model="qwen", messages=messages, stream=True)
completion = gathered(chunks, on_text=print)       # a ChatCompletion, with the token ids where the server gives them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from openai.types.chat import ChatCompletion, ChatCompletionChunk

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


def gathered(chunks: Iterable[ChatCompletionChunk], on_text: OnText) -> ChatCompletion:
    """The whole completion of a stream of one choice. A stream without one gives a completion without choices.

    Raises ValueError for a stream that ends before its reply does: a part would pass for the whole.
    """
    head: dict[str, Any] = {}
    choice: dict[str, Any] | None = None
    for chunk in chunks:
        said = {name: value for name, value in chunk.model_dump().items() if value is not None}
        for piece in said.pop("choices", None) or ():
            choice = choice or {"index": 0, "finish_reason": None, "message": {"role": "assistant", "content": None}}
            _add(choice, piece, on_text)
        head |= said
    if choice is not None and choice["finish_reason"] is None:
        raise ValueError("the stream ended before the reply did")
    return ChatCompletion.construct(**{**head, "object": "chat.completion", "choices": [choice] if choice else []})


def _add(choice: dict[str, Any], piece: dict[str, Any], on_text: OnText) -> None:
    delta = piece.get("delta") or {}
    message = choice["message"]
    for name in ("reasoning_content", "reasoning", "content"):
        if isinstance(text := delta.get(name), str) and text:
            message[name] = (message.get(name) or "") + text
            on_text(text)
    for call in delta.get("tool_calls") or ():
        _add_call(message.setdefault("tool_calls", []), call, on_text)
    if piece.get("finish_reason"):
        choice["finish_reason"] = piece["finish_reason"]
    if piece.get("token_ids"):
        choice["token_ids"] = [*choice.get("token_ids", ()), *piece["token_ids"]]
    if content := (piece.get("logprobs") or {}).get("content"):
        choice.setdefault("logprobs", {"content": []})["content"] += content


def _add_call(calls: list[dict[str, Any]], piece: dict[str, Any], on_text: OnText) -> None:
    """A piece of a tool call: its id and its name come whole, its arguments in pieces."""
    place = piece.get("index")
    place = len(calls) if place is None else place
    while len(calls) <= place:
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[place], piece.get("function") or {}
    call["id"] = call["id"] or piece.get("id")
    for name in ("name", "arguments"):
        if text := function.get(name):
            call["function"][name] += text
            on_text(text)
