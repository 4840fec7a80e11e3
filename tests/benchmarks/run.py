"""The benchmarks: ours and the peers' in one run, interleaved, so that a noisy machine is noisy for both.

Reads nothing but, where they are there, ../shared/data (recorded runs and their tasks) and the small models of
`make model`. Writes `bench.json`, one object: name -> {value, unit, peer, ratio, goal, met}, and prints it as a table.
`ratio` is how many times better ours is than the peer's. `met` is null where a peer is missing or where there is no
goal. No time fails anything: the exit code is 0 when all ran, 1 when a benchmark could not.

    .venv/bin/python tests/benchmarks/run.py --only shell_round_trip --quick
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from loguru import logger
from rich.console import Console
from rich.table import Table

# As the package `benchmarks`: a bare `tests` might be another one's in site-packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.docker_cli import remove_leftovers
from benchmarks.recorded_action import recorded_action
from benchmarks.reset import reset
from benchmarks.rows import Bench, Row
from benchmarks.rows_speed import rows_speed
from benchmarks.run_index import run_index
from benchmarks.serving import serving
from benchmarks.shell_round_trip import shell_round_trip
from benchmarks.throughput import collect_throughput
from benchmarks.tiny_task import ROOT, build_tiny_image
from benchmarks.trainer_peer import train_speed, train_speed_defaults
from benchmarks.viewer import viewer

from srft.env.errors import SrftError
from srft.harness.run.store import write_atomic

CONTAINERS: dict[str, Callable[[Bench], dict[str, Row]]] = {
    "shell_round_trip": shell_round_trip,
    "recorded_action": recorded_action,
    "reset": reset,
    "collect_throughput": collect_throughput,
}
"""Those that need a container engine, and an image that is built first."""

TRAINING: dict[str, Callable[[Bench], dict[str, Row]]] = {
    "rows_speed": rows_speed,
    "train_speed": train_speed,
    "train_speed_defaults": train_speed_defaults,
}
SERVING: dict[str, Callable[[Bench], dict[str, Row]]] = {"serving": serving}
PAGES: dict[str, Callable[[Bench], dict[str, Row]]] = {"viewer": viewer, "run_index": run_index}
BENCHMARKS = CONTAINERS | TRAINING | SERVING | PAGES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; the exit code is 0 when all ran."""
    options = _options(arguments)
    logger.remove()
    logger.add(sys.stderr, format="<dim>{time:HH:mm:ss}</dim> {message}", level="INFO")
    names = options.only or list(BENCHMARKS)
    bench = Bench(quick=options.quick)
    try:
        rows, failures = _run_all(names, bench)
    finally:
        bench.close()
        if CONTAINERS.keys() & names:
            remove_leftovers()
    write_atomic(options.out, msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    Console(width=160 if not sys.stdout.isatty() else None).print(_table(rows))
    logger.info("written to {}", options.out)
    for failure in failures:
        logger.error(failure)
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description="srft and its peers, side by side.", epilog="Example: run.py --only reset --quick"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=BENCHMARKS,
        help=f"one of {', '.join(BENCHMARKS)}; repeatable",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: shows that it works, not how fast it is")
    parser.add_argument("--out", metavar="FILE", type=Path, default=ROOT / "bench.json", help="default: bench.json")
    return parser.parse_args(arguments)


def _run_all(names: Sequence[str], bench: Bench) -> tuple[dict[str, Row], list[str]]:
    """The rows of these benchmarks, and one sentence for each that could not run."""
    rows: dict[str, Row] = {}
    failures: list[str] = []
    for name in names:
        logger.info("{} ...", name)
        began_s = time.monotonic()
        try:
            if name in CONTAINERS:
                build_tiny_image()
            rows |= BENCHMARKS[name](bench)
        except (SrftError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {error}")
        logger.info("{}: {:.0f} s", name, time.monotonic() - began_s)
    return rows, failures


def _table(rows: dict[str, Row]) -> Table:
    table = Table(title="srft and its peers", title_justify="left")
    for column in ("benchmark", "value", "peer", "times better", "goal", "met"):
        table.add_column(column, justify="right" if column in {"value", "times better"} else "left", overflow="fold")
    for name, row in rows.items():
        table.add_row(
            name,
            "-" if row.value is None else f"{row.value:,.{_digits(row.value)}f} {row.unit}",
            row.peer,
            "-" if row.ratio is None else f"{row.ratio:,.{_digits(row.ratio)}f}",
            row.goal or "-",
            {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}[row.met],
        )
    return table


def _digits(number: float) -> int:
    return 2 if abs(number) < 10 else 1 if abs(number) < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
