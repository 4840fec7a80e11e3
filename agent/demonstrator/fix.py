r"""A reference fix as edits: which lines of which file go, and what comes in their place.

Reads a patch of one file, gives a `Fix`; and gives the sed command that makes an edit. Writes nothing.

    fix = read_fix("--- a/sums.py\n+++ b/sums.py\n@@ -2 +2 @@\n-    return a - b\n+    return a + b\n", where="sums-1")
    fix.edits                                   # (Edit(line=2, old=('    return a - b',), new=('    return a + b',)),)
    edit_command(fix.edits[0], path=fix.path)   # sed -i '2c\    return a + b' sums.py

Lines are counted from 1 in the file as it was before the fix. Edits made from the last one to the first find their
lines.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from srft.env.errors import InputError

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_DEFINITION = re.compile(r"\s*(?:async\s+)?def\s+(\w+)")

# Headers of changes that are no edits of a file's lines.
_NO_EDITS = ("new file", "deleted file", "old mode", "rename", "copy", "similarity", "GIT binary patch", "Binary files")


class Edit(NamedTuple):
    """A run of lines that goes (`old`) and what comes there (`new`), one of them possibly empty.

    line: the first line that goes; where none goes, the line before which the new ones come.
    """

    line: int
    old: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def end(self) -> int:
        """The first line after those that go."""
        return self.line + len(self.old)


class Definition(NamedTuple):
    """A function's name and the line of its `def`."""

    name: str
    line: int


class Fix(NamedTuple):
    """A patch of one file. shown: the lines of the old file that the patch shows, by their number."""

    path: str
    edits: tuple[Edit, ...]
    shown: Mapping[int, str]

    @property
    def function(self) -> Definition | None:
        """The function around a fix of one place, as far as the patch shows it."""
        if len(self.edits) > 1:
            return None
        line = self.edits[0].line if self.edits[0].old else self.edits[0].line - 1
        while line in self.shown:
            if found := _DEFINITION.match(self.shown[line]):
                return Definition(found[1], line)
            line -= 1
        return None


def read_fix(patch: str, *, where: str) -> Fix:
    """The edits of a patch. Raises InputError, which begins with `where`, for more than changed lines of one file."""
    lines = patch.split("\n")
    _refuse_missing_newline(lines, where)
    paths: dict[str, str] = {}
    edits: list[Edit] = []
    shown: dict[int, str] = {}
    rest = iter(lines)
    for line in rest:
        if line.startswith(_NO_EDITS):
            raise InputError(f"{where}: the patch has the line {line!r}; expected changed lines of one file that stays")
        if line.startswith(("--- ", "+++ ")):
            if line[:3] in paths:
                raise InputError(f"{where}: the patch changes more than one file; expected one")
            paths[line[:3]] = _path(line, where)
        elif hunk := _HUNK.match(line):
            edits += _edits(hunk, rest, shown, where)
    if not edits or set(paths) != {"---", "+++"} or paths["---"] != paths["+++"]:
        raise InputError(f"{where}: the patch has no changed lines of a file that stays; expected a unified diff")
    return Fix(paths["---"], tuple(edits), shown)


def _refuse_missing_newline(lines: Sequence[str], where: str) -> None:
    """sed ends each line that it writes, so a changed last line without an end would not come out to the byte."""
    for before, line in pairwise(lines):
        if line.startswith("\\ ") and not before.startswith(" "):
            raise InputError(f"{where}: the patch changes a last line that has no newline; sed cannot write one")
    if any("\0" in line for line in lines):
        raise InputError(f"{where}: the patch holds a NUL character, which no command can")


def _path(header: str, where: str) -> str:
    """
    >>> _path("--- a/src/sums.py", "sums-1")
    'src/sums.py'
    """
    name = header[4:].partition("\t")[0].rstrip("\r")
    if not name.startswith(("a/", "b/")):
        raise InputError(f"{where}: the patch has the line {header!r}; expected a/PATH and b/PATH of a file that stays")
    return name[2:]


def _edits(hunk: re.Match[str], lines: Iterator[str], shown: dict[int, str], where: str) -> list[Edit]:
    """The edits of one hunk, its lines taken from `lines`; adds the old ones to `shown`."""
    old_left, new_left = (1 if hunk[place] is None else int(hunk[place]) for place in (2, 4))
    number = int(hunk[1]) + (old_left == 0)  # a hunk without old lines names the line that it comes after
    edits: list[Edit] = []
    old: list[str] = []
    new: list[str] = []
    while old_left or new_left:
        line = next(lines, None)
        if line is None or line[:1] not in ("", " ", "-", "+", "\\"):
            raise InputError(f"{where}: the hunk {hunk[0]} ends before its {old_left} old and {new_left} new lines")
        kind, text = line[:1] or " ", line[1:]
        if kind == "\\":
            continue
        if kind == " " and (old or new):
            edits.append(Edit(number - len(old), tuple(old), tuple(new)))
            old, new = [], []
        if kind == "-":
            old.append(text)
        if kind == "+":
            new.append(text)
            new_left -= 1
            continue
        shown[number] = text
        number += 1
        old_left -= 1
        new_left -= kind == " "
    if old or new:
        edits.append(Edit(number - len(old), tuple(old), tuple(new)))
    return edits


def edit_command(edit: Edit, *, path: str) -> str:
    r"""The GNU sed command that makes an edit, to the byte.

    >>> print(edit_command(Edit(3, ("a", "b"), ("    it's \\n",)), path="x.py"))
    sed -i '3,4c\    it'\''s \\n' x.py
    >>> edit_command(Edit(3, ("a",), ()), path="x.py"), edit_command(Edit(3, (), ("a",)), path="x.py")
    ("sed -i '3d' x.py", "sed -i '2a\\a' x.py")
    """
    if not edit.new:
        script = f"{_address(edit)}d"
    elif edit.old:
        script = f"{_address(edit)}c\\{_sed_text(edit.new)}"
    elif edit.line == 1:
        script = f"1i\\{_sed_text(edit.new)}"
    else:
        script = f"{edit.line - 1}a\\{_sed_text(edit.new)}"
    return f"sed -i {quoted(script)} {quoted_path(path)}"


def _address(edit: Edit) -> str:
    return str(edit.line) if len(edit.old) == 1 else f"{edit.line},{edit.end - 1}"


def _sed_text(lines: Sequence[str]) -> str:
    """Lines as the text of sed's a, c and i: a backslash escapes the character after it, also a line's end."""
    text = "\\\n".join(line.replace("\\", "\\\\") for line in lines)
    return text if lines[0] else "\n" + text  # on the command's own line an empty text would be none


def quoted_path(path: str) -> str:
    """A path as one word of bash that no program takes for an option.

    >>> quoted_path("src/a b.py"), quoted_path("-a.py")
    ("'src/a b.py'", './-a.py')
    """
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def quoted(text: str) -> str:
    """A text as one word of bash, always in quotes.

    >>> quoted("it's")
    "'it'\\\\''s'"
    """
    return "'" + text.replace("'", "'\\''") + "'"
