"""What is trained of a reply, against TRL's training templates: an oracle that is not ours.

For each model family TRL has two chat templates: the one that servers use, and one for training, in which
`{% generation %}` marks what carries loss. Runs of every kind are rendered by `Renderer` with the server's template and
by TRL's with its marks; for every step the text before the reply (`prompt`) and the reply (`trained`) are compared, and
the token ids of the reply with those that the tokenizer gives its text.

Differences that are somebody's choice are in `trl_differences.yaml`, each with its reason. The test fails on a
difference that is not there and on one there that does not occur; what it prints then can be pasted there.

SRFT_BENCH_TRL names a virtual environment that has TRL, as for the benchmarks; without it, `.venv-bench-trl`.
"""

import fnmatch
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pytest
import yaml
from transformers.utils.chat_template_utils import render_jinja_template

from srft.agent.records import Action, Step, Trajectory
from srft.env.errors import InputError
from srft.train.rows.mask import Part
from srft.train.rows.render import Renderer
from tests.conftest import ROOT
from tests.train.byte_tokenizer import byte_tokenizer

TABLE = yaml.safe_load(Path(__file__).with_name("trl_differences.yaml").read_text(encoding="utf-8"))
FAMILIES: dict[str, dict[str, Any]] = TABLE["families"]
GAP = "[not trained]"
"""Stands where TRL marks several pieces of one reply, with text of the template between them."""

TOOLS = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": list(properties)},
        },
    }
    for name, description, properties in (
        ("bash", "Runs a command.", {"command": {"type": "string", "description": "The command."}}),
        ("submit", "Hands the work in.", {}),
    )
)


class Reply(NamedTuple):
    """One reply of a made-up run. calls: how many tool calls; the replies after it get as many results."""

    text: str = ""
    thinking: str | None = None
    calls: int = 0


LOOK, FIX, DONE = "I look at it.", "Now I fix it.", "It is fixed."
HM, AH, OH = "Where is it?", "There it is.\nA typo.", "All good."
RUNS: dict[str, list[Reply]] = {
    "text": [Reply(DONE)],
    "texts": [Reply(LOOK), Reply(FIX), Reply(DONE)],
    "thinking": [Reply(DONE, OH)],
    "thinkings": [Reply(LOOK, HM), Reply(FIX, AH), Reply(DONE, OH)],
    "call": [Reply(calls=1)],
    "text_call": [Reply(LOOK, calls=1)],
    "two_calls": [Reply(calls=2)],
    "text_two_calls": [Reply(LOOK, calls=2)],
    "calls": [Reply(calls=1), Reply(calls=1), Reply(calls=1)],
    "calls_then_text": [Reply(calls=1), Reply(calls=2), Reply(DONE)],
    "text_calls": [Reply(LOOK, calls=1), Reply(FIX, calls=1), Reply(DONE, calls=1)],
    "thinking_call": [Reply("", HM, 1)],
    "thinking_text_call": [Reply(LOOK, HM, 1)],
    "thinking_calls": [Reply("", HM, 1), Reply("", AH, 2), Reply("", OH, 1)],
    "thinking_text_calls": [Reply(LOOK, HM, 1), Reply(FIX, AH, 1), Reply(DONE, OH, 1)],
    "thinking_calls_then_text": [Reply("", HM, 1), Reply("", AH, 1), Reply(DONE, OH)],
    "white_space": [Reply("\n I look at it. \n", calls=1), Reply("\n It is fixed. \n")],
    "think_tags_in_the_text": [
        Reply(f"<think>\n{HM}\n</think>\n\n{LOOK}"),
        Reply(f"<think>\n{OH}\n</think>\n\n{DONE}"),
    ],
    "thinking_now_and_then": [Reply(LOOK, HM, 1), Reply("", None, 1), Reply(DONE, OH, 1)],
}


