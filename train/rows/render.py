"""From a run to tokens: what the model was asked and what it wrote, as the chat template writes it, aligned exactly.

Reads trajectories and a tokenizer; writes nothing. Knows no labels: `mask.py` decides what of this is trained.

    renderer = Renderer.load("Qwen/Qwen2.5-Coder-7B-Instruct")
    rendering = renderer.render(trajectory)
    rendering.rows[0].input_ids            # (T,) int32, step_index and part beside it

**The rule.** For every step k the template gives the prompt that the model got, `prompt_k`; what the model wrote is
`reply_k`. Steps share a row as long as `prompt_k` begins with everything that came before it,
`prompt_(k-1) + reply_(k-1) + end of turn`; where it does not, a new row starts with the whole of `prompt_k`, and that
is counted. So each step is trained behind exactly what a server would show the model, whatever a template does to
earlier turns (Qwen3 drops their thinking), and what a template adds to a last turn (Qwen3's empty think block) is never
taken for something the model wrote.

The prompt and the reply are encoded apart, so no token straddles what is trained and what is not. In a reply the text
of a special token is text. A byte-level tokenizer gives every text back by its construction; of any other, each reply
is decoded again, and a tokenizer that loses something is refused. (Qwen's composes characters, NFC, and no more.)

Where a run has the token ids that were sampled, and they are this tokenizer's, the same rule runs on ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jinja2
from tokenizers import Encoding, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from srft.agent.records import Step, Trajectory
from srft.env.errors import InputError
from srft.train.rows.template import Placeholders, chat_messages
from srft.train.rows.tokenized_row import RowBuilder, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RenderError(InputError):
    """A run that this template or tokenizer cannot render faithfully. It costs the run, not the batch."""


class Rendering(NamedTuple):
    """A run's rows, and counts of what was not plain, say {"history_rewritten": 3}."""

    rows: list[TokenizedRow]
    remarks: Counter[str]


class Turn(NamedTuple):
    """One step in text. context: what stands between the last turn's end and this reply.

    ends: whether the model ended its turn; a reply cut off at its length limit did not.
    """

    step: int
    context: str
    reply: str
    action: tuple[int, int] | None
    ends: bool


