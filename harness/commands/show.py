"""`srft show`: a run in the terminal, its verdicts and weights, its coloured tokens."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from srft.env.errors import InputError
from srft.harness.commands.options import CriticsOption, JsonOption, RoundOption, RunOption, ids, print_json, required

if TYPE_CHECKING:
    from srft.agent.records import Step
    from srft.harness.look.show import Shown
    from srft.train.rows.show import Piece

_VERDICTS = {"good": "green", "unnecessary": "yellow", "mistake": "red", "recover": "cyan", None: "dim"}
_HEAD_LINES, _TAIL_LINES = 12, 6
_OBSERVATION_LINES = 3
_LINE_CHARS = 400
# Two shades each, so that neighbouring tokens are told apart.
_SHADES = {
    "context": ("grey42", "grey58"),
    "trained": ("green3", "spring_green3"),
    "masked": ("strike white on red3", "strike white on dark_red"),
}
_END = "⏹"


def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="A run's id or its beginning, a task, or task#attempt.")],
    run: RunOption = None,
    arm: Annotated[
        str | None, typer.Option("--arm", metavar="ARM", help="Whose mask; where one alone has rows, that one.")
    ] = None,
    critic: CriticsOption = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="The token rows, coloured by their weights.")] = False,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="DIR|NAME", help="Where the rows' tokenizer is now.")
    ] = None,
    step: Annotated[str | None, typer.Option("--step", metavar="N|N-M", help="These steps alone, and whole.")] = None,
    round_number: RoundOption = None,
    json: JsonOption = False,
) -> None:
    """Show a run: each step with every critic's verdict and what an arm trains of it; --tokens: its token rows.

    In colour: green is trained, red is masked, grey is context, in between weighted. Without colour: {+trained+},
    [-masked-], {0.5:weighted}. What an agent wrote or saw is printed inert: control characters are shown as symbols.

    Example: `srft show --run runs/first --arm srft django__django-11099#1`
    """
    from srft.harness.look.show import find_run

    steps = _range(step)
    shown = find_run(required(run, "--run"), name, arm=arm, critics=ids(critic) or (), round_number=round_number)
    if steps is not None and steps.stop > len(shown.trajectory.steps):
        raise InputError(f"--step {step}: expected steps 0 to {len(shown.trajectory.steps) - 1}")
    console = Console(markup=False, highlight=False, emoji=False)
    if json:
        print_json(_as_json(shown, steps, tokens=tokens, tokenizer=tokenizer))
    elif tokens:
        _print_rows(console, shown, steps, tokenizer)
    else:
        _print_run(console, shown, steps)


def _range(step: str | None) -> range | None:
    """The steps asked for; `None`: all of them. Raises InputError.

    >>> _range("3"), _range("2-4")
    (range(3, 4), range(2, 5))
    """
    if step is None:
        return None
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", step.strip())
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise InputError(f"--step {step}: expected a number, or two as in 3-7")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


# ---- steps ----


def _print_run(console: Console, shown: "Shown", steps: range | None) -> None:
    run = shown.trajectory
    title = f"{run.task_id}#{run.attempt}  {run.id}  {run.model}  {shown.round_.path.name}"
    console.print(Text(_inert(title), "bold"), soft_wrap=True)
    for step in run.steps:
        if steps is None or step.index in steps:
            _print_step(console, shown, step, whole=steps is not None)
    console.print()
    for line in _summary(shown):
        console.print(Text(line, "bold"), soft_wrap=True)


def _print_step(console: Console, shown: "Shown", step: "Step", *, whole: bool) -> None:
    head = Text(f"\n── step {step.index}", "bold")
    for fact in _facts(shown, step):
        head.append(f"  {fact}", "not bold")
    console.print(head, soft_wrap=True)
    for given in shown.verdicts.get(step.index, []):
        console.print(_verdict(given), soft_wrap=True)
    parts = ((_thinking(shown), step.reasoning, "italic"), ("", step.content, ""), ("", _calls(step), "bold"))
    for title, text, style in parts:
        if text:
            console.print(Text(_folded(f"{title}: {text}" if title else text, whole=whole), style), soft_wrap=True)
    if step.observation is not None:
        lines = None if whole else (_OBSERVATION_LINES, _OBSERVATION_LINES)
        console.print(Text(_indented(_folded(step.observation, whole=whole, lines=lines)), "dim"), soft_wrap=True)


def _facts(shown: "Shown", step: "Step") -> Iterator[str]:
    if shown.mask and (mask := shown.mask.step(step.index)):
        yield f"{mask.words}{f' ({mask.why})' if mask.why and mask.state != 'masked' else ''}"
        if mask.later:
            yield f"{mask.later} once the rows are made again"
    if step.author != "model":
        yield f"{'written' if step.author == 'human' else 'edited'} by a person"
    if step.exit_code is not None:
        yield f"exit {step.exit_code}"
    if step.timed_out:
        yield "timed out"
    if step.wall_s is not None:
        yield f"{step.wall_s:.1f} s"
    if step.error:
        yield f"{step.error} error"


def _thinking(shown: "Shown") -> str:
    """The title of a step's thinking: whether it is trained."""
    untrained = {"left_out": "in no row, so not trained", "masked": "not trained"}
    note = untrained.get(shown.mask.thinking or "") if shown.mask and not shown.mask.left_out else None
    return f"thinking ({note})" if note else "thinking"


