"""The edit tool: view, create, replace exactly one occurrence, insert, undo.

Works from the host over a `Sandbox` (see `files.py`); the container needs nothing for it. A file comes back to
the byte where it was not edited: CRLF, a missing final newline, and bytes that are not UTF-8 stay.

    editor = Editor(sandbox, workdir="/testbed")
    editor.run({"command": "replace", "path": "a.py", "old_text": "x = 1", "new_text": "x = 2"}).text

Whatever the model gets wrong is text for the model, and so is what it has done to its shell. Raises SandboxDied alone.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from srft.agent.models.contract import well_formed
from srft.agent.tools.files import File, Refused, SandboxFiles, encoded
from srft.env.sandbox.contract import Sandbox

CONTEXT_LINES = 4
"""Lines shown above and below an edit."""

MANY_OCCURRENCES = 1000
"""No more are counted: a text that stands everywhere would be searched for as often as the file has characters."""

EDIT_SCHEMA: dict[str, Any] = {
    "description": (
        "View and change files. `view` shows a file with line numbers, or a folder two levels deep; `create` makes a "
        "new file (a final newline is added where there is none); `replace` changes old_text, which must stand in the "
        "file exactly once, white space included; `insert` puts new_text after a line; `undo` takes back the last edit "
        "of a file."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": ["view", "create", "replace", "insert", "undo"]},
            "path": {"type": "string", "description": "Absolute, or relative to the repository."},
            "view_range": {
                "type": "array",
                "items": {"type": "integer"},
                "minItems": 2,
                "maxItems": 2,
                "description": "For view: the first and the last line; -1 is the last line of the file.",
            },
            "file_text": {"type": "string", "description": "For create: the whole text."},
            "old_text": {"type": "string", "description": "For replace: the text to be replaced."},
            "new_text": {"type": "string", "description": "For replace and insert: the new text."},
            "insert_line": {
                "type": "integer",
                "description": "For insert: the line after which the text goes; 0 is the top of the file.",
            },
        },
        "required": ["command", "path"],
    },
}


@dataclass(frozen=True)
class EditResult:
    """What the model sees of an edit, and whether it was done."""

    text: str
    ok: bool

    @property
    def exit_code(self) -> int:
        return 0 if self.ok else 1


@dataclass(frozen=True)
class _Change:
    """One edit in a file's history. `before` is `None` where the edit created the file."""

    before: bytes | None
    after: bytes


