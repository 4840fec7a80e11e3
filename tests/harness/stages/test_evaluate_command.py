"""`srft evaluate` on what there is: an edited predictions file, a loop's run, imported runs, a collection cut short."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from srft.env.errors import InputError
from srft.env.grading.grade import grade_key
from srft.env.tasks.task import load_tasks
from srft.harness.cli import app
from srft.harness.config.config import CollectConfig, SandboxConfig
from srft.harness.facts import read_report
from srft.harness.run.run_yaml import write_config
from srft.harness.run.store import Run
from tests import tiny
from tests.harness.loop_run import episode, grade_of

RIGHT = "--- a/answer.txt\n+++ b/answer.txt\n@@ -1 +1 @@\n-41\n+42\n"
WRONG = RIGHT.replace("+42", "+43")


@pytest.fixture
def tasks(tmp_path) -> Path:
    return tiny.write_tasks(tmp_path / "tasks.jsonl", 3)


def evaluate(*arguments):
    """(exit code, the object on stdout, stderr)."""
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout), done.stderr


def write(path, patches):
    lines = [json.dumps({"instance_id": f"tiny__tiny-{number}", "model_patch": patch}) for number, patch in patches]
    path.write_text("\n".join(lines) + "\n")
    return path


def graded(opened, tasks, runs):
    """Episodes of tiny tasks whose verdicts are on file already: (number, attempt, patch, resolved, stop reason)."""
    by_id = {task.instance_id: task for task in load_tasks(str(tasks))}
    for number, attempt, patch, resolved, stop_reason in runs:
        run = episode(f"tiny__tiny-{number}", attempt=attempt, patch=patch, stop_reason=stop_reason)
        opened.trajectories.append(run)
        if resolved is not None:
            key = grade_key(by_id[run.task_id], patch)
            opened.grades.append(msgspec.structs.replace(grade_of(run, resolved), key=key))


def test_superseded_patches_of_an_edited_predictions_file_are_no_attempts(tasks, tiny_image, tmp_path):
    file, run = tmp_path / "p.jsonl", tmp_path / "run"
    command = ("--tasks", tasks, "--only", "tiny__tiny-0,tiny__tiny-1", "--predictions", file, "--run", run)
    for patches, resolved in (((WRONG, WRONG), 0), ((RIGHT, WRONG), 1), ((WRONG, WRONG), 0)):
        write(file, enumerate(patches))
        _, evaluation, _ = evaluate(*command)
        one = read_report(run).rounds[0].collection
        assert (evaluation["predictions"], evaluation["resolved"]) == (2, resolved)
        assert (one.predictions, one.resolved, one.rate) == (2, resolved, evaluation["rate"])
    assert len((run / "round-000" / "grades.jsonl").read_text().splitlines()) == 3  # nothing was graded twice


@pytest.fixture
def collection(tasks, tiny_image, tmp_path):
    """Two attempts at three tasks were asked for; three of the six are on file, one of them ended by the world."""
    config = CollectConfig(tasks=str(tasks), model="script:x", attempts=2, sandbox=SandboxConfig(kind="docker"))
    with Run(tmp_path / "run") as opened:
        round_ = opened.round(0)
        graded(
            round_,
            tasks,
            [
                (0, 0, RIGHT, True, "submitted"),
                (0, 1, WRONG, False, "submitted"),
                (1, 0, None, None, "infra_error"),
            ],
        )
        write_config(config, tmp_path / "run", backend="docker")
    return tmp_path / "run"


def test_episodes_that_are_not_run_are_no_failures(collection):
    code, evaluation, said = evaluate("--run", collection)
    figures = ("tasks", "predictions", "resolved", "unresolved", "not_graded", "missing", "not_run", "rate")
    assert {name: evaluation[name] for name in figures} == {
        **{"tasks": 2, "predictions": 3, "resolved": 1, "unresolved": 1, "not_graded": 1, "missing": 0, "not_run": 3},
        "rate": 0.5,
    }
    assert (code, "1 episodes were ended by the infrastructure or cancelled" in said) == (1, True)
    report = read_report(collection)
    assert report.missing[0] == (
        "Round 0: 3 of 6 episodes that were asked for are not run, and are in no figure. The command that collects "
        "runs them when it is given again."
    )
    assert (report.rounds[0].collection.rate, report.rounds[0].collection.predictions) == (0.5, 3)
    shown = CliRunner().invoke(app, ["evaluate", "--run", str(collection)])
    assert "not run: 3 of 6 attempts that were asked for; they are in no figure above" in shown.stdout


def test_a_report_says_nothing_of_episodes_whose_tasks_are_not_here(collection, tasks):
    tasks.unlink()
    assert not any("asked for are not run" in line for line in read_report(collection).missing)


def test_a_run_that_rounds_made(tasks, tiny_image, tmp_path):
    """Its newest round, the one that is named, or an evaluation; in the sandbox that it was collected in."""
    config = CollectConfig(
        tasks=str(tasks), only=("tiny__tiny-0",), model="student", sandbox=SandboxConfig(kind="docker")
    )
    with Run(tmp_path / "run") as opened:
        opened.round(0)
        places = (opened.round(1), opened.round(2), opened.round(2).evaluation("srft"))
        for round_, resolved in zip(places, (False, True, False), strict=True):
            graded(round_, tasks, [(0, 0, RIGHT if resolved else WRONG, resolved, "submitted")])
            write_config(config, round_.path, backend="docker")
    for name, options, resolved in (
        ("run", (), 1),
        ("run", ("--round", 1), 0),
        ("run:round-002/evaluation/srft", (), 0),
    ):
        code, evaluation, _ = evaluate("--run", tmp_path / name, *options)
        assert (code, evaluation["predictions"], evaluation["resolved"]) == (0, 1, resolved)


def test_imported_runs(tasks, tiny_image, tmp_path):
    with Run(tmp_path / "run") as opened:
        round_ = opened.round(0)
        graded(round_, tasks, [(0, 0, RIGHT, True, "submitted"), (0, 1, WRONG, False, "submitted")])
        round_.trajectories.append(episode("other-1"))
    with pytest.raises(InputError, match="its runs were imported, and where their tasks lie is not on file"):
        evaluate("--run", tmp_path / "run")
    code, evaluation, said = evaluate("--run", tmp_path / "run", "--tasks", tasks)
    assert (code, evaluation["predictions"], evaluation["resolved"], evaluation["not_run"]) == (0, 2, 1, 0)
    assert "left out: 1 runs on tasks that are not among the 3 asked for" in said
    other = tiny.write_tasks(tmp_path / "other.jsonl", 1, owner="nobody")
    with pytest.raises(InputError, match="none of its 3 runs is on a task of"):
        evaluate("--run", tmp_path / "run", "--tasks", other)