def _verdict(given: Any) -> Text:
    label = given.label
    confidence = "" if label.confidence is None else f" {label.confidence:.2f}"
    source = "by a person" if given.source == "human" else ""
    text = Text("   ")
    text.append(f"{label.verdict or 'abstained'}{confidence}", _VERDICTS[label.verdict])
    text.append(f"  {_inert(given.critic)}", "bold magenta" if source else "dim")
    if source:
        text.append(f" ({source})", "bold magenta")
    if label.reason:
        text.append(f"  {_inert(' '.join(label.reason.split()))}")
    return text


def _calls(step: "Step") -> str:
    functions = [call.get("function") or {} for call in step.tool_calls]
    return "\n".join(f"{function.get('name')}({function.get('arguments')})" for function in functions)


def _folded(text: str, *, whole: bool, lines: tuple[int, int] | None = (_HEAD_LINES, _TAIL_LINES)) -> str:
    """The text, inert; of a long one the head and the tail."""
    text = _inert(text.rstrip("\n"))
    if whole or lines is None:
        return text
    head, tail = lines
    rows = text.split("\n")
    if len(rows) > head + tail + 1:
        rows = [*rows[:head], f"    … {len(rows) - head - tail} lines …", *rows[-tail:]]
    return "\n".join(
        row if len(row) <= _LINE_CHARS else f"{row[:_LINE_CHARS]} … {len(row):,} characters" for row in rows
    )


def _indented(text: str) -> str:
    return "\n".join(f"  │ {row}" for row in text.split("\n"))


def _inert(text: str) -> str:
    from srft.train.rows.show import inert

    return inert(text)


def _summary(shown: "Shown") -> Iterator[str]:
    from srft.harness.run.trained import rows_command

    run = shown.trajectory
    outcome = {True: "resolved", False: "not resolved", None: "outcome not known"}[shown.outcome]
    detail = f" ({_inert(run.detail)})" if run.detail else ""
    yield f"{outcome}; stopped: {run.stop_reason}{detail}; steps: {len(run.steps)}"
    if shown.mask is None:
        yield "no arm: --arm shows what one trains"
        return
    command = rows_command(shown.round_, shown.arm)
    if not shown.mask.is_on_file:
        yield _not_on_file(shown, command)
    if shown.mask.is_stale:
        yield f"the rows are older than the labels or the outcome; made again they would {shown.mask.later}: {command}"
    tokens = sum(row.trained_tokens for row in shown.rows)
    trained = f"; trained tokens: {tokens:,}, rows: {len(shown.rows)}" if shown.mask.is_on_file else ""
    yield f"arm {shown.arm}: {shown.mask.summary()}{trained}"


def _not_on_file(shown: "Shown", command: str) -> str:
    if shown.other_critics:
        return f"the rows on file use the labels of {', '.join(shown.other_critics)}; this is what others would do"
    return f"not in rows yet: this is what the arm would do. Make the rows: {command}"


# ---- tokens ----


def _print_rows(console: Console, shown: "Shown", steps: range | None, tokenizer: str | None) -> None:
    from srft.train.rows.show import figures, pieces

    backend = _tokenizer(shown, tokenizer)
    assert shown.table is not None
    if not shown.rows:
        left_out = shown.mask and shown.mask.left_out_words
        reason = left_out or "every row was dropped; the steps above say why: srft show without --tokens"
        console.print(f"{shown.trajectory.id}: no rows in {shown.table.folder} ({reason})", soft_wrap=True)
    for number, one in enumerate(figures(shown.rows, shown.table.manifest.settings)):
        began = f"; new row: {one.split.replace('_', ' ')}" if one.split else ""
        line = (
            f"row {number}: steps {one.steps[0]} to {one.steps[1]}; {one.tokens:,} tokens, {one.trained:,} trained, "
            f"{one.masked:,} masked; {one.mask_source}{began}"
        )
        console.print(Text(line, "bold"), soft_wrap=True)
        chosen = (piece for piece in pieces(shown.rows[number], backend) if _in_steps(piece, steps))
        console.print(_coloured(chosen) if console.color_system else Text(_marked(chosen)), soft_wrap=True)


