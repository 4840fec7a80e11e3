"""The turns of a run whose template only appends, in three renderings, whatever the run's length.

Reads a `PreparedRun`; writes nothing.

    turns = OnePass().turns(prepared)       # the row that `step_by_step` gives, or None where that is not sure

The last prompt of the run is rendered as it is, and with a mark in the place of each message that is not the model's,
which shows where every turn lies. The last reply, which no prompt shows, is rendered by itself. That an earlier prompt
showed each turn as the last one does is looked up by the shape of the turns around it: every shape is tried once, right
behind its prompt and much later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from srft.train.rows.prepare import PreparedRun
from srft.train.rows.template import MARK, Messages, answers
from srft.train.rows.turns import Said, Turn, kind_of, reply_behind, turn_of

_NO_HEADERS = ("", "")


class _Later(NamedTuple):
    """Whether there is a message of the user, a reply without calls and one with calls."""

    user: bool
    text: bool
    calls: bool


class _Shape(NamedTuple):
    """What of the messages around a turn a template may look at besides their texts. later: what comes after it."""

    head: tuple[str, ...]
    between: tuple[Any, ...]
    turn: tuple[Any, ...]
    later: _Later
    tools: bool
    thinking: str


class OnePass:
    """What is known of the shapes of one renderer's runs.

    append: where the template's generation prompt ends otherwise than its history begins a reply (`headers`), the row
    keeps what each prompt ended with; else such a run has a row a step.
    """

    def __init__(self, *, append: bool = False) -> None:
        self._append = append
        self._headers: dict[tuple[int, tuple[str, str], _Shape], str | None] = {}

    def turns(self, run: PreparedRun) -> list[Turn] | None:
        """The turns of the one row; `None` where the template may do more than append."""
        if not run.steps or not _is_plain(run):
            return None
        turns = self._turns(run, _NO_HEADERS)
        if turns is None and self._append and run.template.headers not in (None, _NO_HEADERS):
            turns = self._turns(run, run.template.headers)
        return turns

    def _turns(self, run: PreparedRun, headers: tuple[str, str]) -> list[Turn] | None:
        """headers: what the generation prompt ends with and history has in its place, where that is to be kept."""
        asked, shown = headers
        whole = run.messages[: run.places[-1]]  # the last prompt of the run, which a server was asked
        marked = [message if message["role"] == "assistant" else {**message, "content": MARK} for message in whole]
        prompt, skeleton = run.try_render(whole, prompt=True), run.try_render(marked, prompt=True)
        if prompt is None or skeleton is None:
            return None
        real = prompt.removesuffix(asked) + shown
        pieces = (skeleton.removesuffix(asked) + shown).split(MARK)
        starts = _aligned(real, pieces, [m["content"] for m in whole if m["role"] != "assistant"])
        if starts is None:
            return None
        # The piece in which a turn stands: so many messages that are not the model's come before it.
        numbers = list(accumulate((message["role"] != "assistant" for message in whole), initial=0))
        later = _later(whole)
        turns, end = [], 0
        for step, place in zip(run.steps[:-1], run.places[:-1], strict=True):
            piece, header = pieces[numbers[place]], self._header(run, whole, later, place, headers)
            ending = run.template.ending(kind_of(whole[place]), whole[place + 1]["role"])
            behind = ending.shown + ending.header
            if header is None or not piece.startswith(header) or not piece[len(header) :].endswith(behind):
                return None
            reply = piece[len(header) : len(piece) - len(behind)]
            if run.thought(step) not in reply or (asked and reply.startswith(asked)):
                return None
            begin = starts[numbers[place]] + len(header)
            context = real[end:begin].removesuffix(shown) + asked
            turns.append(turn_of(step, context, Said(reply, ending.written, ending.shown)))
            end = begin + len(reply) + len(ending.shown)
        last = reply_behind(run, run.steps[-1], run.places[-1], prompt)
        return [*turns, turn_of(run.steps[-1], prompt[end:], last)]

    def _header(
        self, run: PreparedRun, whole: Messages, later: list[_Later], place: int, headers: tuple[str, str]
    ) -> str | None:
        """What stands before a reply, from the last text of its prompt on; `None` where a later prompt rewrites it.

        later: of each place, what comes from there on."""
        first = run.places[0]
        begin = first if place == first else _reply_before(whole, place)
        after = next((n for n in range(place + 1, len(whole)) if whole[n]["role"] == "assistant"), len(whole))
        shape = _Shape(
            head=tuple(message["role"] for message in whole[:first]),
            between=tuple(map(_shape_of, whole[begin:place])),
            turn=tuple(map(_shape_of, whole[place:after])),
            later=later[after],
            tools=bool(run.trajectory.tools),
            thinking=run.thinking,
        )
        key = (id(run.template), headers, shape)
        if key not in self._headers:
            before = [*whole[:first], *whole[begin:place]]
            self._headers[key] = _tried(run, before, whole[place:after], shape, headers)
        return self._headers[key]


def _is_plain(run: PreparedRun) -> bool:
    """Whether the messages as they were sent show each reply as it was, with a message between any two."""
    if run.thinking == "empty" or run.places[0] == 0:
        return False
    previous = ""
    for message in run.messages:
        if message["role"] == previous == "assistant" or not isinstance(message["content"], str):
            return False
        if any(text in message["content"] for text in run.template.looked_for):
            return False
        previous = message["role"]
    if run.thinking == "without":
        return True
    key = run.template.thinking_key or ""
    return all(
        (step.reasoning or None) == (run.messages[place].get(key) or None)
        for step, place in zip(run.steps[:-1], run.places[:-1], strict=True)
    )


def _later(messages: Messages) -> list[_Later]:
    """Of each place, and of the end, what comes from there on."""
    found = [_Later(user=False, text=False, calls=False)]
    for message in reversed(messages):
        after, calling = found[-1], bool(message.get("tool_calls"))
        found.append(
            _Later(
                user=after.user or message["role"] == "user",
                text=after.text or (message["role"] == "assistant" and not calling),
                calls=after.calls or calling,
            )
        )
    return found[::-1]


def _reply_before(whole: Messages, place: int) -> int:
    return next(n for n in range(place - 1, -1, -1) if whole[n]["role"] == "assistant")


def _shape_of(message: dict[str, Any]) -> tuple[Any, ...]:
    content = message["content"]
    return (
        message["role"],
        bool(content) if message["role"] == "assistant" else True,
        bool(content.strip()) if message["role"] == "assistant" else True,
        any(message.get(key) for key in ("reasoning_content", "reasoning", "thinking")),
        len(message.get("tool_calls") or ()),
    )


def _tried(run: PreparedRun, before: Messages, turn: Messages, shape: _Shape, headers: tuple[str, str]) -> str | None:
    """The header, if the turn reads the same right behind its prompt and much later."""
    window, said = _blank(before), _blank(turn)
    later: Messages = []
    if shape.later.calls:
        call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}
        calling = {"role": "assistant", "content": "", "tool_calls": [call]}
        later += run.template.styled([calling, *answers(calling, "tool", MARK)]) * 2
    if shape.later.user or shape.later.text:
        later += [{"role": "assistant", "content": "x"}, {"role": "user", "content": MARK}] * 2
    prompt = run.try_render(window, prompt=True)
    soon = run.try_render([*window, *said], prompt=True)
    late = run.try_render([*window, *said, *later], prompt=True)
    if prompt is None or soon is None or late is None:
        return None
    prompt = prompt.removesuffix(headers[0]) + headers[1]
    number = prompt.count(MARK)
    same = soon.split(MARK)[: number + 1] == late.split(MARK)[: number + 1]
    if not soon.startswith(prompt) or late.count(MARK) <= number or not same:
        return None
    return prompt.rsplit(MARK, 1)[-1]


def _blank(messages: Messages) -> Messages:
    """The messages with a mark, or a letter of the model's, in the place of their texts."""
    blank = []
    for message in messages:
        content = MARK
        if message["role"] == "assistant":
            content = "x" if message["content"].strip() else message["content"]
        blank.append({**message, "content": content})
    return blank


def _aligned(real: str, pieces: list[str], contents: list[str]) -> list[int] | None:
    """Where each piece begins in the real text; `None` where contents between them do not make it up."""
    if len(pieces) != len(contents) + 1 or not real.startswith(pieces[0]):
        return None
    starts, place = [0], len(pieces[0])
    for piece, content in zip(pieces[1:], contents, strict=True):
        for text in _shown(content):
            if real.startswith(text, place) and real.startswith(piece, place + len(text)):
                break
        else:
            return None
        starts.append(place + len(text))
        place = starts[-1] + len(piece)
    return starts if place == len(real) else None


def _shown(content: str) -> Iterator[str]:
    """The text as templates write it."""
    yield content
    yield content.strip()
    yield content.rstrip()
    yield content.lstrip("\n")
    yield json.dumps(content, ensure_ascii=False)
