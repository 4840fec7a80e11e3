"""ATIF trajectories, and Harbor's trials of them."""

import json

import pytest

from srft.agent.importing.importers import read_runs
from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.atif import (
    BROKEN_OFF,
    CONVERTERS_THINKING,
    CONVERTERS_WORDS,
    PARTS,
    READER,
    REPLIES,
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


def running(**result):
    extra = ran(False)
    extra["tool_result_metadata"]["tool_use_result"] |= result
    return extra


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


def read(run, *, reader=READER, line=None, **trial):
    tally = Tally()
    content = {"trajectory": run, **trial} if trial else run
    recorded = reader.read(RawRun("t.json", "t", line, content), tally)
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
    ("call", "result", "extra", "code"),
    [
        ("c", {"source_call_id": "d", "content": "x"}, ran(False), 0),
        ("c", {"content": "x"}, ran(False), 0),
        ("c", {"source_call_id": None, "content": "x\n(exit code: 3)"}, {}, 3),
        ("c", {"content": "Exit code 7\nno"}, ran(True), 7),
        ("c", {"content": "no Exit code 7"}, ran(True), None),
        ("c", {"content": "Exit code " + "9" * 5000}, ran(True), None),
        ("c", {"content": "Exit code 9999999999"}, ran(True), None),
        ("c", {"content": "x"}, {**ran(False), "tool_use_name": "Read"}, None),
        ("c", {"content": "x"}, {**ran(False), "tool_result_is_error": "no"}, None),
        ("c", {"content": "x"}, {"tool_result_is_error": False}, None),
        ("c", {"content": "x"}, running(backgroundTaskId="b"), None),
        ("c", {"content": "x"}, running(interrupted=True), None),
        ("c", {"content": "x"}, running(stdout=None), None),
    ],
)
def test_the_one_result_of_a_call_and_its_exit_code(call, result, extra, code):
    step = agent("A", **bash(call, "ls; echo $?", "", **extra)) | {"observation": {"results": [result]}}
    recorded, steps, _ = read({**ATIF, "steps": [step, agent("Done.")]})
    identity = result.get("source_call_id") or "c"
    assert recorded.lines[1].sent == {"role": "tool", "content": result["content"], "tool_call_id": identity}
    assert steps[0].exit_code == code


def test_results_of_several_calls_and_of_none():
    results = [{"source_call_id": "c", "content": [{"type": "text", "text": t} for t in ("a", "b")]}, {"content": None}]
    calls = [bash(c, "ls", "")["tool_calls"][0] for c in ("c", "d")]
    for step in (agent("A", tool_calls=calls), agent("A")):
        step |= {"observation": {"results": results}, "extra": {"tool_use_name": "Bash", **ran(False)}}
        recorded, steps, _ = read({**ATIF, "steps": [step, agent("Done.")]})
        assert [line.sent for line in recorded.lines[1:3]] == [
            {"role": "tool", "content": "a\nb", "tool_call_id": "c"},
            {"role": "user", "content": ""},
        ]
        assert steps[0].exit_code is None


def test_who_made_a_run_and_of_what_task():
    agents = [{"model_name": "m", "name": "a"}, {"version": "2"}, None]
    steps = [
        {"source": "user", "message": "T", "model_name": 3},
        agent("A", model_name="n"),
        agent("B", model_name="o"),
    ]
    found = [read({**ATIF, "agent": told, "steps": steps})[0] for told in agents]
    assert [(run.model, run.scaffold) for run in found] == [("m", "a"), ("n", "2"), ("n", "ATIF")]
    assert read({**ATIF, "agent": {}, "steps": steps[:1]})[0].model is None
    tasks = [{"instance_id": "i", "task_id": "t"}, {"task_id": "t"}, {"extra": {"instance_id": "e"}}, {"task_id": 3}]
    assert [read({**ATIF, **told})[0].task_id for told in tasks] == ["i", "t", "e", "t"]
    assert [read({**ATIF, **told}, line=4)[0].task_id for told in tasks] == ["i", "t", "e", "s"]
    assert read({**ATIF, "session_id": ""}, line=4)[0].task_id == "t-4"
    assert read({**ATIF, "task_id": "t"}, result={"task_name": "r"})[0].task_id == "r"


def test_what_is_left_out_is_named():
    assert (CONVERTERS_WORDS, CONVERTERS_THINKING, SIDECHAINS, PARTS, BROKEN_OFF) == (
        "texts that Harbor's converter wrote for calls",
        "thinking that Harbor's converter repeated, or made of nothing",
        "steps of sub-agents, which are another conversation's",
        "steps that are parts of the reply before them; --format atif-replies puts them together",
        "replies that broke off and were asked for again",
    )


def test_its_own_runs_are_told_by_their_keys():
    assert READER.marks(ATIF)
    assert READER.marks({"result": {}, "trajectory": ATIF})
    for run in ({"steps": []}, {**ATIF, "schema_version": "x"}, {"schema_version": "ATIF-v1"}, {"result": {}, **ATIF}):
        assert not READER.marks(run)
    assert not REPLIES.marks(ATIF)
    assert (READER.name, REPLIES.name) == ("atif", "atif-replies")


