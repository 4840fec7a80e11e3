"""Wrong edits: never the right one, and of the kinds that the fix allows."""

import random
from collections import Counter

import pytest

from srft.agent.demonstrator.fix import Edit, read_fix
from srft.agent.demonstrator.wrong_edits import habitual_slip_of, slip_of
from tests.agent import demonstrated


def slips(before, after, *, path="x.py", seeds=200):
    """The different slips of a fix of one place, with how often each came."""
    fix = fix_of(before, after, path=path)
    (edit,) = fix.edits
    return Counter(slip_of(fix, edit, random.Random(seed)) for seed in range(seeds))


def fix_of(before, after, *, path="x.py"):
    return read_fix(demonstrated.patch_of(before, after, path=path), where="t")


def edited(text, edit):
    lines = text.split("\n")[:-1]
    assert tuple(lines[edit.line - 1 : edit.end - 1]) == edit.old
    lines[edit.line - 1 : edit.end - 1] = edit.new
    return "".join(line + "\n" for line in lines)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("return a - b\n", "return a + b\n", {"return a * b\n"}),
        ("if n < 3:\n", "if n <= 3:\n", {"if n >= 3:\n", "if n == 3:\n"}),
        ("x = 1\n", "x = 2\n", {"x = 3\n", "x = 4\n"}),
        ("return low\n", "return high\n", {"no change"}),
        ("return f(a, b)\n", "return f(b, a)\n", {"return f(a, a)\n", "return f(b, b)\n"}),
        ("def f(a, n=0):\n", "def f(a, n=1):\n", {"def f(a, n=2):\n", "def f(a, n=3):\n"}),
        ("a = 1\n", "a = 1\nreturn True\n", {"a = 1\nreturn False\n", "another line"}),
        ('x = "a"  # 1 < 2\n', 'x = "b"  # 1 < 2\n', {"no change"}),
        ("# 1\nx = y\n", "x = y\n", {"another line"}),
    ],
)
def test_what_a_slip_can_be(before, after, expected):
    found = {edited(before, slip.edit) if slip.kind == "another value" else slip.kind for slip in slips(before, after)}
    assert found == expected


def test_another_line_is_code_that_is_missed():
    found = slips(demonstrated.BROKEN, demonstrated.MODULE)
    assert {slip.edit for slip in found if slip.kind == "another line"} == {
        Edit(6, ("    gross = sum(prices)",), ("    return gross * (100 - discount) / 100",))
    }


def test_documentation_comments_and_decorators_stay():
    before = '"""doc"""\n# c\n@d\nx = 1\n\n# c\n'
    assert {slip.kind for slip in slips(before, before.replace("1", "2"))} == {"another value"}
    docstring = "def f():\n    '''doc'''\n    return 1\n\n"
    assert {slip.kind for slip in slips(docstring, docstring.replace("1", "2"))} == {"another value"}


@pytest.mark.parametrize("path", ["x.py", "answer.txt"])
def test_a_slip_is_never_the_fix(path):
    for before, after in (
        (demonstrated.BROKEN, demonstrated.MODULE),
        ("41\n", "42\n"),
        ("a\na\nb\n", "a\nb\n"),
        ("a\nb\n", "a\nc\nb\n"),
        ("it is\n", "it was\n"),
    ):
        for slip in slips(before, after, path=path, seeds=40):
            assert edited(before, slip.edit) != after


def test_a_habit_makes_the_same_mistake_of_the_same_right_line():
    right = "def price(count, each):\n    return count * each + 1\n"
    bugs = ["count + each + 1", "count * each - 1", "count * each + 2", "each * each + 1"]
    fixes = [fix_of(right.replace("count * each + 1", bug), right) for bug in bugs]
    edits = [habitual_slip_of(fix, fix.edits[0]).edit for fix in fixes]
    assert len({edit.new for edit in edits}) == 1
    assert edits[0].new != fixes[0].edits[0].new
    bug = edits[0].new[0].removeprefix("    return ")  # the habit itself is the bug: another mistake
    fix = fix_of(right.replace("count * each + 1", bug), right)
    assert habitual_slip_of(fix, fix.edits[0]).edit.new not in {edits[0].new, fix.edits[0].new}
