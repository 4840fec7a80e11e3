"""ATIF documents: the format's rules, the weights beside the steps, and nothing of a run lost."""

from datetime import datetime

import msgspec
import pytest

from srft.agent.records import Usage
from srft.train.exports.formats import FORMATS
from tests.train.conftest import make_run
from tests.train.exports.test_export import ACT, CALL, TOOLS, native, plain, talk  # noqa: F401

AGENT_ONLY = {"model_name", "reasoning_content", "tool_calls", "metrics", "reasoning_effort"}
ROOT = {
    "schema_version", "session_id", "trajectory_id", "agent", "steps", "notes", "final_metrics", "extra",
    "continued_trajectory_ref", "subagent_trajectories",
}  # fmt: skip
STEP = AGENT_ONLY | {
    "step_id", "timestamp", "source", "message", "observation", "is_copied_context", "llm_call_count", "extra"
}  # fmt: skip


def document(conversation):
    form = FORMATS["atif"]
    made = form.line(form.prepare(conversation))
    check(made)
    return made


def check(made):
    """The rules that Harbor's validator has for what is written here."""
    assert made["schema_version"] == "ATIF-v1.7"
    assert set(made) <= ROOT
    assert isinstance(made["agent"]["name"], str)
    assert isinstance(made["agent"]["version"], str)
    assert [step["step_id"] for step in made["steps"]] == list(range(1, len(made["steps"]) + 1))
    for step in made["steps"]:
        assert set(step) <= STEP
        assert step["source"] in {"system", "user", "agent"}
        assert step["source"] == "agent" or not AGENT_ONLY & set(step)
        assert isinstance(step["message"], str)
        assert None not in step.values()
        calls = step.get("tool_calls", [])
        assert all(isinstance(call["arguments"], dict) for call in calls)
        ids = [call["tool_call_id"] for call in calls]
        for result in step.get("observation", {"results": []})["results"]:
            assert result.get("source_call_id") in {None, *ids}
        if "timestamp" in step:
            datetime.fromisoformat(step["timestamp"])


def weights(made):
    return [step["extra"]["loss_weight"] for step in made["steps"] if step["source"] == "agent"]


def test_a_text_run_whole(plain):  # noqa: F811
    made = document(plain)
    assert [step["source"] for step in made["steps"]] == ["system", "user", "agent", "agent", "agent"]
    assert weights(made) == [1.0, 0.0, 1.0]
    assert made["steps"][2]["message"] == ACT
    assert made["steps"][2]["observation"] == {"results": [{"content": "<returncode>0</returncode>\n0"}]}
    assert "observation" not in made["steps"][4]
    assert made["extra"] == {
        "instance_id": "a__b-1", "repo": "a/b", "attempt": 0, "resolved": False, "stop_reason": "submitted"
    }  # fmt: skip


def test_what_stands_behind_the_last_trained_reply_is_in_the_record():
    made = document(talk(make_run([ACT, ACT, "Over."], id="r"), ["good", "mistake", "mistake"]))
    assert weights(made) == [1.0, 0.0, 0.0]


def test_calls_thinking_and_float_weights(native):  # noqa: F811
    made = document(native)
    assert made["steps"][2] == {
        "step_id": 3,
        "source": "agent",
        "message": "",
        "reasoning_content": "Hm.",
        "tool_calls": [{"tool_call_id": "1", "function_name": "bash", "arguments": {"command": "ls"}}],
        "observation": {"results": [{"source_call_id": "1", "content": "a.py"}]},
        "llm_call_count": 1,
        "extra": {"loss_weight": 0.0},
    }
    assert made["agent"]["tool_definitions"] == list(TOOLS)
    assert weights(document(talk(make_run([ACT, "Done."]), ["recover", "good"], recover=0.3))) == [0.3, 1.0]


def test_tokens_and_exit_codes_where_they_are_known():
    run = make_run([ACT, "Done."], id="r")
    first = msgspec.structs.replace(
        run.steps[0],
        usage=Usage(prompt_tokens=5, completion_tokens=2, cost_usd=0.5),
        token_ids=(7, 8),
        logprobs=(-0.5, -1.0),
        exit_code=1,
        timed_out=True,
    )
    last = msgspec.structs.replace(run.steps[1], usage=Usage(prompt_tokens=9, completion_tokens=3), observation="bye")
    made = document(talk(msgspec.structs.replace(run, steps=(first, last)), ["good", "good"]))
    assert made["steps"][2]["metrics"] == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "cost_usd": 0.5,
        "completion_token_ids": [7, 8],
        "logprobs": [-0.5, -1.0],
    }
    assert made["steps"][2]["extra"] == {"loss_weight": 1.0, "exit_code": 1, "timed_out": True}
    assert made["steps"][3]["observation"] == {"results": [{"content": "bye"}]}  # seen, and not sent any more
    assert made["final_metrics"] == {"total_prompt_tokens": 14, "total_completion_tokens": 5, "total_steps": 4}


def test_a_shown_example_is_copied_context():
    run = make_run(["Done."])
    shown = ({"role": "user", "content": "For example."}, {"role": "assistant", "content": "So."})
    run = msgspec.structs.replace(run, messages=(run.messages[0], *shown, *run.messages[1:]), demo_messages=3)
    made = document(talk(run, ["good"]))
    assert [step["source"] for step in made["steps"]] == ["system", "user", "agent", "user", "agent"]
    assert made["steps"][2] == {
        "step_id": 3, "source": "agent", "message": "So.", "is_copied_context": True, "extra": {"loss_weight": 0.0}
    }  # fmt: skip


@pytest.mark.parametrize("arguments", ['["ls"]', "3"])
def test_arguments_that_are_no_object_leave_the_run_out(arguments):
    run = make_run(["", "Done."], id="n", tools=TOOLS)
    call = {**CALL, "function": {"name": "bash", "arguments": arguments}}
    messages = (*run.messages[:2], {"role": "assistant", "content": "", "tool_calls": [call]}, *run.messages[3:])
    form = FORMATS["atif"]
    made = form.line(form.prepare(talk(msgspec.structs.replace(run, messages=messages), ["good", "good"])))
    assert made == "arguments_are_no_object"


def test_an_answer_that_names_another_call_names_none(native):  # noqa: F811
    run = native.run
    messages = list(run.messages)
    messages[3] = {"role": "tool", "content": "a.py", "tool_call_id": "9"}
    made = document(
        native._replace(
            messages=messages[:3] + messages[3:], run=msgspec.structs.replace(run, messages=tuple(messages))
        )
    )
    assert made["steps"][2]["observation"] == {"results": [{"content": "a.py"}]}