METRICS = {"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4}
SPLIT = [
    {"source": "user", "message": "T"},
    agent("", metrics={"prompt_tokens": 0, "completion_tokens": 0}),
    agent("I look.", reasoning_content="hm", metrics=METRICS),
    agent("Executed Bash b0", reasoning_content="hm", **bash("b0", "ls", "x", **ran(False))),
    agent("Executed Bash b1", reasoning_content="hm", **bash("b1", "cat y", "Exit code 1\nno y", **ran(True))),
    agent("Executed Bash b2", metrics=METRICS, **bash("b2", "pwd", "/w", **ran(False))),
    agent("Two.", reasoning_content="so"),
    agent("Let me", metrics={"prompt_tokens": 0, "completion_tokens": 0}),
    agent("Let me end.", metrics=METRICS),
    {"source": "user", "message": "Go on."},
    agent("Why?"),
    agent("Because."),
]


def test_a_reply_that_was_split_is_put_together_under_its_name():
    recorded, steps, counted = read({**ATIF, "steps": SPLIT}, reader=REPLIES)
    calls = [
        {"id": name, "type": "function", "function": {"name": "Bash", "arguments": json.dumps({"command": command})}}
        for name, command in (("b0", "ls"), ("b1", "cat y"), ("b2", "pwd"))
    ]
    assert [line.sent for line in recorded.lines] == [
        {"role": "user", "content": "T"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls[:2], "reasoning_content": "hm"},
        {"role": "tool", "content": "x", "tool_call_id": "b0"},
        {"role": "tool", "content": "Exit code 1\nno y", "tool_call_id": "b1"},
        {"role": "assistant", "content": "Two.", "tool_calls": calls[2:], "reasoning_content": "so"},
        {"role": "tool", "content": "/w", "tool_call_id": "b2"},
        {"role": "assistant", "content": "Let me end."},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
    ]
    usage = Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=4)
    assert [(step.usage, step.exit_code) for step in steps] == [
        (usage, 1),
        (usage, 0),
        *[(usage, None), (None, None)],
        (None, None),
    ]
    assert steps[1].action == Action(tool="Bash", arguments={"command": "pwd"}, format="native", call_id="b2")
    assert counted == {CONVERTERS_WORDS: 3, CONVERTERS_THINKING: 2, BROKEN_OFF: 2}


def test_parts_of_a_reply_are_counted_where_they_stay_steps():
    _, steps, counted = read({**ATIF, "steps": SPLIT})
    said = ["", "I look.", "", "", "", "Two.", "Let me", "Let me end.", "Why?", "Because."]
    assert [step.content for step in steps] == said
    assert [len(step.tool_calls) for step in steps] == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert counted == {CONVERTERS_WORDS: 3, CONVERTERS_THINKING: 1, PARTS: 3}


def test_a_reply_that_broke_off_at_the_end_or_before_a_user_stays():
    broken = agent("Let", metrics={"completion_tokens": 0})
    called = agent("", metrics={"completion_tokens": 0}, **bash("b", "ls", "x"))
    for steps in ([broken, {"source": "user", "message": "?"}, broken], [called, agent("Done.", metrics=METRICS)]):
        recorded, _, counted = read({**ATIF, "steps": steps}, reader=REPLIES)
        assert len(recorded.lines) == 3
        assert counted == {}


@pytest.mark.parametrize(
    ("exception", "ending"),
    [
        (None, ("submitted", None)),
        ("RewardFileNotFoundError", ("submitted", "RewardFileNotFoundError")),
        ("AddTestsDirError", ("submitted", "AddTestsDirError")),
        ("DownloadVerifierDirError", ("submitted", "DownloadVerifierDirError")),
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


@pytest.mark.parametrize("reward", [2, -0.5, "1", True, float("nan")])
def test_a_reward_that_is_none(reward):
    with pytest.raises(InputError, match=r"^t\.json: the trial's reward: expected a number of 0 to 1, got "):
        read(ATIF, result={}, reward=reward)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 3}, "t.json: steps: expected a list of objects, got int"),
        ({"steps": [3]}, "t.json: steps[0]: expected an object, got int"),
        ({"steps": [{"source": "cat", "message": ""}]}, "t.json: steps[0].source: expected user, system or agent"),
        ({"steps": [agent({})]}, "t.json: steps[0].message: expected a text"),
        ({"steps": [agent("", tool_calls=[3])]}, "t.json: steps[0].tool_calls: expected objects, got int"),
        (
            {"steps": [agent("", observation={"results": [3]})]},
            "t.json: steps[0].observation.results[0]: expected an object",
        ),
        (
            {"steps": [agent("", observation={"results": [{"content": 3}]})]},
            "t.json: steps[0].observation.results[0]: expected a text",
        ),
        ({"agent": {"name": 3}}, "t.json: agent: name: expected str, got 3"),
        ({"agent": {"tool_definitions": 3}}, "t.json: agent.tool_definitions: expected a list"),
    ],
)
def test_damage_is_named(change, message):
    with pytest.raises(InputError) as error:
        read({**ATIF, **change})
    assert str(error.value).startswith(message)


def test_a_users_step_may_have_calls_and_results_of_any_shape():
    step = {"source": "user", "message": "T", "tool_calls": [3], "observation": {"results": [{"content": "x"}]}}
    recorded, _, _ = read({**ATIF, "steps": [step, agent("A")]})
    assert [line.sent["role"] for line in recorded.lines] == ["user", "tool", "assistant"]


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
