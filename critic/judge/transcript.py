"""A run as the judge reads it: its texts, what each takes of the room, and the questions about its windows.

    transcript = Transcript(trajectory, evidence, prompt=JudgePrompt.load("default"), config=JudgeConfig(model="..."))
    transcript.windows(transcript.whole, room_chars=40_000)         # [Window(first=0, end=12), Window(first=9, end=20)]
    transcript.messages(Window(0, 12), room_chars=40_000)           # system and user message about steps 0 to 11

All questions begin alike (system prompt, task, end of the run, evidence), which prompt caches save; behind that come
the commands of the steps before with the mistakes found in them, the judge's analysis of them, the steps, and the
commands of the steps after. Nothing that the agent saw is cut where the room allows it (`JudgeConfig.min_text_chars`).

The tags of all parts have a nonce, a hash of the run: nobody who wrote a part of the run could know it. It is short, as
it is paid for at every step.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from srft.agent.records import Step, Trajectory
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.prompt import JudgePrompt, elide
from srft.critic.judge.windows import Window, plan_windows
from srft.critic.labels.labels import Evidence, Verdict

LINE_CHARS = 160
# Of a small context no single part but the steps takes more than this share.
PART_SHARE = 6
# Of a window's room, what the lines of the steps before it, and of those after it, may take.
LINES_SHARE = 10
# The most that the note of a cut takes.
_NOTE_CHARS = 60


class Transcript:
    """One run and the evidence that the judge may see of it."""

    def __init__(self, trajectory: Trajectory, evidence: Evidence, *, prompt: JudgePrompt, config: JudgeConfig) -> None:
        self.steps = trajectory.steps
        self._trajectory, self._evidence, self._prompt, self._config = trajectory, evidence, prompt, config

    @property
    def whole(self) -> Window:
        return Window(0, len(self.steps))

    @cached_property
    def nonce(self) -> str:
        """Four letters that the run's texts could not know, the same whenever it is asked about."""
        run = self._trajectory
        content = msgspec.json.encode((run.id, run.messages, [_texts(step) for step in self.steps], run.patch))
        return "".join(chr(ord("a") + byte % 26) for byte in hashlib.sha256(content).digest()[:4])

    @cached_property
    def system(self) -> str:
        sizes = {"analysis_chars": self._config.analysis_chars, "command_chars": self._config.command_chars}
        return self._prompt.render(
            "system",
            information=self._config.information,
            reason_chars=self._config.reason_chars,
            reading=self._prompt.render("reading", **sizes),
            **sizes,
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
    def written(self) -> dict[int, str]:
        """Step -> its command and all else that it wrote: what an entry about it may repeat."""
        return {step.index: "\n".join([_command(step), step.content, _calls(step)]) for step in self.steps}

    @cached_property
    def costs(self) -> list[int]:
        """What each step takes of the room, in characters: its text, uncut, and its entry in the answer (N,)."""
        entry = 0 if self._config.openai.max_tokens else self._config.entry_chars
        return [len(self._step_text(step, None)) + entry for step in self.steps]

    @cached_property
    def room_chars(self) -> float:
        """What is left of the context for steps and their entries; infinite where the context is not known."""
        context_chars = self._config.context_chars
        if context_chars is None:
            return math.inf
        config = self._config
        empty = self._window([], Window(0, 1), so_far="", before=[], after=[])
        # windows hand an analysis on, and each answer has its own
        fixed = len(self.system) + len(self._shared) + len(empty) + config.entry_chars + config.analysis_chars
        if config.openai.max_tokens is None:
            fixed += config.analysis_chars
        answer_tokens = config.openai.max_tokens or config.thinking_tokens or 0
        return context_chars - fixed - answer_tokens * config.chars_per_token

    def windows(self, span: Window, *, room_chars: float) -> list[Window]:
        """One where the span fits, if only with its longest texts cut; else several, with whole texts."""
        if self._least(span) <= self._steps_room(span, room_chars):
            return [span]
        room = room_chars * (1 - 2 / LINES_SHARE)
        return plan_windows(span, self.costs, room=room, overlap=self._config.overlap_steps)

    def _steps_room(self, window: Window, room_chars: float) -> float:
        """The part of the room that is the steps'. A run that is asked about as a whole needs no lines around it."""
        return room_chars if window == self.whole else room_chars * (1 - 2 / LINES_SHARE)

    def used_chars(self, span: Window, *, room_chars: float) -> float:
        """What a question about a span takes of the room."""
        return min(room_chars, sum(self.costs[span.first : span.end]))

    def messages(
        self, window: Window, *, room_chars: float, so_far: str = "", called: Mapping[int, Verdict] | None = None
    ) -> list[dict[str, Any]]:
        """The question about a window. so_far: the analysis of the steps before; called: verdicts on them."""
        before, after = self._lines(window, room_chars / LINES_SHARE, called or {})
        texts = self._step_texts(window, room_chars)
        asked = self._window(texts, window, so_far=so_far, before=before, after=after)
        if not self._config.cache_control:
            user = self._shared + asked
            return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]
        # The steps are worth their place in a cache where they are sent again.
        last = _part(asked, cached=self._config.votes > 1)
        marked = [_part(self.system, cached=True)], [_part(self._shared, cached=True), last]
        return [{"role": role, "content": parts} for role, parts in zip(("system", "user"), marked, strict=True)]

    def cuts(self, window: Window, *, room_chars: float) -> int:
        """How many of a window's steps are cut to fit."""
        whole = [self._step_text(step, None) for step in self.steps[window.first : window.end]]
        return sum(one != cut for one, cut in zip(whole, self._step_texts(window, room_chars), strict=True))

    def seen(self, step: int) -> str:
        """All that the run had seen and written when it had done a step, the task included."""
        return "\n".join([self.task, *("\n".join(_texts(before)) for before in self.steps[: step + 1])])

    @cached_property
    def _shared(self) -> str:
        """What all questions about the run begin with."""
        run, evidence = self._trajectory, self._evidence
        return self._prompt.render(
            "run",
            nonce=self.nonce,
            task=self._fitted(self.task, None),
            total=len(self.steps),
            stop_reason=run.stop_reason,
            patch=self._fitted(run.patch, self._config.evidence_chars),
            resolved=evidence.resolved,
            test_log=self._fitted(evidence.test_log, self._config.evidence_chars),
            gold_patch=self._fitted(evidence.gold_patch, self._config.evidence_chars),
            information=self._config.information,
        )

    def _window(self, steps: list[str], window: Window, *, so_far: str, before: list[str], after: list[str]) -> str:
        return self._prompt.render(
            "window",
            nonce=self.nonce,
            total=len(self.steps),
            first=window.first,
            last=window.end - 1,
            so_far=elide(so_far, self._config.analysis_chars),
            before=before,
            before_left_out=window.first - len(before),
            after=after,
            after_left_out=len(self.steps) - window.end - len(after),
            steps=steps,
        )

    def _fitted(self, text: str | None, limit_chars: int | None) -> str:
        context_chars = self._config.context_chars
        share = math.inf if context_chars is None else int(context_chars / PART_SHARE)
        least = min(share, math.inf if limit_chars is None else limit_chars)
        return (text or "") if least == math.inf else elide(text or "", int(least))

    def _step_texts(self, window: Window, room_chars: float) -> list[str]:
        """The window's steps, their longest texts cut where they would not fit; one that does not fit even so is cut
        as a whole."""
        room_chars = self._steps_room(window, room_chars)
        limit = self._limit(window, room_chars)
        texts = [self._step_text(step, limit) for step in self.steps[window.first : window.end]]
        if len(texts) == 1 and len(texts[0]) > room_chars:
            texts = [elide(texts[0], int(room_chars))]
        return texts

    def _limit(self, window: Window, room_chars: float) -> int | None:
        """The largest limit of a step's texts with which the window fits; `None` where it fits as it is."""
        total = sum(self.costs[window.first : window.end])
        if total <= room_chars:
            return None
        lengths = self._lengths(window)
        low, high = self._config.min_text_chars, max(lengths, default=0)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if total - _saved(lengths, middle) <= room_chars else (low, middle - 1)
        return low

    def _least(self, window: Window) -> float:
        """What a window takes at least."""
        saved = _saved(self._lengths(window), self._config.min_text_chars)
        return sum(self.costs[window.first : window.end]) - saved

    def _lengths(self, window: Window) -> list[int]:
        return [len(text) for step in self.steps[window.first : window.end] for text in _texts(step)]

    def _step_text(self, step: Step, limit: int | None) -> str:
        def cut(text: str) -> str:
            return text if limit is None else elide(text, limit)

        is_last = step.index == len(self.steps) - 1
        return self._prompt.render(
            "step",
            nonce=self.nonce,
            index=step.index,
            reasoning=cut(step.reasoning or ""),
            content=cut(step.content),
            call=cut(_calls(step)),
            observation=None if step.observation is None else cut(step.observation),
            exit_code=step.exit_code,
            timed_out=step.timed_out,
            error=step.error,
            submitted=is_last and self._trajectory.stop_reason == "submitted",
        )

    def _lines(self, window: Window, room_chars: float, called: Mapping[int, Verdict]) -> tuple[list[str], list[str]]:
        """The steps before and after a window in a line each, the nearest first as far as the room goes."""
        before = _fitting((self._line(step, called) for step in reversed(self.steps[: window.first])), room_chars)
        after = _fitting((self._line(step, {}) for step in self.steps[window.end :]), room_chars)
        return before[::-1], after

    def _line(self, step: Step, called: Mapping[int, Verdict]) -> str:
        text = _command(step).strip() or step.content.strip()
        line, _, rest = text.partition("\n")
        cut = " ..." if rest or len(line) > LINE_CHARS else ""
        verdict = called.get(step.index)
        said = f" [{verdict}]" if verdict in ("mistake", "recover") else ""
        return f"{step.index}: {line[:LINE_CHARS]}{cut}{said}"


def _fitting(lines: Iterable[str], room_chars: float) -> list[str]:
    fitting: list[str] = []
    for line in lines:
        room_chars -= len(line) + 1
        if room_chars < 0:
            break
        fitting.append(line)
    return fitting


def _saved(lengths: Iterable[int], limit: int) -> int:
    """How many characters a limit takes off texts of these lengths, at least."""
    return sum(max(0, length - limit - _NOTE_CHARS) for length in lengths)


def _part(text: str, *, cached: bool) -> dict[str, Any]:
    return {"type": "text", "text": text, **({"cache_control": {"type": "ephemeral"}} if cached else {})}


def _command(step: Step) -> str:
    """What a step asked for: its command, or its first argument."""
    arguments = step.action.arguments if step.action else {}
    return str(arguments.get("command") or next(iter(arguments.values()), ""))


def _calls(step: Step) -> str:
    return "\n".join(_call(call) for call in step.tool_calls)


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


def _texts(step: Step) -> tuple[str, str, str, str]:
    return step.reasoning or "", step.content, _calls(step), step.observation or ""


def _text(content: Any) -> str:
    """A message's text; of one in parts, the texts among them."""
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return str(content or "")
