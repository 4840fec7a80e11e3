r"""Reads a task's texts: an example to run, the functions it names, its test files.

Reads problem statements and test patches; writes nothing.

    example("It breaks:\n```python\n>>> from sums import add\n>>> add(1, 2)\n-1\n```")
    # 'from sums import add\nprint(repr(add(1, 2)))'
    names("`add` is wrong for 1 and 2", "add")          # True
"""

import ast
import doctest
import re

from srft.env.practice.syntax import parse

_BLOCK = re.compile(r"^```(?:python|py|pycon)[^\S\n]*\n(.*?)\n```[^\S\n]*$", re.DOTALL | re.MULTILINE)


def example(text: str) -> str | None:
    """The script of the first ```python block; of a block with prompts the inputs, their values printed.

    `None` where there is no such block, or where it is not Python.
    """
    block = _BLOCK.search(text)
    if block is None:
        return None
    script = block[1]
    try:
        if sessions := doctest.DocTestParser().get_examples(script):
            script = "\n".join(_printed(session.source.rstrip("\n")) for session in sessions)
        parse(script)
    except (SyntaxError, ValueError):  # ValueError: prompts that are no session
        return None
    return script


def _printed(source: str) -> str:
    """A statement as a script has it: an expression's value must be printed to be seen.

    >>> _printed("1 + 1"), _printed("x = 1"), _printed("print(1)")
    ('print(repr(1 + 1))', 'x = 1', 'print(1)')
    """
    statement = parse(source).body[0]
    if not isinstance(statement, ast.Expr):
        return source
    call = statement.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
        return source
    return f"print(repr({source}))"


def names(text: str, function: str) -> bool:
    """Whether the text speaks of a function."""
    return re.search(rf"\b{re.escape(function)}\b", text) is not None


def visible_tests(test_patch: str) -> list[str]:
    """The files that a test patch changes and that were there before it: those that anybody can see."""
    headers = re.findall(r"^--- a/(.+)\n\+\+\+ b/\1$", test_patch, re.MULTILINE)
    return list(dict.fromkeys(headers))
