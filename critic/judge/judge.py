"""A language model that judges every step of a run.

Asks an OpenAI-compatible server; reads and writes no file but the prompt.

    judge = Judge(JudgeConfig(model="http://127.0.0.1:8000/v1#qwen", information="outcome"))
    critique = judge.judge(trajectory, Evidence(resolved=False))
    critique.labels[3].verdict, critique.usage.prompt_tokens, critique.remarks

One call a run and vote where the run fits the context. Where it does not, windows (`windows.py`); where the server says
that a question is too long, its span is asked about again in windows of half the room. The answer is read from the
text, else from the thinking, else from a tool call's arguments: servers put it in each. One that misses steps is
repaired by a second call that shows what was wrong; steps that are missing even then are abstentions. A run without a
single verdict is a failure, not a critique.

Remarks, counted in the critique: `windows` (of the votes that took more than one question), `overflows` (too long,
halved), `repairs` (second calls), `truncated` (answers cut off), `missing` (verdicts that no call gave, of all votes),
`ignored_entries` (of the answers), `unconstrained` (calls without the schema), `without_usage` (calls whose tokens the
server does not say), `leaks` (reasons taken out, see `leak.py`).
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import openai
from loguru import logger

from srft.agent.models.answer import AnswerError
from srft.agent.models.contract import ContextOverflow, ReasoningWanted, Reply
from srft.agent.models.openai import OpenAIModel, names_schema
from srft.agent.records import Trajectory, Usage
from srft.critic.judge.answers import Answer, Opinion, answer_schema, read_answer
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.leak import LeakGuard
from srft.critic.judge.prompt import JudgePrompt, elide
from srft.critic.judge.transcript import Transcript
from srft.critic.judge.votes import label
from srft.critic.judge.windows import Window, merge, plan_windows
from srft.critic.labels.labels import (
    SHOWN,
    Critique,
    Evidence,
    Information,
    Source,
    StepLabel,
    check_complete,
    critique_by,
)
from srft.env.errors import InputError, ModelError

MIN_ROOM_CHARS = 400
"""With less room than this for a step there is nothing to judge."""

# What a repair shows of the answer that it is about.
_SHOWN_ANSWER_CHARS = 4000
# What says that this run's schema is too much, not any schema: Gemini's "too many states".
_THIS_SCHEMA = re.compile(r"too (?:many|complex|large|long|deep|big)|exceed|time", re.IGNORECASE)


class Judge:
    """A judge behind an OpenAI-compatible server. Shared by threads."""

    source: Source = "model"

    def __init__(self, config: JudgeConfig) -> None:
        """Raises InputError for a prompt, a model or settings that cannot be."""
        self.config = config
        self.prompt = JudgePrompt.load(config.prompt)
        self.settings = config.settings()
        self.fingerprint = hashlib.sha256(msgspec.json.encode(self.settings, order="sorted")).hexdigest()[:16]
        self._model = OpenAIModel(config.endpoint())
        self._schema_refused = threading.Event()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def information(self) -> Information:
        return self.config.information

    def check(self) -> None:
        """Ask the server whether it is there and knows the model. Raises ModelError."""
        self._model.check()

    def until(self, stop: threading.Event) -> None:
        """Give up waiting for the server (ModelError) when `stop` is set."""
        self._model = self._model.until(stop)

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique:
        """Raises InputError where the information arm's evidence is missing, ModelError also where no verdict came."""
        started = time.monotonic()
        evidence = self._allowed(evidence, trajectory)
        transcript = Transcript(trajectory, evidence, prompt=self.prompt, config=self.config)
        ledger = _Ledger()
        samples = [self._sample(transcript, vote, ledger) for vote in range(self.config.votes)]
        labels = [
            label(step, [sample.get(step, Opinion(None)) for sample in samples])
            for step in range(len(transcript.steps))
        ]
        if evidence.gold_patch is not None:
            labels = _without_leaks(labels, LeakGuard(evidence.gold_patch), transcript, ledger)
        check_complete(labels, steps=len(trajectory.steps), where=f"the judge on {trajectory.id}")
        if all(given.verdict is None for given in labels):
            raise ModelError(
                f"model {self._model.name} at {self._model.config.base_url}: no verdict on any of the {len(labels)} "
                f"steps in {ledger.calls} answers (the last: {elide(ledger.last_answer, 200) or 'nothing'!r}); check "
                "that it answers in its text and is long enough to finish"
            )
        return critique_by(
            self,
            trajectory,
            labels=labels,
            remarks=dict(sorted(ledger.remarks.items())),
            information=self.information,
            calls=ledger.calls,
            usage=ledger.usage,
            wall_s=time.monotonic() - started,
        )

    def _allowed(self, evidence: Evidence, trajectory: Trajectory) -> Evidence:
        """What the information arm lets the judge see, which must be known."""
        shown = SHOWN[self.information]
        if missing := [name for name in shown if getattr(evidence, name) is None]:
            raise InputError(
                f"{trajectory.task_id} ({trajectory.id}): information is {self.information}, but the evidence has no "
                f"{' and no '.join(missing)}; grade the run first, or ask with another information"
            )
        return Evidence(**{name: getattr(evidence, name) for name in shown})

    def _sample(self, transcript: Transcript, vote: int, ledger: _Ledger) -> dict[int, Opinion]:
        """One vote: an opinion on every step that the judge could be brought to give one on."""
        asking = _Asking(self, transcript, vote, ledger)
        room_chars = transcript.room_chars
        pending = deque(self._windows(transcript, transcript.whole, room_chars))
        judged: list[tuple[Window, dict[int, Opinion]]] = []
        while pending:
            window, room_chars = pending.popleft()
            opinions, too_long = asking.about(window, room_chars)
            if opinions or not too_long:
                judged.append((window, opinions))
            if too_long:
                used = min(room_chars, sum(transcript.costs[too_long.first : too_long.end]))
                pending.extendleft(reversed(self._windows(transcript, too_long, used / 2)))
        ledger.remark("windows", len(judged) if len(judged) > 1 else 0)
        merged = merge(judged)
        ledger.remark("missing", len(transcript.steps) - len(merged))
        return merged

    def _windows(self, transcript: Transcript, span: Window, room_chars: float) -> list[tuple[Window, float]]:
        if room_chars < MIN_ROOM_CHARS:
            raise ModelError(
                f"model {self._model.name} at {self._model.config.base_url}: its context has no room for even one step "
                "of this run beside the task; serve it with a longer context, or set judge.context_tokens to its "
                "length, so that the task and the evidence are cut to size"
            )
        steps_room = transcript.steps_room_chars(room_chars)
        windows = plan_windows(span, transcript.costs, room=steps_room, overlap=self.config.overlap_steps)
        return [(window, room_chars) for window in windows]

    def ask(self, messages: list[dict[str, Any]], steps: Sequence[int], *, vote: int, ledger: _Ledger) -> Reply:
        """One call, constrained where the server can. Raises ModelError, ContextOverflow."""
        refused = self._schema_refused.is_set() or ledger.schema_refused
        constrained = self.config.schema is not False and not refused
        config = msgspec.structs.replace(self._model.config, max_tokens=self.config.answer_tokens(len(steps)))
        if constrained:
            schema = answer_schema(steps, reason_chars=self.config.reason_chars)
            response_format = {"type": "json_schema", "json_schema": {"name": "verdicts", "schema": schema}}
            body = {"response_format": response_format, **config.extra_body}
            config = msgspec.structs.replace(config, extra_body=body)
        # The connection is shared; each call has its own body and each vote its own seed.
        model = self._model.with_settings(config, seed=self.config.seed + vote)
        try:
            reply = model.reply(messages)
        except ModelError as error:
            if not constrained or not self._refuses_schema(error, ledger):
                raise
            return self.ask(messages, steps, vote=vote, ledger=ledger)
        ledger.add(reply)
        ledger.remark("unconstrained", int(not constrained))
        return reply

    def _refuses_schema(self, error: ModelError, ledger: _Ledger) -> bool:
        """Whether it was the schema that the server refused, or failed over.

        A refusal is remembered for all runs and said once; a failure, and a schema that is too much, are this run's.
        """
        refusal = error.__cause__
        if not isinstance(refusal, openai.APIStatusError | AnswerError) or not names_schema(str(refusal)):
            return False
        status = refusal.status_code if isinstance(refusal, openai.APIStatusError) else None
        if status in {401, 402, 403, 404, 413, 429}:
            return False
        if self.config.schema is True:
            raise ModelError(
                f"{error}; judge.schema is true: take a server that constrains answers by a JSON schema (vLLM), or set "
                "it to auto and go without"
            ) from refusal
        if status not in {400, 415, 422, 501} or _THIS_SCHEMA.search(str(refusal)):
            ledger.schema_refused = True
            logger.warning("{}; going on without the schema for this run", error)
        elif not self._schema_refused.is_set():
            self._schema_refused.set()
            logger.warning("{}; going on without the schema", error)
        return True


