"""One change of a file each: what `mutants.py` tries its tests against.

    mutations("def f(a):\n    return a > 1\n")[0].change        # "a > 1: Gt -> GtE"

Comparisons and their borders, `and`, `or`, `not`, arithmetic, numbers, strings, truth, conditions turned round or
dropped, statements removed, results dropped, arguments swapped or dropped, `min` for `max` and the like. Not changed:
annotations, `Literal[...]`, imports, `__all__`, `assert` and what is raised (whether it is raised is).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_SWAPPED: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    **{ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt)},
    **{ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)},
    **{ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.And: (ast.Or,), ast.Or: (ast.And,)},
    **{ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.FloorDiv,), ast.FloorDiv: (ast.Mult,)},
    **{ast.Div: (ast.Mult,), ast.Mod: (ast.Mult,), ast.BitOr: (ast.BitAnd,), ast.BitAnd: (ast.BitOr,)},
}
_RENAMED = {
    "min": "max",
    "any": "all",
    "startswith": "endswith",
    "find": "rfind",
    "index": "rindex",
    "lstrip": "rstrip",
}
_RENAMED |= {new: old for old, new in _RENAMED.items()}
_REMOVED = (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.If, ast.For, ast.Delete)
_OPERATOR = (ast.operator, ast.cmpop, ast.boolop)


class Mutant(NamedTuple):
    """One change of a file. where: the function or class; change: "around: before -> after"; source: the whole file."""

    line: int
    where: str
    change: str
    source: str


def mutations(source: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    tree = ast.parse(source)
    found = {ast.unparse(tree): Mutant(0, "", "", source)}
    for node, parent, put, where in list(_places(tree, "")):
        for new in _changes(node, parent):
            put(new)
            changed = ast.unparse(ast.fix_missing_locations(tree))
            put(node)
            around = f"{_text(parent)}: " if isinstance(node, (*_OPERATOR, ast.Constant)) else ""
            change = f"{around}{_text(node)} -> {'removed' if isinstance(new, ast.Pass) else _text(new)}"
            line = getattr(node, "lineno", getattr(parent, "lineno", 0))
            found.setdefault(changed, Mutant(line, where, change, changed))
    return sorted(list(found.values())[1:], key=lambda mutant: mutant.line)


def _text(node: Any) -> str:
    return type(node).__name__ if isinstance(node, _OPERATOR) else " ".join(ast.unparse(node).split())[:120]


def _places(parent: ast.AST, where: str) -> Iterator[tuple[Any, ast.AST, Callable[[Any], None], str]]:
    """The nodes that may be changed, each with its parent, with what puts another in its place, and where it is."""
    if isinstance(parent, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        where = f"{where}.{parent.name}".lstrip(".")
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "decorator_list") or isinstance(parent, ast.Assert | ast.Raise):
            continue
        nodes = value if isinstance(value, list) else [value]
        for number, node in enumerate(nodes):
            if isinstance(node, ast.AST) and not _is_left_alone(node):

                def put(new: Any, field: str = field, value: Any = value, number: int = number) -> None:
                    if isinstance(value, list):
                        value[number] = new
                    else:
                        setattr(parent, field, new)

                yield node, parent, put, where
                yield from _places(node, where)


def _is_left_alone(node: ast.AST) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    literal = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal"
    checking = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    exported = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    return docstring or literal or checking or exported or isinstance(node, ast.Import | ast.ImportFrom)


def _changes(node: Any, parent: Any) -> Iterator[Any]:
    """What may be put in a node's place."""
    yield from (new() for new in _SWAPPED.get(type(node), ()))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif node is getattr(parent, "test", None) and not isinstance(node, ast.Compare):
        yield ast.UnaryOp(ast.Not(), node)
    if any(node is condition for condition in getattr(parent, "ifs", ())):
        yield from (ast.UnaryOp(ast.Not(), node), ast.Constant(True))
    if isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _other_values(node.value))
    if isinstance(node, ast.Name) and node.id in _RENAMED:
        yield ast.Name(_RENAMED[node.id], node.ctx)
    if isinstance(node, ast.Attribute) and node.attr in _RENAMED:
        yield ast.Attribute(node.value, _RENAMED[node.attr], node.ctx)
    if isinstance(node, ast.Call):
        for number in range(len(node.keywords)):
            yield ast.Call(node.func, node.args, node.keywords[:number] + node.keywords[number + 1 :])
        symmetric = isinstance(node.func, ast.Name) and node.func.id in ("min", "max")
        if len(node.args) > 1 and not symmetric:
            yield ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    if isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.Constant(None))
    stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if stored or isinstance(node, _REMOVED):
        yield ast.Pass()


def _other_values(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1]
    return [f"XX{value}XX" if value else "XX"] if isinstance(value, str) else []