def run_of(replies: list[Reply], *, system: bool) -> Trajectory:
    """The run as an episode stores it: arguments as JSON text, thinking sent back with the history."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You fix software."}] if system else []
    messages.append({"role": "user", "content": "Fix the bug."})
    steps = []
    for number, reply in enumerate(replies):
        calls = [_call(number, place) for place in range(reply.calls)]
        results = [f"output {number}.{place}" for place in range(reply.calls)] or ["Go on."]
        said = {"role": "assistant", "content": reply.text}
        said |= {"reasoning_content": reply.thinking} if reply.thinking else {}
        messages.append(said | ({"tool_calls": calls} if calls else {}))
        last = number == len(replies) - 1
        if not last and calls:
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": result}
                for call, result in zip(calls, results, strict=True)
            ]
        elif not last:
            messages.append({"role": "user", "content": results[0]})
        steps.append(
            Step(
                index=number,
                content=reply.text,
                reasoning=reply.thinking,
                tool_calls=tuple(calls),
                action=Action(tool="bash", arguments={"command": "ls"}, format="native") if calls else None,
                observation=None if last else "\n".join(results),
            )
        )
    return Trajectory(
        id="run",
        task_id="a__b-1",
        repo="a/b",
        model="m",
        sampling={},
        scaffold="test",
        prompt="test",
        seed=None,
        attempt=0,
        messages=tuple(messages),
        steps=tuple(steps),
        patch=None,
        stop_reason="submitted",
        tools=TOOLS if any(reply.calls for reply in replies) else (),
    )


def _call(number: int, place: int) -> dict[str, Any]:
    arguments = {"command": f"sed -i 's/a{number}/b{place}/' \"x.py\" && ls <dir>"}
    function = {"name": "bash", "arguments": json.dumps(arguments)}
    return {"id": f"call{number:03}{place:02}", "type": "function", "function": function}


class Span(NamedTuple):
    """One step: all the text before what is trained, and what is trained.

    tokens: those that the tokenizer gives the text, special tokens included, and that are not among ours.
    """

    prompt: str
    trained: str
    tokens: str = ""


def ours(renderer: Renderer, run: Trajectory) -> list[Span]:
    """What `Renderer` trains. Its ids are to be those of the text, special tokens included."""
    backend = renderer.tokenizer.backend_tokenizer
    spans = []
    for row in renderer.render(run).rows:
        for step in sorted(set(row.step_index.tolist()) - {-1}):
            places = ((row.step_index == step) & (row.part != Part.CONTEXT)).nonzero()[0].tolist()
            assert places == list(range(places[0], places[-1] + 1)), "a step is trained in one piece"
            ids = row.input_ids.tolist()
            said = ids[places[0] : places[-1] + 1]
            text = backend.decode(said, skip_special_tokens=False)
            wanted = backend.encode(text, add_special_tokens=False).ids
            missing = Counter(wanted) - Counter(said)
            tokens = " ".join(sorted(str(backend.id_to_token(token)) for token in missing))
            spans.append(Span(backend.decode(ids[: places[0]], skip_special_tokens=False), text, tokens))
    return spans


def theirs(template: str, run: Trajectory, settings: dict[str, Any]) -> list[Span]:
    """What TRL trains: the marked pieces of each reply, in the rendering of the whole run."""
    messages = [_for_trl(message, settings) for message in run.messages]
    text, pieces = _marked(template, messages, run.tools, settings)
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    spans, before = [], 0
    for following in [*places[1:], len(messages)]:
        until = len(_marked(template, messages[:following], run.tools, settings)[1])
        mine = pieces[before:until]
        joined = "".join(
            (GAP if number and begin > mine[number - 1][1] else "") + text[begin:end]
            for number, (begin, end) in enumerate(mine)
        )
        spans.append(Span(text[: mine[0][0]] if mine else text, joined))
        before = until
    return spans


def _for_trl(message: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    shaped = dict(message)
    if settings.get("parts"):
        shaped["content"] = [{"type": "text", "text": message["content"]}]
    if thinking := shaped.get("reasoning_content"):
        shaped[settings.get("thinking", "reasoning_content")] = thinking
    if calls := message.get("tool_calls"):
        shaped["content"] = shaped["content"] or settings.get("no_text", "")
        shaped["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in calls
        ]
    return shaped


def _marked(
    template: str, messages: list[dict[str, Any]], tools: tuple[dict[str, Any], ...], settings: dict[str, Any]
) -> tuple[str, list[tuple[int, int]]]:
    rendered, pieces = render_jinja_template(
        [messages],
        tools=list(tools) or None,
        chat_template=template,
        return_assistant_tokens_mask=True,
        bos_token=settings.get("bos", ""),
        eos_token=settings["eos"],
        **settings.get("options", {}),
    )
    return rendered[0], [piece for piece in pieces[0] if piece[0] < piece[1]]


# ---- differences ----


class Difference(NamedTuple):
    """what: "trained" or "prompt", and at: its "start", "middle" or "end"; or one of those that have no place:

    "border", where one side trains what ends the prompt of the other (shown as what the one trains); "replies", where
    there are not as many; "tokens", those of the text that ours has not; and "refused".
    ours, theirs: the texts that differ there, or the messages of a refusal: in the table, a part of them.
    """

    what: str
    at: str
    ours: str
    theirs: str


_PIECES = re.compile(re.escape(GAP) + r"|<[^<>\s]+>|\w+|.", re.DOTALL)


def differences(mine: list[Span] | str, other: list[Span] | str) -> set[Difference]:
    """How two renderings differ; a text in the place of spans is the message of a refusal."""
    if isinstance(mine, str) or isinstance(other, str):
        refusals = [side if isinstance(side, str) else "" for side in (mine, other)]
        return {Difference("refused", "", *refusals)}
    if len(mine) != len(other):
        return {Difference("replies", "", str(len(mine)), str(len(other)))}
    return {difference for pair in zip(mine, other, strict=True) for difference in _of_span(*pair)}


def _of_span(mine: Span, other: Span) -> set[Difference]:
    found = [Difference("prompt", *hunk) for hunk in _hunks(mine.prompt, other.prompt)]
    said, marked = mine.trained, other.trained
    match found:
        case [*_, Difference(at="end", ours=moved, theirs="")] if marked.startswith(moved):
            found[-1], marked = Difference("border", "", "", moved), marked.removeprefix(moved)
        case [*_, Difference(at="end", ours="", theirs=moved)] if said.startswith(moved):
            found[-1], said = Difference("border", "", moved, ""), said.removeprefix(moved)
    if mine.tokens:
        found.append(Difference("tokens", "", "", mine.tokens))
    return {*found, *(Difference("trained", *hunk) for hunk in _hunks(said, marked))}


def _hunks(mine: str, other: str) -> list[tuple[str, str, str]]:
    """The places at which two texts differ, as (at, mine, other)."""
    if mine == other:
        return []
    a, b = _PIECES.findall(mine), _PIECES.findall(other)
    codes = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    return [
        ("end" if codes[number:] == [code] else "middle" if number else "start", "".join(a[i:j]), "".join(b[k:m]))
        for number, code in enumerate(codes)
        for kind, i, j, k, m in [code]
        if kind != "equal"
    ]


def known(family: str) -> dict[Difference, set[str]]:
    """The table's differences of a family, and the runs in which each occurs."""
    found: dict[Difference, set[str]] = defaultdict(set)
    for entry in TABLE["differences"]:
        if family in entry["where"]:
            difference = Difference(*(entry.get(key, "") for key in Difference._fields))
            patterns = entry["where"][family].split()
            assert all(fnmatch.filter(RUNS, pattern) for pattern in patterns), f"{family}: {patterns}"
            found[difference] |= {name for pattern in patterns for name in fnmatch.filter(RUNS, pattern)}
    return dict(found)


