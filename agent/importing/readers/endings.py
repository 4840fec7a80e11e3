"""The end of an imported run, from the words of the program that wrote it.

    known_ending("submitted (exit_cost)")                              # Told("cost_limit", None)
    known_ending("RuntimeError: Agent reached maximum iteration.")     # Told("step_limit", None)

| words | stop reason |
|---|---|
| submitted, submit, finish, finished, completed, success, exit_command, exit_forfeit | submitted |
| LimitsExceeded (mini-swe-agent's, below its step limit), exit_cost, ... maximum budget ... | cost_limit |
| ... maximum iteration ..., MaxIterationsReached | step_limit |
| TimeExceeded, exit_total_execution_time, exit_command_timeout, ... timeout after ... | wall_limit |
| RepeatedFormatError, exit_format | format_errors |
| ContextWindowExceededError, exit_context, ... context window ... | context_limit |
| UserInterruption, KeyboardInterrupt, early_exit, the empty text | cancelled |
| ... stuck in a loop ... | cancelled, with the words as detail |
| exit_api, exit_environment_error, exit_error | infra_error, with the words as detail |

SWE-agent also writes `submitted (WORD)`, where a limit ended a run whose changes it handed in: the limit counts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from srft.agent.importing.readers import Tally
from srft.agent.records import StopReason


class Told(NamedTuple):
    """How a run ended, as its file tells."""

    stop_reason: StopReason
    """As a Trajectory has it."""
    detail: str | None = None
    """What else there is to say."""


UNKNOWN_STATUS = "exit statuses that are not known; they are in the runs' detail"
_WORDS: dict[str, StopReason] = {
    "": "cancelled",
    "submitted": "submitted",
    "submit": "submitted",
    "finish": "submitted",
    "finished": "submitted",
    "completed": "submitted",
    "success": "submitted",
    "limitsexceeded": "cost_limit",
    "timeexceeded": "wall_limit",
    "repeatedformaterror": "format_errors",
    "userinterruption": "cancelled",
    "keyboardinterrupt": "cancelled",
    "exit_command": "submitted",
    "exit_forfeit": "submitted",
    "exit_cost": "cost_limit",
    "exit_context": "context_limit",
    "exit_format": "format_errors",
    "exit_total_execution_time": "wall_limit",
    "exit_command_timeout": "wall_limit",
    "exit_api": "infra_error",
    "exit_environment_error": "infra_error",
    "exit_error": "infra_error",
    "early_exit": "cancelled",
}
_PHRASES: tuple[tuple[str, StopReason], ...] = (
    ("maximum iteration|max_?iterations?_?reached", "step_limit"),
    ("maximum budget", "cost_limit"),
    ("context ?window", "context_limit"),
    ("timeout after", "wall_limit"),
    ("stuck ?in ?a? ?loop", "cancelled"),
)
_AUTOSUBMITTED = re.compile(r"submitted \((\w+)\)")


def known_ending(status: str) -> Told | None:
    """The stop reason that an exit status or an error means, with its detail; `None` where it is not known."""
    word = found[1] if (found := _AUTOSUBMITTED.fullmatch(status)) else status
    if reason := _WORDS.get(word.lower()):
        return Told(reason, status if reason == "infra_error" else None)
    for phrase, reason in _PHRASES:
        if re.search(phrase, word, re.IGNORECASE):
            return Told(reason, status if reason == "cancelled" else None)
    return None


def ending_of_status(status: str, tally: Tally) -> Told:
    """The stop reason of an exit status; one that is not known is counted, and becomes the detail."""
    if known := known_ending(status):
        return known
    tally.left_out[UNKNOWN_STATUS] += 1
    return Told("submitted", f"exit status {status}")
