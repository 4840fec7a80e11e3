"""A run as the judge reads it: its texts, cut to the limits, and what each takes of the room.

    transcript = Transcript(trajectory, evidence, prompt=JudgePrompt.load("default"), config=JudgeConfig(model="..."))
    transcript.question(Window(0, 12), room_chars=math.inf)         # the user message that asks about steps 0 to 11

The task, the end of the run and the evidence stand in every question. Of the steps before a window stands one line
each, its command, from the nearest backwards as far as room allows.
"""

from __future__ import annotations

import json
import math
from functools import cached_property
from typing import Any

from srft.agent.records import Step, Trajectory
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.prompt import JudgePrompt, elide
from srft.critic.judge.windows import Window
from srft.critic.labels.labels import Evidence

LINE_CHARS = 160
# Of a small context no single part but the steps takes more than this share.
PART_SHARE = 6
# Of a window's room, what the lines of the steps before it may take.
LINES_SHARE = 5


class Transcript:
    """One run and the evidence that the judge may see of it."""

    def __init__(self, trajectory: Trajectory, evidence: Evidence, *, prompt: JudgePrompt, config: JudgeConfig) -> None:
        self.steps = trajectory.steps
        self._trajectory, self._evidence, self._prompt, self._config = trajectory, evidence, prompt, config

    @property
    def whole(self) -> Window:
        return Window(0, len(self.steps))

    @cached_property
    def system(self) -> str:
        return self._prompt.render(
            "system", information=self._config.information, reason_chars=self._config.reason_chars
        )

    @cached_property
    def task(self) -> str:
        """What the agent was asked: the user messages before its first reply, a shown example left out."""
        run = self._trajectory
        opening = run.messages[run.demo_messages :]
        first_reply = next((place for place, message in enumerate(opening) if message.get("role") == "assistant"), None)
        asked = [message for message in opening[:first_reply] if message.get("role") == "user"]
        return "\n\n".join(_text(message.get("content")) for message in asked)

    @cached_property
    def step_texts(self) -> list[str]:
        return [self._step_text(step) for step in self.steps]

    @cached_property
    def costs(self) -> list[int]:
        """What each step takes of the room, in characters: its text, and its entry in the answer (N,)."""
        entry = 0 if self._config.openai.max_tokens else self._config.entry_chars
        return [len(text) + entry for text in self.step_texts]

    @cached_property
    def room_chars(self) -> float:
        """What is left of the context for steps and their entries; infinite where the context is not known."""
        context_chars = self._config.context_chars
        if context_chars is None:
            return math.inf
        fixed = (
            len(self.system) + len(self._question([], Window(0, 1), lines=[], left_out=0)) + self._config.entry_chars
        )
        answer_tokens = self._config.openai.max_tokens or self._config.thinking_tokens or 0
        return context_chars - fixed - answer_tokens * self._config.chars_per_token

    def question(self, window: Window, *, room_chars: float) -> str:
        """The user message that asks about a window; a step that alone is longer than the room is cut."""
        steps_room = self.steps_room_chars(room_chars)
        texts = self.step_texts[window.first : window.end]
        if len(texts) == 1 and len(texts[0]) > steps_room:
            texts = [elide(texts[0], int(steps_room))]
        lines = self._lines_before(window.first, room_chars / LINES_SHARE)
        return self._question(texts, window, lines=lines, left_out=window.first - len(lines))

    def steps_room_chars(self, room_chars: float) -> float:
        """The part of the room that is the steps'. A run that fits as a whole needs no lines."""
        return room_chars if sum(self.costs) <= room_chars else room_chars * (1 - 1 / LINES_SHARE)

    def seen(self, step: int) -> str:
        """All that the run had seen and written when it had done a step, the task included."""
        return "\n".join([self.task, *(_all_text(before) for before in self.steps[: step + 1])])

    def _question(self, steps: list[str], window: Window, *, lines: list[str], left_out: int) -> str:
        run, evidence = self._trajectory, self._evidence
        return self._prompt.render(
            "run",
            task=self._part(self.task, self._config.task_chars),
            total=len(self.steps),
            first=window.first,
            last=window.end - 1,
            lines=lines,
            left_out=left_out,
            steps=steps,
            stop_reason=run.stop_reason,
            patch=self._part(run.patch, self._config.evidence_chars),
            resolved=evidence.resolved,
            test_log=self._part(evidence.test_log, self._config.evidence_chars),
            gold_patch=self._part(evidence.gold_patch, self._config.evidence_chars),
            information=self._config.information,
        )

    def _part(self, text: str | None, limit_chars: int) -> str:
        context_chars = self._config.context_chars
        share = limit_chars if context_chars is None else int(context_chars / PART_SHARE)
        return elide(text or "", min(limit_chars, share))

    def _step_text(self, step: Step) -> str:
        config = self._config
        observation = None if step.observation is None else elide(step.observation, config.observation_chars)
        return self._prompt.render(
            "step",
            index=step.index,
            reasoning=elide(step.reasoning or "", config.content_chars),
            content=elide(step.content, config.content_chars),
            call=elide("\n".join(_call(call) for call in step.tool_calls), config.content_chars),
            observation=observation,
            exit_code=step.exit_code,
        )

    def _lines_before(self, first: int, room_chars: float) -> list[str]:
        lines: list[str] = []
        for step in reversed(self.steps[:first]):
            line = f"{step.index}: {_command_line(step)}"
            room_chars -= len(line) + 1
            if room_chars < 0:
                break
            lines.append(line)
        return lines[::-1]


def _command_line(step: Step) -> str:
    """A step in one line: its command's first line, or what it says where no command could be read."""
    arguments = step.action.arguments if step.action else {}
    text = str(arguments.get("command") or next(iter(arguments.values()), "") or step.content).strip()
    line, _, rest = text.partition("\n")
    cut = bool(rest) or len(line) > LINE_CHARS
    return line[:LINE_CHARS] + (" ..." if cut else "")


def _call(call: dict[str, Any]) -> str:
    """A native tool call in words: its name and its arguments, each text as it is and not as JSON escapes it."""
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        return f"{function.get('name')}: {function.get('arguments')}"
    return "\n".join([f"{function.get('name')}", *(f"{name}: {value}" for name, value in arguments.items())])


def _all_text(step: Step) -> str:
    calls = "\n".join(_call(call) for call in step.tool_calls)
    return "\n".join([step.reasoning or "", step.content, calls, step.observation or ""])


def _text(content: Any) -> str:
    """A message's text; of one in parts, the texts among them."""
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return str(content or "")
