"""A loop that begins with runs: what they are told by, what is refused, and each stage up to the rows; then, slowly,
the command itself with a tiny model, killed and started again."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from srft.env.errors import InputError
from srft.harness.loop.imported import runs_id
from srft.harness.loop.loop_config import RunsConfig, read_loop_config
from srft.harness.loop.loop_yaml import keep_loop_config
from srft.harness.loop.rounds import loop
from srft.harness.run.stages import Stages
from srft.harness.run.store import Run
from srft.train.fit.weights import weights_id
from tests.tiny import row
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML
from tests.train.training import tiny_model

RECIPE = {
    "compute": "float32",
    "pack_tokens": 512,
    "packs_per_step": 1,
    "steps": 4,
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "save_every": 1,
}


def recorded(task: str, *replies: str, resolved: bool) -> dict:
    messages = [{"role": "system", "content": "You mend code."}, {"role": "user", "content": f"Mend {task}."}]
    for reply in replies:
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": "seen"}]
    return {"instance_id": task, "messages": messages[:-1], "resolved": resolved}


RUNS = [
    recorded("a__b-1", "I look.\n```bash\nls\n```", "Done.", resolved=True),
    recorded("a__b-2", "I look.\n```bash\nls\n```", "I give up.", resolved=False),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """With a base model, a recipe, two runs and the loop's configuration."""
    tiny_model(tmp_path / "base", byte_tokenizer(CHATML))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    write_runs(tmp_path / "runs.jsonl", RUNS)
    config = {
        "runs": {"from": [str(tmp_path / "runs.jsonl")]},
        "model": str(tmp_path / "base"),
        "critic": "edits",
        "recipe": str(tmp_path / "recipe.yaml"),
        "rows": {"max_tokens": 512},
    }
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def write_runs(path: Path, runs: list[dict]) -> None:
    path.write_text("".join(json.dumps(run) + "\n" for run in runs))


def go(folder: Path, *sets: str, only=("import", "critique", "rows"), run="run"):
    config = read_loop_config(None, file=str(folder / "loop.yaml"), sets=sets)
    with Run(folder / run) as opened:
        return loop(config, opened, stop=threading.Event(), only=only)


def keys(folder: Path, run: str = "run") -> dict[str, str]:
    return {name: stage.key for name, stage in Stages.read(folder / run / "round-001").items()}


def on_file(folder: Path) -> list[str]:
    with Run(folder / "run") as run:
        return [trajectory.task_id for trajectory in run.round(1).trajectories.read()]


def test_runs_are_told_by_names_and_contents_not_by_where_they_lie(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
        write_runs(place / "runs.jsonl", RUNS)
    ids = {runs_id(RunsConfig(sources=(str(place),))) for place in (here, there)}
    files = {runs_id(RunsConfig(sources=(str(place / "runs.jsonl"),))) for place in (here, there)}
    assert (len(ids), len(files)) == (1, 1)
    write_runs(there / "runs.jsonl", RUNS[:1])
    assert runs_id(RunsConfig(sources=(str(there),))) not in ids
    assert runs_id(RunsConfig(sources=(str(there / "runs.jsonl"),))) not in files
    pair = (str(here / "runs.jsonl"), str(there / "runs.jsonl"))
    assert runs_id(RunsConfig(sources=pair)) != runs_id(RunsConfig(sources=pair[:1], report=pair[1]))
    assert runs_id(RunsConfig(sources=(f"{here}:train",))) != runs_id(RunsConfig(sources=(f"{there}:train",)))
    assert runs_id(RunsConfig(sources=("a/b",))) != runs_id(RunsConfig(sources=("a/c",)))
    assert runs_id(RunsConfig(sources=("a/b",))) != runs_id(RunsConfig(sources=("a/b",), outcome="unresolved"))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["practice={train: 1, test: 1}"], "practice makes tasks to collect on, and runs are imported"),
        (["rounds=2"], "each further one collects its own, which needs teachers, tasks, evaluation; give them"),
        (["rounds=2", "teachers=[student]", "tasks=t"], "which needs evaluation;"),
        (["teachers=[student]"], "the only round imports its runs and asks nobody"),
        (["critic=oracle"], "oracle knows the demonstrator's runs alone"),
        (["runs.fro=[a]"], r"unknown key runs\.fro; did you mean runs\.from\?"),
        (["runs={format: chat}"], r"from is missing"),
        (["runs.from=[]"], r"--set runs\.from=\[\]: expected a list of 1 or more"),
    ],
)
def test_what_does_not_go_with_runs_is_named(folder, sets, message):
    with pytest.raises(InputError, match=message):
        read_loop_config(None, file=str(folder / "loop.yaml"), sets=sets)


