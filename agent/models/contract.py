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
    """The conversation no longer fits the model's context. It ends the episode and is not a failure."""


class ReasoningWanted(ModelError):
    """The server demands the model's earlier thinking, or refuses it; it takes the same messages with that change.

    field: of the assistant messages, where the thinking belongs; `None`: it must not be sent.
    """

    def __init__(self, message: str, *, field: str | None) -> None:
        super().__init__(message)
        self.field = field


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One assistant message as the model gave it."""

    content: str
    """The text, to the character."""
    reasoning: str | None = None
    """The thinking, where the server gives it apart from the text."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """{"id", "type": "function", "function": {"name", "arguments"}} each, arguments a string."""
    finish_reason: str | None = None
    """Why the server stopped sampling."""
    prompt_token_ids: tuple[int, ...] | None = None
    """Ids of the prompt, where the server gives them."""
    token_ids: tuple[int, ...] | None = None
    """Ids of the reply as it was sampled (T,), where the server gives them."""
    logprobs: tuple[float, ...] | None = None
    """Log-probabilities of the same (T,)."""
    vocabulary: str | None = None
    """A hash of these ids' vocabulary, where it is known (`vocabulary.py`)."""
    usage: Usage | None = None
    """What it cost."""
    author: Author = "model"
    """Who wrote it, where that is not the model alone."""
    sent_back: dict[str, Any] = {}
    """What the next request's assistant message has besides text and calls, say {"reasoning_content": ...}."""


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