class _Asked(NamedTuple):
    """opinions: what was answered. too_long: the steps to be asked about again with less in the question."""

    opinions: dict[int, Opinion]
    too_long: Window | None


class _Asking:
    """One vote's questions."""

    def __init__(self, judge: Judge, transcript: Transcript, vote: int, ledger: _Ledger) -> None:
        self.judge, self.transcript, self.vote, self.ledger = judge, transcript, vote, ledger

    def about(self, window: Window, room_chars: float) -> _Asked:
        """A window's opinions, repaired once."""
        messages = [
            {"role": "system", "content": self.transcript.system},
            {"role": "user", "content": self.transcript.question(window, room_chars=room_chars)},
        ]
        steps = range(window.first, window.end)
        try:
            reply, answer = self._ask(messages, steps)
        except ContextOverflow:
            self.ledger.remark("overflows", 1)
            return _Asked({}, window)
        missing = [step for step in steps if step not in answer.opinions]
        if not missing:
            return _Asked(answer.opinions, None)
        self.ledger.remark("repairs", 1)
        try:
            repaired = self._ask_again(messages, reply, answer, missing)
        except ContextOverflow:
            self.ledger.remark("overflows", 1)
            # A window of one step cannot be made shorter by asking about less.
            left = Window(missing[0], missing[-1] + 1) if len(steps) > 1 else None
            return _Asked(answer.opinions, left)
        return _Asked({**answer.opinions, **repaired.opinions}, None)

    def _ask(self, messages: list[dict[str, Any]], steps: Sequence[int]) -> tuple[Reply, Answer]:
        reply = self.judge.ask(messages, steps, vote=self.vote, ledger=self.ledger)
        texts = _answer_texts(reply)
        answers = (read_answer(text, steps=steps) for text in texts)
        answer = next((answer for answer in answers if answer.opinions), read_answer(texts[0], steps=steps))
        self.ledger.last_answer = reply.content or texts[-1]
        self.ledger.remark("truncated", int(reply.finish_reason == "length"))
        self.ledger.remark("ignored_entries", answer.ignored)
        return reply, answer

    def _ask_again(self, messages: list[dict[str, Any]], reply: Reply, answer: Answer, missing: list[int]) -> Answer:
        """The answer about the steps that are missing, with the judge's thinking where the server wants that back."""
        said, wanted = self._repair(reply, answer, missing)
        try:
            return self._ask([*messages, {**said, **reply.sent_back}, wanted], missing)[1]
        except ReasoningWanted as wants:
            thought = {wants.field: reply.reasoning or ""} if wants.field else {}
            return self._ask([*messages, {**said, **thought}, wanted], missing)[1]

    def _repair(self, reply: Reply, answer: Answer, missing: list[int]) -> list[dict[str, Any]]:
        truncated = reply.finish_reason == "length"
        wanted = self.judge.prompt.render("repair", problems=answer.problems, steps=missing, truncated=truncated)
        shown = elide(reply.content, _SHOWN_ANSWER_CHARS) or "(nothing)"  # some servers refuse an empty message
        return [{"role": "assistant", "content": shown}, {"role": "user", "content": wanted}]


