"""What is known of a run besides the run itself, for critics that may see it.

Reads a round's grades and test logs, and the tasks' reference fixes. Writes nothing.

    evidence = EvidenceBook(round_, information="test_log", gold_patches=None)
    evidence.refuse_missing({"test log": ["a__b-1 attempt 0"]}, run=run.path)     # InputError, before anything is asked
    evidence.of(trajectory).resolved
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from srft.agent.records import Trajectory
from srft.critic.labels.labels import SHOWN, Evidence, Information
from srft.env.errors import InputError
from srft.env.grading.grade import Grade
from srft.env.tasks.task import load_tasks
from srft.harness.run.entries import RunEntry, entry_of
from srft.harness.run.index import Index
from srft.harness.run.run_yaml import config_folder, kept_config
from srft.harness.run.store import Round

NAMED_AT_MOST = 5

_TESTS_BEGIN, _TESTS_END = ">>>>> Start Test Output", ">>>>> End Test Output"


def tasks_source(run: Path, round_: Round) -> str | None:
    """Where the tasks lie that a round's episodes are on, by its configuration; tasks that a loop made itself lie in
    the run, wherever that is now. `None` where nothing was collected. Raises InputError."""
    config = kept_config(config_folder(round_))
    if config is None or Path(config.tasks).exists():
        return config.tasks if config else None
    within = run / "practice" / Path(config.tasks).name
    return str(within) if within.exists() else config.tasks


def episodes_not_run(run: Path, index: Index) -> int | None:
    """How many of the episodes that a collection was asked for are not on file; `None` where that is not known: nothing
    was collected, or its tasks are not on this machine, or some of them alone are looked at."""
    round_ = index.round
    try:
        config = kept_config(config_folder(round_))
        source = tasks_source(run, round_)
        if index.only or config is None or source is None or not (config.only or Path(source).exists()):
            return None
        tasks = config.only or [task.instance_id for task in load_tasks(source)]
    except InputError:  # of another version, or tasks that are no longer what they were
        return None
    return sum(episode not in index.episodes for episode in config.episodes_of(tasks))


def log_of(round_: Round, grade: Grade) -> Path | None:
    """The test log of a grade, looked for among the round's own logs alone, wherever they lie now: a run from elsewhere
    may name any file."""
    if grade.log_path is None:
        return None
    logs = round_.logs.resolve()
    path = logs.joinpath(*Path(grade.log_path).parts[-3:]).resolve()
    return path if path.is_relative_to(logs) and path.is_file() else None


class EvidenceBook:
    """The evidence of a round's runs. Only what the information arm is about is looked up, besides the outcome."""

    def __init__(
        self, round_: Round, *, information: Information, gold_patches: Mapping[str, str] | None = None
    ) -> None:
        self._round = round_
        self.information = information
        self._gold_patches = gold_patches or {}
        self._index = round_.index()

    def of(self, trajectory: Trajectory | RunEntry) -> Evidence:
        """The evidence on a run. Raises InputError for a test log that cannot be read."""
        run = self._short(trajectory)
        return Evidence(
            resolved=self._index.outcome(run).resolved,
            test_log=self._test_log(run) if self.information == "test_log" else None,
            gold_patch=self._gold_patches.get(run.task_id) if "gold_patch" in SHOWN[self.information] else None,
        )

    def _short(self, run: Trajectory | RunEntry) -> RunEntry:
        if isinstance(run, RunEntry):
            return run
        # A debugger's run is neither on file nor over: the verdict on its patch counts as it is.
        return self._index.by_id.get(run.id) or msgspec.structs.replace(entry_of(run), stop_reason="submitted")

    def missing(self, trajectory: Trajectory | RunEntry) -> str | None:
        """What the information arm wants and this run does not have. A critic that sees the fix alone has no opinion on
        a task without one; that is not asked for here."""
        if self.information in ("none", "outcome_if_known", "fix_alone"):
            return None
        run = self._short(trajectory)
        if self._index.outcome(run).resolved is None:
            return "outcome"
        if self.information == "gold_patch" and run.task_id not in self._gold_patches:
            return "reference fix"
        grade = self._index.grade(run) if self.information == "test_log" else None
        if self.information == "test_log" and (grade is None or (grade.log_path and not log_of(self._round, grade))):
            return "test log"
        return None

    def refuse_missing(self, missing: Mapping[str, Sequence[str]], *, run: Path) -> None:
        """Raises InputError where the arm's evidence is missing. missing: what -> the runs without it."""
        remedies = {
            "outcome": f"grade them (srft evaluate --run {run})",
            "test log": f"grade them here (srft evaluate --run {run}); an imported verdict has no log",
            "reference fix": "give the tasks that they are on with --tasks",
        }
        lacks = [
            f"no {what} is known of {len(names)} ({_some(names)}): {remedies[what]}" for what, names in missing.items()
        ]
        if lacks:
            raise InputError(
                f"judge.information is {self.information}, but of the runs to judge {'; '.join(lacks)}; or set "
                "judge.information to what is known of all of them"
            )

    def _test_log(self, run: RunEntry) -> str | None:
        """The tests' output without what stands around it; of a grade without tests, why there were none."""
        grade = self._index.grade(run)
        if grade is None:
            return None
        if grade.log_path is None:
            return f"No test was run ({grade.outcome}{': ' + grade.detail if grade.detail else ''})."
        path = log_of(self._round, grade)
        try:
            text = path.read_bytes().decode(errors="replace") if path else None
        except OSError as error:
            raise InputError(f"{path}: the test log cannot be read ({error.strerror}); grade the run again") from None
        return text and between_markers(text)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_AT_MOST]) + (", ..." if len(names) > NAMED_AT_MOST else "")


def between_markers(log: str) -> str:
    r"""A test log without what its script printed before and after the tests.

    >>> between_markers("+ : '>>>>> Start Test Output'\n1 failed\n+ : '>>>>> End Test Output'\n+ git checkout")
    '1 failed\n'
    """
    _, begin, after = log.partition(_TESTS_BEGIN)
    if not begin:
        return log
    tests, end, _ = after.partition(_TESTS_END)
    lines = tests.split("\n")[1:]  # the rest of the line that the marker is in
    return "\n".join(lines[:-1]) + "\n" if end else "\n".join(lines)
