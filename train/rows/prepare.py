"""A run as its chat template takes it: messages, thinking, tool calls; refused where the template would lose some.

Reads a trajectory and a `ChatTemplate`; writes nothing.

    prepared = Preparer(template, thinking=None, tools="refuse").prepare(trajectory, remarks)
    prepared.messages, prepared.places[0]       # what the template is given; where the first step's reply is in it
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal, NamedTuple

import msgspec

from srft.agent.records import Step, Trajectory
from srft.train.rows.template import ChatTemplate, Messages, RenderError, chat_messages

Thinking = Literal["recorded", "empty", "without"]
"""What a reply's thinking becomes: as recorded, an empty block, or the reply as the template shows it without."""

Tools = Literal["refuse", "leave_out"]
"""What becomes of tool descriptions that the template does not write: the run is refused, or they are left out."""


class PreparedRun(NamedTuple):
    """A run as its template takes it. places: of each step's reply among the messages. thinking: never undecided."""

    trajectory: Trajectory
    messages: Messages
    places: list[int]
    thinking: Thinking
    template: ChatTemplate

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.trajectory.steps

    def render(self, messages: Messages, *, prompt: bool) -> str:
        """The text of these messages, with this run's tools. Raises RenderError."""
        return self.template.render(messages, self.trajectory.tools, prompt=prompt)

    def try_render(self, messages: Messages, *, prompt: bool) -> str | None:
        """The same; `None` where the template refuses them."""
        try:
            return self.render(messages, prompt=prompt)
        except RenderError:
            return None

    def thought(self, step: Step) -> str:
        """The thinking that this step's reply is to hold."""
        return (step.reasoning or "").strip() if self.thinking == "recorded" else ""


class Preparer:
    """How runs are given to one template. thinking: `None` decides by run, see `Renderer`."""

    def __init__(self, template: ChatTemplate, *, thinking: Thinking | None, tools: Tools) -> None:
        self.template, self.thinking, self.tools = template, thinking, tools
        self._without: ChatTemplate | None = None

    def prepare(self, trajectory: Trajectory, remarks: Counter[str]) -> PreparedRun:
        """Raises RenderError where the template would lose some of the run; counts thinking that is left out."""
        if self.template.thinks:
            trajectory = _thoughts_apart(trajectory, opened=self.template.opens_thinking)
        messages, places = chat_messages(trajectory)
        self._refuse_lost(messages, trajectory)
        thoughts = [
            step.reasoning or reasoning_of(messages[place])
            for step, place in zip(trajectory.steps, places, strict=True)
        ]
        thinking = self._choice(any(thoughts))
        if thinking != "recorded" and any(thoughts):
            remarks["thinking_left_out"] += sum(map(bool, thoughts))
        messages = [self._with_thinking(message, thinking) for message in messages]
        template = self._template_without() if thinking == "without" else self.template
        return PreparedRun(trajectory, template.styled(messages), places, thinking, template)

    def _refuse_lost(self, messages: Messages, trajectory: Trajectory) -> None:
        calling = [message for message in messages if message.get("tool_calls")]
        needs = {
            "tool calls": bool(calling),
            "several calls in a reply": any(len(message["tool_calls"]) > 1 for message in calling),
            "text beside a call": any(message["content"].strip() for message in calling),
            "observations": bool(calling) and any(message["role"] == "tool" for message in messages),
        }
        if calling and trajectory.tools and self.tools == "refuse":
            system = messages[0]["role"] == "system"
            needs["tool descriptions" if system else "tool descriptions without a system message"] = True
        if calling and self.template.wants_tools and not trajectory.tools:
            raise RenderError(
                "the chat template writes tool calls only where tools are described, and this run has no descriptions; "
                "import it with --tools FILE, or set rows.calls=xml (or json) to write calls as text"
            )
        for feature, needed in needs.items():
            if needed and (why := self.template.lost(feature)):
                also = ", rows.tools=leave_out to do without" if feature.startswith("tool descriptions") else ""
                raise RenderError(
                    f"{why}; set rows.calls=xml (or json) to write calls as text{also}, or take a tokenizer whose "
                    "template writes them"
                )

    def _choice(self, thought: bool) -> Thinking:
        """What this run's thinking becomes. Raises RenderError where that has to be chosen."""
        if self.thinking is not None:
            return self.thinking if self.thinking != "recorded" or self.template.thinks else "without"
        if thought and self.template.thinks:
            return "recorded"
        if self.template.opens_thinking:
            raise RenderError(
                "the chat template begins each reply inside its thinking, and this run has none; choose thinking=empty "
                "(an empty block is trained), thinking=without (the template's own option against thinking; serve with "
                "it) or thinking=recorded"
            )
        return "without"

    def _template_without(self) -> ChatTemplate:
        """The template for replies without thinking."""
        if not self.template.opens_thinking:
            return self.template
        if self._without is None:
            options = self.template.without_thinking()
            if options is None:
                raise RenderError(
                    "the chat template always begins replies inside their thinking; choose thinking=empty or recorded"
                )
            self._without = self.template.with_options(options)
        return self._without

    def _with_thinking(self, message: dict[str, Any], thinking: Thinking) -> dict[str, Any]:
        if message["role"] != "assistant":
            return message
        reasoning = reasoning_of(message)
        bare = {key: value for key, value in message.items() if key not in ("reasoning_content", "reasoning")}
        if reasoning and thinking == "recorded" and self.template.thinking_key:
            return {**bare, self.template.thinking_key: reasoning}
        return bare


def reasoning_of(message: dict[str, Any]) -> str | None:
    """The thinking of a message as it was sent."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    return thought if isinstance(thought, str) else None


_INLINE_THOUGHT = re.compile(r"\s*(<think>)?(.*?)</think>\s*", re.DOTALL)


def _thoughts_apart(trajectory: Trajectory, *, opened: bool) -> Trajectory:
    """The run with thinking that stands at the beginning of a reply's text kept apart.

    opened: the prompt opens the thinking, so that a reply may begin inside it.
    """

    def split(content: Any) -> tuple[str, str] | None:
        found = _INLINE_THOUGHT.match(content) if isinstance(content, str) else None
        if found is None or not (found[1] or opened) or "<think>" in found[2]:
            return None
        return found[2].strip(), content[found.end() :]

    if not any(split(step.content) for step in trajectory.steps):
        return trajectory
    messages = []
    for message in trajectory.messages:
        thought = split(message.get("content")) if message["role"] == "assistant" else None
        messages.append({**message, "reasoning_content": thought[0], "content": thought[1]} if thought else message)
    steps = []
    for step in trajectory.steps:
        thought = split(step.content)
        parted = thought and msgspec.structs.replace(step, reasoning=thought[0] or step.reasoning, content=thought[1])
        steps.append(parted or step)
    return msgspec.structs.replace(trajectory, messages=tuple(messages), steps=tuple(steps))
