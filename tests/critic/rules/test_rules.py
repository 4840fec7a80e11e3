"""Critics that are rules, on hand-made steps and on recorded runs; what is an exploit is in test_exploits.py."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.agent.importing.importers import read_runs
from srft.agent.records import Action
from srft.critic.labels.labels import Evidence, check_complete
from srft.critic.rules.rules import ExploitCritic, ToolErrorCritic
from tests.critic.hand_made import bash, edit, trajectory, verdicts


@pytest.mark.parametrize(
    ("step", "verdict"),
    [
        (bash("ls"), "good"),
        (bash("python x.py", exit_code=1), "mistake"),
        (bash("ls", exit_code=-1, timed_out=True), "mistake"),
        (bash("ls", exit_code=None, timed_out=True), "mistake"),
        ({"error": "format", "observation": "No action."}, "mistake"),
        ({"error": "infrastructure"}, None),
        (bash("ls", exit_code=None), None),
        (bash("submit", exit_code=None, observation=None), "good"),
        ({"action": Action(tool="submit", format="native"), "observation": "diff --git"}, "good"),
        (edit(command="view", path="a.py"), "good"),
        (edit(command="view", path="a.py", exit_code=1), "mistake"),
    ],
)
def test_tool_errors(step, verdict):
    assert verdicts(ToolErrorCritic(), step) == [verdict]


@pytest.mark.parametrize(
    ("command", "exit_code", "verdict"),
    [
        ("grep -r x .", 1, "good"),
        ("grep -r x .", 2, "mistake"),
        ("cd src && cat a | grep x", 1, "good"),
        ("python a.py; echo done; grep x log", 1, "good"),
        ("make && grep x log", 1, "mistake"),
        ("grep x a && python b.py", 1, "mistake"),
        ("grep x a | sort", 1, "mistake"),
        ("diff a b || diff a c", 1, "good"),
        ("[ -f a ]", 1, "good"),
        ("grep $(false) a", 1, "good"),
        ("pytest tests", 1, "mistake"),
        ("cd nowhere", 1, "mistake"),
    ],
)
def test_exit_codes_that_are_answers(command, exit_code, verdict):
    assert verdicts(ToolErrorCritic(), bash(command, exit_code=exit_code)) == [verdict]


@pytest.mark.parametrize(
    ("tool", "arguments", "verdict"),
    [
        ("execute_bash", {"command": "grep x a", "is_input": "false"}, "good"),
        ("Bash", {"command": "grep x a", "description": "Look."}, "good"),
        ("functions.shell", {"command": ["bash", "-lc", "grep x a"]}, "good"),
        ("shell", {"command": ["grep", "x", "a b"]}, "good"),
        ("mcp__box__run_command", {"cmd": "grep x a"}, "good"),
        ("shell", {"command": ["make", "-c", "grep x a"]}, "mistake"),
        ("shell", {"command": ["grep", 1]}, "mistake"),
        ("execute_bash", {"command": "pytest"}, "mistake"),
        ("str_replace_editor", {"command": "grep x a"}, "mistake"),
        ("bash", {}, "mistake"),
    ],
)
def test_shells_of_other_scaffolds(tool, arguments, verdict):
    step = {"action": Action(tool=tool, arguments=arguments, format="native"), "exit_code": 1, "observation": ""}
    assert verdicts(ToolErrorCritic(), step) == [verdict]


def test_what_is_an_answer_is_a_setting():
    failed = bash("pytest tests", exit_code=1)
    assert verdicts(ToolErrorCritic(benign={"pytest": [1]}), failed) == ["good"]
    assert verdicts(ToolErrorCritic(benign={}), bash("grep x a", exit_code=1)) == ["mistake"]
    fingerprints = {
        ToolErrorCritic(**settings).fingerprint for settings in ({}, {"benign": {}}, {"benign": {"a": [1]}})
    }
    assert len(fingerprints) == 3


def test_tool_error_counts_what_it_excused():
    critique = ToolErrorCritic().judge(
        trajectory(bash("grep a b", exit_code=1), bash("ls", exit_code=None), bash("ls")), Evidence()
    )
    assert critique.remarks == {"benign_exit_code": 1, "exit_code_unknown": 1}
    assert (critique.critic, critique.source, critique.trajectory_id) == ("tool_error", "rule", "t")


WORDS = [
    "git",
    "log",
    "show",
    "stash",
    "HEAD",
    "--all",
    "--",
    "..",
    "sed",
    "-i",
    "-e",
    "rm",
    "mv",
    "cp",
    "tests/a.py",
    ">",
]
WORDS += [
    "pip",
    "install",
    "-e",
    "curl",
    "://",
    "python",
    "-c",
    "-",
    "<<E\n",
    "\nE\n",
    "open('tests/a.py','w')",
    "'",
    "cd",
]


@given(st.lists(st.sampled_from([*WORDS, "|", "&&", "", "~", "/", "."]), max_size=12))
def test_every_command_is_judged(words):
    command = " ".join(words)
    assert verdicts(ToolErrorCritic(), bash(command, exit_code=1))
    assert verdicts(ExploitCritic(), bash(command, observation=command), bash(command))


def test_recorded_runs(shared_data):
    path = shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    flagged, remarks = Counter(), Counter()
    steps = 0
    for run in read_runs(path):
        steps += len(run.steps)
        for critic in (ToolErrorCritic(), ExploitCritic()):
            critique = critic.judge(run, Evidence())
            check_complete(critique.labels, steps=len(run.steps), where="recorded")
            flagged[critic.name, run.recorded_resolved] += sum(label.verdict == "mistake" for label in critique.labels)
            remarks.update(critique.remarks)
    assert steps == 10_222
    assert flagged == {
        ("tool_error", True): 610,
        ("tool_error", False): 349,
        ("exploit", True): 48,
        ("exploit", False): 16,
    }
    assert remarks == {"benign_exit_code": 163, "tests": 53, "network": 11}
