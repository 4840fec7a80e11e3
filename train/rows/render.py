"""From a run to tokens: what the model was asked and what it wrote, as the chat template writes it, aligned exactly.

Reads trajectories and a tokenizer; writes nothing. Knows no labels: `mask.py` decides what of this is trained.

    renderer = Renderer.load("Qwen/Qwen2.5-Coder-7B-Instruct")
    rendering = renderer.render(trajectory)
    rendering.rows[0].input_ids            # (T,) int32, step_index and part beside it

On the way: `prepare.py` makes of a run what its template takes, `one_pass.py` or `turns.py` make text of it, here
the text becomes tokens. Where a run has the token ids that were sampled, and they are this template's and this reply's,
they are taken (`sampled.py`).

The prompt and the reply are encoded apart, so no token straddles what is trained and what is not. In a reply the text
of a special token is text. A byte-level tokenizer gives every text back by its construction, but for bytes that it has
no token for; what has such bytes, and each reply of any other tokenizer, is decoded again, and a run that loses
something is refused. (Qwen's composes characters, NFC, and no more.)
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from srft.agent.models.vocabulary import vocabulary_hash
from srft.agent.records import Step, Trajectory
from srft.env.errors import InputError
from srft.train.rows.calls import Syntax, calls_as_text
from srft.train.rows.mask import Part
from srft.train.rows.one_pass import OnePass
from srft.train.rows.prepare import Preparer, Thinking, Tools
from srft.train.rows.sampled import sampled_rows, why_not_sampled
from srft.train.rows.template import ChatTemplate, RenderError
from srft.train.rows.tokenized_row import RowBuilder, TokenizedRow
from srft.train.rows.turns import Turn, action_span, check_turn, step_by_step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Draft", "RenderError", "Renderer", "Rendering", "Thinking", "action_span", "missing_bytes"]

RENDER_VERSION = 4
"""Part of the fingerprint: raise it when the same run gives other tokens."""


class Rendering(NamedTuple):
    """A run's rows, and counts of what was not plain, say {"history_rewritten": 3}."""

    rows: list[TokenizedRow]
    remarks: Counter[str]


class Draft(NamedTuple):
    """A run on its way: rows in text, to be encoded, or rows that are there."""

    turns: list[list[Turn]]
    rows: list[TokenizedRow]
    remarks: Counter[str]


