"""The contract of a model: messages in, one reply out.

`openai.py` asks a server, `scripted.py` replies from a file. A model is shared by the worker threads; each
episode asks its own view of it, which `for_episode` gives.

    episode_model = model.for_episode("sympy__sympy-20590", attempt=0, seed=7)
    episode_model.reply([{"role": "user", "content": "Say hello."}]).content
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from srft.agent.records import Author, Usage
from srft.env.errors import ModelError


class ContextOverflow(Exception):
    """The conversation no longer fits the model's context. It ends the episode; it is nobody's failure."""


class ReasoningWanted(ModelError):
    """The server wants the model's earlier thinking sent back, or refuses it; the same messages, changed so, will do.

    field: of the assistant messages, where the thinking belongs; `None`: it must not be sent.
    """

    def __init__(self, message: str, *, field: str | None) -> None:
        super().__init__(message)
        self.field = field


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One assistant message as the model gave it, to the character.

    tool_calls: {"id", "type": "function", "function": {"name", "arguments"}} each, arguments a string.
    prompt_token_ids, token_ids, logprobs: what the server was asked and what it sampled (T,), where it says so.
    vocabulary: of these ids, where it is known (`vocabulary.py`).
    author: who wrote it, where that is not the model alone.
    sent_back: what the next request's assistant message has besides text and calls, say {"reasoning_content": ...}.
    """

    content: str
    reasoning: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    finish_reason: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    vocabulary: str | None = None
    usage: Usage | None = None
    author: Author = "model"
    sent_back: dict[str, Any] = {}


class Model(Protocol):
    """Something that replies. `name` and `sampling` go into the trajectory."""

    @property
    def name(self) -> str: ...

    @property
    def sampling(self) -> dict[str, Any]: ...

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> Model:
        """This model for one episode: its own seed, its own place in a script."""
        ...

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """Raises ModelError when it cannot be asked, ContextOverflow when the messages are too long."""
        ...


@runtime_checkable
class PatientModel(Protocol):
    """A model that tries for minutes before it gives up, and can be told to stop trying."""

    def until(self, stop: threading.Event) -> Model:
        """This model, which gives up (ModelError) when `stop` is set while it waits to try again."""
        ...


def well_formed(text: str) -> str:
    r"""The text with lone surrogates replaced: JSON can carry them, UTF-8 cannot, so nothing could store them.

    >>> well_formed("a\ud800b")
    'a\ufffdb'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def well_formed_within(value: Any) -> Any:
    r"""The same for every text in a decoded JSON value, the names in its objects included.

    >>> well_formed_within({"a\ud800": ["b", 1, "\ud800"]})
    {'a\ufffd': ['b', 1, '\ufffd']}
    """
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {well_formed_within(name): well_formed_within(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(well_formed_within(member) for member in value)
    return value
