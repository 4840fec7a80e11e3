"""Test files without the tests that grade: what an agent sees of them, and the patch that puts them back.

visible = without_tests("test_ledger.py", source, ["test_ledger.py::test_add[1-2]"])
diff("test_ledger.py", visible, source)             # the hunks of test.patch
"""

import ast
import difflib
import re
from collections.abc import Iterable

from srft.env.practice.code import FUNCTIONS
from srft.env.practice.syntax import parse


class NoSuchTest(Exception):
    """A test whose function does not stand in its file: inherited, or made at run time."""


def path_of(test: str) -> str:
    """The file of a test id of pytest's."""
    return test.partition("::")[0]


def names_of(test: str) -> tuple[str, ...]:
    """Classes and function of a test id, without its parameters.

    >>> names_of("tests/test_a.py::TestSum::test_two[1-a::b]")
    ('TestSum', 'test_two')
    """
    return tuple(test.partition("[")[0].split("::")[1:])


def find_test(tree: ast.Module, names: tuple[str, ...]) -> tuple[list[ast.ClassDef], ast.FunctionDef]:
    """(the classes around it, the function) of a test, the last of several of that name. Raises NoSuchTest."""
    body: list[ast.stmt] = tree.body
    classes = []
    for name in names[:-1]:
        found = [node for node in body if isinstance(node, ast.ClassDef) and node.name == name]
        if not found:
            raise NoSuchTest(name)
        classes.append(found[-1])
        body = found[-1].body
    functions = [node for node in body if isinstance(node, FUNCTIONS) and node.name == names[-1]]
    if not functions:
        raise NoSuchTest(names[-1])
    return classes, functions[-1]  # type: ignore[return-value]


def without_tests(path: str, source: bytes, tests: Iterable[str]) -> bytes:
    """The file without the functions of these tests; a class that is left empty keeps `pass`. Raises NoSuchTest."""
    tree = parse(source)
    gone: set[int] = set()
    removed: set[ast.AST] = set()
    fillers: dict[int, bytes] = {}
    for names in sorted({names_of(test) for test in tests if path_of(test) == path}):
        classes, function = find_test(tree, names)
        removed.add(function)
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        assert function.end_lineno is not None, "parsed from text"
        gone |= set(range(first, function.end_lineno + 1))
        if classes and all(part in removed or _is_text(part) for part in classes[-1].body):
            fillers[function.end_lineno] = b" " * function.col_offset + b"pass\n"
    kept: list[bytes] = []
    for number, line in enumerate(_lines(source), 1):
        if number not in gone:
            kept.append(line)
        elif number - 1 not in gone:  # the blank lines before a function go with it
            while kept and not kept[-1].strip():
                kept.pop()
        if number in fillers:
            kept.append(fillers[number])
    text = b"".join(kept)
    parse(text)
    return text


def _lines(text: bytes) -> list[bytes]:
    """Lines with their ends; a line ends at a newline and nowhere else."""
    return re.findall(rb"[^\n]*\n|[^\n]+", text)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def diff(path: str, before: bytes, after: bytes) -> str:
    """A patch of one file, as `git apply` takes it; empty for equal texts."""
    old, new = ([line.decode() for line in _lines(text)] for text in (before, after))
    hunks = list(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"))
    ends = ["" if line.endswith("\n") else "\n\\ No newline at end of file\n" for line in hunks]
    head = f"diff --git a/{path} b/{path}\n" if hunks else ""
    return head + "".join(line + end for line, end in zip(hunks, ends, strict=True))