class Editor:
    """The edit tool of one episode, with the history that `undo` needs."""

    def __init__(self, sandbox: Sandbox, workdir: str) -> None:
        self._sandbox = sandbox
        self._files = SandboxFiles(sandbox)
        self._workdir = workdir
        self._history: dict[str, list[_Change]] = {}
        self._commands: dict[str, tuple[Callable[..., str], frozenset[str], frozenset[str]]] = {
            "view": (self._view, frozenset(), frozenset({"view_range"})),
            "create": (self._create, frozenset({"file_text"}), frozenset()),
            "replace": (self._replace, frozenset({"old_text", "new_text"}), frozenset()),
            "insert": (self._insert, frozenset({"insert_line", "new_text"}), frozenset()),
            "undo": (self._undo, frozenset(), frozenset()),
        }

    def copy(self) -> Editor:
        """An editor of the same sandbox that begins with this one's history."""
        copied = Editor(self._sandbox, self._workdir)
        copied._history = {path: list(changes) for path, changes in self._history.items()}
        return copied

    def run(self, arguments: dict[str, Any]) -> EditResult:
        """Do one edit command. Raises SandboxDied."""
        try:
            rest = {name: value for name, value in arguments.items() if value is not None}
            name, path = rest.pop("command", None), rest.pop("path", None)
            if not isinstance(name, str) or name not in self._commands:
                raise Refused(f"There is no edit command {name!r}; expected {', '.join(self._commands)}.")
            command, required, optional = self._commands[name]
            _check_arguments(name, set(rest), required, optional)
            return EditResult(command(self._path(path), **rest), ok=True)
        except Refused as refusal:
            return EditResult(str(refusal), ok=False)
        except OSError as error:
            return EditResult(f"The file system refused: {error}.", ok=False)

    def _path(self, path: Any) -> str:
        if not isinstance(path, str) or not path or "\0" in path:
            raise Refused(f"path is {path!r}; expected a file's path.")
        return posixpath.join(self._workdir, well_formed(path))

    # -- commands --------------------------------------------------------------------------------------------

    def _view(self, path: str, view_range: Any = None) -> str:
        there = self._files.find(path)
        if there is not None and there.is_folder:
            if view_range is not None:
                raise Refused(f"{path} is a folder; view_range is for files.")
            return f"{path}, two levels, hidden files left out:\n{self._files.listing(path) or '(empty)'}"
        lines = _lines(self._files.text(self._files.regular(path)))
        if not lines:
            return f"{path} is empty."
        first, last = (1, len(lines)) if view_range is None else _view_range(view_range, len(lines))
        endings = ", lines end in CRLF" if lines[0].endswith("\r\n") else ""
        return f"{path}, lines {first} to {last} of {len(lines)}{endings}:\n{_numbered(lines, first, last)}"

    def _create(self, path: str, file_text: Any) -> str:
        text = _text("file_text", file_text)
        if self._files.find(path) is not None:
            raise Refused(f"{path} is there already; change it with replace or insert, or remove it first.")
        if text and not text.endswith("\n"):
            text += "\n"
        self._files.make_folder_of(path)
        self._files.write(path, encoded(text))
        self._remember(self._files.regular(path).path, before=None, after=encoded(text))
        return f"Created {path} ({_count(len(_lines(text)), 'line')})."

    def _replace(self, path: str, old_text: Any, new_text: Any) -> str:
        old, new, there = _text("old_text", old_text), _text("new_text", new_text), self._files.regular(path)
        if not old:
            raise Refused("old_text is empty; expected the text to be replaced.")
        if old == new:
            raise Refused("old_text and new_text are the same; nothing would change.")
        text = self._files.text(there)
        span = _only_occurrence(old, text, path)
        new = _with_newlines_of(text, new)
        line = text.count("\n", 0, span[0]) + 1
        now = self._write(there, text, text[: span[0]] + new + text[span[1] :])
        return f"Edited {path}. Now:\n{_snippet(now, line, line + new.count(chr(10)))}"

    def _insert(self, path: str, insert_line: Any, new_text: Any) -> str:
        new, there = _text("new_text", new_text), self._files.regular(path)
        text = self._files.text(there)
        lines, after = _lines(text), _integer("insert_line", insert_line)
        if not 0 <= after <= len(lines):
            raise Refused(f"insert_line is {after}; {path} has lines 1 to {len(lines)} (0 is the top).")
        if not new:
            raise Refused("new_text is empty; expected the text to be inserted.")
        newline, head, tail = _newline(text), "".join(lines[:after]), "".join(lines[after:])
        body = _with_newlines_of(text, new).removesuffix(newline)
        if head and not head.endswith("\n"):
            now = self._write(there, text, head + newline + body)  # the file had no final newline and gets none
        else:
            now = self._write(there, text, head + body + newline + tail)
        return f"Edited {path}. Now:\n{_snippet(now, after + 1, after + 1 + body.count(chr(10)))}"

    def _undo(self, path: str) -> str:
        there = self._files.find(path)
        real = there.path if there is not None else path
        if not (changes := self._history.get(real)):
            raise Refused(f"There is no edit of {path} to undo.")
        change = changes[-1]
        # The size first: what a command has put there since may be too large to read.
        if there is None or there.size_bytes != len(change.after) or self._files.read(real) != change.after:
            raise Refused(f"{path} was changed by something else since its last edit; undo would lose that.")
        if change.before is None:
            self._files.remove(real)
        else:
            self._files.write(real, change.before)
        changes.pop()
        if change.before is None:
            return f"Removed {path}, which the edit had created."
        return f"Undid the last edit of {path}."

    def _write(self, there: File, before: str, after: str) -> str:
        self._files.write(there.path, encoded(after))
        self._remember(there.path, before=encoded(before), after=encoded(after))
        return after

    def _remember(self, real: str, *, before: bytes | None, after: bytes) -> None:
        self._history.setdefault(real, []).append(_Change(before=before, after=after))


