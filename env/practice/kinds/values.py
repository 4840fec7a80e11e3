"""Bugs in values: limits, operators, slices, defaults, initial values, constants, copies that are none.

Reads nodes, yields edits: `range(n)` -> `range(n + 1)` (boundary), `x[:n]` -> `x[n:]` (slice), `list(x)` -> `x`
(aliasing).
"""

import ast
import re
from collections.abc import Iterator

from srft.env.practice.code import FUNCTIONS, Code, Edit, Span
from srft.env.practice.kinds.conditions import operator_span
from srft.env.practice.syntax import literal

OPERATORS: dict[type[ast.operator], tuple[str, tuple[str, ...]]] = {
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.Mult: ("*", ("/", "+")),
    ast.Div: ("/", ("//", "*")),
    ast.FloorDiv: ("//", ("/", "%")),
    ast.Mod: ("%", ("//",)),
    ast.Pow: ("**", ("*",)),
    ast.BitAnd: ("&", ("|",)),
    ast.BitOr: ("|", ("&",)),
    ast.BitXor: ("^", ("|",)),
    ast.LShift: ("<<", (">>",)),
    ast.RShift: (">>", ("<<",)),
}
COPIES = frozenset({"list", "dict", "set", "tuple", "copy", "deepcopy"})


def _is_int(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _neighbours(node: ast.AST, code: Code) -> Iterator[Edit]:
    """n + 1 and n - 1 in place of an expression."""
    text, span = code.text(node), code.span(node)
    if _is_int(node):
        number = int(literal(text))
        yield Edit(span, str(number + 1))
        if number > 0:
            yield Edit(span, str(number - 1))
    elif isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
        yield Edit(span, f"{text} + 1")
        yield Edit(span, f"{text} - 1")


def boundary(node: ast.AST, code: Code) -> Iterator[Edit]:
    """One more or one less in a range, an index, or a limit that is compared with."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        for argument in node.args[:2]:
            yield from _neighbours(argument, code)
    if isinstance(node, ast.Subscript) and _is_int(node.slice):
        yield from _neighbours(node.slice, code)
    if isinstance(node, ast.Compare):
        for operator, limit in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) and _is_int(limit):
                yield from _neighbours(limit, code)


def off_by_one(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`i + 1` becomes `i`, a length is one too small."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)) and code.text(node.right) == "1":
        gap = code.text(Span(code.span(node.left).end, code.span(node.right).start))
        if gap.strip() in {"+", "-"}:
            yield Edit(Span(code.span(node.left).end, code.span(node.right).end), "")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        parent = code.parent(node)
        if isinstance(parent, (ast.Return, ast.Assign, ast.Compare)):
            yield Edit(code.span(node), f"{code.text(node)} - 1")


def operator(node: ast.AST, code: Code) -> Iterator[Edit]:
    """`+` becomes `-`, `*` becomes `/`, `+=` becomes `-=`; a minus sign is gone."""
    if isinstance(node, ast.BinOp):
        symbol, others = OPERATORS.get(type(node.op), ("", ()))
        if others and (span := operator_span(code, node.left, node.right, re.escape(symbol))):
            yield from (Edit(span, other) for other in others)
    if isinstance(node, ast.AugAssign):
        symbol, others = OPERATORS.get(type(node.op), ("", ()))
        if others and (span := operator_span(code, node.target, node.value, re.escape(f"{symbol}="))):
            yield from (Edit(span, f"{other}=") for other in others)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield Edit(Span(code.span(node).start, code.span(node.operand).start), "")


def slice_bounds(node: ast.AST, code: Code) -> Iterator[Edit]:
    """A bound of a slice is gone, moved by one, or on the other side of the colon."""
    if not isinstance(node, ast.Slice):
        return
    for bound in (node.lower, node.upper):
        if bound is not None:
            yield Edit(code.span(bound), "")
            if not (isinstance(bound, ast.UnaryOp)):
                yield from _neighbours(bound, code)
    whole = code.text(node)
    if node.step is None and (node.lower is None) != (node.upper is None) and whole.count(":") == 1:
        before, after = whole.split(":")
        yield Edit(code.span(node), f"{after.strip()}:{before.strip()}")


def default_value(node: ast.AST, code: Code) -> Iterator[Edit]:
    """Another default of a parameter."""
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                yield from _other_constant(default, code)


def initial_value(node: ast.AST, code: Code) -> Iterator[Edit]:
    """A variable or an attribute begins with another value."""
    if isinstance(node, ast.Assign):
        target: ast.AST = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return
    if node.value is not None and isinstance(target, (ast.Name, ast.Attribute)):
        yield from _other_constant(node.value, code)


def constant(node: ast.AST, code: Code) -> Iterator[Edit]:
    """Another number or string, wherever one stands."""
    parent = code.parent(node)
    if isinstance(node, ast.Constant) and not isinstance(parent, (ast.Assign, ast.AnnAssign, ast.arguments)):
        in_slice = isinstance(parent, ast.Slice)
        if not in_slice and node.value is not None:
            yield from _other_constant(node, code)


def _other_constant(node: ast.AST, code: Code) -> Iterator[Edit]:
    if not isinstance(node, ast.Constant):
        return
    span, value, text = code.span(node), node.value, code.text(node)
    if isinstance(value, bool):
        yield Edit(span, str(not value))
    elif isinstance(value, int):
        yield Edit(span, str(value + 1))
        if value > 1:
            yield Edit(span, str(value - 1))
    elif isinstance(value, float):
        yield Edit(span, repr(value + 1.0))
    elif value is None:
        yield Edit(span, "0")
    elif isinstance(value, str) and (simple := re.fullmatch(r"""(["'])([^"'\\\n]*)\1""", text)):
        yield from (Edit(span, f"{simple[1]}{other}{simple[1]}") for other in _other_strings(simple[2]))


def _other_strings(text: str) -> Iterator[str]:
    if not text:
        yield " "
    elif text.isspace() or len(text) == 1:
        yield ""
    else:
        yield text[:-1]
        if text.swapcase() != text:
            yield text[0].swapcase() + text[1:] if text[0].isalpha() else text.swapcase()


def aliasing(node: ast.AST, code: Code) -> Iterator[Edit]:
    """A copy is none: `list(x)`, `x.copy()` and `x[:]` become `x`; a default of `None` becomes one mutable default."""
    if isinstance(node, ast.Call) and not node.keywords:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        alone = node.args[0] if len(node.args) == 1 else None
        if name in COPIES and isinstance(alone, (ast.Name, ast.Attribute, ast.Subscript)):
            yield Edit(code.span(node), code.text(alone))
        if name == "copy" and not node.args and isinstance(node.func, ast.Attribute):
            yield Edit(Span(code.span(node.func.value).end, code.span(node).end), "")
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and code.text(node.slice).strip() == ":":
        yield Edit(Span(code.span(node.value).end, code.span(node).end), "")
    if isinstance(node, FUNCTIONS):
        yield from _mutable_defaults(node, code)


def _mutable_defaults(node: ast.FunctionDef | ast.AsyncFunctionDef, code: Code) -> Iterator[Edit]:
    parameters = [*node.args.posonlyargs, *node.args.args]
    defaults = dict(zip([p.arg for p in reversed(parameters)], reversed(node.args.defaults), strict=False))
    defaults |= {p.arg: d for p, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None}
    for name, default in defaults.items():
        if isinstance(default, ast.Constant) and default.value is None:
            made = re.search(rf"\b{name} is None:\s+{name} = (\[\]|\{{\}}|set\(\)|list\(\)|dict\(\))", code.text(node))
            if made:
                yield Edit(code.span(default), made[1])


KINDS = {
    "boundary": boundary,
    "off_by_one": off_by_one,
    "operator": operator,
    "slice_bounds": slice_bounds,
    "aliasing": aliasing,
    "default_value": default_value,
    "initial_value": initial_value,
    "constant": constant,
}
