"""What is known of a run besides the run itself, for critics that may see it.

Reads a round's grades and test logs, and the tasks' reference fixes. Writes nothing.

    evidence = EvidenceBook(round_, information="test_log", gold_patches=None)
    evidence.refuse_missing({"test log": ["a__b-1 attempt 0"]}, run=run.path)     # InputError, before anything is asked
    evidence.of(trajectory).resolved
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from srft.agent.records import Trajectory
from srft.critic.labels.labels import Evidence, Information
from srft.env.errors import InputError
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.run.store import Round, resolved

NAMED_AT_MOST = 5

_TESTS_BEGIN, _TESTS_END = ">>>>> Start Test Output", ">>>>> End Test Output"


class EvidenceBook:
    """The evidence of a round's runs. Only what the information arm is about is looked up, besides the outcome."""

    def __init__(
        self, round_: Round, *, information: Information, gold_patches: Mapping[str, str] | None = None
    ) -> None:
        self._logs = round_.logs
        self.information = information
        self._gold_patches = gold_patches or {}
        self._grades = round_.grades_by_patch()

    def outcome(self, trajectory: Trajectory) -> bool | None:
        return resolved(trajectory, self._grades)

    def of(self, trajectory: Trajectory) -> Evidence:
        """The evidence on a run. Raises InputError for a test log that cannot be read."""
        wants_patch = self.information == "gold_patch"
        return Evidence(
            resolved=self.outcome(trajectory),
            test_log=self._test_log(trajectory) if self.information == "test_log" else None,
            gold_patch=self._gold_patches.get(trajectory.task_id) if wants_patch else None,
        )

    def missing(self, trajectory: Trajectory) -> str | None:
        """What the information arm wants and this run does not have."""
        if self.information == "none":
            return None
        if self.outcome(trajectory) is None:
            return "outcome"
        if self.information == "gold_patch" and trajectory.task_id not in self._gold_patches:
            return "reference fix"
        grade = self._grade(trajectory)
        if self.information == "test_log" and (grade is None or (grade.log_path and not self._log_file(grade))):
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

    def _grade(self, trajectory: Trajectory) -> Grade | None:
        return self._grades.get((trajectory.task_id, patch_hash(trajectory.patch)))

    def _log_file(self, grade: Grade) -> Path | None:
        """The log, also where the run was graded in another place than it lies now."""
        assert grade.log_path is not None
        recorded = Path(grade.log_path)
        beside = self._logs.joinpath(*recorded.parts[-3:])
        return next((path for path in (beside, recorded) if path.is_file()), None)

    def _test_log(self, trajectory: Trajectory) -> str | None:
        """The tests' output without what stands around it; of a grade without tests, why there were none."""
        grade = self._grade(trajectory)
        if grade is None:
            return None
        if grade.log_path is None:
            return f"No test was run ({grade.outcome}{': ' + grade.detail if grade.detail else ''})."
        path = self._log_file(grade)
        try:
            text = path.read_bytes().decode(errors="replace") if path else None
        except OSError as error:
            raise InputError(f"{path}: the test log cannot be read ({error.strerror}); grade the run again") from None
        return text and _between_markers(text)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_AT_MOST]) + (", ..." if len(names) > NAMED_AT_MOST else "")


def _between_markers(log: str) -> str:
    r"""
    >>> _between_markers("+ : '>>>>> Start Test Output'\n1 failed\n+ : '>>>>> End Test Output'\n+ git checkout")
    '1 failed\n'
    """
    _, begin, after = log.partition(_TESTS_BEGIN)
    if not begin:
        return log
    tests, end, _ = after.partition(_TESTS_END)
    lines = tests.split("\n")[1:]  # the rest of the line that the marker stands in
    return "\n".join(lines[:-1]) + "\n" if end else "\n".join(lines)
