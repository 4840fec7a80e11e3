"""A session without a terminal: commands from a YAML list, each with its result.

Reads a file; what the commands write, the session writes.

    - step                                  # ask and take; `step: 3` does three, fewer where the episode ends
    - ask                                   # the model's next reply, not taken
    - approve                               # take it as it is
    - edit: ls -la                          # take it with another command; {action: ..., tool: edit} for edit's JSON
    - edit: {action: ls -la, thought: All of it.}      # and with other words; thinking: "" takes the reasoning out
    - type: {action: git status, thought: First the state.}
    - rewind: 1                             # back to before step 1; what came after stays as a fork
    - forks
    - fork: 0                               # to the end of that fork
    - diff
    - tests
    - critic                                # all steps; `critic: 2` that step alone
    - label: {step: 1, verdict: mistake, reason: wrong file}
    - facts
    - save: runs/mine                       # without a value: the run of --run

    for result in run_script(session, read_script("commands.yaml"), run=None, stop=threading.Event()): print(result)

The whole file is checked before the first command is done; a command that fails ends the script.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml

from srft.agent.models.human import action_text
from srft.agent.records import Step
from srft.critic.labels.labels import Verdict
from srft.env.errors import InputError, SrftError
from srft.harness.config.errors import in_place
from srft.harness.debug.facts import facts_of
from srft.harness.debug.session import Proposal, Session
from srft.train.rows.show import inert


class Command(NamedTuple):
    """One entry. where: file and place. argument: of the type that its name has in `COMMANDS`, or `None`."""

    where: str
    name: str
    argument: Any


class Result(NamedTuple):
    """What a command came to: `result` as JSON takes it, or the error that ended the script."""

    command: str
    result: Any = None
    error: str | None = None
    failure: SrftError | None = None


class Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's action. tool: "edit" where the action is the edit tool's arguments as JSON. thought: the words before
    it; of an edited reply the model's own unless given. thinking: of an edited reply, in the place of its reasoning."""

    action: str
    thought: str | None = None
    thinking: str | None = None
    tool: str | None = None

    def __post_init__(self) -> None:
        if self.tool not in (None, "bash", "edit", "submit"):
            raise ValueError(f"tool is {self.tool!r}; expected bash or edit")


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word on a step; a verdict of `null` takes it back."""

    step: int
    verdict: Verdict | None
    reason: str | None = None


class Spec(NamedTuple):
    """A command: the type of its argument, whether it can go without one, and what it does."""

    kind: Any
    optional: bool
    do: Callable[[Session, Any], Any]


def _steps(session: Session, count: int | None) -> list[dict[str, Any]]:
    taken = []
    for _ in range(1 if count is None else count):
        taken.append(shown_step(session, session.approve()))
        if session.lines.tip.finished is not None:
            break
    return taken


def _edit(session: Session, written: str | Written) -> dict[str, Any]:
    written = Written(action=written) if isinstance(written, str) else written
    step = session.edit(written.action, tool=written.tool, thought=written.thought, thinking=written.thinking)
    return shown_step(session, step)


def _type(session: Session, written: str | Written) -> dict[str, Any]:
    written = Written(action=written) if isinstance(written, str) else written
    if written.thinking is not None:
        raise InputError("type: thinking is a model's; write your words as the thought")
    step = session.write(written.action, thought=written.thought or "", tool=written.tool or "bash")
    return shown_step(session, step)


def _rewind(session: Session, step: int) -> dict[str, Any]:
    session.rewind(step)
    return _here(session)


def _fork(session: Session, number: int) -> dict[str, Any]:
    session.fork(number)
    return _here(session)


def _here(session: Session) -> dict[str, Any]:
    facts = facts_of(session)
    return {"fork": facts.fork, "step": facts.step, "stop_reason": facts.stop_reason}


def _critic(session: Session, step: int | None) -> Any:
    told = session.critique()
    if step is not None and not 0 <= step < len(told.labels):
        raise InputError(f"critic: step {step} was not taken; this line has {len(told.labels)} steps")
    labels = told.labels if step is None else told.labels[step : step + 1]
    return {"critic": told.critic, "labels": msgspec.to_builtins(labels), "remarks": told.remarks}


def _label(session: Session, label: Label) -> Any:
    return msgspec.to_builtins(session.label(label.step, label.verdict, reason=label.reason))


COMMANDS: dict[str, Spec] = {
    "step": Spec(Annotated[int, msgspec.Meta(ge=1)], True, _steps),
    "ask": Spec(None, True, lambda session, _: shown_proposal(session.ask())),
    "approve": Spec(None, True, lambda session, _: shown_step(session, session.approve())),
    "edit": Spec(str | Written, False, _edit),
    "type": Spec(str | Written, False, _type),
    "rewind": Spec(int, False, _rewind),
    "fork": Spec(int, False, _fork),
    "forks": Spec(None, True, lambda session, _: [fork._asdict() for fork in session.lines.listed()]),
    "diff": Spec(None, True, lambda session, _: session.diff()),
    "tests": Spec(None, True, lambda session, _: msgspec.to_builtins(session.tests())),
    "critic": Spec(int, True, _critic),
    "label": Spec(Label, False, _label),
    "facts": Spec(None, True, lambda session, _: msgspec.to_builtins(facts_of(session)._asdict())),
    "save": Spec(str, True, lambda session, folder: session.save(folder)._asdict()),
}


def shown_step(session: Session, step: Step) -> dict[str, Any]:
    """A step as the results have it: what was done, by whom, what came of it."""
    return {
        "step": step.index,
        "author": step.author,
        "action": None if step.action is None else action_text(step.action),
        "exit_code": step.exit_code,
        "observation": step.observation,
        "error": step.error,
        "stop_reason": facts_of(session).stop_reason,
    }


def shown_proposal(proposal: Proposal) -> dict[str, Any]:
    return {
        "content": proposal.reply.content,
        "action": None if proposal.action is None else action_text(proposal.action),
        "problem": proposal.problem,
    }


class _Readable(yaml.SafeDumper):
    """YAML whose texts of several lines stand as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_long = "\n" in text.strip("\n")
    # A line that ends in a space would make YAML quote the whole text.
    shown = inert("\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n") if is_long else text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", shown, style="|" if is_long else None)