class Renderer:
    """One tokenizer with its chat template.

    options: further variables of the template, say {"enable_thinking": False}. They must be those of serving.
    thinking: whether what a server gave as thinking, apart from the reply, is written before the reply, as the template
    does it. Without, it is left out and counted: the replies alone are what the run's later prompts show.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, options: Mapping[str, Any] | None = None, thinking: bool = False
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
        self.thinking = thinking
        self._backend: Tokenizer = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        # A model that writes the text of a special token has not written the special token.
        self._reply_backend = Tokenizer.from_str(self._backend.to_str())
        self._reply_backend.encode_special_tokens = True
        self._is_lossless = is_byte_level(self._backend)
        self.end_text, self.end_ids = self._end_of_turn()
        self._placeholders = Placeholders(self._prompts, str(tokenizer.chat_template), end=self.end_text)

    @classmethod
    def load(cls, name: str | Path, *, options: Mapping[str, Any] | None = None, thinking: bool = False) -> Renderer:
        """From a folder or a hub name. Raises InputError."""
        from transformers import AutoTokenizer  # takes seconds, which who only looks at rows need not wait

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(name))
        except (OSError, ValueError) as error:
            raise InputError(
                f"--tokenizer {name}: cannot be loaded ({' '.join(str(error).split())[:300]}); expected a folder with "
                "tokenizer.json and a chat template, or a name on the hub"
            ) from None
        return cls(tokenizer, options=options, thinking=thinking)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the token ids."""
        return _hash(
            self.vocabulary, self.tokenizer.chat_template, json.dumps(self.options, sort_keys=True), self.thinking
        )

    @property
    def vocabulary(self) -> str:
        """A hash of the tokenizer without its template: models that share it give the ids one meaning."""
        return _hash(self._backend.to_str())

    @property
    def end_id(self) -> int:
        """The special token at which a model's turn ends."""
        return self.end_ids[-1]

    def _end_of_turn(self) -> tuple[str, list[int]]:
        """What stands behind a reply up to the special token that ends it. Raises InputError where none does."""
        said = "\ue000reply\ue001"
        asked: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
        text = self._render([[*asked, {"role": "assistant", "content": said}]], (), generation_prompt=False)[0]
        behind = text[text.rindex(said) + len(said) :]
        special = [token for token in self.tokenizer.all_special_tokens if behind.lstrip().startswith(token)]
        if not special:
            raise InputError(
                f"{self.tokenizer.name_or_path}: its chat template ends a reply with {behind[:40]!r}, which is no "
                "special token; a model trained on it would not know when to stop"
            )
        end = max(special, key=len)
        text = behind[: behind.index(end)] + end
        return text, self._backend.encode(text, add_special_tokens=False).ids

    def _render(
        self, conversations: list[list[dict[str, Any]]], tools: Sequence[dict[str, Any]], *, generation_prompt: bool
    ) -> list[str]:
        try:
            rendered: list[str] = self.tokenizer.apply_chat_template(  # type: ignore[assignment]
                conversations,
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                **self.options,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RenderError(f"the chat template refuses the messages ({error})") from error
        return rendered

    def _prompts(self, conversations: list[list[dict[str, Any]]], tools: Sequence[dict[str, Any]]) -> list[str]:
        return self._render(conversations, tools, generation_prompt=True)

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
        if source == "auto" and all(step.token_ids and step.prompt_token_ids is not None for step in trajectory.steps):
            if self._samples_are_ours(trajectory):
                return _Draft([], self._sampled_rows(trajectory, remarks), remarks)
            remarks["other_tokenizer"] += 1
        return _Draft(self._turns(trajectory, remarks), [], remarks)

    # ---- from text ----

    def _turns(self, trajectory: Trajectory, remarks: Counter[str]) -> list[list[Turn]]:
        """The steps in text, a list a row."""
        messages, places = chat_messages(trajectory)
        thought = sum(bool(step.reasoning) for step in trajectory.steps)
        if thought and not self.thinking:
            remarks["thinking_left_out"] += thought
        plain = not (self.thinking and thought)
        if plain and (contexts := self._placeholders.contexts(messages, places, trajectory.tools)) is not None:
            steps = zip(trajectory.steps, contexts, strict=True)
            return [[self._turn(step, context, step.content) for step, context in steps]]
        prompts = self._prompts([messages[:place] for place in places], trajectory.tools)
        rows: list[list[Turn]] = []
        before = ""
        for number, (step, place, prompt) in enumerate(zip(trajectory.steps, places, prompts, strict=True)):
            if not rows or not prompt.startswith(before):
                remarks["history_rewritten"] += bool(rows)
                rows.append([])
                before = ""
            later = prompts[number + 1] if number + 1 < len(prompts) else None
            reply = self._reply(step, messages[: place + 1], prompt, later, trajectory.tools)
            rows[-1].append(self._turn(step, prompt[len(before) :], reply))
            before = prompt + reply + self.end_text
        return rows

    def _reply(
        self,
        step: Step,
        messages: list[dict[str, Any]],
        prompt: str,
        later: str | None,
        tools: Sequence[dict[str, Any]],
    ) -> str:
        """What the model wrote, as text behind `prompt`.

        messages: up to this reply. later: the next prompt, which shows the reply as a part of the history. Content is
        taken to the character; where the template shows it with other white space around it, as shown. Tool calls and
        reasoning kept apart are written the template's way.
        """
        thinking = step.reasoning if self.thinking else None
        plain = not step.tool_calls and not thinking
        shown = self._shown(prompt, later) if plain and later else None
        if shown is None:
            said = {**messages[-1], **({"reasoning_content": thinking} if thinking else {})}
            whole = self._render([[*messages[:-1], said]], tools, generation_prompt=False)[0]
            shown = self._shown(prompt, whole)
        if plain:
            return shown if shown is not None and shown.strip() == step.content.strip() else step.content
        if shown is None or step.content.strip() not in shown:
            raise RenderError(
                f"step {step.index}: the template does not write the reply behind its generation prompt; try another "
                "template option (say enable_thinking), or another template"
            )
        return shown

    def _shown(self, prompt: str, text: str) -> str | None:
        """The turn that stands behind the prompt in a text."""
        end = text.find(self.end_text, len(prompt))
        return text[len(prompt) : end] if text.startswith(prompt) and end >= 0 else None

    def _turn(self, step: Step, context: str, reply: str) -> Turn:
        return Turn(step.index, context, reply, action_span(step, reply), step.finish_reason != "length")

    def _tokenized(self, turns: list[Turn], encoded: Iterator[tuple[Encoding, Encoding]]) -> TokenizedRow:
        """A row from its turns; `encoded` gives (context, reply) of each turn."""
        row = RowBuilder()
        for turn in turns:
            context, reply = next(encoded)
            row.add_context(context.ids)
            row.add_reply(turn.step, reply.ids, _action_tokens(reply, turn.action))
            if turn.ends:
                row.add_end(turn.step, self.end_ids)
            elif turn is not turns[-1]:
                row.add_context(self.end_ids)  # the next prompt shows it, and the model did not write it
        return row.tokenized("rendered")

    # ---- from sampled ids ----

    def _samples_are_ours(self, trajectory: Trajectory) -> bool:
        """Whether this tokenizer is the one that was sampled with: its text of the ids holds the reply."""
        return all(
            max(step.token_ids or ()) < len(self.tokenizer) and step.content in self._decode(step.token_ids or ())
            for step in trajectory.steps
        )

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
            stopped = sampled[-1] == self.end_id
            said = sampled[:-1] if stopped else sampled
            row.add_reply(step.index, said, self._sampled_action(step, said))
            if stopped or step.finish_reason == "stop":
                # A server may keep the token that ended the turn to itself; the next prompt shows it.
                row.add_end(step.index, [self.end_id])
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
