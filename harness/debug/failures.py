"""What a test log says of the tests that failed: the assertion of each, apart from what the set-up printed.

Reads a log as a text; pytest's and unittest's (Django's too) are understood, others give nothing.

    why("tests/test_a.py::test_x", log)             # ["tests/test_a.py:3: AssertionError", "assert 41 == 42"]
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_LINES = 8
"""Of what is shown of one test."""

_PYTEST_HEAD = re.compile(r"^_{2,} (?P<name>.+?) _{2,}$")
_UNITTEST_HEAD = re.compile(r"^(?:FAIL|ERROR): (?P<name>\S+)")
_ENDS = re.compile(r"^(?:={3,}.*|_{2,} .+ _{2,}|-{60,})$")


def why(test: str, log: str) -> list[str]:
    """The lines that say what failed in a test; none where the log does not."""
    lines, name = log.split("\n"), _name(test)
    said = _pytest_lines(lines, test, name) or _unittest_lines(lines, name) or _summary(lines, test)
    return said[:MOST_LINES]


def _name(test: str) -> str:
    """The function: of `tests/a.py::TestX::test_y[1]`, `test_y (app.tests.TestX)` and `app.tests.TestX.test_y`.

    >>> _name("tests/a.py::TestX::test_y[a::b]"), _name("test_y (app.tests.TestX)"), _name("app.tests.TestX.test_y")
    ('test_y[a::b]', 'test_y', 'test_y')
    """
    before, bracket, parameters = test.partition("[")
    return before.split(" ")[0].rpartition("::")[2].rpartition(".")[2] + bracket + parameters


def _section(lines: list[str], is_head: re.Pattern[str], name: str) -> list[str]:
    """The lines below the head of that test's report."""
    for number, line in enumerate(lines):
        found = is_head.match(line)
        if found and found["name"].rpartition(".")[2] in (name, name.partition("[")[0]):
            below = lines[number + 1 :]
            below = below[1:] if below and re.match(r"^-{60,}$", below[0]) else below  # unittest underlines its head
            end = next((place for place, one in enumerate(below) if _ENDS.match(one)), len(below))
            return below[:end]
    return []


def _pytest_lines(lines: list[str], test: str, name: str) -> list[str]:
    section = _section(lines, _PYTEST_HEAD, name)
    said = [line[1:].strip() for line in section if re.match(r"^E( |$)", line)]
    places = [line for line in section if re.match(r"^\S+:\d+: ?\w*", line)]
    return [*places[-1:], *filter(None, said)]


def _unittest_lines(lines: list[str], name: str) -> list[str]:
    section = [line for line in _section(lines, _UNITTEST_HEAD, name) if line.strip()]
    places = [number for number, line in enumerate(section) if re.match(r'^  File ".+", line \d+', line)]
    if not places:
        return section[-1:]
    return [section[places[-1]].strip(), *_messages(section[places[-1] + 1 :])]


def _messages(lines: list[str]) -> Iterator[str]:
    """What stands behind the quoted source of a traceback's last place."""
    yield from (line.rstrip() for line in lines if not line.startswith("    "))


def _summary(lines: list[str], test: str) -> list[str]:
    """pytest's short summary: `FAILED tests/a.py::test_x - assert 41 == 42`."""
    for line in lines:
        found = re.match(rf"^(?:FAILED|ERROR) {re.escape(test)} - (.+)$", line)
        if found:
            return [found[1]]
    return []
