"""Mutations: what each kind makes of a small function, and what holds of all of them."""

import ast

import pytest

from srft.env.practice.code import Code
from srft.env.practice.families import families, family_files
from srft.env.practice.mutations import KINDS, mutants
from srft.env.practice.sources import is_source

EXAMPLES = {
    "comparison": ("if a < b:\n    x = 1", ["if a <= b:\n    x = 1", "if a > b:\n    x = 1"]),
    "negated_condition": ("if ready(a):\n    x = f()", ["if not ready(a):\n    x = f()"]),
    "dropped_condition": (
        "x = [a for a in b if a.ok]",
        ["x = [a for a in b]"],
    ),
    "swapped_branches": ("x = f(a) if a else f(b)", ["x = f(b) if a else f(a)"]),
    "logical_operator": ("x = a and b", ["x = a or b"]),
    "boundary": (
        "for n in range(a):\n    f(n)",
        ["for n in range(a + 1):\n    f(n)", "for n in range(a - 1):\n    f(n)"],
    ),
    "off_by_one": ("x = a + 1", ["x = a"]),
    "operator": ("x = a // b", ["x = a % b", "x = a / b"]),
    "slice_bounds": ("x = a[:b]", ["x = a[:]", "x = a[:b + 1]", "x = a[:b - 1]", "x = a[b:]"]),
    "aliasing": ("x = a.copy()", ["x = a"]),
    "initial_value": ("x = 0", ["x = 1"]),
    "constant": ("f('ab')", ["f('Ab')", "f('a')"]),
    "argument_order": ("f(a, b)", ["f(b, a)"]),
    "wrong_variable": ("f(a)", ["f(b)"]),
    "exception_type": ("raise KeyError(a)", ["raise IndexError(a)"]),
    "similar_function": ("x = min(a, b)", ["x = max(a, b)"]),
    "missing_return": ("return a", ["a"]),
    "missing_await": ("x = await a", ["x = a"]),
    "missing_update": ("a += b", ["pass"]),
    "loop_exit": ("while a:\n    break", ["while a:\n    continue"]),
    "wrong_element": ("return a[0]", ["return a[-1]"]),
}


def wrapped(body: str) -> str:
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return f"async def go(a, b):\n{lines}"


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_kind(kind: str) -> None:
    body, expected = EXAMPLES[kind]
    source = wrapped(body).encode()
    made = [one.applied(source).decode() for one in mutants("m.py", source) if one.kind == kind]
    assert sorted(made) == sorted(map(wrapped, expected))


def test_a_default_value() -> None:
    made = [one for one in mutants("m.py", b"def f(a, b=True, *, c=3):\n    return a\n") if one.kind == "default_value"]
    assert [(one.line, one.function, one.old, one.new) for one in made] == [
        (1, "f", "True", "False"),
        (1, "f", "3", "2"),
        (1, "f", "3", "4"),
    ]


def test_a_default_that_becomes_mutable() -> None:
    source = b"def f(a=None):\n    if a is None:\n        a = []\n    return a\n"
    made = [one.applied(source) for one in mutants("m.py", source) if one.kind == "aliasing"]
    assert made == [source.replace(b"a=None", b"a=[]")]


def test_every_kind_has_an_example() -> None:
    assert {*EXAMPLES, "default_value"} == set(KINDS)


def test_what_is_left_alone() -> None:
    source = b'''"""A docstring with 1 < 2."""
from typing import TYPE_CHECKING

__all__ = ["f"]

if TYPE_CHECKING:
    import os


@decorated(1)
def f(a: "int" = ...) -> "str":
    """Another."""
    return f"{a + 1}"


if __name__ == "__main__":
    f(1)
'''
    assert [(one.kind, one.line) for one in mutants("m.py", source)] == [("missing_return", 13)]


def test_columns_are_bytes() -> None:
    source = 'def f(a, b):\n    return "äöü", a < b\n'.encode()
    made = {one.applied(source).decode() for one in mutants("m.py", source) if one.kind == "comparison"}
    assert made == {'def f(a, b):\n    return "äöü", a <= b\n', 'def f(a, b):\n    return "äöü", a > b\n'}


def test_a_mutant_says_where_it_is() -> None:
    source = b"class A:\n    def f(self, a):\n        return [\n            a,\n            a < 3,\n        ]\n"
    (less, *_) = [one for one in mutants("pkg/m.py", source) if one.kind == "comparison"]
    assert (less.path, less.line, less.function, less.old, less.new) == ("pkg/m.py", 5, "A.f", "<", "<=")
    assert mutants("pkg/m.py", source) == mutants("pkg/m.py", source)
    assert less.id != next(one.id for one in mutants("m.py", source) if one.kind == "comparison")


@pytest.mark.parametrize("name", families())
def test_all_mutants_of_our_families(name: str) -> None:
    """They parse, differ from the original and from each other, and change one place."""
    for path, file in family_files(name).items():
        if is_source(path):
            made = mutants(path, file.content)
            results = [one.applied(file.content) for one in made]
            assert len(set(results)) == len({one.id for one in made}) == len(results)
            tree = ast.dump(Code(file.content).tree)
            for one, result in list(zip(made, results, strict=True))[::17]:
                assert ast.dump(ast.parse(result)) != tree
                end = one.start + len(one.new.encode())
                assert result[: one.start] + one.old.encode() + result[end:] == file.content
