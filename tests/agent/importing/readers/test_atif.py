"""ATIF trajectories, and Harbor's trials of them."""

import json

import pytest

from srft.agent.importing.importers import read_runs
from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.atif import (
    CONVERTERS_THINKING,
    CONVERTERS_WORDS,
    PARTS,
    READER,
    SIDECHAINS,
)
from srft.agent.importing.readers.conversation import NOT_RECORDED, steps_of
from srft.agent.importing.readers.source import NO_TRAJECTORY
from srft.agent.records import Action, Usage
from srft.env.errors import InputError


def agent(message, **more):
    return {"source": "agent", "message": message, **more}


def bash(identity, command, text, **extra):
    call = {"tool_call_id": identity, "function_name": "Bash", "arguments": {"command": command}}
    results = [{"source_call_id": identity, "content": text}]
    return {"tool_calls": [call], "observation": {"results": results}, "extra": {"tool_use_name": "Bash", **extra}}


def ran(failed):
    result = {"tool_use_result": {"stdout": "", "interrupted": False}}
    return {"tool_result_is_error": failed, "tool_result_metadata": result}


ATIF = {
    "schema_version": "ATIF-v1.2",
    "session_id": "s",
    "agent": {"name": "claude-code", "version": "2", "model_name": "m"},
    "steps": [
        {"source": "system", "message": "S"},
        {"source": "user", "message": [{"type": "text", "text": "T"}]},
        agent("I look.", reasoning_content="hm", metrics={"prompt_tokens": 9, "completion_tokens": 2, "cost_usd": 0.5}),
        agent("Executed Bash b0", reasoning_content="hm", **bash("b0", "ls", "x", **ran(False))),
        agent("Executed Bash b1", reasoning_content="None", **bash("b1", "cat y", "Exit code 1\nno y", **ran(True))),
        {"source": "user", "message": "Go on."},
        agent("Elsewhere.", extra={"is_sidechain": True}),
        agent("Done."),
    ],
}


def read(run, **trial):
    tally = Tally()
    content = {"trajectory": run, **trial} if trial else run
    recorded = READER.read(RawRun("t.json", "t", None, content), tally)
    return recorded, steps_of(recorded.lines, demo_messages=0), dict(tally.left_out)


def test_steps_calls_and_observations():
    recorded, steps, counted = read(ATIF)
    assert (recorded.task_id, recorded.model, recorded.scaffold) == ("t", "m", "claude-code-2")
    assert (recorded.stop_reason, recorded.detail, recorded.resolved) == ("submitted", NOT_RECORDED, None)
    assert [(s.content, s.reasoning, len(s.tool_calls), s.observation, s.exit_code) for s in steps] == [
        ("I look.", "hm", 0, None, None),
        ("", None, 1, "x", 0),
        ("", None, 1, "Exit code 1\nno y", 1),
        ("Done.", None, 0, None, None),
    ]
    assert steps[0].usage == Usage(prompt_tokens=9, completion_tokens=2, cost_usd=0.5)
    assert steps[1].action == Action(tool="Bash", arguments={"command": "ls"}, format="native", call_id="b0")
    assert [line.sent["role"] for line in recorded.lines] == [
        "system",
        "user",
        "assistant",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "user",
        "assistant",
    ]
    assert counted == {CONVERTERS_WORDS: 2, CONVERTERS_THINKING: 2, SIDECHAINS: 1, PARTS: 2}


def test_observations_without_a_call_and_descriptions_of_tools():
    tools = [{"type": "function", "function": {"name": "bash", "parameters": None}}]
    step = agent('{"commands": []}', observation={"results": [{"source_call_id": None, "content": "screen"}]})
    recorded, steps, _ = read({**ATIF, "agent": {"tool_definitions": tools}, "steps": [step, agent(None)]})
    assert (recorded.scaffold, recorded.tools) == (
        "ATIF",
        ({"type": "function", "function": {"name": "bash"}},),
    )
    assert [(step.content, step.observation) for step in steps] == [('{"commands": []}', "screen"), ("", None)]


@pytest.mark.parametrize(
    ("exception", "ending"),
    [
        (None, ("submitted", None)),
        ("AgentTimeoutError", ("wall_limit", None)),
        ("VerifierTimeoutError", ("submitted", "VerifierTimeoutError")),
        ("DockerError", ("infra_error", "DockerError")),
    ],
)
@pytest.mark.parametrize(("reward", "resolved"), [(1.0, True), (0.0, False), (0.5, False), (None, None)])
def test_a_trials_reward_and_end(exception, ending, reward, resolved):
    result = {"task_name": "a-task", "exception_info": exception and {"exception_type": exception}}
    recorded, _, _ = read(ATIF, result=result, reward=reward)
    assert (recorded.task_id, recorded.resolved) == ("a-task", resolved)
    assert (recorded.stop_reason, recorded.detail) == ending


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 3}, "t.json: steps: expected a list of objects, got int"),
        ({"steps": [3]}, "t.json: steps[0]: expected an object, got int"),
        ({"steps": [{"source": "cat", "message": ""}]}, "t.json: steps[0].source: expected user, system or agent"),
        ({"steps": [agent({})]}, "t.json: steps[0].message: expected a text"),
        ({"steps": [agent("", tool_calls=[3])]}, "t.json: steps[0].tool_calls: expected objects, got int"),
    ],
)
def test_damage_is_named(change, message):
    with pytest.raises(InputError) as error:
        read({**ATIF, **change})
    assert str(error.value).startswith(message)


def trial(folder, name, *, trajectory=ATIF, reward="0", **result):
    (folder / name / "agent").mkdir(parents=True)
    (folder / name / "verifier").mkdir()
    (folder / name / "result.json").write_text(json.dumps({"task_name": name.split("__")[0], **result}))
    (folder / name / "verifier" / "reward.txt").write_text(reward)
    if trajectory is not None:
        (folder / name / "agent" / "trajectory.json").write_text(json.dumps(trajectory))
    return folder / name


def test_a_job_is_its_trials(tmp_path):
    (tmp_path / "result.json").write_text("{}")  # of the job
    trial(tmp_path, "a__1", reward="1\n")
    trial(tmp_path, "a__2")
    trial(tmp_path, "b__1", trajectory=None, exception_info={"exception_type": "AgentTimeoutError"})
    trial(tmp_path, "c__1", reward="many")
    tally = Tally()
    runs = list(read_runs(tmp_path, tally=tally))
    assert [(run.task_id, run.attempt, run.recorded_resolved) for run in runs] == [("a", 0, True), ("a", 1, False)]
    assert tally.dropped == {f"{NO_TRAJECTORY} (AgentTimeoutError)": 1}
    assert len(tally.damaged) == 1
    assert "c__1/verifier/reward.txt: expected a number" in tally.damaged[0]


def test_a_trial_by_its_folder_and_by_its_file(tmp_path):
    folder = trial(tmp_path, "a__1", reward="1")
    assert list(read_runs(folder)) == list(read_runs(folder / "agent" / "trajectory.json"))
    (folder / "verifier" / "reward.txt").unlink()
    assert next(read_runs(folder)).recorded_resolved is None
    (folder / "verifier" / "reward.json").write_text('{"reward": 1}')
    assert next(read_runs(folder)).recorded_resolved is True
