"""run.yaml: what goes on with a run, wherever it lies, and what does not."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest
import yaml

from srft.agent.loop import EpisodeLimits
from srft.agent.models.openai import OpenAIConfig
from srft.env.errors import InputError
from srft.harness.config.config import CollectConfig, GradingConfig, ImagesConfig, read_config
from srft.harness.run.run_yaml import kept_config, refuse_another_config, tasks_of_round, write_config
from srft.harness.run.store import Run
from tests.tiny import write_tasks


def begin(path: str | Path, config: CollectConfig) -> None:
    """What a collection does with its configuration first."""
    with Run(path) as run:
        refuse_another_config(config, run.path, run.round(0))
        write_config(config, run.path, backend="docker")


@pytest.fixture
def config(tmp_path) -> CollectConfig:
    return CollectConfig(tasks=str(write_tasks(tmp_path / "tasks.jsonl", 2)), model="http://one/v1#m")


def test_where_and_how_may_change(tmp_path, config):
    begin(tmp_path / "run", config)
    shutil.copy(config.tasks, tmp_path / "moved.jsonl")
    changes = {
        "tasks": str(tmp_path / "moved.jsonl"),
        "model": "http://two/v1#m",
        "openai": OpenAIConfig(timeout_s=1.0, usd_per_million_prompt=2.0),
        "workers": 9,
        "infra_retries": 9,
        "images": ImagesConfig(disk_budget_gib=1.0),
        "grading": GradingConfig(timeout_s=1.0),
        "attempts": 3,
    }
    begin(tmp_path / "run", msgspec.structs.replace(config, **changes))
    begin(tmp_path / "run", config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, r"another seed \(was the default, now 7\); give what it was begun with, or another --run"),
        ({"episode": EpisodeLimits(steps=5)}, r"another episode\.steps \(was the default, now 5\)"),
        ({"model": "http://one/v1#n"}, r"another model \(was endpoint m, now endpoint n\)"),
        ({"openai": OpenAIConfig(temperature=0.5)}, r"another openai\.temperature"),
    ],
)
def test_what_decides_is_refused(tmp_path, config, changes, said):
    begin(tmp_path / "run", config)
    with pytest.raises(InputError, match=said):
        begin(tmp_path / "run", msgspec.structs.replace(config, **changes))


def test_more_tasks_are_added_and_others_are_refused(tmp_path, config):
    begin(tmp_path / "run", config)
    write_tasks(Path(config.tasks), 3)
    begin(tmp_path / "run", config)
    write_tasks(Path(config.tasks), 2)
    with pytest.raises(InputError, match=r"another tasks \(was 3 tasks, now 2, of which 1 are gone or others: tiny"):
        begin(tmp_path / "run", config)


def test_a_script_counts_by_what_it_says(tmp_path, config):
    script = tmp_path / "script.yaml"
    script.write_text("[a, b]")
    config = msgspec.structs.replace(config, model=f"script:{script}")
    begin(tmp_path / "run", config)
    script.write_text("[a, c]")
    with pytest.raises(InputError, match="begun with another model"):
        begin(tmp_path / "run", config)


def test_a_runs_own_tasks_go_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for spelled in ("runs/demo", os.path.abspath("runs/demo"), "runs/../runs/demo"):
        Path(spelled, "round-001").mkdir(parents=True, exist_ok=True)
        Path(spelled, "loop.yaml").touch()
        write_tasks(Path(spelled, "tasks.jsonl"), 1)
        with Run(spelled) as run:
            round_ = run.round(1)
            config = CollectConfig(tasks=str(run.path / "tasks.jsonl"), model="demonstrator")
            refuse_another_config(config, round_.path, round_)
            write_config(config, round_.path, backend="docker")
    Path("runs/demo").rename("moved")
    with Run("moved") as run:
        assert [task.instance_id for task in tasks_of_round(run.round(1))] == ["tiny__tiny-0"]
    assert kept_config(Path("moved/round-001")).tasks == "moved/tasks.jsonl"
    assert read_config(CollectConfig, file="moved/round-001/run.yaml").tasks == "moved/tasks.jsonl"


def test_a_run_that_keeps_no_identity_is_compared_by_its_configuration(tmp_path, config):
    begin(tmp_path / "run", config)
    (tmp_path / "run" / "identity.json").unlink()
    begin(tmp_path / "run", config)
    (tmp_path / "run" / "identity.json").unlink()
    with pytest.raises(InputError, match="begun with another seed"):
        begin(tmp_path / "run", msgspec.structs.replace(config, seed=7))


def test_what_an_image_was_is_kept_when_it_is_gone(tmp_path, config):
    for images in ({"a": "sha256:1", "b": None}, {"a": None, "b": "sha256:2"}, {}):
        write_config(config, tmp_path, backend="docker", images=images)
    kept = yaml.safe_load((tmp_path / "run.yaml").read_text())["images"]
    assert kept == {"a": "sha256:1", "b": "sha256:2"}
