"""The records of an episode: `Step`, `Trajectory`, and why it stopped.

Stored as JSON, one trajectory a line. `None` always means 'not known', never 0, "" or -1.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1

StopReason = Literal[
    "submitted",
    "step_limit",
    "token_limit",
    "cost_limit",
    "wall_limit",
    "context_limit",
    "format_errors",
    "infra_error",
    "cancelled",
]
"""How an episode ended."""

Failure = Literal["world", "input", "bug"]
"""Whose failure an `infra_error` was: an InfrastructureError's, the caller's (an InputError, say a script that is too
short), or our own (anything else)."""

Author = Literal["model", "human", "edited"]
"""Who wrote a reply: the model; a person; or the model, and a person changed the action."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens and money of one reply, as the server counts them."""

    prompt_tokens: int | None = None
    """Tokens of the request, cached ones included."""
    completion_tokens: int | None = None
    """Tokens of the reply, its thinking included."""
    cached_tokens: int | None = None
    """Tokens of the request that the server had in its cache."""
    cost_usd: float | None = None
    """US dollars."""


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model asked for."""

    tool: str
    """`bash`, `edit` or `submit`; in imported runs also the tool's name in its own scaffold."""
    arguments: dict[str, Any] = {}
    """{"command": ...} for bash; see `tools/edit.py` for edit."""
    format: str
    """The action format it was written in."""
    call_id: str | None = None
    """The id of a native tool call."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One assistant message and what came of it."""

    index: int
    """Its place in the run, from 0 on."""
    content: str
    """The text as the model wrote it, to the character."""
    reasoning: str | None = None
    """The thinking, where the server gives it apart from the text."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Native calls as they were sent back, each with function name and arguments string."""
    action: Action | None = None
    """What it asked for; `None` where no single action can be read from it."""
    observation: str | None = None
    """The text that the model saw in answer; `None` where the episode ended on this step."""
    exit_code: int | None = None
    """The command's exit code."""
    wall_s: float | None = None
    """Seconds that the action took."""
    timed_out: bool = False
    """Whether the command was killed because it took too long."""
    elided_chars: int = 0
    """Characters of the output that the observation leaves out."""
    prompt_shared: int | None = None
    """Leading ids that the prompt shares with prompt and reply of the step before (see `prompt_delta.py`)."""
    prompt_token_ids: tuple[int, ...] | None = None
    """Ids of the prompt after the shared ones: whole prompts would grow quadratically."""
    token_ids: tuple[int, ...] | None = None
    """Ids of the reply as it was sampled (T,), where the server gives them."""
    logprobs: tuple[float, ...] | None = None
    """Log-probabilities of the same (T,)."""
    finish_reason: str | None = None
    """Why the server stopped sampling."""
    usage: Usage | None = None
    """What the reply cost."""
    error: Literal["format", "infrastructure"] | None = None
    """`format`: no action could be read; `infrastructure`: the action could not be carried out."""
    author: Author = "model"
    """Who wrote it. What a person wrote was not sampled: it has no token ids and no logprobs."""


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One episode with all that came of it."""

    schema_version: int = SCHEMA_VERSION
    """Of this record."""
    id: str
    """A hash of task, attempt, model and messages."""
    task_id: str
    """The task's instance id."""
    repo: str
    """The task's repository, owner/name; "" where an imported run does not tell."""
    model: str
    """The model's name; "" where an imported run does not tell."""
    sampling: dict[str, Any]
    """The settings that the request asked for, say {"temperature": 0.7}."""
    scaffold: str
    """The program that ran the episode, its version, and the action format."""
    prompt: str
    """Name and hash of the prompt file; of an imported run `recorded`, with its dataset and licence."""
    seed: int | None
    """The episode's seed."""
    attempt: int
    """The how-manieth run of its task by this model, from 0 on."""
    messages: tuple[dict[str, Any], ...]
    """The conversation exactly as it was sent, the last reply included."""
    steps: tuple[Step, ...]
    """One for each assistant message behind `demo_messages`, in their order."""
    patch: str | None
    """The diff against the start of the episode; `None` where it could not be taken."""
    stop_reason: StopReason
    """How it ended."""
    detail: str | None = None
    """What an `infra_error` was, or what else is to be said of the end."""
    failure: Failure | None = None
    """Whose an `infra_error` was; `None` for all other endings."""
    started_at: str | None = None
    """Date and time (UTC) when it began."""
    wall_s: float | None = None
    """Seconds that it took, the wait for its environment included."""
    tools: tuple[dict[str, Any], ...] = ()
    """The tools that the request offered; the chat template writes them into the prompt."""
    recorded_resolved: bool | None = None
    """The verdict that an imported run came with; a grade of ours wins over it."""
    demo_messages: int = 0
    """Messages at the start, up to the last example that the model was shown; assistant messages among them are no
    steps."""
    vocabulary: str | None = None
    """A hash of the vocabulary of the steps' token ids (`models/vocabulary.py`)."""


def trajectory_id(
    *, task_id: str, model: str, attempt: int, messages: tuple[dict[str, Any], ...] | list[dict[str, Any]]
) -> str:
    """The content hash that names a trajectory."""
    content = msgspec.json.encode((task_id, model, attempt, messages), order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]
