"""From a run to tokens: what the model was asked and what it wrote, as the chat template writes it, aligned exactly.

Reads trajectories and a tokenizer; writes nothing. Knows no labels: `mask.py` decides what of this is trained.

    renderer = Renderer.load("Qwen/Qwen2.5-Coder-7B-Instruct")
    rendering = renderer.render(trajectory)
    rendering.rows[0].input_ids            # (T,) int32, step_index and part beside it

**The rule.** For every step k the template gives the prompt that a server shows, `prompt_k`. `reply_k` is what the
template writes behind it, from the first token after the generation prompt to the end of the turn, as the next prompt
shows it: text, thinking and tool calls go the same way. Steps share a row as long as `prompt_k` begins with everything
that came before it; where it does not, a new row starts with the whole of `prompt_k`, and that is counted.

**Two roads to the same text.** A run whose template only appends is rendered three times, whatever its length: as it
is, and with a mark in the place of each message that is not the model's, which shows where every turn lies. That an
earlier prompt showed the same turn is looked up by the shape of the turns around it. Where anything differs, each step
is rendered by itself, with a mark in the message behind it.

The prompt and the reply are encoded apart, so no token straddles what is trained and what is not. In a reply the text
of a special token is text. A byte-level tokenizer gives every text back by its construction; of any other, each reply
is decoded again, and a tokenizer that loses something is refused. (Qwen's composes characters, NFC, and no more.)

Where a run has the token ids that were sampled, and they are this template's and this reply's, they are taken.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from tokenizers import Encoding, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from srft.agent.models.vocabulary import vocabulary_hash
from srft.agent.records import Step, Trajectory
from srft.env.errors import InputError
from srft.train.rows.calls import Syntax, calls_as_text
from srft.train.rows.template import MARK, ChatTemplate, Messages, RenderError, answers, chat_messages
from srft.train.rows.tokenized_row import RowBuilder, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["RenderError", "Renderer", "Rendering", "Thinking", "action_span", "is_byte_level"]

RENDER_VERSION = 2
"""Part of the fingerprint: raise it when the same run gives other tokens."""

Thinking = Literal["recorded", "empty", "without"]


class Rendering(NamedTuple):
    """A run's rows, and counts of what was not plain, say {"history_rewritten": 3}."""

    rows: list[TokenizedRow]
    remarks: Counter[str]


class Turn(NamedTuple):
    """One step in text. context: what stands between the last turn's end and this reply.

    end: the text that the model ends its turn with. shown: what later prompts have in its place. ends: whether the
    model ended its turn; a reply cut off at its length limit did not.
    """

    step: int
    context: str
    reply: str
    action: tuple[int, int] | None
    ends: bool
    end: str
    shown: str
    template_specials: bool = False


class _Told(NamedTuple):
    """A run as the template takes it. thinking: the choice that this run is rendered with."""

    trajectory: Trajectory
    messages: Messages
    places: list[int]
    thinking: Thinking
    template: ChatTemplate


