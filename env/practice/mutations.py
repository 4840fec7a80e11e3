"""Bugs made on purpose: small changes of a Python file that change what it does and never its syntax.

    for mutant in mutants("ledger.py", source):            # in the order of the file
        mutant.kind, mutant.line, mutant.old, mutant.new   # "comparison", 12, "<", "<="
        broken = mutant.applied(source)

Whether a mutant can be told from the original is for the tests to say: here it is only made sure that the file still
parses and that its tree differs. What kinds there are: `kinds/`.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable

import msgspec

from srft.env.practice.code import Code, Edit, Span
from srft.env.practice.kinds import conditions, flow, names, values
from srft.env.practice.syntax import parse

KINDS: dict[str, Callable[[ast.AST, Code], Iterable[Edit]]] = {
    **conditions.KINDS,
    **values.KINDS,
    **names.KINDS,
    **flow.KINDS,
}


class Mutant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bug.

    start: the byte of the file that `old` begins at. line: of the first byte that differs, from 1. function: qualified
    name, "" at the top of the file.
    id: 8 hex digits of the file's path, the place and both texts.
    """

    id: str
    kind: str
    path: str
    line: int
    function: str
    start: int
    old: str
    new: str

    def applied(self, source: bytes) -> bytes:
        """The file with the bug in it."""
        end = self.start + len(self.old.encode())
        assert source[self.start : end] == self.old.encode(), f"{self.path}: another file than the mutant's"
        return source[: self.start] + self.new.encode() + source[end:]


def mutants(path: str, source: bytes) -> list[Mutant]:
    """Every mutant of a file, each result once, by place. Raises SyntaxError."""
    code = Code(source)
    found: dict[bytes, Mutant] = {}
    for statement in code.statements():
        tree = _tree(code.text(code.lines(statement)))
        for node in ast.walk(statement):
            if node in code.untouchable:
                continue
            for kind, mutate in KINDS.items():
                for edit in mutate(node, code):
                    result = hashlib.sha256(code.edited(edit)).digest()
                    if result not in found and _is_another_program(code, statement, edit, tree):
                        found[result] = _mutant(kind, path, node, edit, code)
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.old, mutant.new))


def _is_another_program(code: Code, statement: ast.stmt, edit: Edit, tree: str | None) -> bool:
    """Whether the statement of the file that is edited still parses, to another tree."""
    lines = code.lines(statement)
    before, after = Span(lines.start, edit.span.start), Span(edit.span.end, lines.end)
    return _tree(code.text(before) + edit.new + code.text(after)) not in {None, tree}


def _tree(text: str) -> str | None:
    """A statement's tree, wherever it is indented; `None` for what does not parse."""
    try:
        return ast.dump(parse(f"if True:\n{text}" if text[0].isspace() else text))
    except (SyntaxError, ValueError):
        return None


def _mutant(kind: str, path: str, node: ast.AST, edit: Edit, code: Code) -> Mutant:
    old = code.text(edit.span)
    identity = "\0".join((path, str(edit.span.start), old, edit.new))
    return Mutant(
        id=hashlib.sha256(identity.encode()).hexdigest()[:8],
        kind=kind,
        path=path,
        line=code.line(_first_difference(edit, old)),
        function=code.function(node),
        start=edit.span.start,
        old=old,
        new=edit.new,
    )


def _first_difference(edit: Edit, old: str) -> int:
    before, after = old.encode(), edit.new.encode()
    same = next((n for n, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    return edit.span.start + (min(len(before), len(after)) if same is None else same)
