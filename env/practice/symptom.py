"""The symptom of a bug: lines that show it, what they print, and what they should.

    symptom(bench, {"ledger.py": broken}, ["test_ledger.py::test_add"], {"test_ledger.py": tests})
    # Symptom(code="from ledger import add\\n\\nprint(add(1, 2))", got="-1", expected="3", ...)

The lines come from a failing test: what it imports, what it did before the check that fails, and the call in that
check. They are run on the broken and on the unbroken project, and taken where the outputs differ. Where no such lines
can be made (fixtures of pytest's own, checks in loops), the check itself and pytest's message are told.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from srft.env.practice.bench import Bench
from srft.env.practice.code import FUNCTIONS
from srft.env.practice.syntax import parse
from srft.env.practice.visible_tests import NoSuchTest, find_test, names_of, path_of

TESTS_TRIED = 3
"""Failing tests that lines are looked for in; the first ones in the file."""

TEXT_LIMIT = 400
ADDRESS = re.compile(r" at 0x[0-9a-f]+|/tmp/|\b\d{6,}\.\d+")
"""What differs between two runs of the same code."""


class Symptom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bug shows.

    code: lines that print something or raise, `None` where none could be made. call: what they call, as written. got,
    expected: the last line of their output with the bug and without it. raises_got, raises_expected: whether that is
    an exception. check: the test's failing statement. message: pytest's, in short.
    """

    test: str
    check: str
    message: str
    code: str | None = None
    call: str | None = None
    got: str = ""
    expected: str = ""
    raises_got: bool = False
    raises_expected: bool = False


class _Candidate(NamedTuple):
    """Lines to try. call: the expression whose value is printed."""

    code: str
    call: str


def symptom(
    bench: Bench,
    changed: Mapping[str, bytes],
    failures: Mapping[str, Any],
    tests: Sequence[str],
    test_files: Mapping[str, bytes],
) -> Symptom:
    """The symptom in the first of the failing tests that gives one. failures: the probe's. Raises SandboxDied."""
    failures = {name.split()[0]: failure for name, failure in failures.items()}  # names as the log's parser cuts them
    ordered = sorted(tests, key=lambda test: (path_of(test), _line_of(test, test_files)))[:TESTS_TRIED]
    for test in ordered:
        if test in failures:
            for candidate in _candidates(test, test_files[path_of(test)], failures[test]):
                if shown := _tried(bench, changed, candidate):
                    return msgspec.structs.replace(_in_words(test, test_files, failures[test]), **shown)
    return _in_words(ordered[0], test_files, failures.get(ordered[0], {}))


def _line_of(test: str, test_files: Mapping[str, bytes]) -> int:
    try:
        return find_test(parse(test_files[path_of(test)]), names_of(test))[1].lineno
    except NoSuchTest:
        return 0


def _in_words(test: str, test_files: Mapping[str, bytes], failure: Mapping[str, Any]) -> Symptom:
    message = f"{failure['exception']}: {failure['message']}" if failure else ""
    message = re.sub(r"0x[0-9a-f]+|/tmp/\S+", "...", message)  # others in every run
    return Symptom(test=test, check=_check(test, test_files, failure), message=message.partition("\n")[0][:TEXT_LIMIT])


def _check(test: str, test_files: Mapping[str, bytes], failure: Mapping[str, Any]) -> str:
    source = test_files[path_of(test)]
    statement = _statement_at(parse(source), failure.get("line", 0))
    return "" if statement is None else ast.unparse(statement)[:TEXT_LIMIT]


