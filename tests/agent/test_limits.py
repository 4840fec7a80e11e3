"""Limits of an episode."""

import pytest

from srft.agent.limits import EpisodeLimits
from srft.agent.records import Step, Usage
from srft.env.errors import InputError

NONE = {"steps": None, "wall_s": None}


def steps(*usages):
    return [Step(index=place, content="", usage=usage) for place, usage in enumerate(usages)]


@pytest.mark.parametrize(
    ("limit", "below", "at", "reason"),
    [
        ({"steps": 2}, {"steps": steps(None)}, {"steps": steps(None, None)}, "step_limit"),
        (
            {"tokens": 10},
            {"steps": steps(Usage(completion_tokens=9), None)},
            {"steps": steps(Usage(completion_tokens=4), Usage(), Usage(completion_tokens=6))},
            "token_limit",
        ),
        (
            {"context_tokens": 10},
            {"steps": steps(Usage(prompt_tokens=20), Usage(prompt_tokens=4, completion_tokens=5))},
            {"steps": steps(Usage(prompt_tokens=7, completion_tokens=3), None)},
            "context_limit",
        ),
        (
            {"cost_usd": 0.5},
            {"steps": steps(Usage(cost_usd=0.25), Usage())},
            {"steps": steps(Usage(cost_usd=0.25), Usage(cost_usd=0.25))},
            "cost_limit",
        ),
        ({"wall_s": 2.0}, {"seconds": 1.9}, {"seconds": 2.0}, "wall_limit"),
        ({"format_errors": 2}, {"format_errors": 1}, {"format_errors": 2}, "format_errors"),
    ],
)
def test_a_limit_is_reached_at_its_value(limit, below, at, reason):
    nothing = {"steps": [], "seconds": 0.0, "format_errors": 0}
    for told, expected in ((nothing | below, None), (nothing | at, reason)):
        assert EpisodeLimits(**NONE | limit).reached(told.pop("steps"), **told) == expected


def test_the_first_of_several_limits_is_named():
    limits = EpisodeLimits(steps=1, tokens=1, cost_usd=1.0, wall_s=1.0, context_tokens=1, format_errors=1)
    used = steps(Usage(prompt_tokens=1, completion_tokens=1, cost_usd=1.0))
    assert limits.reached(used, seconds=1.0, format_errors=1) == "format_errors"
    assert limits.reached(used, seconds=1.0, format_errors=0) == "step_limit"


def test_limits_are_checked():
    for field in EpisodeLimits.__struct_fields__:
        with pytest.raises(InputError, match=rf"limits\.{field} is 0; expected more than 0, or null for no limit"):
            EpisodeLimits(**{field: 0})


def test_a_command_has_its_time_or_what_is_left_of_the_episodes():
    limits = EpisodeLimits(wall_s=100.0, command_timeout_s=60.0)
    assert [limits.command_s(seconds=seconds) for seconds in (0.0, 40.0, 50.0, 99.5, 200.0)] == [60, 60, 50, 1, 1]
    assert EpisodeLimits(wall_s=None, command_timeout_s=60.0).command_s(seconds=1e9) == 60


def test_a_limit_that_the_server_does_not_count_for_is_named():
    limits = EpisodeLimits(tokens=1, context_tokens=1, cost_usd=1.0)
    assert limits.uncounted(None) == limits.uncounted(Usage()) == ["tokens", "context_tokens", "cost_usd"]
    assert limits.uncounted(Usage(prompt_tokens=0, cost_usd=0.0)) == ["tokens"]
    assert limits.uncounted(Usage(completion_tokens=0)) == ["context_tokens", "cost_usd"]
    assert EpisodeLimits().uncounted(None) == []
