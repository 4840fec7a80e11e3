"""A language model that judges every step of a run.

Asks an OpenAI-compatible server; reads and writes no file but the prompt.

    judge = Judge(JudgeConfig(model="http://127.0.0.1:8000/v1#qwen"))
    critique = judge.judge(trajectory, Evidence(resolved=False))
    critique.labels[3].verdict, critique.usage.prompt_tokens, critique.remarks

One call a run and vote where the run fits the context, if need be with its longest texts cut. Where it does not fit
even so, windows (`windows.py`), each with the analysis and the mistakes of those before it; where the server says
that a question is too long, or its count of tokens shows that it read less than it was sent, its span is asked about
again in half the room. The answer is read from the text, else from the thinking, else from a tool call's arguments:
servers put it in each. What an answer misses is asked for on top of it, as long as that brings more; what is missing
even then are abstentions. A run without a single verdict is a failure, not a critique.

Remarks, counted in the critique: `windows` (of the votes that took more than one question), `overflows` (too long,
halved), `read_in_part` (of these, those that the server cut without a word), `cut` (steps whose texts were cut to fit),
`repairs` (further calls for what was missing), `truncated` (answers cut off), `missing` (verdicts that no call gave, of
all votes), `ignored_entries` (of the answers), `unproven` (entries that do not repeat their step's command),
`unconstrained` (calls without a JSON schema), `schema_ignored` (answers that do not keep to it), `without_usage` (calls
whose tokens the server does not say), `leaks` (reasons taken out, see `leak.py`).
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import openai
from loguru import logger

from srft.agent.models.answer import AnswerError
from srft.agent.models.contract import ContextOverflow, ReasoningWanted, Reply
from srft.agent.models.openai import OpenAIModel, Send, names_schema, said_by
from srft.agent.records import Trajectory, Usage
from srft.critic.judge.answers import Answer, Opinion, read_answer
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.leak import LeakGuard
from srft.critic.judge.prompt import JudgePrompt, elide
from srft.critic.judge.schemas import FORMS, SCHEMAS, Form, answer_format, is_kept
from srft.critic.judge.tokens import estimate
from srft.critic.judge.transcript import Transcript
from srft.critic.judge.votes import label
from srft.critic.judge.windows import Window, merge
from srft.critic.labels.labels import (
    SHOWN,
    Critique,
    Evidence,
    Information,
    Source,
    StepLabel,
    Verdict,
    check_complete,
    critique_by,
)
from srft.env.errors import InputError, ModelError

MIN_ROOM_CHARS = 400
"""With less room than this for a step there is nothing to judge."""

READ_SHARE = 0.75
"""A server that counts fewer tokens than this share of what its tokenizer makes of a question has cut it: within one
tokenizer, estimates of single questions are off by 7 % at most."""

LEAST_CONTEXT = 256
"""A server that says so few tokens counts otherwise (what its cache had not, say): no context is that short."""

# What a repair shows of the answer that it is about.
_SHOWN_ANSWER_CHARS = 4000
# A repair that brings less than this share of what it asked for is the last.
_WORTH_ANOTHER = 0.1
# What says that this run's schema is too much, not any schema: Gemini's "too many states".
_THIS_SCHEMA = re.compile(r"too (?:many|complex|large|long|deep|big)|exceed|time", re.IGNORECASE)


class JudgeFailed(ModelError):
    """A run that the judge gave no critique of. calls, usage: what the attempt cost all the same."""

    def __init__(self, message: str, *, calls: int = 0, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.calls, self.usage = calls, usage


class Judge:
    """A judge behind an OpenAI-compatible server. Shared by threads."""

    source: Source = "model"

    def __init__(self, config: JudgeConfig, *, send: Send | None = None) -> None:
        """send: answers requests in the place of the server (a batch file). Raises InputError for a prompt, a model or
        settings that cannot be."""
        self.config = config
        self.prompt = JudgePrompt.load(config.prompt)
        self.settings = config.settings()
        self.fingerprint = hashlib.sha256(msgspec.json.encode(self.settings, order="sorted")).hexdigest()[:16]
        self._model = OpenAIModel(config.endpoint(), send=send)
        # A batch is refused as a whole, so its requests have the form that all take who have batches.
        self._server = _Server(refused=("positional",) if send else ())

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def information(self) -> Information:
        return self.config.information

    @property
    def client(self) -> openai.OpenAI:
        """The connection, for the server's batch API."""
        return self._model.client

    def check(self) -> None:
        """Ask the server whether it is there and knows the model. Raises ModelError."""
        self._model.check()

    def until(self, stop: threading.Event) -> None:
        """Give up waiting for the server (ModelError) when `stop` is set."""
        self._model = self._model.until(stop)

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique:
        """Raises InputError where the information arm's evidence is missing, JudgeFailed also where no verdict came."""
        started, ledger = time.monotonic(), _Ledger()
        transcript = self.transcript(trajectory, evidence)
        try:
            labels = self._labels(transcript, evidence, ledger)
        except ModelError as error:
            raise JudgeFailed(str(error), calls=ledger.calls, usage=ledger.usage) from error
        check_complete(labels, steps=len(trajectory.steps), where=f"the judge on {trajectory.id}")
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

    def transcript(self, trajectory: Trajectory, evidence: Evidence) -> Transcript:
        """The run as this judge is shown it. Raises InputError where evidence is missing."""
        return Transcript(trajectory, self._allowed(evidence, trajectory), prompt=self.prompt, config=self.config)

    def _labels(self, transcript: Transcript, evidence: Evidence, ledger: _Ledger) -> list[StepLabel]:
        samples = [self._sample(transcript, vote, ledger) for vote in range(self.config.votes)]
        labels = [
            label(step, [sample.get(step, Opinion(None)) for sample in samples])
            for step in range(len(transcript.steps))
        ]
        if all(given.verdict is None for given in labels):
            raise ModelError(
                f"model {self._model.name} at {self._model.config.base_url}: no verdict on any of the {len(labels)} "
                f"steps in {ledger.calls} answers (the last: {elide(ledger.last_answer, 200) or 'nothing'!r}); check "
                "that it answers in its text and is long enough to finish"
            )
        if self.information == "gold_patch" and evidence.gold_patch is not None:
            return _without_leaks(labels, LeakGuard(evidence.gold_patch), transcript, ledger)
        return labels

    def _allowed(self, evidence: Evidence, trajectory: Trajectory) -> Evidence:
        """What the information arm lets the judge see, which must be known."""
        shown = SHOWN[self.information]
        missing = [name for name in shown if getattr(evidence, name) is None]
        if missing and self.information != "outcome_if_known":
            raise InputError(
                f"{trajectory.task_id} ({trajectory.id}): information is {self.information}, but the evidence has no "
                f"{' and no '.join(missing)}; grade the run first, or ask with another information"
            )
        return Evidence(**{name: getattr(evidence, name) for name in shown})

    def _sample(self, transcript: Transcript, vote: int, ledger: _Ledger) -> dict[int, Opinion]:
        """One vote: an opinion on every step that the judge could be brought to give one on."""
        asking = _Asking(self, transcript, vote, ledger)
        pending = deque(ledger.plan or self.plan(transcript, transcript.whole, transcript.room_chars))
        judged: list[tuple[Window, dict[int, Opinion]]] = []
        answered: list[Planned] = []
        while pending:
            planned = pending.popleft()
            opinions, too_long = asking.about(planned)
            if opinions or not too_long:
                judged.append((planned.window, opinions))
                answered.append(planned)
            if too_long:
                used = transcript.used_chars(too_long, room_chars=planned.room_chars)
                pending.extendleft(reversed(self.plan(transcript, too_long, used / 2)))
        ledger.plan = answered  # what the next vote need not find out again
        ledger.remark("windows", len(judged) if len(judged) > 1 else 0)
        merged = merge(judged)
        ledger.remark("missing", len(transcript.steps) - len(merged))
        return merged

    def plan(self, transcript: Transcript, span: Window, room_chars: float) -> list[Planned]:
        """The questions about a span. Raises ModelError where there is no room for one."""
        if room_chars < MIN_ROOM_CHARS:
            raise ModelError(
                f"model {self._model.name} at {self._model.config.base_url}: its context has no room for even one step "
                "of this run beside the task; serve it with a longer context, or set judge.context_tokens to its "
                "length, so that the task and the evidence are cut to size"
            )
        return [Planned(window, room_chars) for window in transcript.windows(span, room_chars=room_chars)]

    def ask(self, messages: list[dict[str, Any]], steps: Sequence[int], *, vote: int, ledger: _Ledger) -> Reply:
        """One call, constrained as far as the server can. Raises ModelError, ContextOverflow."""
        form = self._form(ledger)
        config = msgspec.structs.replace(self._model.config, max_tokens=self.config.answer_tokens(len(steps)))
        if (wanted := answer_format(form, steps, self.config)) is not None:
            config = msgspec.structs.replace(config, extra_body={"response_format": wanted, **config.extra_body})
        # The connection is shared; each call has its own body and each vote its own seed.
        model = self._model.with_settings(config, seed=self.config.seed + vote)
        try:
            reply = model.stream(messages, on_text=_unseen) if self.config.stream else model.reply(messages)
        except ModelError as error:
            if form == "none" or not self._refuses(form, error, ledger):
                raise
            return self.ask(messages, steps, vote=vote, ledger=ledger)
        ledger.add(reply)
        ledger.remark("unconstrained", int(form not in SCHEMAS))
        is_whole = bool(reply.content) and reply.finish_reason != "length"
        ledger.remark("schema_ignored", int(is_whole and not is_kept(form, reply.content, steps)))
        return reply

    def _form(self, ledger: _Ledger) -> Form:
        """The strictest form of the answer that the server has not refused."""
        if self.config.schema is False:
            return "none"
        return next(form for form in FORMS if form not in self._server.refused and form not in ledger.refused)

    def _refuses(self, form: Form, error: ModelError, ledger: _Ledger) -> bool:
        """Whether it was the form of the answer that the server refused, or failed over.

        A refusal is remembered for all runs and said once; a failure, and a schema that is too much, are this run's.
        """
        refusal = error.__cause__
        if not isinstance(refusal, openai.APIStatusError | AnswerError) or not names_schema(said_by(refusal)):
            return False
        status = refusal.status_code if isinstance(refusal, openai.APIStatusError) else None
        if status in {401, 402, 403, 404, 413, 429}:
            return False
        if self.config.schema is True and form == "strict":
            raise ModelError(
                f"{error}; judge.schema is true: take a server that constrains answers by a JSON schema (vLLM), or set "
                "it to auto and go without"
            ) from refusal
        following = FORMS[FORMS.index(form) + 1]
        if status not in {400, 415, 422, 501} or _THIS_SCHEMA.search(said_by(refusal)):
            ledger.refused.add(form)
            logger.warning("{}; asking with the form {} for this run", error, following)
        elif self._server.refuses(form):
            logger.warning("{}; asking with the form {}", error, following)
        return True

    def read_in_part(self, reply: Reply, messages: Sequence[dict[str, Any]]) -> bool:
        """Whether the server's count of tokens shows that it cut the question before it read it."""
        tokens = reply.usage.prompt_tokens if reply.usage else None
        if tokens is None:
            return False
        tokens += (reply.usage.cached_tokens or 0) if reply.usage else 0
        expected = sum(estimate(text_of(message["content"])) for message in messages)
        if not self._server.reads_less(tokens, expected):
            return False
        logger.warning(
            "model {} at {}: {:,} tokens were read of a question of about {:,}, so the server cuts what it is sent; "
            "asking in smaller parts. Serve it with a longer context (Ollama: num_ctx), or set judge.context_tokens",
            self._model.name,
            self._model.config.base_url,
            tokens,
            expected,
        )
        return True