class Renderer:
    """One tokenizer with its chat template.

    options: further variables of the template, say {"enable_thinking": False}. They must be those of serving.
    thinking: what a reply's thinking becomes. "recorded": the template writes it. "empty": the block is there, with
    nothing in it. "without": the reply as the template shows it without thinking. `None`: recorded where the run has
    thinking and the template writes it, else without; a template that opens the thinking itself wants a choice.
    calls: write tool calls and their answers as text, in this syntax, for a template that has none.
    tools: "refuse" runs whose tool descriptions the template does not write, or "leave_out" the descriptions.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        options: Mapping[str, Any] | None = None,
        thinking: Thinking | None = None,
        calls: Syntax | None = None,
        tools: Literal["refuse", "leave_out"] = "refuse",
    ) -> None:
        if not tokenizer.is_fast:
            raise InputError(f"{tokenizer.name_or_path}: expected a tokenizer with a tokenizer.json")
        if not tokenizer.chat_template or not isinstance(tokenizer.chat_template, str):
            raise InputError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template; put one into its folder as "
                "chat_template.jinja, the same that the server will use"
            )
        self.tokenizer = tokenizer
        self.options = dict(options or {})
        self.thinking: Thinking | None = thinking or None
        if self.thinking not in (None, "recorded", "empty", "without"):
            raise InputError(f"thinking: expected recorded, empty or without, got {thinking!r}")
        self.calls = calls
        self.tools = tools
        self._backend: Tokenizer = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        # A model that writes the text of a special token has not written the special token.
        self._reply_backend = Tokenizer.from_str(self._backend.to_str())
        self._reply_backend.encode_special_tokens = True
        self._is_lossless = is_byte_level(self._backend)
        self.template = ChatTemplate(tokenizer, options=self.options)
        self.end_text = self.template.ending("text", "user").written
        self.end_ids = self._ids(self.end_text)
        self._without: ChatTemplate | None = None
        self._shapes: dict[Any, tuple[str, bool] | None] = {}

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        thinking: Thinking | None = None,
        calls: Syntax | None = None,
        tools: Literal["refuse", "leave_out"] = "refuse",
    ) -> Renderer:
        """From a folder or a hub name. Raises InputError."""
        from transformers import AutoTokenizer  # takes seconds, which who only looks at rows need not wait

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(name))
        except (OSError, ValueError) as error:
            raise InputError(
                f"--tokenizer {name}: cannot be loaded ({' '.join(str(error).split())[:300]}); expected a folder with "
                "tokenizer.json and a chat template, or a name on the hub"
            ) from None
        return cls(tokenizer, options=options, thinking=thinking, calls=calls, tools=tools)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the token ids."""
        return _hash(
            RENDER_VERSION,
            self._backend.to_str(),
            self.tokenizer.chat_template,
            json.dumps(self.options, sort_keys=True),
            self.thinking,
            self.calls,
            self.tools,
        )

    @cached_property
    def vocabulary(self) -> str:
        """A hash of the tokenizer's entries: models that share it give the ids one meaning."""
        return vocabulary_hash(self._backend)

    @property
    def end_id(self) -> int:
        """The special token at which a model's turn ends."""
        return self.end_ids[-1]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Every token at which a turn may end, that of plain text first: some templates end a call with another."""
        endings = [self.template.ending("text", "user")]
        if self.template.style is not None:
            endings.append(self.template.ending("calls", "tool"))
        return tuple(dict.fromkeys(self._ids(ending.written)[-1] for ending in endings))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def render(self, trajectory: Trajectory, *, source: Literal["auto", "rendered"] = "auto") -> Rendering:
        """The run's rows. Raises RenderError where they cannot be had exactly."""
        return self.render_all([trajectory], source=source)[0]

    def render_all(
        self, trajectories: Sequence[Trajectory], *, source: Literal["auto", "rendered"] = "auto"
    ) -> list[Rendering]:
        """Several runs at once, whose texts are encoded in parallel. Raises RenderError for the first that cannot be.

        source: "auto" takes sampled token ids where a run has them for every step.
        """
        drafts = [self._draft(trajectory, source) for trajectory in trajectories]
        turns = [turn for draft in drafts for row in draft.turns for turn in row]
        contexts = self._backend.encode_batch_fast([turn.context for turn in turns], add_special_tokens=False)
        replies = self._reply_backend.encode_batch([turn.reply for turn in turns], add_special_tokens=False)
        # A template's own special tokens in a reply are tokens, unless the model wrote the text of one.
        own = [n for n, turn in enumerate(turns) if turn.template_specials]
        if own:
            encoded_own = self._backend.encode_batch([turns[n].reply for n in own], add_special_tokens=False)
            for n, encoding in zip(own, encoded_own, strict=True):
                replies[n] = encoding
        self._check_replies(turns, replies)
        encoded = iter(zip(contexts, replies, strict=True))
        for draft in drafts:
            draft.rows.extend(self._tokenized(row, encoded) for row in draft.turns)
        return [Rendering(draft.rows, draft.remarks) for draft in drafts]

    def _check_replies(self, turns: list[Turn], encoded: list[Encoding]) -> None:
        """Raises RenderError for a reply that its tokens do not give back."""
        if self._is_lossless:
            return
        normalizer = self._backend.normalizer
        said = self._backend.decode_batch([reply.ids for reply in encoded], skip_special_tokens=False)
        for turn, text in zip(turns, said, strict=True):
            expected = normalizer.normalize_str(turn.reply) if normalizer else turn.reply
            if text != expected:
                raise RenderError(
                    f"step {turn.step}: the tokens of {expected[:60]!r}... read {text[:60]!r}...; expected a tokenizer "
                    "that gives every text back (a byte-level one)"
                )

    def _draft(self, trajectory: Trajectory, source: str) -> _Draft:
        remarks: Counter[str] = Counter()
        if self.calls is not None:
            trajectory = calls_as_text(trajectory, self.calls)
        rows = self._rows_of_turns(self._told(trajectory, remarks), remarks)
        if source == "auto" and any(step.token_ids for step in trajectory.steps):
            why = self._not_ours(trajectory, rows)
            if why is None:
                return _Draft([], self._sampled_rows(trajectory, remarks), Counter(remarks))
            remarks[why] += 1
        return _Draft(rows, [], remarks)

    # ---- from text ----

    def _told(self, trajectory: Trajectory, remarks: Counter[str]) -> _Told:
        """The run as the template takes it. Raises RenderError where the template would lose some of it."""
        if self.template.thinks:
            trajectory = _thoughts_apart(trajectory, opened=self.template.opens_thinking)
        messages, places = chat_messages(trajectory)
        self._refuse_lost(messages, trajectory)
        thoughts = [
            step.reasoning or _reasoning_of(messages[place])
            for step, place in zip(trajectory.steps, places, strict=True)
        ]
        thinking = self._choice(any(thoughts))
        if thinking != "recorded" and any(thoughts):
            remarks["thinking_left_out"] += sum(map(bool, thoughts))
        messages = [self._with_thinking(message, thinking) for message in messages]
        template = self._template_without() if thinking == "without" else self.template
        return _Told(trajectory, template.styled(messages), places, thinking, template)

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
        reasoning = _reasoning_of(message)
        bare = {key: value for key, value in message.items() if key not in ("reasoning_content", "reasoning")}
        if message["role"] != "assistant":
            return message
        if reasoning and thinking == "recorded" and self.template.thinking_key:
            return {**bare, self.template.thinking_key: reasoning}
        return bare

    def _rows_of_turns(self, told: _Told, remarks: Counter[str]) -> list[list[Turn]]:
        """The steps in text, a list a row."""
        turns = self._appended(told)
        rows = self._step_by_step(told, remarks) if turns is None else [turns] if turns else []
        for step, turn in zip(told.trajectory.steps, (turn for row in rows for turn in row), strict=True):
            _refuse_changed(step, turn.reply)
        rows = [[self._marked(told, turn) for turn in row] for row in rows]
        different = sum(turn.end != turn.shown for row in rows for turn in row[:-1])
        if different:
            remarks["end_not_trained"] += different
        return rows

    def _marked(self, told: _Told, turn: Turn) -> Turn:
        """The turn, told whether special tokens in its reply are the template's. Raises RenderError where both are."""
        found = told.template.special_tokens(turn.reply)
        if not found:
            return turn
        step = next(step for step in told.trajectory.steps if step.index == turn.step)
        thought = step.reasoning if told.thinking == "recorded" else None
        texts = [step.content, thought or "", *_texts(list(step.tool_calls))]
        written = sum(len(told.template.special_tokens(text)) for text in texts)
        if written and written < len(found):
            raise RenderError(
                f"step {turn.step}: the reply spells a special token, and the chat template writes some of its "
                "own into it; which is which cannot be told, so leave the run out"
            )
        return turn._replace(template_specials=not written)

    def _appended(self, told: _Told) -> list[Turn] | None:
        """The turns of a run whose template only appends; `None` where that is not sure."""
        template, messages, steps = told.template, told.messages, told.trajectory.steps
        if not steps or not self._is_plain(told):
            return None
        whole = messages[: told.places[-1]]  # the last prompt of the run, which a server was asked
        marked = [m if m["role"] == "assistant" else {**m, "content": MARK} for m in whole]
        try:
            real = template.render(whole, told.trajectory.tools, prompt=True)
            pieces = template.render(marked, told.trajectory.tools, prompt=True).split(MARK)
        except RenderError:
            return None
        others = [message for message in whole if message["role"] != "assistant"]
        starts = _aligned(real, pieces, [message["content"] for message in others])
        if starts is None:
            return None
        turns, end = [], 0
        for step, place in zip(steps[:-1], told.places[:-1], strict=True):
            number = sum(message["role"] != "assistant" for message in whole[:place])
            header = self._header(told, whole, place)
            ending = template.ending(_kind(whole[place]), whole[place + 1]["role"])
            behind, piece = ending.shown + ending.header, pieces[number]
            if header is None or not piece.startswith(header) or not piece[len(header) :].endswith(behind):
                return None
            reply = piece[len(header) : len(piece) - len(behind)]
            if not _shows_thought(told, step, reply):
                return None
            begin = starts[number] + len(header)
            turns.append(_turn(step, real[end:begin], reply, ending.written, ending.shown))
            end = begin + len(reply) + len(ending.shown)
        # No later prompt shows the last reply: it is rendered by itself.
        reply, written, shown = self._reply(told, steps[-1], told.places[-1], real)
        return [*turns, _turn(steps[-1], real[end:], reply, written, shown)]

    def _is_plain(self, told: _Told) -> bool:
        """Whether the messages as they were sent show each reply as it was, with a message between any two."""
        if told.thinking == "empty" or told.places[0] == 0:
            return False
        previous = ""
        for message in told.messages:
            if message["role"] == previous == "assistant" or not isinstance(message["content"], str):
                return False
            if any(text in message["content"] for text in told.template.looked_for):
                return False
            previous = message["role"]
        if told.thinking == "without":
            return True
        return all(
            (step.reasoning or None) == (_thought(told, place) or None)
            for step, place in zip(told.trajectory.steps[:-1], told.places[:-1], strict=True)
        )

    def _header(self, told: _Told, whole: Messages, place: int) -> str | None:
        """What stands before a reply, from the last text of the prompt; `None` where a later prompt rewrites the turn.

        Found by the shape of the turns around it, and kept: runs have few shapes.
        """
        before = next((n for n in range(place - 1, -1, -1) if whole[n]["role"] == "assistant"), None)
        first = told.places[0]
        head = whole[:first]
        between = whole[(first if before is None else before) : place] if place > first else []
        after = next((n for n in range(place + 1, len(whole)) if whole[n]["role"] == "assistant"), len(whole))
        later = whole[after:]
        shape = (
            tuple(m["role"] for m in head),
            tuple(map(_shape, between)),
            tuple(map(_shape, whole[place:after])),
            any(m["role"] == "user" for m in later),
            any(m["role"] == "assistant" and not m.get("tool_calls") for m in later),
            any(m.get("tool_calls") for m in later),
            bool(told.trajectory.tools),
            told.thinking,
        )
        if shape not in self._shapes:
            self._shapes[shape] = self._tried(told, [*head, *between], whole[place:after], shape)
        found = self._shapes[shape]
        return found[0] if found and found[1] else None

    def _tried(self, told: _Told, before: Messages, turn: Messages, shape: tuple[Any, ...]) -> tuple[str, bool] | None:
        """The header, and whether the turn reads the same right behind its prompt and much later."""
        template, tools = told.template, told.trajectory.tools
        window, said = _blank(before), _blank(turn)
        later: Messages = []
        if shape[5]:
            calling = {"role": "assistant", "content": "", "tool_calls": [_a_call()]}
            later += template.styled([calling, *answers(calling, "tool", MARK)]) * 2
        if shape[3] or shape[4]:
            later += [{"role": "assistant", "content": "x"}, {"role": "user", "content": MARK}] * 2
        try:
            prompt = template.render(window, tools, prompt=True)
            soon = template.render([*window, *said], tools, prompt=True)
            late = template.render([*window, *said, *later], tools, prompt=True)
        except RenderError:
            return None
        number = prompt.count(MARK)
        if not soon.startswith(prompt) or late.count(MARK) <= number:
            return None
        return prompt.rsplit(MARK, 1)[-1], soon.split(MARK)[: number + 1] == late.split(MARK)[: number + 1]

    def _step_by_step(self, told: _Told, remarks: Counter[str]) -> list[list[Turn]]:
        """Each step behind its own prompt, which is exact whatever a template does, and quadratic."""
        rows: list[list[Turn]] = []
        before, again = "", 0
        for step, place in zip(told.trajectory.steps, told.places, strict=True):
            prompt = told.template.render(told.messages[:place], told.trajectory.tools, prompt=True)
            if not rows or not prompt.startswith(before):
                again += len(prompt) if rows else 0
                if rows:
                    remarks["history_rewritten"] += 1
                rows.append([])
                before = ""
            reply, end, shown = self._reply(told, step, place, prompt)
            rows[-1].append(_turn(step, prompt[len(before) :], reply, end, shown))
            before = prompt + reply + shown
        if again:
            remarks["characters_repeated"] += again
        return rows

    def _reply(self, told: _Told, step: Step, place: int, prompt: str) -> tuple[str, str, str]:
        """(reply, end as written, end as shown) behind this prompt."""
        said = dict(told.messages[place])
        thought = step.reasoning if told.thinking == "recorded" else None
        if thought and told.template.thinking_key:
            said[told.template.thinking_key] = thought
        forms: list[Callable[..., tuple[str, str, str] | None]] = [self._as_history, self._as_last, self._alone]
        if thought or told.thinking == "empty":
            forms = [self._as_last, self._alone, self._as_history]
        forms.append(partial(self._behind_opening, thought=thought))
        for form in forms:
            found = form(told, said, place, prompt)
            if found is not None and step.content.strip() in found[0] and _shows_thought(told, step, found[0]):
                return found
        raise RenderError(
            f"step {step.index}: the chat template does not write the reply behind its generation prompt; try another "
            "template option, another choice of thinking, or another template"
        )

    def _as_history(self, told: _Told, said: dict[str, Any], place: int, prompt: str) -> tuple[str, str, str] | None:
        """The reply as the next prompt shows it."""
        following = told.messages[place + 1 : place + 2]
        if not following:
            following = _answer(said)
        if following[0]["role"] == "assistant":
            shown, role = self._try(told, [*told.messages[:place], said], prompt=True), "assistant"
            rest = "" if shown is None or not shown.startswith(prompt) else shown[len(prompt) :]
        else:
            role = following[0]["role"]
            asked = [*told.messages[:place], said, {**following[0], "content": MARK}]
            shown = self._try(told, asked, prompt=False)
            starts = shown is not None and shown.startswith(prompt) and MARK in shown
            rest = str(shown)[len(prompt) :].split(MARK)[0] if starts else ""
        ending = told.template.ending(_kind(said), role)
        behind = ending.shown + ending.header
        if not rest or not rest.endswith(behind):
            return None
        return rest[: len(rest) - len(behind)], ending.written, ending.shown

    def _as_last(self, told: _Told, said: dict[str, Any], place: int, prompt: str) -> tuple[str, str, str] | None:
        """The reply as the template writes it at the end of a conversation."""
        shown = self._try(told, [*told.messages[:place], said], prompt=False)
        following = told.messages[place + 1]["role"] if place + 1 < len(told.messages) else _answer(said)[0]["role"]
        ending = told.template.ending(_kind(said), following)
        if shown is None or not shown.startswith(prompt) or not shown.endswith(ending.last):
            return None
        rest = shown[len(prompt) :]
        return rest[: len(rest) - len(ending.last)], ending.written, ending.shown

    def _alone(self, told: _Told, said: dict[str, Any], place: int, prompt: str) -> tuple[str, str, str] | None:
        """The reply as the template writes it right behind the task, for templates that rewrite what came before."""
        head = told.messages[: told.places[0]]
        asked, bare = self._try(told, head, prompt=True), self._try(told, head, prompt=False)
        if asked is None or bare is None or not asked.startswith(bare) or not prompt.endswith(asked[len(bare) :]):
            return None
        following = told.messages[place + 1 : place + 2]
        alone = told._replace(messages=[*head, said, *following], places=[len(head)])
        return self._as_last(alone, said, len(head), asked)

    def _behind_opening(
        self, told: _Told, said: dict[str, Any], place: int, prompt: str, *, thought: str | None
    ) -> tuple[str, str, str] | None:
        """The reply of a template that opens thinking in its prompt and never writes any: the tag is closed here."""
        opening = told.template.opening_in(prompt)
        if opening is None:
            return None
        before, tag, space = opening
        bare = {key: value for key, value in said.items() if key != told.template.thinking_key}
        found = self._as_history(told, bare, place, before) or self._as_last(told, bare, place, before)
        if found is None:
            return None
        reply, end, shown = found
        if reply.startswith(tag):
            return (reply[len(tag) :], end, shown) if not thought else None
        closing = tag[0] + "/" + tag[1:]
        return f"{(thought or '').strip()}{space}{closing}{space * 2}{reply}", end, shown

    def _try(self, told: _Told, messages: Messages, *, prompt: bool) -> str | None:
        try:
            return told.template.render(messages, told.trajectory.tools, prompt=prompt)
        except RenderError:
            return None

    def _tokenized(self, turns: list[Turn], encoded: Iterator[tuple[Encoding, Encoding]]) -> TokenizedRow:
        """A row from its turns; `encoded` gives (context, reply) of each turn."""
        row = RowBuilder()
        for turn in turns:
            context, reply = next(encoded)
            row.add_context(context.ids)
            row.add_reply(turn.step, reply.ids, _action_tokens(reply, turn.action))
            is_last = turn is turns[-1]
            if turn.ends and (is_last or turn.end == turn.shown):
                row.add_end(turn.step, self._ids(turn.end))
            elif not is_last:
                row.add_context(self._ids(turn.shown))  # the next prompt shows it, and the model did not write it
        return row.tokenized("rendered")

    # ---- from sampled ids ----

    def _not_ours(self, trajectory: Trajectory, rows: list[list[Turn]]) -> str | None:
        """Why the sampled ids are not taken, `None` where they are.

        They must be there for every step, be of this vocabulary, be this reply's, and stand behind this prompt.
        """
        if trajectory.vocabulary not in (None, self.vocabulary):
            return "other_tokenizer"
        if not all(step.token_ids and step.prompt_token_ids is not None for step in trajectory.steps):
            return "sampled_incomplete"
        size = len(self.tokenizer)
        turns = [turn for row in rows for turn in row]
        starts = {row[0].step for row in rows}
        before = ""
        for step, turn in zip(trajectory.steps, turns, strict=True):
            ids = step.token_ids or ()
            asked = step.prompt_token_ids or ()
            if max((*ids, *asked)) >= size:
                return "other_tokenizer"
            before = turn.context if step.index in starts else before + turn.context
            told = self._decode(asked)
            if before != told if not step.prompt_shared else not before.endswith(told):
                return "other_prompt"
            said = self._decode(ids)
            if not _holds(step, said):
                return "other_tokenizer" if not step.tool_calls else "other_reply"
            counted = step.usage.completion_tokens if step.usage else None
            if counted is not None and abs(counted - len(ids)) > 1:
                return "sampled_incomplete"
            before += turn.reply + turn.shown
        return None

    def _decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=False)

    def _sampled_rows(self, trajectory: Trajectory, remarks: Counter[str]) -> list[TokenizedRow]:
        """Rows of the ids that were asked and sampled. `prompt_shared` tells what the prompt repeats."""
        rows: list[TokenizedRow] = []
        row = RowBuilder()
        asked: list[int] = []  # the prompt and the reply of the step before
        for step in trajectory.steps:
            prompt = [*asked[: step.prompt_shared], *(step.prompt_token_ids or ())]
            shared = len(row)
            if prompt[:shared] != row.ids:
                rows.append(row.tokenized("sampled"))
                remarks["sampled_drift"] += 1
                row, shared = RowBuilder(), 0
            row.add_context(prompt[shared:])
            sampled = list(step.token_ids or ())
            asked = prompt + sampled
            stopped = sampled[-1] in self.stop_ids
            said = sampled[:-1] if stopped else sampled
            row.add_reply(step.index, said, self._sampled_action(step, said))
            if stopped:
                row.add_end(step.index, sampled[-1:])
            elif step.finish_reason in ("stop", "tool_calls"):
                # A server may keep the token that ended the turn to itself; the next prompt shows it.
                row.add_end(step.index, [self.stop_ids[-1 if step.tool_calls else 0]])
        return [*rows, row.tokenized("sampled")]

    def _sampled_action(self, step: Step, ids: list[int]) -> slice:
        """Which of the sampled tokens are the action's, by bisection over the lengths of decoded beginnings."""
        span = action_span(step, self._decode(ids))
        if span is None:
            return slice(0, 0)

        def chars(place: int) -> int:
            return len(self._decode(ids[: place + 1]))

        first = bisect_left(range(len(ids)), span[0] + 1, key=chars)
        last = bisect_left(range(len(ids)), span[1], key=chars)
        return slice(first, last + 1)