def _statement_at(tree: ast.AST, line: int) -> ast.stmt | None:
    """The innermost statement at a line; of a `with`, `for` or `if` that begins there, itself."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    around = [node for node in statements if node.lineno <= line <= (node.end_lineno or node.lineno)]
    return max(reversed(around), key=lambda node: node.lineno, default=None)


def _tried(bench: Bench, changed: Mapping[str, bytes], candidate: _Candidate) -> dict[str, Any] | None:
    with_bug = bench.python(changed, candidate.code)
    without = bench.python({}, candidate.code)
    if with_bug.timed_out or without.timed_out or with_bug.output == without.output:
        return None
    got, expected = _told(with_bug.output), _told(without.output)
    own_fault = re.match(r"NameError|ImportError|ModuleNotFoundError|SyntaxError", expected)
    if got == expected or own_fault or ADDRESS.search(got + expected) or max(len(got), len(expected)) > TEXT_LIMIT:
        return None
    return {
        "code": candidate.code,
        "call": candidate.call,
        "got": got,
        "expected": expected,
        "raises_got": with_bug.exit_code != 0,
        "raises_expected": without.exit_code != 0,
    }


def _told(output: str) -> str:
    """What was printed; of a traceback, the exception."""
    lines = output.rstrip("\n").split("\n")
    if any(line.startswith("Traceback (most recent call last):") for line in lines):
        ends = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(:|$)", line)]
        return ends[-1] if ends else lines[-1]
    return "\n".join(lines)


def _candidates(test: str, source: bytes, failure: Mapping[str, Any]) -> Iterator[_Candidate]:
    tree = parse(source)
    try:
        function = find_test(tree, names_of(test))[1]
    except NoSuchTest:
        return
    statement = _statement_at(function, failure["line"])
    if statement is None or statement is function:
        return
    before = _before(function, statement)
    if before is None:
        return
    text = _Text(source)
    parameters = [argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]]
    without_checks = [part for part in before if not _is_check(part)]
    for earlier in (without_checks, [called for part in before if (called := _call_in_check(part))]):
        for expression in _expressions(statement):
            if lines := _lines(tree, text, parameters, earlier, expression, failure["locals"]):
                yield _Candidate(lines, text(expression))


def _before(function: ast.FunctionDef, statement: ast.stmt) -> list[ast.stmt] | None:
    """What the test did before; `None` where the statement is in a block of its own."""
    for number, part in enumerate(function.body):
        if part is statement or (isinstance(part, ast.With) and statement in part.body):
            return function.body[:number]
    return None


def _call_in_check(statement: ast.stmt) -> ast.stmt | None:
    """A statement as it is; of an assertion the call that it looks at, which may change what comes later."""
    if not _is_check(statement):
        return statement
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    if not isinstance(statement, ast.Assert) or not calls:
        return None
    return ast.copy_location(ast.Expr(calls[0]), calls[0])


def _is_check(statement: ast.stmt) -> bool:
    """Whether a statement only looks: an assertion, or a docstring."""
    if isinstance(statement, ast.Assert):
        return True
    if isinstance(statement, ast.With):
        return any("raises" in ast.unparse(part.context_expr).lower() for part in statement.items)
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) or ast.unparse(statement.value).startswith("self.assert")
    return False


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """What to print, the more telling first."""
    if isinstance(statement, ast.Assert):
        check = statement.test
        if isinstance(check, ast.Compare):
            sides = [check.left, *check.comparators]
            yield from (side for side in sides if any(isinstance(node, ast.Call) for node in ast.walk(side)))
            yield from (side for side in sides if isinstance(side, (ast.Name, ast.Attribute, ast.Subscript)))
        if isinstance(check, ast.UnaryOp):
            yield check.operand
        yield check
    elif isinstance(statement, ast.With):
        for part in statement.body:
            yield from _expressions(part)
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        if ast.unparse(call.func).startswith("self.assert"):
            yield from (part for part in call.args if not isinstance(part, ast.Constant))
        else:
            yield call
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Return)) and statement.value is not None:
        yield statement.value


class _Text:
    """A test file's nodes as they were written, moved to the left."""

    def __init__(self, source: bytes) -> None:
        self._source = source.decode()

    def __call__(self, node: ast.AST) -> str:
        written = ast.get_source_segment(self._source, node)
        if written is None or '"""' in written or "'''" in written or "\n" not in written:
            return written or ast.unparse(node)  # what was made here has no place in the file
        first, *others = written.split("\n")
        margin = " " * node.col_offset  # type: ignore[attr-defined]
        if isinstance(node, ast.expr):  # its first line may begin anywhere
            return ast.unparse(node)
        return "\n".join([first, *(line.removeprefix(margin) for line in others)])


