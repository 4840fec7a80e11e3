"""A run as dataframes: every episode, step and verdict, by name and with what is not known missing."""

import subprocess
import sys

import pytest

import srft
from srft.agent.records import Action, Step, Usage
from srft.env.errors import InputError
from srft.harness.run.store import Run
from tests.harness.look.test_show import critique
from tests.train.conftest import make_run

STEP = Step(
    index=0,
    content="I look.",
    action=Action(tool="bash", arguments={"command": "ls"}, format="backtick"),
    observation="a.py",
    exit_code=0,
    wall_s=0.5,
    usage=Usage(prompt_tokens=10, completion_tokens=2, cost_usd=0.25),
)
LOST = Step(index=1, content="Hm.", reasoning="What now?", error="format", observation="Write one command.")


@pytest.fixture
def path(tmp_path):
    with Run(tmp_path / "run") as run:
        first = make_run(["x", "y"], id="first", recorded_resolved=False, steps=(STEP, LOST))
        run.round(0).trajectories.append(first)
        run.round(0).critiques.append(critique(first, "judge", ["good", None]))
        second = make_run(["x"], id="second", attempt=1, steps=(STEP,))
        run.at(tmp_path / "run" / "round-001" / "evaluation" / "srft").trajectories.append(second)
    return tmp_path / "run"


def test_an_episode_a_row(path):
    frame = srft.open_run(path).df()
    assert frame[["folder", "id", "attempt", "outcome", "steps"]].values.tolist() == [
        ["round-000", "first", 0, "unresolved", 2],
        ["round-001/evaluation/srft", "second", 1, "not_graded", 1],
    ]
    assert frame.resolved.isna().tolist() == [False, True]
    assert (frame.prompt_tokens.tolist(), frame.cost_usd.tolist()) == ([10, 10], [0.25, 0.25])
    assert frame.format_errors.tolist() == [1, 0]


def test_a_step_a_row(path):
    frame = srft.open_run(path).steps_df()
    assert frame[["id", "step", "content"]].values.tolist() == [
        ["first", 0, "I look."],
        ["first", 1, "Hm."],
        ["second", 0, "I look."],
    ]
    assert frame.action[0] == "ls"
    assert frame.action.isna().tolist() == [False, True, False]
    assert frame.exit_code.isna().tolist() == [False, True, False]
    assert frame.error[1] == "format"
    assert "observation" not in srft.open_run(path).steps_df(texts=False).columns


def test_a_verdict_a_row(path):
    frame = srft.open_run(path).labels_df()
    assert frame[["folder", "id", "step", "critic", "source"]].values.tolist() == [
        ["round-000", "first", 0, "judge", frame.source[0]],
        ["round-000", "first", 1, "judge", frame.source[0]],
    ]
    assert frame.verdict[0] == "good"
    assert frame.verdict.isna().tolist() == [False, True]


def test_a_run_without_episodes_has_all_columns_and_a_wrong_name_is_refused(path, tmp_path):
    with Run(tmp_path / "empty") as run:
        run.round(0)
    frame = srft.open_run(tmp_path / "empty").df()
    assert (len(frame), list(frame.columns[:3])) == (0, ["folder", "id", "task_id"])
    with pytest.raises(InputError, match=r"no such run directory; check --run; did you mean .*/run\?"):
        srft.open_run(tmp_path / "rum")


def test_importing_srft_is_light():
    heavy = "{'torch', 'transformers', 'pandas', 'datasets', 'openai'}"
    script = f"import sys, srft; srft.open_run; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
