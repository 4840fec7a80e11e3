"""Bugs in conditions: comparisons, negations, conditions that are gone, branches that have changed places.

Reads nodes, yields edits: `a < b` -> `a <= b` (comparison), `if c:` -> `if True:` (dropped_condition), and so on.
"""

import ast
import re
from collections.abc import Iterator

from srft.env.practice.code import Code, Edit, Span

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">")),
    ast.LtE: ("<=", ("<", ">=")),
    ast.Gt: (">", (">=", "<")),
    ast.GtE: (">=", (">", "<=")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}


def operator_span(code: Code, left: ast.AST, right: ast.AST, pattern: str) -> Span | None:
    """Where the operator between two operands stands; `None` where a comment between them makes it hard to tell."""
    between = Span(code.span(left).end, code.span(right).start)
    text = code.text(between)
    found = re.search(pattern, text)
    if found is None or "#" in text:
        return None
    offset = len(text[: found.start()].encode())
    return Span(between.start + offset, between.start + offset + len(found[0].encode()))


def comparison(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`<` becomes `<=`, `==` becomes `!=`, `in` becomes `not in`."""
    if not isinstance(node, ast.Compare):
        return
    operands = [node.left, *node.comparators]
    for number, operator in enumerate(node.ops):
        pattern, others = COMPARISONS[type(operator)]
        pattern = rf"\b{pattern}\b" if pattern[0].isalpha() else re.escape(pattern)
        span = operator_span(code, operands[number], operands[number + 1], pattern)
        if span is not None:
            yield from (Edit(span, other) for other in others)


def negated_condition(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`if c` becomes `if not c`, and `not c` becomes `c`."""
    if isinstance(node, (ast.If, ast.IfExp)):
        test = node.test
        if not isinstance(test, (ast.Compare, ast.UnaryOp)):  # those are told apart by a smaller change
            text = code.text(test)
            simple = isinstance(test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
            yield Edit(code.span(test), f"not {text}" if simple else f"not ({text})")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield Edit(Span(code.span(node).start, code.span(node.operand).start), "")


def dropped_condition(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`if c:` becomes `if True:`; a clause of `and` or `or` is gone; so is a comprehension's `if`."""
    if isinstance(node, ast.If):
        yield Edit(code.span(node.test), "True")
        if not node.orelse:
            yield Edit(code.span(node.test), "False")
    if isinstance(node, ast.BoolOp) and "#" not in code.text(node):
        for number, clause in enumerate(node.values):
            if number:
                yield Edit(Span(code.span(node.values[number - 1]).end, code.span(clause).end), "")
            else:
                yield Edit(Span(code.span(clause).start, code.span(node.values[1]).start), "")
    if isinstance(node, ast.comprehension):
        before: ast.AST = node.iter
        for clause in node.ifs:
            gap = code.text(Span(code.span(before).end, code.span(clause).start))
            if gap.strip() == "if":
                yield Edit(Span(code.span(before).end, code.span(clause).end), "")
            before = clause


def swapped_branches(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`a if c else b` becomes `b if c else a`; the one line under `if` changes places with the one under `else`."""
    if isinstance(node, ast.IfExp):
        first, second = node.body, node.orelse
    elif isinstance(node, ast.If) and len(node.body) == len(node.orelse) == 1:
        if isinstance(node.body[0], ast.If) or isinstance(node.orelse[0], ast.If):
            return
        first, second = node.body[0], node.orelse[0]  # type: ignore[assignment]
        if code.text(first).count("\n") or code.text(second).count("\n"):
            return
    else:
        return
    yield swapped(code, first, second)


def swapped(code: Code, first: ast.AST, second: ast.AST) -> Edit:
    """Two nodes in each other's place."""
    one, other = sorted((code.span(first), code.span(second)))
    between = code.text(Span(one.end, other.start))
    return Edit(Span(one.start, other.end), code.text(other) + between + code.text(one))


def logical_operator(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`and` becomes `or`, and the other way round."""
    if isinstance(node, ast.BoolOp):
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            if span := operator_span(code, left, right, rf"\b{word}\b"):
                yield Edit(span, other)


KINDS = {
    "comparison": comparison,
    "negated_condition": negated_condition,
    "dropped_condition": dropped_condition,
    "swapped_branches": swapped_branches,
    "logical_operator": logical_operator,
}