class _Draft(NamedTuple):
    """A run on its way: rows in text, to be encoded, or rows that are there."""

    turns: list[list[Turn]]
    rows: list[TokenizedRow]
    remarks: Counter[str]


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether each of the 256 bytes has a token and no step of the tokenizer adds, drops or changes one.

    NFC, which some have before the bytes, counts as none: it composes characters that are the same text.
    """
    described = json.loads(tokenizer.to_str())
    steps = described["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    normalizer = described["normalizer"] or {"type": "NFC"}
    return (
        normalizer["type"] == "NFC"
        and (described["decoder"] or {}).get("type") == "ByteLevel"
        and {step.get("type") for step in steps} <= {"ByteLevel", "Split", "Digits"}
        and any(step.get("type") == "ByteLevel" for step in steps)
        and not any(step.get("add_prefix_space") for step in steps)
        and all(step.get("behavior", "Isolated") != "Removed" for step in steps)
        and set(ByteLevel.alphabet()) <= tokenizer.get_vocab().keys()
    )


def _kind(message: dict[str, Any]) -> Literal["text", "calls"]:
    return "calls" if message.get("tool_calls") else "text"


def _answer(said: dict[str, Any]) -> Messages:
    """A message that could answer a reply."""
    return answers(said, "tool" if said.get("tool_calls") else "user", MARK)


def _reasoning_of(message: dict[str, Any]) -> str | None:
    thought = message.get("reasoning_content") or message.get("reasoning")
    return thought if isinstance(thought, str) else None


def _thought(told: _Told, place: int) -> str | None:
    thought = told.messages[place].get(told.template.thinking_key or "")
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


def _shows_thought(told: _Told, step: Step, reply: str) -> bool:
    """Whether a reply holds the thinking that it is to hold."""
    return told.thinking != "recorded" or (step.reasoning or "").strip() in reply


def _a_call() -> dict[str, Any]:
    return {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}


def _shape(message: dict[str, Any]) -> tuple[Any, ...]:
    """What of a message a template may look at besides its texts."""
    calls = message.get("tool_calls") or ()
    content = message["content"]
    return (
        message["role"],
        bool(content) if message["role"] == "assistant" else True,
        bool(content.strip()) if message["role"] == "assistant" else True,
        any(message.get(key) for key in ("reasoning_content", "reasoning", "thinking")),
        len(calls),
    )


def _blank(messages: Messages) -> Messages:
    """The messages with a mark, or a letter of the model's, in the place of their texts."""
    blank = []
    for message in messages:
        if message["role"] != "assistant":
            blank.append({**message, "content": MARK})
            continue
        content = message["content"]
        blank.append({**message, "content": "x" if content.strip() else content})
    return blank


