"""`srft loop` on a machine without a GPU: real containers, a real if tiny model, the command as a user gives it.

The project has one function, so that a model of two layers can learn by heart how it is mended.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from srft.critic.labels.labels import Critique, StepLabel
from srft.harness.run.stages import Stages
from srft.harness.run.store import Run
from srft.train.fit.weights import weights_id
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML

pytestmark = pytest.mark.slow

SOURCE = '''\
"""One rule."""


def at_most(value, limit):
    """Whether the value is not above the limit."""
    return value <= limit
'''
TESTS = """\
from limit import at_most


def test_below():
    assert at_most(1, 2) is True


def test_above():
    assert at_most(3, 2) is False


def test_equal():
    assert at_most(2, 2) is True
"""
PROJECT = """\
[project]
name = "limit"
version = "1.0"

[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[tool.setuptools]
py-modules = ["limit"]
"""


def make_project(project: Path) -> None:
    """A git repository of one function and its tests."""
    project.mkdir()
    for name, text in (("limit.py", SOURCE), ("test_limit.py", TESTS), ("pyproject.toml", PROJECT)):
        (project / name).write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", "-C", str(project)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "One rule."]):
        subprocess.run([*git, *command], check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, base_image) -> Path:
    """With the project, the base model, the recipe and the loop's configuration in it."""
    folder = tmp_path_factory.mktemp("loop")
    make_project(folder / "limit")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(CHATML)
    model = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(model).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    recipe = {"compute": "float32", "pack_tokens": None, "packs_per_step": 2, "steps": 200, "learning_rate": 1.5e-3}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "held_out": 0.0, "save_every": 50, "log_every": 50}))
    (folder / "loop.yaml").write_text(yaml.safe_dump(_loop(folder)))
    return folder


def _loop(folder: Path) -> dict:
    short = {"workers": 2, "prompt": "short", "episode": {"steps": 4, "format_errors": 2}}
    no_errors = {"wrong_file": 0, "wrong_edit": 0, "unfinished": 0, "unnecessary": 0}
    return {
        "practice": {"packages": [str(folder / "limit")], "train": 3, "test": 2, "split": "mutant", "issue": "short"},
        "contamination": "instance",
        "model": str(folder / "base"),
        "collect": {**short, "attempts": 16, "demonstrator": {"style": "short", "rates": no_errors}},
        "critic": "edits",
        "mask": {"mask_resolved": True},  # all of these runs are resolved: without it, no label changes their rows
        "recipe": str(folder / "recipe.yaml"),
        "rows": {"max_tokens": 1024},
        "serve": {"kind": "transformers", "dtype": "float32", "max_model_len": 1024},
        "evaluate": {**short, "openai": {"temperature": 0.0, "max_tokens": 96}},
    }


def _command(folder: Path, run: Path, *further: str) -> list[str]:
    config = ["loop", "--config", str(folder / "loop.yaml"), "--run", str(run), *further]
    return [sys.executable, "-m", "srft.harness.cli", *config]


