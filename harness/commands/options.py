"""What the commands share: options that mean the same everywhere, stopping on Ctrl-C, and how a result is printed.

with stopping() as stop, Run(required(run, "--run")) as opened:
    ...
print_json({"resolved": 86})
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from srft.env.backends import check_kind
from srft.env.errors import InputError
from srft.harness.config.errors import missing

TasksOption = Annotated[
    str | None,
    typer.Option(
        "--tasks", metavar="NAME|FILE|TASK_REPO", help="A hub dataset, a .jsonl/.json/.parquet file, a task repo."
    ),
]
MODELS = "http://HOST/v1#NAME, local:DIR, demonstrator, replay:FILE, script:FILE"
ModelOption = Annotated[str | None, typer.Option("--model", metavar="URL|KIND:PATH", help=f"{MODELS}.")]
OnlyOption = Annotated[str | None, typer.Option("--only", metavar="ID,ID", help="These instance ids alone.")]
RunOption = Annotated[str | None, typer.Option("--run", metavar="DIR", help="The run directory.")]
RoundOption = Annotated[
    int | None, typer.Option("--round", metavar="N", min=0, help="The round of the run; its newest one unless given.")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Containers at a time.")]
SandboxOption = Annotated[
    str | None, typer.Option("--sandbox", metavar="KIND", help="docker, local or auto; or MODULE:NAME of your own.")
]
ModeOption = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="stateless or persistent shell.")]
PromptOption = Annotated[
    str | None, typer.Option("--prompt", metavar="NAME|FILE", help="default, mini, short, or a YAML file.")
]
FormatOption = Annotated[str | None, typer.Option("--format", metavar="NAME", help="backtick, xml, json or native.")]
CriticsOption = Annotated[
    str | None, typer.Option("--critic", metavar="NAME,NAME", help="Whose labels the arms srft and random use.")
]
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="FILE", help="A YAML file of options.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One option, say episode.steps=30.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def fail(error: Exception | str, code: int) -> NoReturn:
    print(f"srft: {error}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets. The second ends the process where it stands.

    That loses nothing: a sandbox ends with the process that opened it, and a record is on file or it is not.
    """
    stop = threading.Event()

    def on_signal(number: int, _frame: Any) -> None:
        if stop.is_set():
            end_at_once("stopped at once; run the same command to resume from what is on file", 130)
        stop.set()
        print("srft: finishing the steps under way; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(message: str, code: int) -> NoReturn:
    """Leave without waiting for anything: running sandboxes end with this process.

    What does not (a container that was not started yet, a snapshot), another process removes.
    """
    print(f"srft: {message}", file=sys.stderr)
    null = subprocess.DEVNULL
    cleaner = [sys.executable, "-m", "srft.harness.cli", "clean"]
    subprocess.Popen(cleaner, stdin=null, stdout=null, stderr=null, start_new_session=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def required(value: str | None, option: str) -> str:
    if value is None:
        raise InputError(missing(option))
    return value


def ids(only: str | None) -> tuple[str, ...] | None:
    return None if only is None else tuple(name.strip() for name in only.split(",") if name.strip())


def sandbox_kind(sandbox: str | None) -> str:
    return check_kind(sandbox or "", where="--sandbox")


def print_json(content: Any) -> None:
    sys.stdout.write(msgspec.json.encode(content).decode() + "\n")
