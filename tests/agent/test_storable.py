"""Records that could not be read back are repaired."""

import msgspec
import pytest

from srft.agent.records import Step, Trajectory, Usage, trajectory_id
from srft.agent.storable import named

RUN = Trajectory(
    id="", task_id="t", repo="r", model="m", sampling={"top_k": 1}, scaffold="s", prompt="p", seed=None, attempt=0,
    messages=({"role": "user", "content": "T"},), steps=(Step(index=0, content="A"),), patch="diff",
    stop_reason="submitted",
)  # fmt: skip


def changed(record, **fields):
    return msgspec.structs.replace(record, **fields)


def repaired(run):
    """The repaired run without its detail, which is a traceback."""
    found = named(run)
    stored = msgspec.json.encode(found)
    assert msgspec.json.encode(msgspec.json.decode(stored, type=Trajectory)) == stored
    assert (found.stop_reason, found.failure) == ("infra_error", "bug")
    assert found.detail.startswith("the record of an episode that ended as submitted: Traceback")
    return changed(found, stop_reason="submitted", failure=None, detail=None, id="")


def test_a_good_record_gets_its_id_and_nothing_else():
    identity = trajectory_id(task_id="t", model="m", attempt=0, messages=RUN.messages)
    assert named(RUN) == changed(RUN, id=identity)


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"logprobs": (float("nan"),)}, "logprobs"),
        ({"token_ids": ((1, 2),)}, "token_ids"),
        ({"finish_reason": 0}, "finish_reason"),
        ({"usage": Usage(prompt_tokens=1, cost_usd={"total": 1})}, "usage"),
    ],
)
def test_a_value_of_another_type_gives_way_to_its_default(step, field):
    run = repaired(changed(RUN, steps=(Step(index=0, content="A", exit_code=0, **step),)))
    assert run == changed(RUN, steps=(Step(index=0, content="A", exit_code=0),))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sampling": 3}, {"sampling": {}}),
        ({"patch": 3}, {"patch": None}),
        ({"messages": 3}, {"messages": ()}),
        ({"demo_messages": "x"}, {"demo_messages": 0}),
        ({"sampling": {"odd": ZeroDivisionError("\ud83d")}}, {"sampling": {"odd": "ZeroDivisionError('\\ud83d')"}}),
        ({"sampling": {"\ud83d": [None, True, 1.5, "\ud83d"]}}, {"sampling": {"\ufffd": (None, True, 1.5, "\ufffd")}}),
        ({"messages": ({"content": "\ud83d"},)}, {"messages": ({"content": "\ufffd"},)}),
    ],
)
def test_what_json_cannot_hold_is_replaced(fields, expected):
    assert repaired(changed(RUN, **fields)) == changed(RUN, **{"id": ""} | expected)
