"""Recorded runs of other systems, from files to trajectories."""

import copy
import gzip
import json
from collections import Counter

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srft.agent.importing.columns import described
from srft.agent.importing.importers import NO_REPLY, NO_TOOLS, TOOLS_GIVEN, _checked, _detect, as_attempt, read_runs
from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.source import Source
from srft.agent.records import Trajectory, trajectory_id
from srft.env.errors import InputError
from tests.agent.importing.readers import (
    test_atif,
    test_mini,
    test_openhands,
    test_openhands_sdk,
    test_rows,
    test_swe_agent,
)

MESSAGES = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "T"},
    {"role": "assistant", "content": "```bash\nls\u2028\n```"},
    {"role": "user", "content": "<returncode>2</returncode>"},
    {"role": "assistant", "content": "```bash\nsubmit it\n```"},
    {"role": "user", "content": "diff"},
]
RUN = {"instance_id": "x__y-1", "messages": MESSAGES, "info": {"exit_status": "Submitted", "submission": "diff\n"}}
RUNS = {
    "mini-swe-agent": [test_mini.TEXT, test_mini.CALLS],
    "openhands": [test_openhands.RUN, test_openhands_sdk.RUN],
    "swe-agent": [{**run, "instance_id": "x__y-1"} for run in (test_swe_agent.OLD, test_swe_agent.NEW)],
    "atif": [test_atif.ATIF, {**test_atif.ATIF, "steps": test_atif.ATIF["steps"][:3]}],
    "SWE-bench/SWE-smith-trajectories": [
        {**test_rows.SWE_SMITH, "messages": m} for m in (test_rows.XML, test_rows.TOOL)
    ],
    "chat": [test_rows.RUN, {"messages": MESSAGES}],
}
ALL = [run for runs in RUNS.values() for run in runs]


def written(path, *runs):
    path.write_bytes(b"".join(json.dumps(run, ensure_ascii=False).encode() + b"\n" for run in runs))
    return path


def test_a_run_becomes_a_trajectory(tmp_path):
    (trajectory,) = read_runs(written(tmp_path / "r.jsonl", RUN))
    assert trajectory.messages == tuple(MESSAGES[:-1])
    assert trajectory.id == trajectory_id(task_id="x__y-1", model="", attempt=0, messages=MESSAGES[:-1])
    assert [(step.content, step.observation, step.exit_code) for step in trajectory.steps] == [
        (MESSAGES[2]["content"], MESSAGES[3]["content"], 2),
        (MESSAGES[4]["content"], None, None),
    ]
    rest = (
        "repo",
        "model",
        "sampling",
        "scaffold",
        "prompt",
        "seed",
        "attempt",
        "patch",
        "stop_reason",
        "recorded_resolved",
    )
    assert tuple(getattr(trajectory, name) for name in rest) == (
        "x/y",
        "",
        {},
        "mini-swe-agent",
        "recorded",
        None,
        0,
        "diff\n",
        "submitted",
        None,
    )


def test_attempts_are_counted_a_task_and_change_the_id(tmp_path):
    other = {**RUN, "instance_id": "x__y-2"}
    first, second, third = read_runs(written(tmp_path / "r.jsonl", RUN, other, RUN))
    assert [(run.task_id, run.attempt) for run in (first, second, third)] == [
        ("x__y-1", 0),
        ("x__y-2", 0),
        ("x__y-1", 1),
    ]
    assert first.id != third.id
    assert as_attempt(first, 1) == third


def test_a_run_with_calls_of_tools_that_are_not_described_is_counted(tmp_path):
    tally = Tally()
    runs = list(read_runs(written(tmp_path / "r.jsonl", test_rows.RUN, {**test_rows.RUN, "tools": None}), tally=tally))
    assert [len(run.tools) for run in runs] == [1, 0]
    assert tally.left_out == {NO_TOOLS: 1}
    tally = Tally()
    given = ({"type": "function", "function": {"name": "given"}},)
    runs = list(read_runs(tmp_path / "r.jsonl", tally=tally, tools=given))
    assert [run.tools[0]["function"]["name"] for run in runs] == ["bash", "given"]
    assert tally.left_out == {TOOLS_GIVEN: 1}