def _answer_texts(reply: Reply) -> list[str]:
    """Where the answer may stand, the likeliest place first. Thinking that was cut off holds drafts alone."""
    thought = reply.reasoning if reply.finish_reason != "length" else None
    calls = [str((call.get("function") or {}).get("arguments") or "") for call in reply.tool_calls]
    return [reply.content, *([thought] if thought else []), *calls]


class _Ledger:
    """What one critique cost, and what went wrong in it. schema_refused: by the server, of this run."""

    def __init__(self) -> None:
        self.calls = 0
        self.schema_refused = False
        self.last_answer = ""
        self.remarks: Counter[str] = Counter()
        self.usage: Usage | None = None

    def add(self, reply: Reply) -> None:
        self.calls += 1
        self.remark("without_usage", int(reply.usage is None))
        if reply.usage is not None:
            self.usage = add_usage(self.usage, reply.usage)

    def remark(self, name: str, count: int) -> None:
        if count:
            self.remarks[name] += count


def add_usage(one: Usage | None, other: Usage | None) -> Usage | None:
    """The sum, field by field; `None` only where neither says a figure."""
    if one is None or other is None:
        return one or other
    sums = {}
    for field in Usage.__struct_fields__:
        said = [value for value in (getattr(one, field), getattr(other, field)) if value is not None]
        sums[field] = sum(said) if said else None
    return Usage(**sums)


def _without_leaks(
    labels: Sequence[StepLabel], guard: LeakGuard, transcript: Transcript, ledger: _Ledger
) -> list[StepLabel]:
    """The labels, the reasons that repeat the reference fix taken out; their verdicts stay."""
    kept = []
    for given in labels:
        if given.reason is not None and guard.leaks(given.reason, seen=transcript.seen(given.step)):
            ledger.remark("leaks", 1)
            given = msgspec.structs.replace(given, reason=None)
        kept.append(given)
    return kept