class Renderer:
    """One tokenizer with its chat template.

    options: further variables of the template, say {"enable_thinking": False}. They must be those of serving.
    thinking: what a reply's thinking becomes. "recorded": the template writes it. "empty": the block is there, with
    nothing in it. "without": the reply as the template shows it without thinking. `None`: recorded where the run has
    thinking and the template writes it, else without; a template that opens the thinking itself wants a choice.
    calls: write tool calls and their answers as text, in this syntax, for a template that has none.
    tools: "refuse" runs whose tool descriptions the template does not write, or "leave_out" the descriptions.
    append: keep what each prompt and each reply ended with in the row, where the template's history has something else
    there.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        options: Mapping[str, Any] | None = None,
        thinking: Thinking | None = None,
        calls: Syntax | None = None,
        tools: Tools = "refuse",
        append: bool = False,
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
        thinking = thinking or None
        if thinking not in (None, "recorded", "empty", "without"):
            raise InputError(f"thinking: expected recorded, empty or without, got {thinking!r}")
        self.calls, self.tools, self.append = calls, tools, append
        self._backend: Tokenizer = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        # A model that writes the text of a special token has not written the special token.
        self._reply_backend = Tokenizer.from_str(self._backend.to_str())
        self._reply_backend.encode_special_tokens = True
        self._missing_bytes = missing_bytes(self._backend)
        self.template = ChatTemplate(tokenizer, options=self.options)
        self._known_ids: dict[str, list[int]] = {}
        self.end_text = self.template.ending("text", "user").written
        self.end_ids = self._ids(self.end_text)
        self._preparer = Preparer(self.template, thinking=thinking, tools=tools)
        self._one_pass = OnePass(append=append)

    @property
    def thinking(self) -> Thinking | None:
        return self._preparer.thinking

    @thinking.setter
    def thinking(self, thinking: Thinking | None) -> None:
        self._preparer.thinking = thinking

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        thinking: Thinking | None = None,
        calls: Syntax | None = None,
        tools: Tools = "refuse",
        append: bool = False,
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
        return cls(tokenizer, options=options, thinking=thinking, calls=calls, tools=tools, append=append)

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
            self.append,
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
        """The tokens of an end of turn: there are few, and each reply has one."""
        if text not in self._known_ids:
            self._known_ids[text] = self._backend.encode(text, add_special_tokens=False).ids
        return self._known_ids[text]

    def render(self, trajectory: Trajectory, *, source: Literal["auto", "rendered"] = "auto") -> Rendering:
        """The run's rows. Raises RenderError where they cannot be had exactly."""
        return self.render_all([trajectory], source=source)[0]

    def render_all(
        self, trajectories: Sequence[Trajectory], *, source: Literal["auto", "rendered"] = "auto"
    ) -> list[Rendering]:
        """Several runs at once, whose texts are encoded in parallel. Raises RenderError for the first that cannot be.

        source: "auto" takes sampled token ids where a run has them for every step.
        """
        return self.encode([self.draft(trajectory, source=source) for trajectory in trajectories])

    def encode(self, drafts: Sequence[Draft]) -> list[Rendering]:
        """The rows of several runs, whose texts are encoded in parallel, outside of Python's lock. Raises RenderError
        for the first that the tokenizer does not give back."""
        turns = [turn for draft in drafts for row in draft.turns for turn in row]
        texts = [text for turn in turns for text in (turn.context, turn.reply)]
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        replies = encodings[1::2]
        if written := [n for n, turn in enumerate(turns) if self._spells_specials(turn)]:
            as_text = self._reply_backend.encode_batch_fast([turns[n].reply for n in written], add_special_tokens=False)
            for n, encoding in zip(written, as_text, strict=True):
                replies[n] = encoding
        if self._missing_bytes != b"":
            self._refuse_lossy(turns, replies)
        encoded = iter(zip(encodings[::2], replies, strict=True))
        renderings = []
        for draft in drafts:
            rows = [self._tokenized(row, encoded) for row in draft.turns]
            if again := sum(int(numpy.argmax(row.part != Part.CONTEXT)) for row in rows[1:]):
                draft.remarks["tokens_repeated"] += again
            renderings.append(Rendering([*draft.rows, *rows], draft.remarks))
        return renderings

    def draft(self, trajectory: Trajectory, *, source: Literal["auto", "rendered"] = "auto") -> Draft:
        """The run as far as it goes without the tokenizer. Raises RenderError."""
        remarks: Counter[str] = Counter()
        if self.calls is not None:
            trajectory = calls_as_text(trajectory, self.calls)
        rows = self._rows_of_turns(trajectory, remarks)
        if source == "auto" and any(step.token_ids for step in trajectory.steps):
            why = self._why_not_sampled(trajectory, rows)
            if why is None:
                del remarks["thinking_left_out"]  # by the template; what was sampled is taken as it is
                ids = sampled_rows(trajectory, self.stop_ids, action=self._sampled_action, remarks=remarks)
                return Draft([], ids, remarks)
            remarks[why] += 1
        return Draft(rows, [], remarks)

    def _rows_of_turns(self, trajectory: Trajectory, remarks: Counter[str]) -> list[list[Turn]]:
        """The steps in text, a list a row. Raises RenderError."""
        run = self._preparer.prepare(trajectory, remarks)
        turns = self._one_pass.turns(run)
        rows = step_by_step(run, remarks) if turns is None else [turns]
        steps = iter(run.steps)
        rows = [[check_turn(run, next(steps), turn) for turn in row] for row in rows]
        if different := sum(turn.end != turn.shown for row in rows for turn in row[:-1]):
            remarks["end_kept" if self.append else "end_not_trained"] += different
        return rows

    # ---- from text to tokens ----

    def _spells_specials(self, turn: Turn) -> bool:
        """Whether the model wrote the text of a special token, also one that the tokenizer makes by normalizing."""
        normalizer = self._backend.normalizer
        if turn.spells_specials or normalizer is None or (self._missing_bytes is not None and turn.reply.isascii()):
            return turn.spells_specials
        spelled = self.template.special_tokens(normalizer.normalize_str(turn.reply))
        return len(spelled) > len(self.template.special_tokens(turn.reply))

    def _refuse_lossy(self, turns: list[Turn], encoded: list[Encoding]) -> None:
        """Raises RenderError for a reply that its tokens do not give back."""
        normalizer = self._backend.normalizer
        expected = [normalizer.normalize_str(turn.reply) if normalizer else turn.reply for turn in turns]
        if self._missing_bytes is None:
            doubtful = list(range(len(turns)))
        else:  # what has none of the missing bytes is given back
            utf8 = [text.encode() for text in expected]
            doubtful = [n for n, text in enumerate(utf8) if text.translate(None, self._missing_bytes) != text]
        decoded = self._backend.decode_batch([encoded[n].ids for n in doubtful], skip_special_tokens=False)
        for n, text in zip(doubtful, decoded, strict=True):
            if text != expected[n]:
                raise RenderError(
                    f"step {turns[n].step}: the tokens of {expected[n][:60]!r}... read {text[:60]!r}...; expected a "
                    "tokenizer that gives every text back (a byte-level one)"
                )

    def _tokenized(self, turns: list[Turn], encoded: Iterator[tuple[Encoding, Encoding]]) -> TokenizedRow:
        """A row from its turns; `encoded` gives (context, reply) of each turn."""
        row = RowBuilder()
        for turn in turns:
            context, reply = next(encoded)
            ids = reply.ids
            row.add_context(context.ids)
            row.add_reply(turn.step, ids, self._action_tokens(ids, turn))
            is_last = turn is turns[-1]
            if turn.ends and (is_last or self.append or turn.end == turn.shown):
                row.add_end(turn.step, self._ids(turn.end))
            elif not is_last:
                row.add_context(self._ids(turn.shown))  # the next prompt shows it, and the model did not write it
        return row.tokenized("rendered")

    def _action_tokens(self, ids: list[int], turn: Turn) -> slice:
        """A token is of the action when any of its characters is."""
        if turn.action is None or turn.action[0] == turn.action[1]:
            return slice(0, 0)
        found = self._tokens_of(ids, turn.reply, turn.action)
        if found is not None:
            return found
        encode = self._reply_backend.encode if self._spells_specials(turn) else self._backend.encode
        reply = encode(turn.reply, add_special_tokens=False)
        first, last = reply.char_to_token(turn.action[0]), reply.char_to_token(turn.action[1] - 1)
        assert first is not None, "every character of a reply has its token"
        assert last is not None, "every character of a reply has its token"
        return slice(first, last + 1)

    def _tokens_of(self, ids: Sequence[int], text: str, span: tuple[int, int]) -> slice | None:
        """The tokens that hold these characters, by their sizes in bytes; `None` where the sizes do not make up the
        text (a tokenizer that is not byte-level, a composed character, half a character)."""
        if self._sizes is None:
            return None
        ends = numpy.cumsum(self._sizes[numpy.asarray(ids, dtype=numpy.int64)])
        begin, end = len(text[: span[0]].encode()), len(text[: span[1]].encode())
        if not len(ends) or ends[-1] != end + len(text[span[1] :].encode()):
            return None
        return slice(int(ends.searchsorted(begin, side="right")), int(ends.searchsorted(end, side="left")) + 1)

    @cached_property
    def _sizes(self) -> NDArray[numpy.int64] | None:
        """Of each token of a byte-level tokenizer (V,), the bytes of its text; `None` for another tokenizer."""
        if self._missing_bytes is None:
            return None
        entries = self._backend.get_vocab(with_added_tokens=True)
        added = {str(token) for token in self._backend.get_added_tokens_decoder().values()}
        sizes_V = numpy.zeros(max(entries.values()) + 1, dtype=numpy.int64)
        for text, number in entries.items():  # a letter of the byte-level alphabet is a byte
            sizes_V[number] = len(text.encode()) if text in added else len(text)
        return sizes_V

    def keeps_history(self) -> str | None:
        """The setting with which a template that rewrites history would not, `None` where none is known."""
        if self.template.headers not in (None, ("", "")) and not self.append:
            return "rows.rewritten=append"
        if options := self.template.option_that_keeps_history():
            ((name, value),) = options.items()
            return f"template.{name}={json.dumps(value)} (when serving too)"
        return "thinking=without" if self.template.thinks and self.thinking != "without" else None

    # ---- from sampled ids ----

    def _why_not_sampled(self, trajectory: Trajectory, rows: list[list[Turn]]) -> str | None:
        if trajectory.vocabulary not in (None, self.vocabulary):
            return "other_tokenizer"
        return why_not_sampled(trajectory, rows, decode=self._decode, size=len(self.tokenizer))

    def _decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=False)

    def _sampled_action(self, step: Step, ids: list[int]) -> slice:
        """Which of the sampled tokens are the action's: by their sizes, else by the lengths of decoded beginnings."""
        text = self._decode(ids)
        span = action_span(step, text)
        if span is None:
            return slice(0, 0)
        found = self._tokens_of(ids, text, span)
        if found is not None:
            return found

        def chars(place: int) -> int:
            return len(self._decode(ids[: place + 1]))

        first = bisect_left(range(len(ids)), span[0] + 1, key=chars)
        last = bisect_left(range(len(ids)), span[1], key=chars)
        return slice(first, last + 1)