@pytest.mark.parametrize("format", RUNS)
def test_a_format_is_told_by_the_keys_of_a_run(tmp_path, format):
    path, tally = written(tmp_path / "r.jsonl", *RUNS[format]), Tally()
    runs = list(read_runs(path, tally=tally))
    assert len(runs) == 2
    assert (tally.formats, tally.damaged, tally.read) == ({str(path): format}, [], 2)
    assert runs == list(read_runs(path, format=format))
    for run in runs:
        assert run.messages[-1]["role"] == "assistant"
        said = [m["content"] for m in run.messages[run.demo_messages :] if m["role"] == "assistant"]
        assert said == [step.content for step in run.steps]
        assert msgspec.json.decode(msgspec.json.encode(run), type=Trajectory) == run


def test_rows_of_parquet(tmp_path):
    rows = [{**test_rows.SWE_SMITH, "messages": messages} for messages in (test_rows.XML, test_rows.TICKS)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    runs = list(read_runs(tmp_path / "train.parquet"))
    assert [(run.repo, run.attempt, len(run.steps)) for run in runs] == [
        ("pandas-dev/pandas", 0, 1),
        ("pandas-dev/pandas", 1, 2),
    ]


def test_a_folder_of_runs(tmp_path):
    for name, run in (("a__b-1.traj", test_swe_agent.OLD), ("c__d-2.traj.json", {**RUN, "instance_id": None})):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(json.dumps(run))
    tally = Tally()
    assert [run.task_id for run in read_runs(tmp_path, tally=tally)] == ["a__b-1", "c__d-2"]
    assert sorted(tally.formats.values()) == ["mini-swe-agent", "swe-agent"]


def test_damage_costs_that_run_and_raises_without_a_tally(tmp_path):
    path = written(
        tmp_path / "r.jsonl", RUN, {**RUN, "messages": 3}, RUN, {"messages": [], "info": {}, "instance_id": "t"}
    )
    with path.open("ab") as file:
        file.write(b'{"torn": ')
    tally = Tally()
    assert [run.attempt for run in read_runs(path, tally=tally)] == [0, 1]
    assert len(tally.damaged) == 2
    assert "r.jsonl:2: expected an object with messages" in tally.damaged[0]
    assert "r.jsonl:5: not JSON" in tally.damaged[1]
    assert tally.dropped == {NO_REPLY: 1}
    assert tally.left_out == {"messages after the last reply": 2}
    strict = read_runs(path)
    next(strict)
    with pytest.raises(InputError, match=r"r\.jsonl:2"):
        next(strict)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}\n{}\n", "none of its 2 runs can be read; the first: "),
        (b'{"rows": 1}', "no known format, its keys are rows; expected the runs of mini-swe-agent, openhands"),
        (b"", "r.jsonl: no run in it; expected one of the formats mini-swe-agent, "),
        (b"\n", "r.jsonl: no run in it"),
        (gzip.compress(b"{}\n", mtime=0)[:-12], "r.jsonl"),
    ],
)
def test_a_file_without_any_run(tmp_path, content, message):
    (tmp_path / "r.jsonl").write_bytes(content)
    with pytest.raises(InputError) as error:
        list(read_runs(tmp_path / "r.jsonl", tally=Tally()))
    assert message in str(error.value)


def problem(path, tally=None, **options):
    with pytest.raises(InputError) as error:
        list(read_runs(path, tally=tally or Tally(), **options))
    return str(error.value)


def test_what_is_told_of_a_file_without_any_run(tmp_path):
    path = written(tmp_path / "r.jsonl", {"rows": 1, "more": 2})
    unknown = (
        f"{path}:1: no known format, its keys are rows, more; expected the runs of mini-swe-agent, openhands, "
        "swe-agent, atif, rows of a dataset that `srft import --list` names, or chat messages, whose column --set "
        "columns.messages=COLUMN can name"
    )
    tally = Tally()
    assert problem(path, tally) == unknown
    assert problem(written(path, {}), tally) == unknown.replace("rows, more", "none")
    first = unknown.replace("rows, more", "a")
    two = f"{path}: none of its 2 runs can be read; the first: {first}"
    assert problem(written(path, {"a": 1}, {"b": 1}), tally) == two
    assert (tally.damaged_runs, tally.formats) == (4, {})
    empty = f"{path}: no run in it; expected one of the formats mini-swe-agent, openhands, swe-agent, atif, Alien"
    assert problem(written(path), tally).startswith(empty)
    assert problem(written(path), tally).endswith(", chat, atif-replies")