class Planned(NamedTuple):
    """A question to be asked. room_chars: what steps and entries may take in it."""

    window: Window
    room_chars: float


class _Server:
    """What the server has been found to do, over all runs.

    refused: forms of the answer. largest_ratio: the most tokens that it counted for one of ours; largest_tokens: the
    most that it counted of a question.
    """

    def __init__(self, *, refused: Iterable[Form] = ()) -> None:
        self.refused = frozenset(refused)
        self.largest_ratio = 1.0
        self.largest_tokens = 0
        self._lock = threading.Lock()

    def refuses(self, form: Form) -> bool:
        """Remember that; returns whether it is new."""
        with self._lock:
            is_new = form not in self.refused
            self.refused |= {form}
        return is_new

    def reads_less(self, tokens: int, expected: int) -> bool:
        """Whether this is too few tokens for what was sent, by this server's own tokenizer as far as it is known. A
        question that is no longer than one which was read whole is counted otherwise: without its cached part, say."""
        with self._lock:
            self.largest_ratio = max(self.largest_ratio, tokens / max(expected, 1))
            self.largest_tokens = max(self.largest_tokens, tokens)
            is_short = LEAST_CONTEXT <= tokens < READ_SHARE * self.largest_ratio * expected
            return is_short and expected > self.largest_tokens


