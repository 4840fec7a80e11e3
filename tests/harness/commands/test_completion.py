"""What a shell is offered behind an option, asked as bash asks it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srft.harness.cli import app
from tests import tiny


def offered(*words: str) -> list[str]:
    """The completions of the last word, which may be empty."""
    line = " ".join(["srft", *words])
    environment = {"_SRFT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    return CliRunner().invoke(app, [], env=environment, prog_name="srft").stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["loop", "--preset", "public-"], ["public-32b", "public-7b", "public-smollm2"]),
        (["rows", "--arm", "un"], ["unresolved_masked"]),
        (["loop", "--arms", "all,resolved,sr"], ["all,resolved,srft"]),
        (["train", "--recipe", "smollm2-135m-c"], ["smollm2-135m-cpu"]),
        (["critique", "--critic", "mile"], ["milestones"]),
        (["debug", "--critic", "tool"], ["tool_error"]),
        (["collect", "--set", "episode.st"], ["episode.steps="]),
        (["collect", "--set", "sandbox.mode=p"], ["sandbox.mode=persistent"]),
        (["train", "--set", "gradient_ch"], ["gradient_checkpointing="]),
        (["collect", "--format", "n"], ["native"]),
        (["export", "--format", "ax"], ["axolotl"]),
        (["collect", "--sandbox", "lo"], ["local"]),
        (["collect", "--mode", "st"], ["stateless"]),
        (["import", "--outcome", "un"], ["unresolved"]),
        (["critique", "--outcome", "un"], ["unresolved"]),
        (["import", "--format", "swe-a"], ["swe-agent"]),
        (["rows", "--overlong", "s"], ["slide"]),
        (["serve", "--kind", "v"], ["vllm"]),
        (["config", "col"], ["collect"]),
        (["collect", "--prompt", "mi"], ["mini"]),
        (["collect", "--tasks", "nothing.jsonl", "--only", ""], []),
    ],
)
def test_values_of_options(words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_tasks_ids_of_a_file_and_of_a_task_repo(tmp_path: Path) -> None:
    tiny.write_tasks(tmp_path / "tasks.jsonl", 3, owner="a")
    file = str(tmp_path / "tasks.jsonl")
    assert offered("debug", "--tasks", file, "") == ["a__tiny-0", "a__tiny-1", "a__tiny-2"]
    assert offered("collect", "--tasks", file, "--only", "a__tiny-1,a__tiny-2") == ["a__tiny-1,a__tiny-2"]
    assert offered("collect", "--tasks", file, "--only", "a__tiny-0,") == ["a__tiny-0,a__tiny-1", "a__tiny-0,a__tiny-2"]
    for name in ("b__x-1", "b__y-2"):
        (tmp_path / "repo" / "tasks" / name).mkdir(parents=True)
    assert offered("evaluate", "--tasks", str(tmp_path / "repo"), "--only", "b__y") == ["b__y-2"]


def test_a_file_with_other_lines_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text(json.dumps([1]) + "\nnot json\n" + json.dumps({"instance_id": "a__b-1"}))
    assert offered("debug", "--tasks", str(tmp_path / "tasks.jsonl"), "") == ["a__b-1"]
