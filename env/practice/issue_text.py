"""Issue texts: a bug's symptom in the words of somebody who calls the code.

    issue_text(symptom, title="ledger", seed=7)         # "`add(1, 2)` gives -1\\n\\nI ran this: ..."

The words are drawn by the seed. They name what is called, what comes back and what should, and never the place.
"""

import random
import re
from typing import Literal

from srft.env.practice.symptom import Symptom

Length = Literal["full", "short"]

TITLE_LIMIT = 60

_TITLES = (
    "{call} gives a wrong result",
    "Wrong result of {call}",
    "{call} does not do what it should",
    "Unexpected result from {call}",
    "{call} is wrong",
    "Problem with {call}",
)
_OPENINGS = (
    "I use {project}, and this does not give what I expect:",
    "With {project}, these lines go wrong:",
    "The following shows a bug in {project}:",
    "Here is a short script for {project} that goes wrong:",
    "Something is off in {project}. To reproduce:",
    "I came across this while working with {project}:",
)
_GOT = (
    "It prints {got}.",
    "What I get is {got}.",
    "The output is {got}.",
    "This prints {got}.",
)
_EXPECTED = (
    "It should print {expected}.",
    "I expected {expected}.",
    "The right answer is {expected}.",
    "It ought to be {expected}.",
)
_GOT_RAISES = (
    "It ends with {got}.",
    "It raises {got}.",
    "What I get is an exception: {got}.",
)
_EXPECTED_RAISES = (
    "It should raise {expected}.",
    "I expected an exception: {expected}.",
    "The right answer is to raise {expected}.",
)
_CLOSINGS = (
    "",
    "Please mend it, and leave the rest as it is.",
    "The other things that I tried still work.",
    "Could you have a look?",
)
_SHORT = (
    "{call} gives {got}, and should give {expected}.",
    "I called {call} and got {got}. It should be {expected}.",
    "{call} should be {expected}, but it is {got}.",
    "Wrong result: {call} gives {got} instead of {expected}.",
)
_IN_WORDS = (
    "I use {project}, and something that used to hold does not hold any more.",
    "A check of mine on {project} fails.",
    "{project} does not behave as it should.",
)


def issue_text(symptom: Symptom, *, project: str, seed: int, length: Length = "full") -> str:
    """The text, in Markdown, its title in the first line. length: `short` is one sentence and the script."""
    draw = random.Random(f"{seed} {symptom.test} {symptom.code}")
    if symptom.code is None or symptom.call is None:
        return _told_by_check(symptom, project, draw)
    if length == "short":
        return _in_short(symptom, symptom.call, symptom.code, draw)
    called = _called(symptom.call, symptom.code)
    got = draw.choice(_GOT_RAISES if symptom.raises_got else _GOT)
    expected = draw.choice(_EXPECTED_RAISES if symptom.raises_expected else _EXPECTED)
    parts = [
        draw.choice(_TITLES).format(call=called),
        draw.choice(_OPENINGS).format(project=f"`{project}`"),
        f"```python\n{symptom.code}```",
        got.format(got=_quoted(symptom.got)) + " " + expected.format(expected=_quoted(symptom.expected)),
        draw.choice(_CLOSINGS),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _in_short(symptom: Symptom, call: str, code: str, draw: random.Random) -> str:
    got, expected = (
        f"{'an exception: ' if raises else ''}{_quoted(text)}"
        for raises, text in ((symptom.raises_got, symptom.got), (symptom.raises_expected, symptom.expected))
    )
    sentence = draw.choice(_SHORT).format(call=_called(call, code), got=got, expected=expected)
    return f"{sentence}\n\n```python\n{code}```\n"


def _called(call: str, code: str) -> str:
    """What is called, for a title: the expression where it is short, else its function.

    >>> _called("found", "found = search('b', text='abc')\\nprint(found)")
    "`search('b', text='abc')`"
    """
    if call.isidentifier() and (given := re.findall(rf"^{call} = (.+)$", code, re.MULTILINE)):
        call = given[-1]
    if len(call) <= TITLE_LIMIT and "\n" not in call:
        return f"`{call}`"
    found = re.match(r"[\w.]+(?=\()", call)
    return f"`{found[0]}`" if found else "a call"


def _quoted(text: str) -> str:
    """
    >>> _quoted("3"), _quoted(""), _quoted("a\\nb")
    ('`3`', 'an empty line', '\\n\\n```\\na\\nb\\n```\\n\\n')
    """
    if "\n" in text or "`" in text:
        return f"\n\n```\n{text}\n```\n\n"
    return f"`{text}`" if text.strip() else "an empty line"


def _told_by_check(symptom: Symptom, project: str, draw: random.Random) -> str:
    words = symptom.test.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ").strip()
    told = re.search("[A-Za-z]{3}", words) is not None
    opening = draw.choice(_IN_WORDS).format(project=f"`{project}`")
    parts = [
        f"{words[0].upper()}{words[1:]}: this does not hold" if told else f"A check of {project} does not hold",
        opening[0].upper() + opening[1:],
    ]
    if symptom.check:
        parts.append(f"What should hold:\n\n```\n{symptom.check}\n```")
    if symptom.message:
        parts.append(f"What comes instead:\n\n```\n{symptom.message}\n```")
    parts.append(draw.choice(_CLOSINGS))
    return "\n\n".join(part for part in parts if part) + "\n"