def _in_steps(piece: "Piece", steps: range | None) -> bool:
    """All of a row, or the replies of the steps asked for."""
    return steps is None or piece.step in steps


def _tokenizer(shown: "Shown", named: str | None) -> Any:
    """The rows' tokenizer. Raises InputError where there are no rows, or the tokenizer is another."""
    from srft.harness.run.trained import arms_on_file, rows_command
    from srft.train.rows.render import Renderer

    if shown.table is None:
        made = arms_on_file(shown.round_)
        if shown.arm is None and made:
            raise InputError(f"--tokens: rows were made of the arms {', '.join(made)}; choose one with --arm")
        command = rows_command(shown.round_, shown.arm)
        raise InputError(f"--tokens: no rows{f' of the arm {shown.arm}' if shown.arm else ''}; make them: {command}")
    manifest = shown.table.manifest
    renderer = Renderer.load(named or manifest.tokenizer)
    if renderer.vocabulary != manifest.vocabulary:
        raise InputError(
            f"--tokenizer {named or manifest.tokenizer}: not that of the rows in {shown.table.folder}; name theirs"
        )
    return renderer.tokenizer.backend_tokenizer  # type: ignore[attr-defined]


def _coloured(chosen: "Iterator[Piece]") -> Text:
    text = Text()
    for number, piece in enumerate(chosen):
        text.append(_printed(piece), _style(piece, number % 2))
    return text


def _style(piece: "Piece", shade: int) -> str:
    if piece.kind != "trained" or piece.weight == 1:
        return _SHADES[piece.kind][shade]
    if piece.weight > 1:
        return ("bold bright_cyan", "bold cyan")[shade]
    green = int(80 + 150 * piece.weight)
    return f"rgb({230 - shade * 40},{green},{40 + shade * 20})"  # from orange to yellow as the weight grows


def _printed(piece: "Piece") -> str:
    return f"{_END if piece.ends_turn else ''}{_inert(piece.text)}"


def _marked(chosen: "Iterator[Piece]") -> str:
    """For a terminal without colours, or a file: neighbours of one weight in marks."""
    marked = groupby(chosen, key=_marks)
    return "".join(f"{opening}{''.join(map(_printed, group))}{closing}" for (opening, closing), group in marked)


def _marks(piece: "Piece") -> tuple[str, str]:
    if piece.kind == "trained":
        return ("{+", "+}") if piece.weight == 1 else (f"{{{piece.weight:g}:", "}")
    return ("[-", "-]") if piece.kind == "masked" else ("", "")


# ---- JSON ----


def _as_json(shown: "Shown", steps: range | None, *, tokens: bool, tokenizer: str | None) -> dict[str, Any]:
    import msgspec

    run, mask = shown.trajectory, shown.mask
    content: dict[str, Any] = {
        "id": run.id,
        "task_id": run.task_id,
        "attempt": run.attempt,
        "model": run.model,
        "round": shown.round_.path.name,
        "resolved": shown.outcome,
        "stop_reason": run.stop_reason,
        "arm": shown.arm,
        "in_rows": bool(mask and mask.is_on_file),
        "left_out": mask and mask.left_out,
        "steps_masked": mask and mask.masked,
        "steps_by_mask": mask and mask.counts,
        "thinking": mask and mask.thinking,
        "rows_stale": bool(mask and mask.is_stale),
        "trained_tokens": None if shown.table is None else sum(row.trained_tokens for row in shown.rows),
        "steps": [
            {
                **msgspec.to_builtins(step),
                **_mask_as_json(mask, step.index),
                "verdicts": [
                    {"critic": given.critic, "source": given.source, **msgspec.to_builtins(given.label)}
                    for given in shown.verdicts.get(step.index, [])
                ],
            }
            for step in run.steps
            if steps is None or step.index in steps
        ],
    }
    if tokens:
        content["rows"] = _rows_as_json(shown, steps, tokenizer)
    return content


def _mask_as_json(mask: Any, step: int) -> dict[str, Any]:
    """weight: as in the rows, or as the arm would give it. mask: trained, masked, or why neither."""
    of_step = mask and mask.step(step)
    return {"weight": of_step.weight if of_step else None, "mask": of_step.state if of_step else None}


def _rows_as_json(shown: "Shown", steps: range | None, tokenizer: str | None) -> list[dict[str, Any]]:
    from srft.train.rows.show import figures, pieces

    backend = _tokenizer(shown, tokenizer)
    assert shown.table is not None
    return [
        {
            **one._asdict(),
            "pieces": [piece._asdict() for piece in pieces(row, backend) if _in_steps(piece, steps)],
        }
        for row, one in zip(shown.rows, figures(shown.rows, shown.table.manifest.settings), strict=True)
    ]