def test_the_first_message_is_told_where_no_more_are_kept(tmp_path):
    tally = Tally(damaged=["kept"] * 998 + ["first", "last"], damaged_runs=1000)
    path = written(tmp_path / "r.jsonl", *[{"a": 1}] * 2)
    assert problem(path, tally) == f"{path}: none of its 2 runs can be read; the first: first"
    tally = Tally(damaged=["before"], damaged_runs=1)
    assert problem(path, tally).startswith(f"{path}: none of its 2 runs can be read; the first: {path}:1: no known")


def test_a_source_is_given_up_at_its_hundredth_damaged_run_and_not_before(tmp_path):
    path, tally = written(tmp_path / "r.jsonl", *[{"messages": 3}] * 99, RUN), Tally()
    assert len(list(read_runs(path, tally=tally))) == 1
    assert tally.damaged_runs == 99
    path, tally = written(tmp_path / "r.jsonl", *[{"messages": 3}] * 100, RUN), Tally(read=5, damaged_runs=7)
    assert problem(path, tally).startswith(f"{path}: none of the first 100 runs can be read; the first: {path}:1: mess")
    assert tally.damaged_runs == 107


def test_runs_without_a_reply_are_dropped_and_are_no_damage(tmp_path):
    path, tally = written(tmp_path / "r.jsonl", {"messages": [{"role": "user", "content": "T"}]}), Tally()
    assert list(read_runs(path, tally=tally)) == []
    assert (tally.dropped, tally.read, tally.formats) == ({NO_REPLY: 1}, 0, {str(path): "chat"})
    assert NO_REPLY == "no reply of a model in it"


def test_nothing_of_a_damaged_run_is_counted(tmp_path):
    damaged = {**test_mini.CALLS, "resolved": "yes"}
    path, tally = written(tmp_path / "r.jsonl", damaged, RUN), Tally()
    assert len(list(read_runs(path, tally=tally))) == 1
    assert tally.left_out == {"messages after the last reply": 1}


def test_the_format_of_the_first_good_run_is_the_files(tmp_path):
    path, tally = written(tmp_path / "r.jsonl", {"rows": 1}, {"messages": MESSAGES}, RUN), Tally()
    assert [run.scaffold for run in read_runs(path, tally=tally)] == ["chat", "chat"]
    assert (tally.formats, tally.damaged_runs) == ({str(path): "chat"}, 1)


def test_what_a_trajectory_has_of_its_run(tmp_path):
    tools = [{"type": "function", "function": {"name": "f"}}]
    history = [{"action": "system", "args": {"content": "S", "tools": tools}}, *test_openhands.OLD[1:]]
    (run,) = read_runs(written(tmp_path / "r.jsonl", {**test_openhands.RUN, "history": history, "error": "Gone"}))
    told = (run.repo, run.model, run.stop_reason, run.detail, run.tools, run.recorded_resolved, run.demo_messages)
    assert told == ("x/y", "vendor/m", "infra_error", "Gone", tuple(tools), True, 0)
    assert as_attempt(run, 0) == run
    assert (run.failure, run.seed, run.started_at, run.wall_s, run.vocabulary) == (None, None, None, None, None)
    unknown = {**RUN, "instance_id": "runs-1"}
    assert next(read_runs(written(tmp_path / "r.jsonl", unknown))).repo == ""


def test_tools_are_given_to_runs_that_call_some(tmp_path):
    given = ({"type": "function", "function": {"name": "given"}},)
    (run,) = read_runs(written(tmp_path / "r.jsonl", {"messages": MESSAGES}), tools=given)
    assert run.tools == ()
    assert NO_TOOLS == "descriptions of the tools that the model was offered, one a run"
    assert TOOLS_GIVEN == "descriptions of tools that the run does not have, taken from --tools, one a run"


def test_examples_are_messages_and_no_steps(tmp_path):
    example = {"role": "assistant", "content": "example", "is_demo": True, "agent": "primary"}
    run = {**test_swe_agent.OLD, "history": [example, *test_swe_agent.OLD["history"]]}
    (tmp_path / "a__b-1.traj").write_text(json.dumps(run))
    (read,) = read_runs(tmp_path / "a__b-1.traj")
    assert (read.demo_messages, len(read.steps), read.messages[0]["content"]) == (3, 2, "example")


