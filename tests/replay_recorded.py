"""How faithfully a replay repeats its recording: exit codes, patches, verdicts, and where the first difference came in.

    srft collect --tasks TASKS --model replay:RECORDED --prompt mini --workers 4 --run runs/replay \
        --set episode.command_timeout_s=300
    python tests/replay_recorded.py --recorded RECORDED --run runs/replay

A difference's cause is looked for where it began: at the first command that read a file and printed something else than
in the recording (times, addresses and temporary names apart). From there on the agent edits lines that are not there.
"""

import argparse
import difflib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from srft.agent.importing.importers import read_runs
from srft.agent.records import Step, Trajectory
from srft.env.grading.grade import Grade
from srft.harness.run.store import Round

# What differs from run to run without meaning anything.
NOISE = re.compile(
    r"0x[0-9a-f]{6,}"  # addresses
    r"|\b\d+\.\d+ ?(?:s|sec|seconds|ms)\b|\b\d{1,2}:\d{2}(?::\d{2})?\b"  # times
    r"|\w{3} +\d{1,2} +[\d:]{4,5}|\b20\d\d\b"  # dates
    r"|/tmp/\w+|\bpid \d+|[0-9a-f]{7,40}\b"  # temporary names, processes, commits
)


READS = re.compile(r"\b(?:cat|grep|sed -n|nl|head|tail|awk)\b")


class Difference(NamedTuple):
    """The first command whose output is another, and how it begins to differ."""

    step: int
    command: str
    lines: list[str]


class Repeated(NamedTuple):
    """One recorded run beside its replay."""

    recorded: Trajectory
    replayed: Trajectory
    grade: Grade | None

    @property
    def exit_codes(self) -> list[tuple[int, int | None, int]]:
        """(step, ours, recorded) for every command that has a recorded exit code."""
        pairs = zip(self.replayed.steps, self.recorded.steps, strict=False)
        return [(ours.index, ours.exit_code, step.exit_code) for ours, step in pairs if step.exit_code is not None]

    @property
    def other_exit_codes(self) -> list[tuple[int, int | None, int]]:
        return [(step, ours, code) for step, ours, code in self.exit_codes if ours != code]

    @property
    def same_patch(self) -> bool:
        return _changed_lines(self.replayed.patch) == _changed_lines(self.recorded.patch)

    @property
    def same_verdict(self) -> bool:
        return self.grade is not None and self.grade.resolved == self.recorded.recorded_resolved

    def cause(self) -> str:
        """Why a verdict or an exit code is another."""
        if any(step.timed_out for step in self.replayed.steps):
            return "a command ran past its timeout here"
        if self.first_difference() is not None:
            return "a file it reads is not the recorded one: the source package is not the base commit"
        return "not known: all it read was as recorded"

    def first_difference(self) -> Difference | None:
        for step, theirs in zip(self.replayed.steps, self.recorded.steps, strict=False):
            recorded = theirs.observation
            if recorded is None or step.observation is None or not READS.search(_command(step)):
                continue
            if "<output_head>" in recorded:
                continue  # what was elided is worded otherwise
            if _meaning(step.observation) != _meaning(recorded):
                return Difference(step.index, _command(step), _differing_lines(recorded, step.observation))
        return None


def _command(step: Step) -> str:
    return str(step.action.arguments.get("command", "")) if step.action else ""


def _meaning(observation: str) -> list[str]:
    return sorted(NOISE.sub("~", line).rstrip() for line in observation.splitlines())


def _differing_lines(recorded: str, ours: str) -> list[str]:
    one, other = ([NOISE.sub("~", line) for line in text.splitlines()] for text in (recorded, ours))
    changed = [line for line in difflib.unified_diff(one, other, n=0, lineterm="") if line[:1] in "+-"]
    return [line for line in changed if line[:3] not in {"+++", "---"}][:6]


def _changed_lines(patch: str | None) -> list[str]:
    """What a patch adds and removes, wherever: line numbers and index lines differ between two bases."""
    lines = (patch or "").splitlines()
    return [line for line in lines if line[:1] in {"+", "-"} and line[:3] not in {"+++", "---"}]


def repeated(recorded: Path, run: Path) -> Iterator[Repeated]:
    runs = {run.task_id: run for run in read_runs(recorded)}
    round_ = Round(run / "round-000")
    grades = {grade.instance_id: grade for grade in round_.grades.read()}
    last = {trajectory.task_id: trajectory for trajectory in round_.trajectories.read()}
    for trajectory in last.values():
        yield Repeated(runs[trajectory.task_id], trajectory, grades.get(trajectory.task_id))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    options = parser.parse_args()
    pairs = sorted(repeated(options.recorded, options.run), key=lambda pair: pair.replayed.task_id)
    table = Table("run", "steps", "ended", "exit codes equal", "patch", "recorded", "ours")
    for pair in pairs:
        codes, other = pair.exit_codes, pair.other_exit_codes
        table.add_row(
            pair.replayed.task_id,
            f"{len(pair.replayed.steps)}/{len(pair.recorded.steps)}",
            pair.replayed.stop_reason,
            f"{len(codes) - len(other)}/{len(codes)}",
            "same" if pair.same_patch else "other",
            str(pair.recorded.recorded_resolved),
            str(pair.grade.resolved if pair.grade else None),
            style="" if pair.same_verdict else "yellow",
        )
    console = Console(width=130)
    console.print(table)
    _print_differences(console, pairs)
    commands = sum(len(pair.exit_codes) for pair in pairs)
    equal = commands - sum(len(pair.other_exit_codes) for pair in pairs)
    verdicts = sum(pair.same_verdict for pair in pairs)
    console.print(f"{equal} of {commands} commands ({equal / max(1, commands):.1%}) gave the recorded exit code")
    console.print(f"{verdicts} of {len(pairs)} verdicts are the recorded ones; the others:")
    for cause, count in Counter(pair.cause() for pair in pairs if not pair.same_verdict).most_common():
        console.print(f"  {count}: {cause}")
    console.print("commands with another exit code, by their run's cause:")
    by_cause: Counter[str] = Counter()
    for pair in pairs:
        by_cause[pair.cause()] += len(pair.other_exit_codes)
    for cause, count in by_cause.most_common():
        console.print(f"  {count}: {cause}")


def _print_differences(console: Console, pairs: list[Repeated]) -> None:
    """Where each run with another exit code or verdict began to be another."""
    for pair in pairs:
        if not pair.other_exit_codes and pair.same_verdict:
            continue
        console.print(f"\n{pair.replayed.task_id}", style="bold")
        if first := pair.first_difference():
            console.print(f"  first other output at step {first.step}: {first.command[:100]!r}", markup=False)
            for line in first.lines:
                console.print(f"    {line[:120]}", markup=False, highlight=False)
        for step, ours, code in pair.other_exit_codes[:3]:
            command = _command(pair.replayed.steps[step])[:100]
            console.print(f"  step {step}: exit code {ours}, recorded {code}: {command!r}", markup=False)


if __name__ == "__main__":
    main()