def _loops(folder: Path, run: Path, *further: str) -> subprocess.CompletedProcess:
    command = _command(folder, run, *further)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def finished(folder) -> Path:
    run = folder / "finished"
    done = _loops(folder, run, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"] is True
    return run


def _report(run: Path) -> dict:
    return json.loads((run / "report.json").read_text())


def _rounds(run: Path) -> list[dict]:
    """The rounds of the report without the run's place and without times."""

    def timeless(value):
        if isinstance(value, dict):
            return {name: timeless(member) for name, member in value.items() if name != "wall_s"}
        return [timeless(member) for member in value] if isinstance(value, list) else value

    text = json.dumps(timeless(_report(run)["rounds"]))
    return json.loads(text.replace(str(run), "RUN"))


def _came_of(run: Path) -> dict:
    """What must not depend on how often it was interrupted."""
    came = {}
    for place in (run / "round-000/evaluation/base", run / "round-001", run / "round-001/evaluation/srft"):
        lines = [json.loads(line) for line in (place / "trajectories.jsonl").read_bytes().split(b"\n") if line]
        came[place.name] = sorted((line["task_id"], line["attempt"], line["id"], line["patch"]) for line in lines)
        grades = [json.loads(line) for line in (place / "grades.jsonl").read_bytes().split(b"\n") if line]
        came[place.name, "grades"] = sorted((grade["key"], grade["resolved"]) for grade in grades)
    labels = [json.loads(line) for line in (run / "round-001/labels.jsonl").read_bytes().split(b"\n") if line]
    came["labels"] = sorted((label["trajectory_id"], label["critic"], str(label["labels"])) for label in labels)
    came["weights"] = weights_id(run / "round-001/model/srft")
    came["keys"] = {name: stage.key for name, stage in Stages.read(run / "round-001").items()}
    return came


def test_a_loop_teaches_and_reports(finished):
    rounds = _report(finished)["rounds"]
    assert [(one["evaluation"]["tasks"], one["evaluation"]["resolved"]) for one in rounds] == [(2, 0), (2, 2)]
    promoted = Stages.read(finished / "round-001")["promote"].figures
    assert (promoted["decision"], promoted["before"], promoted["after"]) == ("promoted", 0.0, 1.0)
    assert (finished / "model").resolve() == (finished / "round-001/model/srft").resolve()
    probe = Stages.read(finished / "round-001")["serve.srft"].figures["probe"]
    assert probe["verdict"] == "served"
    assert "report.html" in os.listdir(finished)


def test_the_same_command_again_finds_all_done(folder, finished):
    before = _came_of(finished)
    begun = time.monotonic()
    assert _loops(folder, finished).returncode == 0
    assert _came_of(finished) == before
    assert time.monotonic() - begun < 120  # far below what the work takes


STAGES_TO_KILL = (
    "practice",
    "round-000 evaluate.base",
    "round-001 collect",
    "round-001 critique",
    "round-001 train.srft",
    "round-001 evaluate.srft",
    "round-001 promote",
)


def _is_in(run: Path, stage: str) -> bool:
    """Whether a stage is under way, or over already: some take no time."""
    if stage == "practice":
        return (run / "practice/trials.jsonl").exists()
    round_, name = stage.split()
    path = run / round_ / "stages.json"
    if not path.exists():
        return False
    content = json.loads(path.read_bytes())
    if name in content["stages"]:
        return True
    if name == "train.srft":  # past its first checkpoint, so that there is something to go on from
        return any((run / round_ / "model/srft/checkpoints").glob("checkpoint-*/whole"))
    return name in content["begun"]


def test_killed_in_every_stage_it_comes_to_the_same_end(folder, finished):
    run = folder / "killed"
    for stage in STAGES_TO_KILL:
        with subprocess.Popen(_command(folder, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while process.poll() is None and not _is_in(run, stage):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            said = process.stderr.read().decode()
            assert process.wait() in (-signal.SIGKILL, 0), said
    ended = _loops(folder, run)
    assert ended.returncode == 0, ended.stderr
    assert _came_of(run) == _came_of(finished)
    assert _rounds(run) == _rounds(finished)


def test_stages_run_alone(folder):
    run = folder / "alone"
    ended = _loops(folder, run, "--arms", "srft,all", "--stages", "practice,collect,critique,rows")
    assert ended.returncode == 0, ended.stderr
    assert [name for name, _ in Stages.read(run / "round-001").items()] == [
        "collect",
        "critique",
        "rows.srft",
        "rows.all",
    ]
    assert not (run / "round-000").exists()
    ended = _loops(folder, run, "--arms", "srft,all", "--stages", "train,promote")
    assert ended.returncode == 2
    assert "promote builds on it; add evaluate to --stages" in ended.stderr


@pytest.mark.parametrize("stages", ["report", "rows,train", "collect", "evaluate", "promote"])
def test_stages_of_a_finished_loop_change_nothing(folder, finished, stages):
    before = _came_of(finished)
    ended = _loops(folder, finished, "--stages", stages)
    assert ended.returncode == 0, ended.stderr
    assert _came_of(finished) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "critic=nope"], "--critic nope: not a critic"),
        (["--set", "teachers=[nope]"], "teachers: nope: not a model"),
        (["--model", "nope"], "model (--model): nope: no model there"),
        (["--stages", ""], "--stages : expected some of practice, import, collect"),
    ],
)
def test_a_mistake_is_told_before_anything_is_done(folder, options, said):
    run = folder / "mistaken"
    ended = _loops(folder, run, *options)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert not (run / "loop.yaml").exists()


