"""The demonstrator's words before it acts, several wordings for each kind of step.

    thought("look", "full", random.Random(0), path="sums.py", line=3)

The words tell what is done, never whether it is right: a verdict must not be readable from them. Fields: `path`, the
file of the step; `line`; `name`, a function.
"""

import random
from typing import Literal

Style = Literal["full", "short"]

_FULL: dict[str, tuple[str, ...]] = {
    "find": (
        "First I look for {name}.",
        "Where is {name} defined?",
        "I search the repository for {name}.",
        "The issue is about {name}, so I look for it.",
    ),
    "list": (
        "First I see which files there are.",
        "I list the files of the repository.",
        "What is in this repository?",
        "I begin with an overview of the files.",
    ),
    "look": (
        "I read {path}.",
        "Let me look at {path}.",
        "The code should be in {path}; I read it.",
        "Now I open {path}.",
        "I want to see what {path} does.",
    ),
    "reproduce": (
        "I run the example of the issue.",
        "Let me see the problem for myself.",
        "I reproduce what was reported.",
        "Does it happen here too? I run the example.",
    ),
    "edit": (
        "I change {path} at line {line}.",
        "Line {line} of {path} is wrong; I mend it.",
        "The cause is at line {line} of {path}.",
        "I correct line {line} in {path}.",
        "This needs a change at line {line} of {path}.",
    ),
    "retry": (
        "I run the example again.",
        "Let me see what the example gives now.",
        "Now the example of the issue once more.",
        "Is it better now? I run the example.",
    ),
    "test": (
        "I run the tests.",
        "Now the tests.",
        "Let me run the tests near the change.",
        "What do the tests say?",
    ),
    "revert": (
        "That was not it; I take the change to {path} back.",
        "This is not right. I restore {path}.",
        "The change to {path} was wrong, so I undo it.",
        "I put {path} back as it was and think again.",
    ),
    "submit": (
        "I hand in.",
        "The work is done; I hand it in.",
        "That is all, I submit.",
        "Done.",
    ),
    "needless": (
        "Let me check the surroundings.",
        "I have a look around.",
        "Before I go on, a quick look.",
        "Just to be sure about where I am.",
    ),
}

_SHORT: dict[str, tuple[str, ...]] = {
    "look": ("I look at {path}.", "First I read {path}.", "Let me see {path}."),
    "function": ("I look at `{name}`.", "First I read `{name}`.", "Let me see `{name}`."),
    "edit": ("Line {line} is wrong.", "I mend line {line}.", "The mistake is in line {line}."),
    "retry": ("I check it.", "I run the example.", "Does it work now?"),
    "test": ("I run the tests.", "Now the tests.", "I test it."),
    "revert": ("I take it back.", "That was wrong.", "I undo it."),
    "submit": ("Done.", "I hand in.", "That is all."),
    "needless": ("I look around.", "A quick look.", "Where am I?"),
}

PHRASES: dict[Style, dict[str, tuple[str, ...]]] = {"full": _FULL, "short": _SHORT}


def thought(kind: str, style: Style, rng: random.Random, **fields: object) -> str:
    """One wording for a kind of step."""
    return rng.choice(PHRASES[style][kind]).format(**fields)