def _aligned(real: str, pieces: list[str], contents: list[str]) -> list[int] | None:
    """Where each piece begins in the real text; `None` where contents between them do not make it up."""
    if len(pieces) != len(contents) + 1 or not real.startswith(pieces[0]):
        return None
    starts, place = [0], len(pieces[0])
    for piece, content in zip(pieces[1:], contents, strict=True):
        shown = (
            content,
            content.strip(),
            content.rstrip(),
            content.lstrip("\n"),
            json.dumps(content, ensure_ascii=False),
        )
        for text in shown:
            if real.startswith(text, place) and real.startswith(piece, place + len(text)):
                break
        else:
            return None
        starts.append(place + len(text))
        place = starts[-1] + len(piece)
    return starts if place == len(real) else None


def _turn(step: Step, context: str, reply: str, end: str, shown: str) -> Turn:
    ends = step.finish_reason != "length"
    if not ends and not step.content and not step.tool_calls:
        # Cut off before its text began: what the template writes behind the thinking is not the model's.
        thought = (step.reasoning or "").strip()
        written = reply.find(thought) + len(thought) if thought and thought in reply else 0
        reply, shown = reply[:written], reply[written:] + shown
    return Turn(step.index, context, reply, action_span(step, reply), ends, end, shown)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member)