def test_rows_of_the_hub_that_nobody_described_are_chat_under_their_own_name():
    source = Source("me/mine", iter, "me/mine")
    assert _detect(RawRun("w", "mine", 1, {"messages": []}), source).name == "me/mine"
    assert _detect(RawRun("w", "mine", 1, {"messages": []}), Source("r.jsonl", iter)).name == "chat"
    smiths = dict.fromkeys(("messages", "traj_id", "instance_id", "resolved"))
    assert _detect(RawRun("w", "mine", 1, smiths), source).name == "SWE-bench/SWE-smith-trajectories"
    with pytest.raises(InputError, match=r"^w: no known format, its keys are rows;"):
        _detect(RawRun("w", "mine", 1, {"rows": 1}), source)


def test_a_trajectory_that_its_file_would_not_give_back_is_damage(tmp_path):
    (run,) = read_runs(written(tmp_path / "r.jsonl", RUN))
    assert _checked(run, "w") == run
    with pytest.raises(InputError, match=r"^w: Expected `str`, got `int` .*\. Fix or remove the run\.$"):
        _checked(msgspec.structs.replace(run, model=3), "w")


def test_a_wrong_name_of_a_format(tmp_path):
    with pytest.raises(
        InputError, match="format swe: expected auto, mini-swe-agent, openhands, swe-agent, atif, AlienKevin/SWE-ZERO"
    ):
        list(read_runs(written(tmp_path / "r.jsonl", RUN), format="swe"))


def test_a_source_whose_first_hundred_runs_are_damaged_is_given_up(tmp_path):
    path = written(tmp_path / "r.jsonl", *[{"messages": 3}] * 150, RUN)
    with pytest.raises(InputError, match=r"none of the first 100 runs can be read; the first: .*r\.jsonl:1: messages"):
        list(read_runs(path, tally=Tally()))
    path = written(tmp_path / "s.jsonl", RUN, *[{"messages": 3}] * 1500, RUN)
    tally = Tally()
    assert len(list(read_runs(path, tally=tally))) == 2
    assert (tally.damaged_runs, len(tally.damaged)) == (1500, 1000)


def test_a_dataset_is_read_under_its_name_and_says_so(tmp_path):
    path = written(tmp_path / "r.jsonl", {"instance_id": "x__y-1", "messages": MESSAGES})
    (run,) = read_runs(path)
    assert (run.recorded_resolved, run.prompt) == (None, "recorded")
    name = "Kwai-Klear/SWE-smith-mini_swe_agent_plus-trajectories-66k"
    (run,) = read_runs(path, format=name.lower())
    assert (run.recorded_resolved, run.scaffold, run.prompt) == (True, "mini-swe-agent", f"recorded: {name} (MIT)")
    (run,) = read_runs(path, format=described("me/mine", changes=["all_resolved=true"]))
    assert (run.recorded_resolved, run.prompt) == (True, "recorded: me/mine")


