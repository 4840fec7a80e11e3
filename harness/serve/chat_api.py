"""The requests of the HTTP server: OpenAI's, and vLLM's additions to them.

Unknown keys are ignored, as servers do; a wrong value of a known one is refused with status 400.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from srft.agent.models.contract import well_formed_within
from srft.env.errors import InputError
from srft.harness.serve.sampling import Sampling


class _Settings(msgspec.Struct, kw_only=True):
    """What both kinds of request have. Names are the API's."""

    model: str
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    seed: int | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=1)] | None = None
    stream: bool = False
    return_token_ids: bool = False

    def sampling(self, defaults: dict[str, Any]) -> Sampling:
        """Raises InputError."""
        given = {field: getattr(self, field) for field in Sampling.__struct_fields__}
        given = {name: value for name, value in given.items() if value is not None}
        if isinstance(given.get("stop"), str):
            given["stop"] = [given["stop"]]
        try:
            return msgspec.convert(defaults | given, Sampling)
        except msgspec.ValidationError as error:
            raise InputError(str(error)) from None


class ChatRequest(_Settings, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    tools: list[dict[str, Any]] = []
    tool_choice: Any = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the reply may call; a template shows them in any case."""
        return [] if self.tool_choice == "none" else self.tools


class CompletionRequest(_Settings, kw_only=True):
    """POST /v1/completions. prompt: a text, or token ids. prompt_logprobs: any number asks for the tokens' own."""

    prompt: str | list[int]
    prompt_logprobs: int | None = None
    logprobs: int | None = None
    echo: bool = False


def read_chat(body: bytes) -> ChatRequest:
    """Raises InputError."""
    request = _read(body, ChatRequest)
    request.messages = [_message(well_formed_within(message)) for message in request.messages]
    if request.max_tokens is None:
        request.max_tokens = request.max_completion_tokens
    return request


def read_completion(body: bytes) -> CompletionRequest:
    """Raises InputError."""
    return _read(body, CompletionRequest)


def _read(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise InputError(str(error)) from None


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose content is text: parts that are text are put together."""
    if not isinstance(message.get("role"), str):
        raise InputError("a message has no role; expected system, user, assistant or tool")
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
            raise InputError("a message's content holds something that is no text; this server reads text alone")
        message = {**message, "content": "\n".join(map(str, texts))}
    return message
