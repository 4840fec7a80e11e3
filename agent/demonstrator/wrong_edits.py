r"""Slips: edits that a hurried engineer could make in the place of the right one.

Reads a `Fix`, gives a wrong `Edit`; writes nothing. Four kinds, as far as the fix's lines allow them:

    another value   the right place, but another value, operator or variable than the right one
    another line    the right lines, but over the line before or after; what they should replace stays
    no change       the old lines once more, or an empty line where lines are missing

    slip = slip_of(fix, fix.edits[0], random.Random(0))
    slip.edit.new                       # ('    return a * b',) for a fix to `return a + b`

Whatever the kind, the file does not come out as the fix would have it. That its behaviour differs too is made likely,
not proven: comments, documentation and blank lines are left alone, and `<` never becomes `<=`.
"""

from __future__ import annotations

import ast
import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from srft.agent.demonstrator.fix import Edit, Fix
from srft.env.practice.syntax import parse

SlipKind = Literal["another value", "another line", "no change"]

_TOKEN = re.compile(r"[A-Za-z_]\w*|\d+|<=|>=|==|!=|//|\*\*|->|[-+*/%<>&|]")
_COMMENT = re.compile(r"(?:^|\s)#[^'\"]*$")

# What is not quite the token: never what differs at a boundary only, as many tests would not tell.
_OTHERS: dict[str, tuple[str, ...]] = {
    "<": (">", "=="),
    ">": ("<", "=="),
    "<=": (">=", "=="),
    ">=": ("<=", "=="),
    "==": ("!=",),
    "!=": ("==",),
    "+": ("-", "*"),
    "-": ("+",),
    "*": ("+",),
    "/": ("*",),
    "//": ("*",),
    "%": ("//", "*"),
    "&": ("|",),
    "|": ("&",),
    "and": ("or",),
    "or": ("and",),
    "in": ("not in",),
    "is": ("is not",),
    "True": ("False",),
    "False": ("True",),
    "None": ("0",),
    "min": ("max",),
    "max": ("min",),
    "any": ("all",),
    "all": ("any",),
    "append": ("extend",),
    "lower": ("upper",),
    "upper": ("lower",),
}


class Slip(NamedTuple):
    """A wrong edit."""

    kind: SlipKind
    edit: Edit


def slip_of(fix: Fix, edit: Edit, rng: random.Random) -> Slip:
    """A wrong edit in the place of `edit`. Other values are three times as likely as other lines, where both can be."""
    values, places = sorted(set(_other_values(fix, edit))), list(_other_lines(fix, edit))
    if not values and not places:
        return Slip("no change", Edit(edit.line, edit.old, edit.old or ("",)))
    if not places or (values and rng.random() < 0.75):
        return Slip("another value", rng.choice(values))
    return Slip("another line", rng.choice(places))


def habitual_slip_of(fix: Fix, edit: Edit) -> Slip:
    """A wrong edit out of habit: the same for the same right lines, as far as tasks allow it.

    Another value, the first by the order of a hash. Where that is the old value, it is the next one; and a bug that
    brings a variable of its own adds values to choose from.
    """
    values = set(_other_values(fix, edit, anywhere=True))
    if not values:
        return slip_of(fix, edit, random.Random(0))
    return Slip("another value", min(values, key=lambda value: hashlib.sha256("\n".join(value.new).encode()).digest()))


def _other_lines(fix: Fix, edit: Edit) -> Iterator[Edit]:
    """The edit made one line too early or too late, where that removes code."""
    for line in (edit.line - 1, edit.end):
        text = fix.shown.get(line)
        if text is not None and _is_code(text) and text not in edit.old and (text,) != edit.new:
            yield Edit(line, (text,), edit.new)


def _other_values(fix: Fix, edit: Edit, *, anywhere: bool = False) -> Iterator[Edit]:
    """The new lines with one token changed: one that the fix changed, else (and with `anywhere`) any."""
    changed = [(place, changes) for place, changes in _changes(fix, edit) if changes.of_the_fix and not anywhere]
    for place, changes in changed or _changes(fix, edit):
        new = (*edit.new[:place], changes.text, *edit.new[place + 1 :])
        if new != edit.old:
            yield Edit(edit.line, edit.old, new)


class _Change(NamedTuple):
    """A line with another token. of_the_fix: whether the token is where the old and the new line differ."""

    text: str
    of_the_fix: bool


def _changes(fix: Fix, edit: Edit) -> list[tuple[int, _Change]]:
    """(place among the new lines, change) for each token that can be another one."""
    names = _names((*edit.old, *edit.new, *fix.shown.values()))
    found = []
    for place, line in enumerate(edit.new):
        parses = _is_code(line, definitions=True)
        if not parses and fix.path.endswith(".py"):
            continue
        old = edit.old[place] if len(edit.old) == len(edit.new) else ""
        start, end = _difference(old, line)
        for token in _TOKEN.finditer(_COMMENT.sub("", line)):
            for other in _others(token[0], names):
                text = line[: token.start()] + other + line[token.end() :]
                if _is_code(text, definitions=True) or not parses:
                    found.append((place, _Change(text, token.start() < end and token.end() > start)))
    return found


def _others(token: str, names: Sequence[str]) -> tuple[str, ...]:
    if token in _OTHERS:
        return _OTHERS[token]
    if token.isdecimal():
        return (str(int(token) + 1), str(int(token) + 2))
    return tuple(name for name in names if name != token) if token in names else ()


def _names(lines: Sequence[str]) -> list[str]:
    """The variables in the lines of code, sorted, without the functions that are called."""
    found: set[str] = set()
    called: set[str] = set()
    for line in lines:
        if tree := _parsed(line):
            nodes = list(ast.walk(tree))
            found |= {node.id for node in nodes if isinstance(node, ast.Name)}
            found |= {node.arg for node in nodes if isinstance(node, ast.arg)}
            called |= {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return sorted(found - called - _OTHERS.keys())


def _difference(old: str, new: str) -> tuple[int, int]:
    """The span of `new` that `old` does not have, without what both begin and end with.

    >>> _difference("return a - b", "return a + b")
    (9, 10)
    """
    start = _shared(old, new)
    return start, len(new) - _shared(old[start:][::-1], new[start:][::-1])


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    unequal = (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(unequal, min(len(one), len(other)))


def _is_code(line: str, *, definitions: bool = False) -> bool:
    """Whether a line does something: a statement or the head of one, but no decorator, no bare text, no `pass`."""
    tree = _parsed(line)
    if tree is None or len(tree.body) != 1 or isinstance(tree.body[0], ast.Pass):
        return False
    if isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return definitions
    bare = tree.body[0].value if isinstance(tree.body[0], ast.Expr) else None
    return bare is None or isinstance(bare, ast.Call | ast.Await | ast.Yield | ast.YieldFrom)


def _parsed(line: str) -> ast.Module | None:
    """A line by itself as a syntax tree, heads of blocks included; `None` where it is not a complete statement."""
    text = line.strip()
    for whole in (text + " pass" if text.endswith(":") else text, f"if 0: pass\n{text} pass"):
        try:
            return parse(whole)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None