def _holds(step: Step, said: str) -> bool:
    """Whether a text holds all that a step says: its content, and each call's name and arguments."""
    if step.content.strip() not in said:
        return False
    for call in step.tool_calls:
        function = call.get("function") or {}
        arguments = function.get("arguments")
        try:
            values = list(_texts(json.loads(arguments) if isinstance(arguments, str) and arguments else arguments))
        except ValueError:
            values = []
        if str(function.get("name")) not in said:
            return False
        for value in values:
            encoded = (value, *_escaped(value))
            if not any(form in said for form in (*encoded, value.strip())):
                return False
    return True


def _escaped(value: str) -> Iterator[str]:
    """The text as templates quote it: as JSON, as jinja's own JSON, as Python."""
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield (text := json.dumps(value)[1:-1])
    for char in "<>&'":
        text = text.replace(char, f"\\u{ord(char):04x}")
    yield text
    for quote in "'\"":
        yield value.replace("\\", "\\\\").replace(quote, f"\\{quote}")
        yield value.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n")
        yield value.replace(quote, f"\\{quote}")


def _refuse_changed(step: Step, reply: str) -> None:
    """Raises RenderError where a reply as the template writes it does not hold what the step says."""
    if not _holds(step, reply):
        raise RenderError(
            f"step {step.index}: the chat template does not write all of the reply (its text, the call's name and its "
            "arguments); set rows.calls=xml to write calls as text, or take another template"
        )