# -- arguments -----------------------------------------------------------------------------------------------


def _check_arguments(command: str, given: set[str], required: frozenset[str], optional: frozenset[str]) -> None:
    if missing := sorted(required - given):
        raise Refused(f"{command} needs {', '.join(missing)}.")
    if unknown := sorted(given - required - optional):
        takes = ", ".join(["path", *sorted(required | optional)])
        raise Refused(f"{command} does not take {', '.join(unknown)}; it takes {takes}.")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name} is {value!r}; expected a text.")
    return well_formed(value)


def _integer(name: str, value: Any) -> int:
    """A whole number; the XML format gives digits."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Refused(f"{name} is {value!r}; expected a whole number.")


def _view_range(value: Any, line_count: int) -> tuple[int, int]:
    """First and last line, both counted from 1 and there. The XML format gives the list as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list) or len(value) != 2:
        raise Refused("view_range must be the first and the last line, like [20, 60].")
    first, last = _integer("view_range", value[0]), _integer("view_range", value[1])
    last = line_count if last == -1 else min(last, line_count)
    if not 1 <= first <= last:
        raise Refused(f"view_range is {value}; the file has lines 1 to {line_count}.")
    return first, last


# -- text ----------------------------------------------------------------------------------------------------


def _lines(text: str) -> list[str]:
    """Lines with their newline. Only "\\n" ends one: str.splitlines would count a form feed too."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _newline(text: str) -> str:
    """The newline that most lines of a file end in."""
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


def _with_newlines_of(text: str, new: str) -> str:
    """New text with the newlines of a CRLF file; for other files as written."""
    return new.replace("\r\n", "\n").replace("\n", "\r\n") if _newline(text) == "\r\n" else new


def _only_occurrence(old: str, text: str, path: str) -> tuple[int, int]:
    """Where the one occurrence begins and ends. A newline of `old` matches CRLF as well."""
    plain, old = text.replace("\r\n", "\n"), old.replace("\r\n", "\n")
    found = _occurrences(old, plain)
    if not found:
        raise Refused(
            f"old_text does not stand in {path}; it must match to the character, white space included. "
            "View the file and copy the text from there, without the line numbers."
        )
    if len(found) > 1:
        numbers = [str(plain.count("\n", 0, start) + 1) for start in found[:10]]
        shown = ", ".join(numbers) + (", ..." if len(found) > 10 else "")
        count = f"at least {len(found)}" if len(found) == MANY_OCCURRENCES else str(len(found))
        raise Refused(
            f"old_text stands {count} times in {path}, at lines {shown}; add lines around it until it is the only one."
        )
    return _with_crlf(found[0], text), _with_crlf(found[0] + len(old), text)


def _occurrences(wanted: str, text: str) -> list[int]:
    """Where it begins, up to MANY_OCCURRENCES times; also those that overlap: "aa" occurs twice in "aaa"."""
    found: list[int] = []
    at = text.find(wanted)
    while at >= 0 and len(found) < MANY_OCCURRENCES:
        found.append(at)
        at = text.find(wanted, at + 1)
    return found


def _with_crlf(position: int, text: str) -> int:
    """The position in a text of one that was found where each CRLF counts as one character."""
    begins, rest = 0, position
    for line in text.split("\r\n"):
        if rest <= len(line):
            return begins + rest
        begins += len(line) + 2
        rest -= len(line) + 1
    raise AssertionError(f"position {position} lies beyond the text")


def _snippet(text: str, first: int, last: int) -> str:
    """Some lines with those around them."""
    lines = _lines(text)
    if not lines:
        return "(the file is empty)"
    return _numbered(lines, max(1, first - CONTEXT_LINES), min(len(lines), last + CONTEXT_LINES))


def _numbered(lines: list[str], first: int, last: int) -> str:
    """Lines first to last with their numbers, as text that any message can carry."""
    numbered = "\n".join(
        f"{number:6}\t{lines[number - 1].removesuffix(chr(10)).removesuffix(chr(13))}"
        for number in range(first, last + 1)
    )
    return numbered.encode("utf-8", "surrogateescape").decode("utf-8", "replace") + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
