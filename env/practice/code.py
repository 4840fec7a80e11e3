"""A Python file as text and as a tree, and the edits that turn one into another.

    code = Code(b"def f(a, b):\\n    return a < b\\n")
    compare = next(node for node in ast.walk(code.tree) if isinstance(node, ast.Compare))
    code.span(compare), code.function(compare)          # Span(24, 29), "f"

Edits are made on the bytes of the file, so that all that is not edited stays as it was, comments and blanks included.
"""

import ast
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from srft.env.practice.syntax import parse

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Span(NamedTuple):
    """From the first byte to the one after the last."""

    start: int
    end: int


class Edit(NamedTuple):
    """New text in place of a span."""

    span: Span
    new: str


class Code:
    """One Python file. Raises SyntaxError for bytes that are none."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.tree = parse(source)
        # Python ends a line at \n, \r\n and \r; files with \r are left out before this (see sources.py).
        self._line_starts = [0]
        for line in source.split(b"\n"):
            self._line_starts.append(self._line_starts[-1] + len(line) + 1)
        self._parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def span(self, node: ast.AST) -> Span:
        """Where a node stands, without the brackets around it."""
        start = self._line_starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._line_starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return Span(start, end)

    def text(self, where: ast.AST | Span) -> str:
        span = where if isinstance(where, Span) else self.span(where)
        return self.source[span.start : span.end].decode()

    def lines(self, statement: ast.stmt) -> Span:
        """A statement with the blanks before it: whole lines, but for what follows it in its last one."""
        return Span(self._line_starts[statement.lineno - 1], self.span(statement).end)

    def statements(self) -> Iterator[ast.stmt]:
        """The statements of the file and of its classes, in their order, without those that are left alone."""
        waiting = list(reversed(self.tree.body))
        while waiting:
            statement = waiting.pop()
            if isinstance(statement, ast.ClassDef):
                waiting += reversed(statement.body)
            elif statement not in self.untouchable:
                yield statement

    def line(self, offset: int) -> int:
        """The number of the line that holds a byte, from 1."""
        return self.source.count(b"\n", 0, offset) + 1

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self._parents.get(node)

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around a node, the nearest first."""
        above = self._parents.get(node)
        while above is not None:
            yield above
            above = self._parents.get(above)

    def enclosing_function(self, node: ast.AST) -> FunctionNode | None:
        return next((above for above in self.above(node) if isinstance(above, FUNCTIONS)), None)

    def function(self, node: ast.AST) -> str:
        """The qualified name of the function or class that holds a node; "" at the top of the file."""
        scopes = [node, *self.above(node)]
        names = [scope.name for scope in scopes if isinstance(scope, (*FUNCTIONS, ast.ClassDef))]
        return ".".join(reversed(names))

    def edited(self, edit: Edit) -> bytes:
        return self.source[: edit.span.start] + edit.new.encode() + self.source[edit.span.end :]

    @cached_property
    def untouchable(self) -> frozenset[ast.AST]:
        """Nodes whose change changes nothing that runs, or whose place Python does not tell exactly."""
        roots: list[ast.AST] = []
        for node in ast.walk(self.tree):
            roots += _annotations(node)
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                roots += node.decorator_list
            if isinstance(node, ast.JoinedStr):  # before Python 3.12 what is inside has no true place
                roots += ast.iter_child_nodes(node)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # docstrings
                roots.append(node)
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
            ):
                roots.append(node)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith(("TYPE_CHECKING", "'__main__'")):
                roots.append(node)
        return frozenset(inside for root in roots for inside in ast.walk(root))


def _annotations(node: ast.AST) -> list[ast.AST]:
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [annotation for annotation in found if isinstance(annotation, ast.AST)]
