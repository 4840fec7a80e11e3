"""A run in text, step by step: what the model was asked, and what it wrote, as the chat template writes it.

Reads a `PreparedRun`; writes nothing. Exact whatever a template does, and quadratic in the length of the run:
`one_pass.py` gives the same for templates that only append, at the price of three renderings.

    rows = step_by_step(prepared, remarks)
    rows[0][0].context, rows[0][0].reply, rows[0][0].end     # '...<|im_start|>assistant\n', 'I look.', '<|im_end|>'

**The rule.** For every step k the template gives the prompt that a server shows, `prompt_k`. `reply_k` is what the
template writes behind it, from the first character after the generation prompt to the end of the turn, as the next
prompt shows it: text, thinking and tool calls go the same way. Steps share a row as long as `prompt_k` begins with
everything that came before it; where it does not, a new row starts with the whole of `prompt_k`, and that is counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from srft.agent.formats import FORMATS
from srft.agent.formats.text import TextFormat
from srft.agent.records import Step
from srft.train.rows.prepare import PreparedRun
from srft.train.rows.template import MARK, Kind, Messages, RenderError, answers


class Turn(NamedTuple):
    """One step in text. context: what stands between the last turn's end and this reply.

    action: where the action is in the reply. ends: whether the model ended its turn; a reply cut off at its length
    limit did not. end: the text that the model ends its turn with. shown: what later prompts have in its place.
    spells_specials: the model wrote the text of a special token; else those in the reply are the template's own.
    """

    step: int
    context: str
    reply: str
    action: tuple[int, int] | None
    ends: bool
    end: str
    shown: str
    spells_specials: bool = False


class Said(NamedTuple):
    """A reply as the template writes it, and its end: as the model writes it, and as later prompts show it."""

    reply: str
    end: str
    shown: str


def step_by_step(run: PreparedRun, remarks: Counter[str]) -> list[list[Turn]]:
    """The turns, a list a row. Counts rewritten histories."""
    rows: list[list[Turn]] = []
    before = ""
    for step, place in zip(run.steps, run.places, strict=True):
        prompt = run.render(run.messages[:place], prompt=True)
        if not rows or not prompt.startswith(before):
            remarks["history_rewritten"] += bool(rows)
            rows.append([])
            before = ""
        said = reply_behind(run, step, place, prompt)
        rows[-1].append(turn_of(step, prompt[len(before) :], said))
        before = prompt + said.reply + said.shown
    return rows


def turn_of(step: Step, context: str, said: Said) -> Turn:
    """The turn; of a reply that was cut off before its text began, what the model wrote of it."""
    reply, shown, ends = said.reply, said.shown, step.finish_reason != "length"
    if not ends and not step.content and not step.tool_calls:
        # What the template writes behind the thinking is not the model's.
        thought = (step.reasoning or "").strip()
        written = reply.find(thought) + len(thought) if thought and thought in reply else 0
        reply, shown = reply[:written], reply[written:] + shown
    return Turn(step.index, context, reply, action_span(step, reply), ends, said.end, shown)


# ---- one reply ----


def reply_behind(run: PreparedRun, step: Step, place: int, prompt: str) -> Said:
    """The reply behind this prompt, in the first form that holds what the step says. Raises RenderError."""
    message = dict(run.messages[place])
    thought = run.thought(step)
    if thought and run.template.thinking_key:
        message[run.template.thinking_key] = step.reasoning
    forms: list[Callable[[PreparedRun, dict[str, Any], int, str], Said | None]] = [_as_history, _as_last, _alone]
    if thought or run.thinking == "empty":
        forms = [_as_last, _alone, _as_history]
    forms += [partial(_behind_opening, thought=thought), partial(_behind_header, thought=thought)]
    for form in forms:
        found = form(run, message, place, prompt)
        if found is not None and step.content.strip() in found.reply and thought in found.reply:
            return found
    raise RenderError(f"step {step.index}: {_why_not(run, message, place, thought)}")


def _why_not(run: PreparedRun, message: dict[str, Any], place: int, thought: str) -> str:
    """Why no form of a reply was found, and what to do."""
    try:
        run.render([*run.messages[:place], message], prompt=False)
    except RenderError as error:
        return f"{error}; set thinking=without or rows.calls=xml, or take another template"
    if thought and run.template.closes_thinking:
        options = run.template.option_that_opens_thinking()
        ways = [f"template.{name}={json.dumps(value)} (when serving too)" for name, value in (options or {}).items()]
        return "the chat template's generation prompt closes the thinking, and this run has some; set " + " or ".join(
            [*ways, "thinking=without"]
        )
    return (
        "the chat template does not write the reply behind its generation prompt; try another template option, another "
        "choice of thinking, or another template"
    )


def _as_history(run: PreparedRun, message: dict[str, Any], place: int, prompt: str) -> Said | None:
    """The reply as the next prompt shows it."""
    following = run.messages[place + 1 : place + 2] or _answer(message)
    role = following[0]["role"]
    asked = [*run.messages[:place], message]
    if role == "assistant":
        shown = run.try_render(asked, prompt=True)
    else:
        marked = run.try_render([*asked, {**following[0], "content": MARK}], prompt=False)
        shown = marked.split(MARK)[0] if marked is not None and MARK in marked else None
    ending = run.template.ending(kind_of(message), role)
    behind = ending.shown + ending.header
    if shown is None or not shown.startswith(prompt) or not shown[len(prompt) :].endswith(behind):
        return None
    return Said(shown[len(prompt) : len(shown) - len(behind)], ending.written, ending.shown)


def _as_last(run: PreparedRun, message: dict[str, Any], place: int, prompt: str) -> Said | None:
    """The reply as the template writes it at the end of a conversation."""
    shown = run.try_render([*run.messages[:place], message], prompt=False)
    following = run.messages[place + 1 : place + 2] or _answer(message)
    ending = run.template.ending(kind_of(message), following[0]["role"])
    if shown is None or not shown.startswith(prompt) or not shown[len(prompt) :].endswith(ending.last):
        return None
    return Said(shown[len(prompt) : len(shown) - len(ending.last)], ending.written, ending.shown)


def _alone(run: PreparedRun, message: dict[str, Any], place: int, prompt: str) -> Said | None:
    """The reply as the template writes it right behind the task, for templates that rewrite what came before."""
    for head in (run.messages[: run.places[0]], [{"role": "user", "content": MARK}]):
        asked, bare = run.try_render(head, prompt=True), run.try_render(head, prompt=False)
        if asked is None or bare is None or not asked.startswith(bare) or not prompt.endswith(asked[len(bare) :]):
            continue
        alone = run._replace(messages=[*head, message, *run.messages[place + 1 : place + 2]], places=[len(head)])
        if found := _as_last(alone, message, len(head), asked):
            return found
    return None


def _behind_opening(run: PreparedRun, message: dict[str, Any], place: int, prompt: str, *, thought: str) -> Said | None:
    """The reply of a template that opens thinking in its prompt and never writes any: the tag is closed here."""
    opening = run.template.opening_in(prompt)
    if opening is None:
        return None
    before, tag, space = opening
    bare = {key: value for key, value in message.items() if key != run.template.thinking_key}
    found = _as_history(run, bare, place, before) or _as_last(run, bare, place, before)
    if found is None:
        return None
    if found.reply.startswith(tag):
        return None if thought else found._replace(reply=found.reply[len(tag) :])
    closing = tag.replace("START", "END") if "START" in tag else f"{tag[0]}/{tag[1:]}"
    return found._replace(reply=f"{thought}{space}{closing}{space * 2}{found.reply}")


def _behind_header(run: PreparedRun, message: dict[str, Any], place: int, prompt: str, *, thought: str) -> Said | None:
    """The reply of a template whose history begins it with another header than its generation prompt."""
    if thought or run.template.headers is None:
        return None
    asked, shown = run.template.headers
    if not asked or not prompt.endswith(asked):
        return None
    before = prompt.removesuffix(asked) + shown
    return _as_history(run, message, place, before) or _as_last(run, message, place, before)


def kind_of(message: dict[str, Any]) -> Kind:
    return "calls" if message.get("tool_calls") else "text"


def _answer(message: dict[str, Any]) -> Messages:
    """A message that could answer a reply."""
    return answers(message, "tool" if message.get("tool_calls") else "user", MARK)


# ---- what a text holds of a step ----


def check_turn(run: PreparedRun, step: Step, turn: Turn) -> Turn:
    """The turn, told whose its special tokens are. Raises RenderError where the reply lacks some of the step."""
    if not holds(step, turn.reply):
        raise RenderError(
            f"step {step.index}: the chat template does not write all of the reply (its text, the call's name and its "
            "arguments); set rows.calls=xml to write calls as text, or take another template"
        )
    found = run.template.special_tokens(turn.reply)
    if not found:
        return turn
    texts = [step.content, run.thought(step), *_texts(list(step.tool_calls))]
    written = sum(len(run.template.special_tokens(text)) for text in texts)
    if written and written < len(found):
        raise RenderError(
            f"step {step.index}: the reply spells a special token, and the chat template writes some of its own into "
            "it; which is which cannot be told, so leave the run out"
        )
    return turn._replace(spells_specials=written > 0)


def holds(step: Step, text: str) -> bool:
    """Whether a text holds all that a step says: its content, and each call's name and arguments."""
    if step.content.strip() not in text:
        return False
    for call in step.tool_calls:
        function = call.get("function") or {}
        arguments = function.get("arguments")
        try:
            values = list(_texts(json.loads(arguments) if isinstance(arguments, str) and arguments else arguments))
        except ValueError:
            values = []
        if str(function.get("name")) not in text:
            return False
        if not all(any(form in text for form in _forms(value)) for value in values):
            return False
    return True


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member)


def _forms(value: str) -> Iterator[str]:
    """The text as templates write it: trimmed, as JSON, as jinja's own JSON, as Python."""
    yield value.strip()
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield (text := json.dumps(value)[1:-1])
    for char in "<>&'":
        text = text.replace(char, f"\\u{ord(char):04x}")
    yield text
    for quote in "'\"":
        quoted = value.replace("\\", "\\\\").replace(quote, f"\\{quote}")
        yield quoted
        yield quoted.replace("\n", "\\n")
        yield value.replace(quote, f"\\{quote}")


_FENCED = re.compile(r"(`{3,})[\w-]*[^\S\n]*\n.*?\n?\1`*", re.DOTALL)


def action_span(step: Step, reply: str) -> tuple[int, int] | None:
    r"""Where the action is in a reply, its marks included; `None` where no action was read.

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
    if step.action.format in ("xml", "json"):  # from the first call on, where there are several
        text_format = FORMATS[step.action.format]
        assert isinstance(text_format, TextFormat)
        begin, end = text_format.span(reply)
        return (begin, end) if begin < end else (0, len(reply))
    found = list(_FENCED.finditer(reply))
    return found[-1].span() if found else (0, len(reply))
