"""From messages to the prompt's token ids, by the code that makes training rows.

`train/rows/render.py` says which ids stand before a reply that is trained. The engine asks for just those: the
conversation is rendered as a run whose last step is the reply to come, and what stands before it is the prompt. So a
model is shown what it was trained behind, whatever its template does, and the cache of the turn before fits.

    conversation = Conversation(renderer)
    ids = conversation.prompt([{"role": "user", "content": "Hello"}])
    conversation.note(content, sampled_ids, calls)        # the ids of a reply, as they were sampled

A reply that was sampled in this conversation goes into later prompts with the ids that were sampled: encoded anew, its
text might give others, which neither the cache nor the run's rows would continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from srft.agent.records import Step, Trajectory
from srft.train.rows.mask import Part
from srft.train.rows.render import Renderer
from srft.train.rows.tokenized_row import TokenizedRow


class Conversation:
    """One conversation's prompts. Used by one thread at a time."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._sampled: dict[bytes, tuple[int, ...]] = {}

    def note(self, content: str, token_ids: Sequence[int], calls: Sequence[dict[str, Any]] = ()) -> None:
        """A reply's ids, the one that ended it apart. calls: its tool calls, as the chat API has them."""
        self._sampled[_key(content, calls)] = tuple(token_ids)

    def prompt(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The ids that the reply to these messages is written behind. Raises InputError (RenderError)."""
        said = [message for message in messages if message["role"] == "assistant"]
        steps = [
            Step(index=index, content=message.get("content") or "", tool_calls=tuple(message.get("tool_calls") or ()))
            for index, message in enumerate([*said, {}])
        ]
        to_come = {"role": "assistant", "content": ""}
        run = _run((*messages, to_come), tuple(steps), tuple(tools))
        row = self._renderer.render(run, source="rendered").rows[-1]
        return self._with_sampled(row, steps)

    def _with_sampled(self, row: TokenizedRow, steps: Sequence[Step]) -> list[int]:
        """The row's ids before the last step, replies that were sampled here as they were sampled."""
        ids: list[int] = []
        written = -1
        for token, step, part in zip(row.input_ids.tolist(), row.step_index.tolist(), row.part.tolist(), strict=True):
            if step == steps[-1].index:
                break
            is_reply = step >= 0 and part != Part.END
            sampled = self._sampled.get(_key(steps[step].content, steps[step].tool_calls)) if is_reply else None
            if sampled is None:
                ids.append(token)
            elif step != written:
                ids += sampled
                written = step
        return ids


def _key(content: str, calls: Sequence[dict[str, Any]]) -> bytes:
    return msgspec.json.encode((content, [(call.get("id"), call.get("function")) for call in calls]), order="sorted")


def _run(messages: tuple[Any, ...], steps: tuple[Step, ...], tools: tuple[Any, ...]) -> Trajectory:
    return Trajectory(
        id="prompt",
        task_id="",
        repo="",
        model="",
        sampling={},
        scaffold="",
        prompt="",
        seed=None,
        attempt=0,
        messages=messages,
        steps=steps,
        patch=None,
        stop_reason="cancelled",
        tools=tools,
    )
