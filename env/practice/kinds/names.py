"""Bugs in names: another variable, another function, arguments in another order, another exception.

Reads nodes, yields edits: `f(a, b)` -> `f(b, a)` (argument_order), `raise KeyError` -> `raise IndexError`
(exception_type).
"""

import ast
import builtins
from collections.abc import Iterator

from srft.env.practice.code import FUNCTIONS, Code, Edit, FunctionNode
from srft.env.practice.kinds.conditions import swapped

NEIGHBOURS = 2
"""How many other names stand in for a variable."""

EXCEPTIONS = {
    "ValueError": "TypeError",
    "TypeError": "ValueError",
    "KeyError": "IndexError",
    "IndexError": "KeyError",
    "AttributeError": "KeyError",
    "LookupError": "ValueError",
    "StopIteration": "ValueError",
    "ZeroDivisionError": "OverflowError",
    "OverflowError": "ZeroDivisionError",
    "RuntimeError": "ValueError",
    "NotImplementedError": "TypeError",
    "FileNotFoundError": "PermissionError",
    "OSError": "ValueError",
}
SIMILAR = {
    one: other
    for pair in (
        ("min", "max"),
        ("any", "all"),
        ("lower", "upper"),
        ("startswith", "endswith"),
        ("lstrip", "rstrip"),
        ("find", "rfind"),
        ("split", "rsplit"),
        ("partition", "rpartition"),
        ("append", "extend"),
        ("keys", "values"),
        ("ljust", "rjust"),
        ("floor", "ceil"),
        ("union", "intersection"),
        ("popleft", "pop"),
        ("isdigit", "isalpha"),
        ("sorted", "list"),
        ("strip", "lstrip"),
    )
    for one, other in (pair, pair[::-1])
} | {"strip": "lstrip", "list": "tuple", "pop": "popleft", "lstrip": "rstrip"}


def argument_order(node: ast.AST, code: Code) -> Iterator[Edit]:
    """Two neighbouring arguments of a call in each other's place."""
    if isinstance(node, ast.Call):
        for one, other in zip(node.args, node.args[1:], strict=False):
            plain = not isinstance(one, ast.Starred) and not isinstance(other, ast.Starred)
            if plain and code.text(one) != code.text(other):
                yield swapped(code, one, other)


def wrong_variable(node: ast.AST, code: Code) -> Iterator[Edit]:
    """Another parameter in place of a parameter, another local variable in place of one, another attribute of self."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        function = code.enclosing_function(node)
        if function is not None:
            for group in (_parameters(function), _locals_before(function, node.lineno)):
                if node.id in group:
                    yield from (Edit(code.span(node), other) for other in _next(group, node.id))
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and code.text(node.value) == "self"
        and not isinstance(code.parent(node), ast.Call)
    ):
        group = _attributes(node, code)
        if node.attr in group:
            yield from (Edit(code.span(node), f"self.{other}") for other in _next(group, node.attr))


def _next(group: list[str], name: str) -> list[str]:
    """The names after one, in turn: a long list of parameters would make most of all mutants."""
    at = group.index(name)
    return [*group[at + 1 :], *group[:at]][:NEIGHBOURS]


def _parameters(function: FunctionNode) -> list[str]:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [argument.arg for argument in arguments if argument.arg not in {"self", "cls"}]


def _locals_before(function: FunctionNode, line: int) -> list[str]:
    stored = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(name.id for name in stored if name.lineno < line))


def _attributes(node: ast.AST, code: Code) -> list[str]:
    """The attributes that the class's own __init__ gives to self."""
    owner = next((above for above in code.above(node) if isinstance(above, ast.ClassDef)), None)
    made = [part for part in getattr(owner, "body", ()) if isinstance(part, FUNCTIONS) and part.name == "__init__"]
    stored = [n for part in made for n in ast.walk(part) if isinstance(n, ast.Attribute)]
    return list(dict.fromkeys(n.attr for n in stored if isinstance(n.ctx, ast.Store) and code.text(n.value) == "self"))


def exception_type(node: ast.AST, code: Code) -> Iterator[Edit]:
    """Another exception is raised or caught; one of several is caught no more."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        yield from _other_exception(raised, code)
    if isinstance(node, ast.ExceptHandler) and node.type is not None:
        if isinstance(node.type, ast.Tuple):
            yield from (Edit(code.span(node.type), code.text(kept)) for kept in node.type.elts)
        else:
            yield from _other_exception(node.type, code)


def _other_exception(node: ast.AST, code: Code) -> Iterator[Edit]:
    if not isinstance(node, ast.Name):
        return
    if node.id in EXCEPTIONS:
        yield Edit(code.span(node), EXCEPTIONS[node.id])
    elif node.id[0].isupper() and not hasattr(builtins, node.id):  # the package's own
        yield Edit(code.span(node), "ValueError")


def similar_function(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`min` becomes `max`, `startswith` becomes `endswith`."""
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name) and node.func.id in SIMILAR and hasattr(builtins, node.func.id):
        yield Edit(code.span(node.func), SIMILAR[node.func.id])
    if isinstance(node.func, ast.Attribute) and node.func.attr in SIMILAR:
        start, end = code.span(node.func)
        name = code.span(node.func)._replace(start=end - len(node.func.attr.encode()))
        assert start < name.start, "an attribute ends with its name"
        yield Edit(name, SIMILAR[node.func.attr])


KINDS = {
    "argument_order": argument_order,
    "wrong_variable": wrong_variable,
    "exception_type": exception_type,
    "similar_function": similar_function,
}