def _hash(*texts: Any) -> str:
    return hashlib.sha256("\0".join(map(str, texts)).encode()).hexdigest()[:16]


def _action_tokens(reply: Encoding, action: tuple[int, int] | None) -> slice:
    """A token is of the action when any of its characters is."""
    if action is None or action[0] == action[1]:
        return slice(0, 0)
    first, last = reply.char_to_token(action[0]), reply.char_to_token(action[1] - 1)
    assert first is not None, "every character of a reply has its token"
    assert last is not None, "every character of a reply has its token"
    return slice(first, last + 1)


_FENCED = re.compile(r"```[\w-]*[^\S\n]*\n.*?\n?```", re.DOTALL)
_XML_CALL = re.compile(r"<function=.*?</function>", re.DOTALL)


def action_span(step: Step, reply: str) -> tuple[int, int] | None:
    r"""Where the action stands in a reply, its marks included; `None` where no action was read.

    >>> from srft.agent.records import Action
    >>> step = Step(index=0, content="", action=Action(tool="bash", format="backtick"))
    >>> action_span(step, "I look.\n```bash\nls\n```")
    (8, 22)
    """
    if step.action is None:
        return None
    if step.tool_calls:  # the template writes them behind the content
        begin = reply.find(step.content) + len(step.content) if step.content in reply else 0
        return begin, len(reply)
    pattern = _XML_CALL if step.action.format == "xml" else _FENCED
    found = list(pattern.finditer(reply))
    return found[-1].span() if found else (0, len(reply))