_Readable.add_representer(str, _text)


def readable(result: Any) -> str:
    """A command's result for a reader; what an agent printed is inert."""
    if isinstance(result, str):
        return inert(result).rstrip()
    return yaml.dump(result, Dumper=_Readable, sort_keys=False, allow_unicode=True, width=1000).rstrip()


def read_script(path: str | Path) -> list[Command]:
    """The commands of a file. Raises InputError, which names the file and the entry."""
    try:
        content = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --script wants a YAML list of commands") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, list) or not content:
        raise InputError(f"{path}: expected a list of commands, got {type(content).__name__}; say - step")
    return [_command(entry, f"{path}: entry {place}") for place, entry in enumerate(content, 1)]


def _command(entry: Any, where: str) -> Command:
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise InputError(f"{where}: expected one command, say `- step` or `- edit: ls`; got {entry!r}")
    name, argument = next(iter(entry.items()))
    if name not in COMMANDS:
        near = difflib.get_close_matches(str(name), COMMANDS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        raise InputError(f"{where}: no command {name!r}; {meant}")
    kind, optional, _ = COMMANDS[name]
    if argument is None and optional:
        return Command(where, name, None)
    if kind is None:
        raise InputError(f"{where}: {name} takes no value, got {argument!r}")
    try:
        return Command(where, name, msgspec.convert(argument, kind))
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {name}: {in_place(kind, error)}") from None


def run_script(
    session: Session, commands: list[Command], *, run: str | None, stop: threading.Event
) -> Iterator[Result]:
    """Each command's result; the last one has the error where one failed. run: where `save` goes without a value.

    stop: when set, no further command is begun.
    """
    for where, name, argument in commands:
        if stop.is_set():
            return
        if name == "save" and (argument := argument or run) is None:
            missing = InputError(f"{where}: save: to which run? Give it a value, or --run")
            yield Result(name, error=str(missing), failure=missing)
            return
        try:
            yield Result(name, COMMANDS[name].do(session, argument))
        except SrftError as error:
            yield Result(name, error=f"{where}: {name}: {error}", failure=error)
            return
