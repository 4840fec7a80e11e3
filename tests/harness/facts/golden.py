"""Writes golden.txt: what the run of one_run.py comes to.

PYTHONPATH=src python -m tests.harness.facts.golden
"""

import contextlib
import tempfile
from pathlib import Path

import msgspec
from typer.testing import CliRunner

from srft.harness.cli import app
from tests.harness.facts.one_run import one_run

FILE = Path(__file__).parent / "golden.txt"
COMMANDS = {
    "compare": ("compare", "one:round-000/evaluation/base", "one", "--json"),
    "compare arms": ("compare", "one:round-001/evaluation/all", "one:round-001/evaluation/srft", "--seeds", "--json"),
    "calibrate": ("calibrate", "--run", "one", "--labels", "human", "--json"),
    "calibrate by outcome": ("calibrate", "--run", "one", "--labels", "outcome", "--json"),
}


def golden(folder: Path) -> bytes:
    """report.json of the run, and a line for each command, as printed."""
    path = one_run(folder)
    printed = [f"{name}: {_srft(folder, *arguments)}" for name, arguments in COMMANDS.items()]
    _srft(folder, "report", "--run", path.name)
    report = msgspec.json.format((path / "report.json").read_bytes(), indent=0)  # on one line
    return b"report: " + report + b"\n" + "".join(printed).encode()


def _srft(folder: Path, *arguments: str) -> str:
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        FILE.write_bytes(golden(Path(made)))