def missing_bytes(tokenizer: Tokenizer) -> bytes | None:
    """The bytes without a token of a byte-level tokenizer: every text without them comes back from its tokens. `None`
    for a tokenizer of another kind, or one of whose steps adds, drops or changes something.

    NFC, which some have before the bytes, counts as no change: it composes characters that are the same text.
    """
    described = json.loads(tokenizer.to_str())
    steps = described["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    normalizer = described["normalizer"] or {"type": "NFC"}
    is_byte_level = (
        normalizer["type"] == "NFC"
        and (described["decoder"] or {}).get("type") == "ByteLevel"
        and {step.get("type") for step in steps} <= {"ByteLevel", "Split", "Digits"}
        and any(step.get("type") == "ByteLevel" for step in steps)
        and not any(step.get("add_prefix_space") for step in steps)
        and all(step.get("behavior", "Isolated") != "Removed" for step in steps)
    )
    if not is_byte_level:
        return None
    # A byte is written as the character of its number where that can be printed, the others by those from 256 on.
    alphabet, entries = set(ByteLevel.alphabet()), tokenizer.get_vocab()
    others = [byte for byte in range(256) if chr(byte) not in alphabet]
    written = {byte: chr(byte) for byte in range(256)} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return bytes(byte for byte, character in written.items() if character not in entries)


def _hash(*texts: Any) -> str:
    return hashlib.sha256("\0".join(map(str, texts)).encode()).hexdigest()[:16]