SHELL = {"name": "bash", "description": "d", "parameters": {"type": "object", "properties": {"command": {}}}}
LS = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
CALLED = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "T"},
    {"role": "assistant", "content": "I look.", "tool_calls": [LS]},
    {"role": "tool", "content": "x\n(exit code: 3)", "tool_call_id": "c"},
    {"role": "assistant", "content": "Done."},
]
OPEN_SWE = {
    "instance_id": "x__y-1",
    "repo": "x/y",
    "trajectory_id": "t",
    "language": "go",
    "license": "mit",
    "trajectory": json.dumps(CALLED),
    "tools": [json.dumps({"type": "function", "function": SHELL})],
    "metadata": {},
}
ZERO = {
    "instance_id": "x__y-1",
    "repo": "x/y",
    "license": "mit",
    "trajectory_id": "t",
    "trajectory": CALLED,
    "model_patch": "diff",
    "dataset": "SWE-Gym",
}
ANTHROPIC = [
    {"role": "user", "content": [{"type": "text", "text": "T"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "c", "name": "bash", "input": {"command": "ls"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x\n(exit code: 3)"}]},
    {"role": "assistant", "content": "Done."},
]
LLAMA_FACTORY = [
    {"from": "human", "value": "T"},
    {"from": "function_call", "value": '{"name": "bash", "arguments": {"command": "ls"}}'},
    {"from": "observation", "value": "x\n(exit code: 3)"},
    {"from": "gpt", "value": "Done."},
]


@pytest.mark.parametrize(
    ("row", "format", "told"),
    [
        ({**OPEN_SWE, "resolved": -1}, "nvidia/Open-SWE-Traces", (None, None, "x__y-1")),
        ({**OPEN_SWE, "resolved": 0}, "nvidia/Open-SWE-Traces", (False, None, "x__y-1")),
        (ZERO, "nvidia/SWE-Zero-openhands-trajectories", (None, "diff", "x__y-1")),
        ({"messages": ANTHROPIC, "system": "S", "tools": [SHELL]}, "chat", (None, None, "r-1")),
        ({"conversations": LLAMA_FACTORY, "system": "S", "tools": json.dumps([SHELL])}, "chat", (None, None, "r-1")),
        (
            {
                "session_id": "s",
                "agent_framework": "openhands",
                "recorded_model": "m",
                "messages_json": json.dumps(CALLED),
            }
            | {"ground_truth_meta_json": '{"resolved": true}'},
            "thoughtworks/agentic-coding-trajectories",
            (True, None, "s"),
        ),
        (
            {"instance_id": "x__y-1", "n_turns": 2, "n_messages": 5, "selected_models": ["m"], "resolved": None}
            | {"messages": CALLED},
            "JetBrains-Research/agent-trajectories-swe-bench-test-minus-verified",
            (None, None, "x__y-1"),
        ),
    ],
)
def test_rows_in_the_shapes_of_published_datasets(tmp_path, row, format, told):
    path, tally = written(tmp_path / "r.jsonl", row), Tally()
    (run,) = read_runs(path, tally=tally)
    assert tally.formats == {str(path): format}
    assert (run.recorded_resolved, run.patch, run.task_id) == told
    assert [(step.exit_code, step.observation) for step in run.steps] == [(3, "x\n(exit code: 3)"), (None, None)]
    assert run.steps[0].action.arguments == {"command": "ls"}
    assert [message["role"] for message in run.messages] == ["system", "user", "assistant", "tool", "assistant"]


def nodes(value, path=()):
    """The path of every value within a value."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from nodes(member, (*path, key))


KEYS = {"role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content"}
NONSENSE = st.sampled_from(
    [
        None,
        0,
        -1.5,
        True,
        10**30,
        10**400,
        "",
        "\x00",
        "text",
        "[",
        "[" * 900,
        '{"a": 1}',
        r'{"a": "\ud800"}',
        [],
        [None],
        {},
        {"a": []},
    ]
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_whatever_is_wrong_in_a_run_costs_that_run_and_what_is_read_can_be_stored(tmp_path_factory, data):
    run = copy.deepcopy(data.draw(st.sampled_from(ALL)))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([path for path in nodes(run) if path]))
        holder = run
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = copy.deepcopy(data.draw(NONSENSE))
    path = tmp_path_factory.mktemp("runs") / "r.jsonl"
    path.write_text(json.dumps(run) + "\n" + json.dumps(RUN) + "\n")
    tally = Tally()
    runs = list(read_runs(path, tally=tally))
    assert tally.read + len(tally.damaged) + tally.dropped[NO_REPLY] == 2
    assert all(f"{path}:" in message for message in tally.damaged)
    for trajectory in runs:
        assert msgspec.json.decode(msgspec.json.encode(trajectory), type=Trajectory) == trajectory
        assert all(set(message) <= KEYS and isinstance(message["content"], str) for message in trajectory.messages)


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_text_can_be_stored(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("runs") / "r.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "assistant", "content": text}]}) + "\n")
    (run,) = read_runs(path)
    assert msgspec.json.decode(msgspec.json.encode(run), type=Trajectory) == run


def test_the_recorded_runs(recorded_runs):
    tally = Tally()
    runs = list(read_runs(recorded_runs, tally=tally))
    steps = [step for run in runs for step in run.steps]
    assert Counter(run.recorded_resolved for run in runs) == {True: 179, False: 67}
    assert Counter((run.stop_reason, run.detail) for run in runs) == {("submitted", None): 246}
    assert (len(steps), sum(step.error == "format" for step in steps), sum(step.timed_out for step in steps)) == (
        10222,
        356,
        11,
    )
    assert sum(step.exit_code is not None for step in steps) == 9609
    assert Counter(step.action and step.action.format for step in steps) == {"backtick": 9866, None: 356}
    assert round(sum(step.usage.cost_usd for step in steps), 2) == 118.57
    assert {run.scaffold for run in runs} == {"mini-swe-agent-1.15.0"}
    assert {run.model for run in runs} == {"google/gemini-3-pro-preview", "gemini-3-pro-preview"}
    assert len({run.id for run in runs}) == 246
    assert all(run.patch and run.repo for run in runs)
    assert (tally.damaged, tally.dropped) == ([], {})
    assert tally.left_out == {"messages after the last reply": 246}
