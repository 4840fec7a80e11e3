"""How runs ended, in the words of many programs."""

import pytest

from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.endings import UNKNOWN_STATUS, ending_of_status, known_ending


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("submitted submit finish finished completed success exit_command exit_forfeit Submitted SUBMIT", "submitted"),
        ("exit_cost LimitsExceeded", "cost_limit"),
        ("exit_context ContextWindowExceededError LLMContextWindowExceedError", "context_limit"),
        ("exit_format RepeatedFormatError", "format_errors"),
        ("exit_total_execution_time exit_command_timeout TimeExceeded", "wall_limit"),
        ("MaxIterationsReached max_iterations_reached", "step_limit"),
        ("early_exit UserInterruption KeyboardInterrupt", "cancelled"),
    ],
)
def test_exit_statuses(words, reason):
    assert [known_ending(word) for word in words.split()] == [(reason, None)] * len(words.split())


@pytest.mark.parametrize("status", ["exit_api", "exit_environment_error", "exit_error", "submitted (exit_error)"])
def test_a_failure_of_the_infrastructure_is_told(status):
    assert known_ending(status) == ("infra_error", status)


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        ("", ("cancelled", None)),
        ("submitted (exit_cost)", ("cost_limit", None)),
        ("submitted (gone)", None),
        ("submitted (exit_cost) too", None),
        ("RuntimeError: Agent reached maximum iteration. Current iteration: 100", ("step_limit", None)),
        ("RuntimeError: Agent reached maximum budget for conversation.", ("cost_limit", None)),
        ("litellm.ContextWindowExceededError: too long", ("context_limit", None)),
        ("Timeout after 9 seconds", ("wall_limit", None)),
        ("stuck in a loop", ("cancelled", "stuck in a loop")),
        ("AgentStuckInLoopError", ("cancelled", "AgentStuckInLoopError")),
        ("gone", None),
    ],
)
def test_errors_and_words_that_are_not_known(error, ending):
    assert known_ending(error) == ending


def test_a_status_that_is_not_known_is_counted_and_kept():
    tally = Tally()
    assert ending_of_status("gone", tally) == ("submitted", "exit status gone")
    assert ending_of_status("exit_cost", tally) == ("cost_limit", None)
    assert tally.left_out == {UNKNOWN_STATUS: 1}
    assert UNKNOWN_STATUS == "exit statuses that are not known; they are in the runs' detail"