def test_another_first_seed_is_refused(folder, finished):
    ended = _loops(folder, finished, "--seeds", "1,0")
    assert ended.returncode == 2
    assert "give it first, not 1" in ended.stderr


def test_a_model_that_got_worse_is_rolled_back(folder, finished):
    base = str(finished / "round-001/model/srft")
    ended = _loops(folder, folder / "worse", "--model", base, "--set", "training={learning_rate: 1.0, steps: 4}")
    assert ended.returncode == 0, ended.stderr
    figures = Stages.read(folder / "worse/round-001")["promote"].figures
    assert (figures["decision"], figures["before"], figures["after"]) == ("rolled back", 1.0, 0.0)
    assert figures["model"] == base
    assert not (folder / "worse/model").exists()
    (folder / "worse/model").symlink_to("round-001/model/srft")  # as if it had been promoted before
    assert (
        _loops(folder, folder / "worse", "--model", base, "--set", "training={learning_rate: 1.0, steps: 4}").returncode
        == 0
    )
    assert not (folder / "worse/model").is_symlink()
    assert "rolled back" in (folder / "worse/report.md").read_text()


def test_labels_that_changed_since_have_the_later_stages_done_again(folder, finished):
    run = folder / "labelled"
    subprocess.run(["cp", "-a", str(finished), str(run)], check=True)
    with Run(run) as opened:
        round_ = opened.round(1)
        first = next(round_.finished())
        labels = [StepLabel(step=step.index, verdict="mistake") for step in first.steps]
        human = Critique(
            trajectory_id=first.id,
            task_id=first.task_id,
            critic="anna",
            fingerprint="f",
            source="human",
            labels=tuple(labels),
        )
        round_.critiques.append(human)
    ended = _loops(folder, run, "--set", "mask={mask_resolved: false}")
    assert ended.returncode == 2
    assert "begun with another mask" in ended.stderr
    ended = _loops(folder, run, "--stages", "rows,train")
    assert ended.returncode == 0, ended.stderr
    before, after = (Stages.read(place / "round-001") for place in (finished, run))
    assert after["rows.srft"].key != before["rows.srft"].key
    assert after["collect"].key == before["collect"].key
    (aside,) = (run / "round-001/model").glob(".srft.*")
    assert weights_id(aside) == weights_id(finished / "round-001/model/srft")
    assert not {"evaluate.srft", "promote"} & {name for name, _ in after.items()}  # they were of the model set aside
    assert len(list((run / "round-001/evaluation").glob(".srft.*"))) == 1


def test_a_budget_that_is_spent_stops_the_loop_and_more_of_it_goes_on(folder):
    run = folder / "budget"
    ended = _loops(folder, run, "--set", "budget.disk_gib=0.00001")
    assert ended.returncode == 1
    assert "budget.disk_gib" in ended.stderr
    assert "raise it and give the same command again" in ended.stderr
    ended = _loops(folder, run, "--stages", "practice", "--set", "budget.disk_gib=1")
    assert ended.returncode == 0, ended.stderr
    assert (run / "practice/practice.json").exists()
