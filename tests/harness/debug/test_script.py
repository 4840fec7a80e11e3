"""`srft debug --script`: the same session from a YAML list."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from srft.env.errors import InputError
from srft.harness.debug.script import Command, Label, Written, read_script, readable
from tests.harness.debug.conftest import TASK

SCRIPT = """
- ask
- step
- edit: {action: echo 42 >answer.txt, thought: It is 42.}
- diff
- tests
- critic: 1
- rewind: 1
- type: {action: cat nothing, thought: Let me see.}
- label: {step: 1, verdict: mistake, reason: no such file}
- forks
- save
- fork: 0
- facts
- step
- save
"""


@pytest.fixture
def debug(srft, folder, local):
    """Runs `srft debug` on a script's text."""

    def run(script: str, *options: str):
        (folder / "commands.yaml").write_text(script)
        return srft(
            "debug", TASK, "--tasks", "tasks.jsonl", "--model", "script:replies.yaml", "--sandbox", local,
            "--script", "commands.yaml", *options,
        )  # fmt: skip

    return run


def test_a_script_and_what_else_reads_the_run(debug, srft, folder):
    done = debug(SCRIPT, "--run", "run", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    results = {each["command"]: each["result"] for each in told["results"]}
    assert len(told["results"]) == 15
    assert results["edit"]["author"] == "edited"
    assert results["tests"]["outcome"] == "resolved"
    log = Path(results["tests"]["log_path"])
    assert "PASSED test_answer" in log.read_text()  # though the command has ended
    assert f"srft: the tests' logs are in {log.parents[2]}" in done.stderr
    shutil.rmtree(log.parents[3])
    assert [label["verdict"] for label in results["critic"]["labels"]] == ["good"]
    assert results["type"]["exit_code"] == 1
    assert [fork["steps"] for fork in results["forks"]] == [2, 2]
    assert (results["facts"]["fork"], results["facts"]["outcome"]) == (0, "resolved")
    assert results["step"][0]["stop_reason"] == "submitted"
    assert results["save"]["graded"] == "resolved"

    shown = srft("show", "--run", "run", results["save"]["id"])
    assert "edited by a person" in shown.stdout, shown.stderr
    for command in (
        ("critique", "--run", "run", "--critic", "tool_error", "--json"),
        ("report", "--run", "run"),
        ("view", "run", "--export", "pages"),
    ):
        read = srft(*command)
        assert read.returncode == 0, (command, read.stdout, read.stderr)
    assert "edited by a person" in "".join(page.read_text() for page in (folder / "pages").rglob("*.html"))


def test_a_failing_command_ends_the_script(debug):
    done = debug("- step: 5\n- step\n- diff\n", "--json")
    assert done.returncode == 2
    results = json.loads(done.stdout)["results"]
    assert [each["command"] for each in results] == ["step", "step"]
    assert "commands.yaml: entry 2: step: the episode is over (submitted)" in results[1]["error"]
    assert results[1]["error"] in done.stderr


def test_more_steps_than_the_episode_has_are_those_it_has(debug):
    """What follows, above all the save, is done."""
    done = debug("- step: 5\n- save\n", "--run", "run", "--json")
    assert done.returncode == 0, done.stderr
    steps, saved = (each["result"] for each in json.loads(done.stdout)["results"])
    assert [step["stop_reason"] for step in steps] == [None, None, "submitted"]
    assert saved["stop_reason"] == "submitted"


def test_for_a_reader(debug):
    done = debug("- step\n- save\n")
    assert done.stdout.startswith("== step\n- step: 0\n  author: model\n  action: ls\n")
    assert "  observation: |-\n    answer.txt\n    kept.txt\n    [exit code 0]\n" in done.stdout
    assert "entry 2: save: to which run? Give it a value, or --run" in done.stderr


def test_inside_a_recorded_run(debug):
    assert debug("- edit: echo 42 >answer.txt\n- step: 2\n- save\n", "--run", "run").returncode == 0
    trajectories = "run/round-000/trajectories.jsonl"
    done = debug("- facts\n- step\n", "--replay", trajectories, "--to", "1", "--json")
    told = json.loads(done.stdout)
    assert told["replayed_otherwise"] == []
    assert (told["results"][0]["result"]["step"], told["results"][0]["result"]["human_steps"]) == (1, 1)
    assert told["results"][1]["result"][0]["action"] == "echo 43 >answer.txt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "1"), "name it with --replay FILE"),
        (("--critic", "nobody"), "--critic nobody: not a critic"),
        (("--model", "nobody"), "--model nobody: not a model"),
        (("--format", "native", "--prompt", "mini"), "prompt mini is for the formats"),
    ],
)
def test_wrong_options(debug, options, message):
    done = debug("- step\n- critic\n", *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_without_a_terminal_there_must_be_a_script(srft, folder, local):
    done = srft("debug", TASK, "--tasks", "tasks.jsonl", "--model", "human", "--sandbox", local)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no terminal here; give the commands with --script FILE" in done.stderr


def read(folder, text):
    (folder / "c.yaml").write_text(text)
    return [command[1:] for command in read_script(folder / "c.yaml")]


def test_commands_are_read(tmp_path):
    assert read(
        tmp_path, "- step\n- step: 2\n- edit: ls\n- type: {action: ls}\n- label: {step: 1, verdict: null}\n"
    ) == [
        ("step", None),
        ("step", 2),
        ("edit", "ls"),
        ("type", Written(action="ls")),
        ("label", Label(step=1, verdict=None)),
    ]
    assert Command._fields[1:] == ("name", "argument")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step", "expected a list of commands, got str"),
        ("[]", "expected a list of commands"),
        ("- stepp", "entry 1: no command 'stepp'; did you mean step?"),
        ("- step\n- {step: 1, diff: null}", "entry 2: expected one command"),
        ("- diff: 3", "entry 1: diff takes no value, got 3"),
        ("- step: 0", "entry 1: step: expected a whole number, 1 or more"),
        ("- step: -2", "entry 1: step: expected a whole number, 1 or more"),
        ("- rewind", "entry 1: rewind: expected a whole number, got null"),
        ("- rewind: one", "entry 1: rewind: expected a whole number, got text"),
        ("- label: {step: 1, verdict: bad}", "entry 1: label: verdict: choose good, mistake, "),
        ("- type: {action: ls, tool: python}", "tool is 'python'"),
        ("- [", "not YAML"),
    ],
)
def test_wrong_scripts(tmp_path, text, message):
    with pytest.raises(InputError) as raised:
        read(tmp_path, text)
    assert message in str(raised.value)
    assert str(tmp_path / "c.yaml") in str(raised.value)


def test_a_script_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_script(tmp_path / "none.yaml")


def test_readable_is_inert():
    assert readable("a\x1b[31mb") == "a␛[31mb"
    assert readable({"text": "one \ntwo\x07\n"}) == "text: |-\n  one\n  two␇"
    assert yaml.safe_load(readable({"text": "a: b"})) == {"text": "a: b"}