def _lines(
    tree: ast.Module,
    text: _Text,
    parameters: Sequence[str],
    before: Sequence[ast.stmt],
    expression: ast.expr,
    local_values: Mapping[str, str],
) -> str | None:
    """The script, `None` where it would need what only pytest has."""
    needed = _needed(before, expression)
    given: list[str] = []
    used: list[ast.AST] = [*needed, expression]
    top = {name: node for node in tree.body for name in _defined(node)}
    for name in parameters:
        if name not in _names(used):
            continue
        fixture = top.get(name)
        unfolded = _unfolded(fixture) if isinstance(fixture, FUNCTIONS) and fixture.decorator_list else None
        if unfolded is not None:
            lines, value = unfolded
            used += [*lines, value]
            given += map(text, lines)
            given += [f"{name} = {text(value)}"] if text(value) != name else []
        elif name in local_values:
            given.append(f"{name} = {local_values[name]}")
        else:
            return None
    definitions = _with_definitions(used, {name: node for name, node in top.items() if name not in parameters})
    imports = [node for node in definitions if isinstance(node, (ast.Import, ast.ImportFrom))]
    others = [node for node in definitions if node not in imports]
    names = _names([*others, *used])
    if "pytest" in names or "self" in _names(used):
        return None
    body = "\n".join([*given, *map(text, needed), f"print({text(expression)})"])
    imported = "\n".join(line for node in imports if (line := _import(node, names)))
    return "\n\n".join(part for part in (imported, *map(text, others), body) if part) + "\n"


def _needed(before: Sequence[ast.stmt], expression: ast.expr) -> list[ast.stmt]:
    """The statements that the expression's value may hang on: those that share a name with it, directly or not."""
    names = _names([expression])
    kept: set[ast.stmt] = set()
    while more := [part for part in before if part not in kept and _own_names(part) & names]:
        kept.update(more)
        names.update(*map(_own_names, more))
    return [part for part in before if part in kept]


def _own_names(statement: ast.stmt) -> set[str]:
    return _names([statement]).union(_defined(statement))


def _names(nodes: Sequence[ast.AST]) -> set[str]:
    return {node.id for root in nodes for node in ast.walk(root) if isinstance(node, ast.Name)}


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a file gives a meaning to."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return []


def _with_definitions(body: Sequence[ast.AST], top: Mapping[str, ast.stmt]) -> list[ast.stmt]:
    """The statements at the top of the test file that the body needs, those that they need too, in their order."""
    needed: set[ast.stmt] = set()
    waiting: list[ast.AST] = list(body)
    while waiting:
        for name in _names([waiting.pop()]):
            if name in top and top[name] not in needed:
                needed.add(top[name])
                waiting.append(top[name])
    return sorted(needed, key=lambda node: node.lineno)


def _import(node: ast.Import | ast.ImportFrom, names: set[str]) -> str:
    """An import of the names that are used alone."""
    used = [alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in names]
    if not used:
        return ""
    if isinstance(node, ast.ImportFrom):
        return ast.unparse(ast.ImportFrom(node.module, used, node.level))
    return ast.unparse(ast.Import(used))


def _unfolded(fixture: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[list[ast.stmt], ast.expr] | None:
    """A fixture's lines and its result; `None` where it is more than lines and a result."""
    *lines, last = fixture.body
    lines = [line for line in lines if not _is_check(line)]
    value = last.value if isinstance(last, ast.Return) else getattr(getattr(last, "value", None), "value", None)
    inner = [node for line in lines for node in ast.walk(line) if isinstance(node, (ast.Yield, ast.Return))]
    if fixture.args.args or inner or not isinstance(value, ast.expr):
        return None
    return lines, value