def test_further_rounds_collect_from_the_teachers(folder):
    sets = ["rounds=3", "teachers=[demonstrator, student]", "tasks=t", "evaluation=e"]
    config = read_loop_config(None, file=str(folder / "loop.yaml"), sets=sets)
    assert [config.teacher(number) for number in (1, 2, 3)] == [None, "demonstrator", "student"]


def test_what_only_further_rounds_need_may_be_given_later(folder):
    given = ["rounds=2", "teachers=[student]", "tasks=t", "evaluation=e"]
    with Run(folder / "run") as run:
        keep_loop_config(read_loop_config(None, file=str(folder / "loop.yaml")), run)
        keep_loop_config(read_loop_config(None, file=str(folder / "loop.yaml"), sets=given), run)
        with pytest.raises(InputError, match="begun with another tasks"):
            keep_loop_config(read_loop_config(None, file=str(folder / "loop.yaml"), sets=[*given, "tasks=u"]), run)


def test_from_the_import_to_the_rows(folder):
    outcome = go(folder)
    assert (outcome.complete, outcome.model, outcome.unmeasured) == (True, str(folder / "base"), ())
    stages = dict(Stages.read(folder / "run" / "round-001").items())
    assert list(stages) == ["import", "critique", "rows.srft"]
    imported = stages["import"].figures
    assert (imported["added"], imported["resolved"], imported["unresolved"], imported["steps"]) == (2, 1, 1, 4)
    assert stages["rows.srft"].figures["runs_used"] == 2
    assert not (folder / "run" / "round-000").exists()
    finished = {name: stage.finished_at for name, stage in stages.items()}
    go(folder)
    again = dict(Stages.read(folder / "run" / "round-001").items())
    assert {name: stage.finished_at for name, stage in again.items()} == finished


def test_other_runs_are_imported_anew_and_what_was_there_is_set_aside(folder):
    go(folder)
    before = keys(folder)
    write_runs(folder / "runs.jsonl", [*RUNS[:1], recorded("a__b-3", "Done.", resolved=False)])
    go(folder)
    after = keys(folder)
    assert on_file(folder) == ["a__b-1", "a__b-3"]
    assert {name for name in before if before[name] != after[name]} == {"import", "critique", "rows.srft"}
    (aside,) = (folder / "run" / "round-001").glob(".trajectories.jsonl.*")
    assert aside.name == f".trajectories.jsonl.{before['import']}"
    write_runs(folder / "new.jsonl", RUNS)
    go(folder, f"runs.from=[{folder / 'new.jsonl'}]")  # another name for what was there at first: another import
    assert on_file(folder) == ["a__b-1", "a__b-2"]


def test_an_import_that_was_interrupted_goes_on(folder):
    go(folder, run="whole")
    go(folder, only=["import"])
    path = folder / "run" / "round-001" / "trajectories.jsonl"
    stages = Stages.read(folder / "run" / "round-001")
    key = stages["import"].key
    stages.begin("import", key)
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n" + b'{"half')
    go(folder)
    assert path.read_bytes() == (folder / "whole" / "round-001" / "trajectories.jsonl").read_bytes()
    assert keys(folder) == keys(folder, "whole")


