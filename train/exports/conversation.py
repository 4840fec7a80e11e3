"""A run as messages with a weight each: what trainers that mask by message need.

Reads a trajectory, its facts and a policy; writes nothing. The weights are those of `mask.py`.

    made = conversation(trajectory, facts, MaskPolicy(arm="srft"), binary=False)
    made.messages[3], made.weights[3]           # the second reply and its weight; `None` for what is no step

The conversation ends with its last trained reply: what follows carries no loss, and some trainers would train the token
that ends the last turn whatever its mask says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy

from srft.agent.records import Step, Trajectory
from srft.env.errors import InputError
from srft.train.rows.mask import MaskPolicy, RunFacts, left_out, step_weights
from srft.train.rows.template import chat_messages

ROUND_UP_FROM = 0.5
"""The weight from which a step counts as trained where a trainer knows 0 and 1 alone."""

_KEYS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")


class Conversation(NamedTuple):
    """One run as messages. Arguments of tool calls are objects in it.

    weights: of each message; `None` where it is no step (what is asked, observations, a shown example's replies).
    rounded: steps whose weight became 0 or 1. cut: messages behind the last trained reply. cut_off: trained replies
    that met their length limit; a trainer that renders messages trains an end of turn that the model did not write.
    """

    run_id: str
    task_id: str
    messages: list[dict[str, Any]]
    weights: list[float | None]
    tools: tuple[dict[str, Any], ...]
    rounded: int = 0
    cut: int = 0
    cut_off: int = 0

    @property
    def trained(self) -> int:
        """How many messages carry loss."""
        return sum(bool(weight) for weight in self.weights)

    @property
    def masked(self) -> int:
        """How many steps carry none."""
        return sum(weight == 0 for weight in self.weights)


def conversation(
    trajectory: Trajectory, facts: RunFacts, policy: MaskPolicy, *, binary: bool = False
) -> Conversation | str:
    """The run's messages and weights, or the reason why it is left out."""
    if reason := left_out(facts, policy):
        return reason
    try:
        messages, places = chat_messages(trajectory)
    except InputError as error:
        return f"not readable: {error}"
    if not all(isinstance(message["content"], str) for message in messages):
        return "content_is_not_text"
    weight_S = step_weights(facts, policy)
    weights: list[float | None] = [None] * len(messages)
    rounded = 0
    for step, place, weight in zip(trajectory.steps, places, weight_S, strict=True):
        weights[place] = float(weight >= ROUND_UP_FROM) if binary else _shortest(weight)
        rounded += weights[place] != weight
        messages[place] = _with_reasoning(messages[place], step)
    trained = [place for place, weight in enumerate(weights) if weight]
    if not trained:
        return "nothing_trained"
    end = trained[-1] + 1
    return Conversation(
        run_id=trajectory.id,
        task_id=trajectory.task_id,
        messages=[{key: message[key] for key in _KEYS if message.get(key) is not None} for message in messages[:end]],
        weights=weights[:end],
        tools=trajectory.tools,
        rounded=rounded if binary else 0,
        cut=len(messages) - end,
        cut_off=sum(
            step.finish_reason == "length" and bool(weights[place])
            for step, place in zip(trajectory.steps, places, strict=True)
        ),
    )


def _shortest(weight: numpy.float32) -> float:
    """The shortest decimal number that is this weight: 0.3, not 0.30000001192092896."""
    return float(str(weight))


def _with_reasoning(message: dict[str, Any], step: Step) -> dict[str, Any]:
    return {**message, "reasoning_content": step.reasoning} if step.reasoning else message
