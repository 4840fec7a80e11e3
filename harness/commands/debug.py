"""`srft debug`: one task, step by step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srft.env.errors import InputError
from srft.harness.commands.critique import critic_options
from srft.harness.commands.options import (
    MODELS,
    ConfigOption,
    FormatOption,
    JsonOption,
    ModeOption,
    PromptOption,
    RunOption,
    SandboxOption,
    SetOption,
    TasksOption,
    end_at_once,
    fail,
    print_json,
    required,
    stopping,
)

if TYPE_CHECKING:
    from srft.critic.labels.labels import Critic
    from srft.harness.debug.session import Session

# Options of this command alone, or with a meaning of their own here.
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="URL|KIND:PATH", help=f"{MODELS}; human: you write all."),
]
CriticOption = Annotated[
    str,
    typer.Option(
        "--critic",
        metavar="NAME|URL|FILE",
        help="tool_error, edits, milestones, exploit, oracle, a judge's URL (http://HOST/v1#NAME) or its YAML file.",
    ),
]
ReplayOption = Annotated[
    str | None, typer.Option("--replay", metavar="FILE", help="Start inside a recorded run of this task.")
]
ToOption = Annotated[
    int | None,
    typer.Option("--to", metavar="K", min=0, help="With --replay: so many of its steps; all unless given."),
]
AttemptOption = Annotated[
    int | None, typer.Option("--attempt", metavar="N", min=0, help="With --replay: which of the task's runs.")
]
ScriptOption = Annotated[
    str | None,
    typer.Option("--script", metavar="FILE", help="Commands from a YAML list, see above; no terminal needed."),
]


def debug(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")],
    tasks: TasksOption = None,
    model: ModelOption = None,
    run: RunOption = None,
    sandbox: SandboxOption = None,
    mode: ModeOption = None,
    prompt: PromptOption = None,
    format: FormatOption = None,
    critic: CriticOption = "tool_error",
    replay: ReplayOption = None,
    to: ToOption = None,
    attempt: AttemptOption = None,
    script: ScriptOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the model's sampling.")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Work on one task step by step: approve, edit or write each step, rewind, fork, test, ask the critic, save.

    The file system is kept before each step, so that you can go back to any of them. --run names where `save` goes.
    In the terminal, ? shows all keys.

    Commands of --script: step, ask, approve, edit, type, rewind, forks, fork, diff, tests, critic, label, facts, save;
    docs/debug.md has them with examples. (--model script:FILE is something else: replies in the place of a model's.)

    Example: `srft debug my__task-1 --tasks tasks.jsonl --model http://localhost:8000/v1#my-model --run runs/mine`
    """
    from srft.harness.config.config import CollectConfig, read_config
    from srft.harness.debug.session import Session

    if replay is None and (to is not None or attempt is not None):
        raise InputError("--to and --attempt say where in a recorded run to start; name it with --replay FILE")
    commands = _commands(script, json=json)
    settings = read_config(
        CollectConfig,
        file=config,
        sets=sets or (),
        **{
            "tasks": required(tasks, "--tasks"),
            "model": required(model, "--model"),
            "only": (task,),
            "sandbox.kind": sandbox,
            "sandbox.mode": mode,
            "prompt": prompt,
            "format": format,
            "seed": seed,
        },
    )
    if settings.model.startswith("local:"):
        print(f"srft: loading {settings.model} ...", file=sys.stderr, flush=True)
    session = Session.open(settings, critics=_critic_opener(critic, settings.tasks, task))
    recorded = _Recorded(replay, to, attempt)
    if commands is None:
        _in_terminal(session, recorded, run)
    else:
        _by_script(session, recorded, commands, run, json=json)


def _commands(script: str | None, *, json: bool) -> list[Any] | None:
    """Those of the script; `None`: they come from the terminal. Raises InputError where there is none."""
    from srft.harness.debug.script import read_script

    if json and script is None:
        raise InputError("--json goes with --script")
    commands = read_script(script) if script else None
    if commands is None and not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise InputError("there is no terminal here; give the commands with --script FILE")
    return commands


class _Recorded:
    """The recorded run to start in, if one was named."""

    def __init__(self, file: str | None, to: int | None, attempt: int | None) -> None:
        self._file, self._to, self._attempt = file, to, attempt

    def replay(self, session: Session) -> list[str]:
        """Take its steps; what was otherwise than recorded."""
        from srft.harness.debug.recorded import recorded_run

        if self._file is None:
            return []
        found = recorded_run(Path(self._file), task_id=session.task.instance_id, attempt=self._attempt)
        return session.replay(found, to=self._to)


def _critic_opener(critic: str, tasks: str, task: str) -> Callable[[], Critic]:
    """Opens the critic when it is first asked."""

    def opened() -> Critic:
        from srft.env.tasks.task import load_tasks
        from srft.harness.config.config import read_config
        from srft.harness.stages.critics import check_critic, open_critic
        from srft.harness.stages.critique import CritiqueConfig

        settings = read_config(CritiqueConfig, **critic_options(critic, []))
        found = open_critic(settings.critic, judge=settings.judge, tasks=lambda: load_tasks(tasks, only=(task,)))
        check_critic(found)
        return found

    return opened


def _by_script(session: Session, recorded: _Recorded, commands: list[Any], run: str | None, *, json: bool) -> None:
    from srft.harness.debug.script import run_script

    results, failure = [], None
    with stopping() as stop, session:
        differing = recorded.replay(session)
        for line in differing:
            print(f"srft: the replay differs from the recording: {line}", file=sys.stderr)
        for result in run_script(session, commands, run=run, stop=stop):
            failure = failure or result.failure
            results.append({"command": result.command, "result": result.result, "error": result.error})
            if not json:
                _print(results[-1])
        if json:
            print_json({"task": session.task.instance_id, "replayed_otherwise": differing, "results": results})
        if session.scratch.logs is not None:
            print(f"srft: the tests' logs are in {session.scratch.logs}", file=sys.stderr)
    if failure is not None:
        fail(results[-1]["error"], 2 if isinstance(failure, InputError) else 1)
    if stop.is_set():
        fail("stopped", 130)


def _print(result: dict[str, Any]) -> None:
    """A result for a reader, under the command's name; an error is said at the end, on stderr."""
    from srft.harness.debug.script import readable

    if result["error"] is None:
        print(f"== {result['command']}\n{readable(result['result'])}\n", flush=True)


def _in_terminal(session: Session, recorded: _Recorded, run: str | None) -> None:
    from srft.harness.debug.app import DebugApp

    app = DebugApp(session, begin=recorded.replay, run=run)
    try:
        app.run()
    finally:
        busy = app.is_busy
        session.close(wait_for_tests=not busy)
    if app.failure is not None:
        fail(app.failure, 1)
    if busy:  # a thread that waits for a server or for tests would keep the process
        end_at_once("stopped", 130)