@pytest.mark.parametrize(
    ("by", "tasks", "message"),
    [
        ("instance", ["a__b-2"], r"1 of the 1 evaluation tasks are trained on \(a__b-2\)"),
        ("repository", ["a__b-7"], r"1 repositories of the evaluation tasks are trained on \(a/b\)"),
    ],
)
def test_runs_on_the_evaluation_tasks_are_refused_before_they_are_judged(folder, by, tasks, message):
    rows = [{**row(0), "instance_id": task, "repo": "a/b"} for task in tasks]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    sets = [f"evaluation={folder / 'tasks.jsonl'}", f"contamination={by}"]
    with pytest.raises(InputError, match=message):
        go(folder, *sets)
    assert list(keys(folder)) == ["import"]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["runs.from=[nothing.jsonl]"], "nothing.jsonl"),
        (["runs.tools=nothing.json"], r"runs\.tools: nothing\.json: cannot be read"),
        (["critic=nope"], "--critic nope: not a critic"),
    ],
)
def test_a_mistake_is_told_before_anything_is_done(folder, sets, message):
    with pytest.raises(InputError, match=message):
        go(folder, *sets)
    assert not (folder / "run" / "loop.yaml").exists()


@pytest.mark.parametrize(
    ("sets", "tasks"),
    [
        (["runs.limit=1"], ["a__b-1"]),
        (["runs.outcome=unresolved"], ["a__b-2"]),
        (["runs.outcome=resolved", "runs.limit=5"], ["a__b-1"]),
    ],
)
def test_only_the_runs_that_were_chosen_are_imported(folder, sets, tasks):
    go(folder, *sets, only=["import"])
    assert on_file(folder) == tasks


def test_a_stop_ends_the_import_and_the_same_command_goes_on(folder):
    config = read_loop_config(None, file=str(folder / "loop.yaml"))
    stop = threading.Event()
    stop.set()
    with Run(folder / "run") as run:
        outcome = loop(config, run, stop=stop, only=["import"])
    assert (outcome.complete, outcome.reason) == (False, "stopped")
    go(folder)
    assert on_file(folder) == ["a__b-1", "a__b-2"]


def test_files_without_a_run_are_refused(folder):
    write_runs(folder / "runs.jsonl", [recorded("a__b-1", resolved=True)])
    with pytest.raises(InputError, match=r"no run in them \(1 no reply of a model in it\)"):
        go(folder)


def test_the_report_says_that_nothing_was_measured(folder):
    go(folder, only=["import", "critique", "rows", "report"])
    said = (folder / "run" / "report.md").read_text()
    assert "No evaluation on held-out tasks" in said
    assert "is not finished" not in said
    assert json.loads((folder / "run" / "report.json").read_text())["rounds"][0]["collection"]["resolved"] == 1


# ---- the command ----


def command(folder: Path, run: str) -> list[str]:
    where = ["--config", str(folder / "loop.yaml"), "--run", str(folder / run)]
    return [sys.executable, "-m", "srft.harness.cli", "loop", *where, "--json"]


def done(folder: Path, run: str) -> dict:
    ended = subprocess.run(command(folder, run), capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def is_in_training(path: Path) -> bool:
    return any((path / "round-001/model/srft/checkpoints").glob("checkpoint-*/whole"))


@pytest.mark.slow
def test_every_stage_to_the_report_and_killed_to_the_same_end(folder):
    outcome = done(folder, "whole")
    model = folder / "whole" / "round-001" / "model" / "srft"
    assert (outcome["complete"], outcome["unmeasured"]) == (True, [str(model)])
    assert list(keys(folder, "whole")) == ["import", "critique", "rows.srft", "train.srft"]
    assert not (folder / "whole" / "model").exists()  # nothing is promoted that was not measured
    assert "No evaluation on held-out tasks" in (folder / "whole" / "report.md").read_text()
    assert weights_id(model) != weights_id(folder / "base")

    with subprocess.Popen(command(folder, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not is_in_training(folder / "killed"):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done(folder, "killed")
    assert keys(folder, "killed") == keys(folder, "whole")
    assert weights_id(folder / "killed" / "round-001" / "model" / "srft") == weights_id(model)