class _Asked(NamedTuple):
    """opinions: what was answered. too_long: the steps to be asked about again with less in the question."""

    opinions: dict[int, Opinion]
    too_long: Window | None


class _Asking:
    """One vote's questions. so_far, called: the analysis and the verdicts of the windows before."""

    def __init__(self, judge: Judge, transcript: Transcript, vote: int, ledger: _Ledger) -> None:
        self.judge, self.transcript, self.vote, self.ledger = judge, transcript, vote, ledger
        self.so_far = ""
        self.called: dict[int, Verdict] = {}

    def about(self, planned: Planned) -> _Asked:
        """A window's opinions; what its answer misses is asked on for."""
        window, room_chars = planned
        messages = self.transcript.messages(window, room_chars=room_chars, so_far=self.so_far, called=self.called)
        steps = range(window.first, window.end)
        try:
            reply, answer = self._ask(messages, steps)
        except ContextOverflow:
            self.ledger.remark("overflows", 1)
            return _Asked({}, window)
        # A vote's question and a repair share their beginning with one that was read, which may be counted apart.
        if self.vote == 0 and self.judge.read_in_part(reply, messages):
            self.ledger.remark("overflows", 1)
            self.ledger.remark("read_in_part", 1)
            return _Asked({}, window)
        if self.vote == 0:
            self.ledger.remark("cut", self.transcript.cuts(window, room_chars=room_chars))
        opinions, too_long = self._completed(messages, reply, answer, steps)
        self.so_far = answer.analysis or self.so_far
        self.called |= {step: said.verdict for step, said in opinions.items() if said.verdict is not None}
        return _Asked(opinions, too_long)

    def _completed(self, messages: list[dict[str, Any]], reply: Reply, answer: Answer, steps: Sequence[int]) -> _Asked:
        """The opinions of an answer and of those that were asked on for, as long as that brings enough."""
        opinions = dict(answer.opinions)
        for _ in range(self.judge.config.repairs):
            missing = [step for step in steps if step not in opinions]
            if not missing:
                break
            self.ledger.remark("repairs", 1)
            try:
                reply, answer = self._ask_again(messages, reply, answer, missing)
            except ContextOverflow:
                self.ledger.remark("overflows", 1)
                # A window of one step cannot be made shorter by asking about less.
                return _Asked(opinions, Window(missing[0], missing[-1] + 1) if len(steps) > 1 else None)
            opinions |= answer.opinions
            if len(answer.opinions) < _WORTH_ANOTHER * len(missing) or not answer.opinions:
                break
        return _Asked(opinions, None)

    def _ask(self, messages: list[dict[str, Any]], steps: Sequence[int]) -> tuple[Reply, Answer]:
        reply = self.judge.ask(messages, steps, vote=self.vote, ledger=self.ledger)
        written = self.transcript.written if self.judge.config.command_chars else None
        texts = _answer_texts(reply)
        answers = [read_answer(text, steps=steps, written=written) for text in texts]
        answer = next((answer for answer in answers if answer.opinions), answers[0])
        self.ledger.last_answer = reply.content or texts[-1]
        self.ledger.remark("truncated", int(reply.finish_reason == "length"))
        self.ledger.remark("ignored_entries", answer.ignored)
        self.ledger.remark("unproven", answer.unproven)
        return reply, answer

    def _ask_again(
        self, messages: list[dict[str, Any]], reply: Reply, answer: Answer, missing: list[int]
    ) -> tuple[Reply, Answer]:
        """The answer about the steps that are missing, with the judge's thinking where the server wants that back."""
        said, wanted = self._repair(reply, answer, missing)
        try:
            return self._ask([*messages, {**said, **reply.sent_back}, wanted], missing)
        except ReasoningWanted as wants:
            thought = {wants.field: reply.reasoning or ""} if wants.field else {}
            return self._ask([*messages, {**said, **thought}, wanted], missing)

    def _repair(self, reply: Reply, answer: Answer, missing: list[int]) -> list[dict[str, Any]]:
        truncated = reply.finish_reason == "length"
        problems = answer.problems or [f"no entry for the steps {', '.join(map(str, missing))}"]
        wanted = self.judge.prompt.render("repair", problems=problems, steps=missing, truncated=truncated)
        shown = elide(reply.content, _SHOWN_ANSWER_CHARS) or "(nothing)"  # some servers refuse an empty message
        return [{"role": "assistant", "content": shown}, {"role": "user", "content": wanted}]


def _unseen(text: str) -> None:
    """What a stream gives nobody looks at before it is whole."""


def text_of(content: str | list[dict[str, Any]]) -> str:
    """A message's text, also of one in parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _answer_texts(reply: Reply) -> list[str]:
    """Where the answer may stand, the likeliest place first. Thinking that was cut off holds drafts alone."""
    thought = reply.reasoning if reply.finish_reason != "length" else None
    calls = [str((call.get("function") or {}).get("arguments") or "") for call in reply.tool_calls]
    return [reply.content, *([thought] if thought else []), *calls]


class _Ledger:
    """What one critique cost, and what went wrong in it.

    refused: forms of the answer that the server refused, of this run. plan: the questions that the first vote came to.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.refused: set[Form] = set()
        self.plan: list[Planned] = []
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
