"""Bugs in the flow: a return, an await or an update that is missing, a loop left at the wrong time, elements swapped.

Reads nodes, yields edits: `return x` -> `x` (missing_return), `total += n` -> `pass` (missing_update).
"""

import ast
from collections.abc import Iterator
from itertools import pairwise

from srft.env.practice.code import Code, Edit, Span
from srft.env.practice.kinds.conditions import swapped

CHANGING = frozenset(
    {"append", "add", "extend", "insert", "remove", "discard", "pop", "popleft", "update", "clear", "sort"}
)


def missing_return(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`return x` becomes `x`."""
    if isinstance(node, ast.Return) and node.value is not None:
        start = code.span(node).start
        keyword = len("return") + code.text(node)[len("return") :].startswith(" ")
        yield Edit(Span(start, start + keyword), "")


def missing_await(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`await x` becomes `x`."""
    if isinstance(node, ast.Await):
        start = code.span(node).start
        keyword = len("await") + code.text(node)[len("await") :].startswith(" ")
        yield Edit(Span(start, start + keyword), "")


def missing_update(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`total += n`, `seen.add(x)` and `self.x = y` become `pass`."""
    updates = isinstance(node, ast.AugAssign)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        updates = node.value.func.attr in CHANGING
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
        updates = True
    if updates:
        yield Edit(code.span(node), "pass")


def loop_exit(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`break` becomes `continue`, and the other way round."""
    if isinstance(node, (ast.Break, ast.Continue)):
        yield Edit(code.span(node), "continue" if isinstance(node, ast.Break) else "break")


def wrong_element(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`return a, b` becomes `return b, a`; the first element becomes the last."""
    if isinstance(node, (ast.Return, ast.Yield)) and isinstance(node.value, ast.Tuple):
        elements = node.value.elts
        for one, other in pairwise(elements):
            if code.text(one) != code.text(other):
                yield swapped(code, one, other)
    if isinstance(node, ast.Subscript):
        text = code.text(node.slice)
        if text in {"0", "-1"}:
            yield Edit(code.span(node.slice), "-1" if text == "0" else "0")


KINDS = {
    "missing_return": missing_return,
    "missing_await": missing_await,
    "missing_update": missing_update,
    "loop_exit": loop_exit,
    "wrong_element": wrong_element,
}
