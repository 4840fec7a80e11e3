"""-q, -v and SRFT_LOG: how much every command tells on stderr."""

import os
import signal
import subprocess
import sys

import pytest
import typer.main
from typer.testing import CliRunner

from srft.harness.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "SRFT_LOG"}

LOGGING = """
import sys, typer
from loguru import logger
from srft.env.errors import InputError
from srft.harness.commands.command import command, log_from

def talk():
    logger.debug("a detail"); logger.info("a remark"); logger.warning("a warning"); logger.error("an error")

app = typer.Typer()
app.command()(command(talk))
try:
    log_from("environment")
    app()
except InputError as error:
    sys.exit(f"srft: {error}")
"""


def told(*options: str, **environment: str) -> list[str]:
    """The log's messages of a command that logs one of each kind."""
    ran = subprocess.run(
        [sys.executable, "-c", LOGGING, *options],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT | environment,
    )
    return [line.partition(" ")[2] if line[2:3] == ":" else line for line in ran.stderr.splitlines()]


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ([], {}, ["a remark", "a warning", "an error"]),
        (["-q"], {}, ["a warning", "an error"]),
        (["--verbose"], {}, ["a detail", "a remark", "a warning", "an error"]),
        ([], {"SRFT_LOG": "error"}, ["an error"]),
        (["-v"], {"SRFT_LOG": "error"}, ["a detail", "a remark", "a warning", "an error"]),
        (["-v", "-q"], {}, ["srft: --quiet and --verbose exclude each other; give one of them"]),
        (
            [],
            {"SRFT_LOG": "loud"},
            ["srft: SRFT_LOG=loud: expected one of TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL"],
        ),
    ],
)
def test_the_log_is_as_loud_as_asked(options, environment, expected) -> None:
    assert told(*options, **environment) == expected


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_both(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout
    assert "--quiet" in shown
    assert "--verbose" in shown


WAITING = """
import sys, time
from srft.harness import cli

def wait():
    print("waiting", flush=True)
    try:
        time.sleep(60)
    except Exception:  # as a library does whose import fails
        sys.exit("an import failed")

cli.app.command()(wait)
sys.argv = ["srft", "wait"]
cli.main()
"""


def test_ctrl_c_says_that_it_stopped_wherever_a_command_is() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)
    assert (said, waiting.returncode) == ("srft: stopped\n", 130)
