"""Endings: what becomes of every exception."""

import pytest

from srft.agent.ending import Ending, ending_of, worth_retrying
from srft.agent.models.contract import ContextOverflow
from srft.agent.records import Trajectory
from srft.env.errors import InputError, ModelError, SandboxDied, StorageError

RUN = Trajectory(
    id="", task_id="t", repo="", model="", sampling={}, scaffold="", prompt="", seed=None, attempt=0, messages=(),
    steps=(), patch=None, stop_reason="infra_error",
)  # fmt: skip


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "ending", "again"),
    [
        (SandboxDied("gone"), ("infra_error", "SandboxDied: gone", "world"), True),
        (ModelError("down"), ("infra_error", "ModelError: down", "world"), False),
        (InputError("wrong \ud83d"), ("infra_error", "InputError: wrong \ufffd", "input"), False),
        (StorageError("full"), ("infra_error", "StorageError: full", "bug"), False),
        (ContextOverflow("too long"), ("context_limit", "too long", None), False),
    ],
)
def test_every_error_has_its_ending_and_only_failed_infrastructure_is_worth_retrying(error, ending, again):
    assert ending_of(raising(error)) == ending
    reason, detail, failure = ending
    run = {name: getattr(RUN, name) for name in RUN.__struct_fields__}
    assert worth_retrying(Trajectory(**run | {"stop_reason": reason, "detail": detail, "failure": failure})) == again
    assert not worth_retrying(Trajectory(**run | {"stop_reason": "submitted", "detail": detail, "failure": failure}))


def test_our_own_bug_is_told_with_its_traceback():
    reason, detail, failure = ending_of(raising(ZeroDivisionError("bug \ud83d")))
    assert (reason, failure) == ("infra_error", "bug")
    assert detail.startswith("Traceback")
    assert detail.endswith("ZeroDivisionError: bug \ufffd\n")


def test_what_does_not_fail_gives_its_own_ending():
    assert ending_of(lambda: Ending("submitted")) == ("submitted", None, None)


def test_a_failure_without_a_word_is_worth_retrying():
    run = {name: getattr(RUN, name) for name in RUN.__struct_fields__}
    assert worth_retrying(Trajectory(**run | {"failure": "world"}))
