"""What an episode leaves behind: `Step`, `Trajectory`, and why it stopped.

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

Failure = Literal["world", "input", "bug"]

Author = Literal["model", "human", "edited"]
"""Who wrote a reply: the model; a person; or the model, and a person changed the action."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens and money of one reply, as the server counts them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model asked for.

    tool: "bash", "edit" or "submit". arguments: {"command": ...} for bash; see `edit.py` for edit.
    format: the action format it was written in. call_id: the id of a native tool call.
    """

    tool: str
    arguments: dict[str, Any] = {}
    format: str
    call_id: str | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One assistant message and what came of it.

    content: as the model wrote it, to the character. reasoning: kept apart where the server gives it apart.
    tool_calls: native calls as they were sent back (function name and arguments string).
    observation: the text that the model saw in answer, `None` where the episode ended on this step.
    token_ids, logprobs: of the sampled reply (T,), where the server gives them.
    prompt_shared, prompt_token_ids: what the server was asked, as the number of leading ids it shares with the step
        before (that step's prompt and reply), and the ids after those: whole prompts would grow quadratically.
    error: "format" (no action could be read), "infrastructure", or `None`.
    author: who wrote it. What a person wrote was not sampled: it has no token ids and no logprobs.
    """

    index: int
    content: str
    reasoning: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    action: Action | None = None
    observation: str | None = None
    exit_code: int | None = None
    wall_s: float | None = None
    timed_out: bool = False
    elided_chars: int = 0
    prompt_shared: int | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    error: Literal["format", "infrastructure"] | None = None
    author: Author = "model"


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One episode, whole.

    id: a hash of task, attempt, model and messages. messages: exactly as sent, the last reply included. tools: what the
    request offered besides them; the chat template writes them into the prompt.
    prompt: name and hash of the prompt file. patch: the diff against the start of the episode; `None` where it could
    not be taken. detail: what an `infra_error` was. failure: whose it was: the world's (an InfrastructureError), the
    caller's (an InputError, say a script that is too short), or our own (anything else); `None` for all other endings.
    recorded_resolved: the verdict that an imported run came with; a grade of ours wins over it. demo_messages: so many
    messages at the start, of which the last is an example that the model was shown; assistant messages among them are
    no steps, and the k-th step is the k-th assistant message after them. vocabulary: of the steps' token ids, a hash
    (`models/vocabulary.py`); `None` where it is not known.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    task_id: str
    repo: str
    model: str
    sampling: dict[str, Any]
    scaffold: str
    prompt: str
    seed: int | None
    attempt: int
    messages: tuple[dict[str, Any], ...]
    steps: tuple[Step, ...]
    patch: str | None
    stop_reason: StopReason
    detail: str | None = None
    failure: Failure | None = None
    started_at: str | None = None
    wall_s: float | None = None
    tools: tuple[dict[str, Any], ...] = ()
    recorded_resolved: bool | None = None
    demo_messages: int = 0
    vocabulary: str | None = None


def trajectory_id(
    *, task_id: str, model: str, attempt: int, messages: tuple[dict[str, Any], ...] | list[dict[str, Any]]
) -> str:
    """The content hash that names a trajectory."""
    content = msgspec.json.encode((task_id, model, attempt, messages), order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]