def as_known(difference: Difference, expected: Iterable[Difference]) -> Difference:
    """A refusal as the table has it, in few words; other differences as they are."""
    if difference.what == "refused":
        for short in expected:
            same_side = bool(short.ours) == bool(difference.ours) and bool(short.theirs) == bool(difference.theirs)
            if (
                short.what == "refused"
                and same_side
                and short.ours in difference.ours
                and short.theirs in difference.theirs
            ):
                return short
    return difference


@pytest.fixture(scope="session")
def templates() -> Path:
    environment = Path(os.environ.get("SRFT_BENCH_TRL") or ROOT / ".venv-bench-trl")
    folders = sorted(environment.glob("lib/python*/site-packages/trl/chat_templates"))
    if not folders:
        pytest.skip(f"no TRL in {environment.name} (`make bench` makes it; SRFT_BENCH_TRL names another environment)")
    return folders[0]


def compare(templates: Path, family: str) -> dict[Difference, set[str]]:
    """The differences of a family, and the runs in which each occurs."""
    settings = FAMILIES[family]
    serving = (templates / f"{family}.jinja").read_text(encoding="utf-8")
    marked = templates / f"{family}_training.jinja"
    training = marked.read_text(encoding="utf-8") if marked.exists() else serving
    tokenizer = byte_tokenizer(serving)
    named = {f"{name}_token": settings[name] for name in ("bos", "eos") if name in settings}
    tokenizer.add_special_tokens({"additional_special_tokens": settings.get("special", "").split(), **named})
    found: dict[Difference, set[str]] = defaultdict(set)
    for name, replies in RUNS.items():
        thinks = any(reply.thinking or "</think>" in reply.text for reply in replies)
        options = settings.get("thinking_options" if thinks else "options")
        choice = None if thinks else settings.get("without_thinking")
        run = run_of(replies, system=settings.get("system", True))
        mine: list[Span] | str
        other: list[Span] | str
        try:
            mine = ours(Renderer(tokenizer, options=options, thinking=choice), run)
        except InputError as error:
            mine = str(error)
        try:
            other = theirs(training, run, settings | {"options": options or {}})
        except (jinja2.TemplateError, TypeError) as error:
            other = str(error)
        for difference in differences(mine, other):
            found[difference].add(name)
    return dict(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_trains_what_trl_trains(templates: Path, family: str) -> None:
    expected = known(family)
    found: dict[Difference, set[str]] = defaultdict(set)
    for difference, runs in compare(templates, family).items():
        found[as_known(difference, expected)] |= runs
    new = {difference: runs - expected.get(difference, set()) for difference, runs in found.items()}
    gone = {difference: runs - found.get(difference, set()) for difference, runs in expected.items()}
    assert not (shown := _shown(family, new)), f"not in trl_differences.yaml:\n{shown}"
    assert not (shown := _shown(family, gone)), f"in trl_differences.yaml, and does not occur:\n{shown}"


def _shown(family: str, runs_by_difference: dict[Difference, set[str]]) -> str:
    """Entries as they are written in the table."""
    lines = []
    for difference, runs in sorted(runs_by_difference.items()):
        if runs:
            lines += ["- reason: TODO"]
            lines += [
                f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in difference._asdict().items()
            ]
            lines += [f"  where: {{{family}: {' '.join(name for name in RUNS if name in runs)}}}"]
    return "\n".join(lines)


def test_every_family_of_trl_is_compared(templates: Path) -> None:
    marked = {
        path.stem
        for path in templates.glob("*.jinja")
        if "{%- generation" in (text := path.read_text()) or "{% generation" in text
    }
    assert {name.removesuffix("_training") for name in marked} == set(FAMILIES)


def test_a_difference_is_found_and_named() -> None:
    mine = [Span("<|user|>Fix it.<|assistant|><think>\n", "\n</think>\n\nIt is fixed.<|end|>")]
    other = [Span("<|user|>Fix that.<|assistant|>", "<think>\n\n</think>\n\nIt is mended.<|end|>\n")]
    assert differences(mine, mine) == set()
    assert differences(mine, other) == {
        Difference("prompt", "middle", "it", "that"),
        Difference("border", "", "", "<think>\n"),
        Difference("trained", "middle", "fixed", "mended"),
        Difference("trained", "end", "", "\n"),
    }
    assert differences(other, mine) >= {Difference("border", "", "<think>\n", "")}
    assert differences("no tool calls", mine) == {Difference("refused", "", "no tool calls", "")}
    assert differences([], mine) == {Difference("replies", "", "0", "1")}


def test_pieces_of_one_reply_are_joined_with_the_gap_between_them() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<a>{% generation %}{{ m.content }}{% endgeneration %}"
        "<gap>{% generation %}<end>{% endgeneration %}{% else %}<u>{{ m.content }}{% endif %}{% endfor %}"
    )
    run = run_of([Reply(LOOK), Reply(DONE)], system=False)
    assert theirs(template, run, {"eos": "<end>"}) == [
        Span("<u>Fix the bug.<a>", f"{LOOK}{GAP}<end>"),
        Span(f"<u>Fix the bug.<a>{LOOK}<gap><end><u>Go on.<a>", f"{DONE}{GAP}<end>"),
    ]
