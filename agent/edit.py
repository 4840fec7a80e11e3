"""The edit tool: view, create, replace exactly one occurrence, insert, undo.

Works from the host over a `Sandbox` (`read`, `write` and a little `run`); the container needs nothing for it. A file
comes back to the byte where it was not edited: CRLF, a missing final newline, and bytes that are not UTF-8 stay.

    editor = Editor(sandbox, workdir="/testbed")
    editor.run({"command": "replace", "path": "a.py", "old_text": "x = 1", "new_text": "x = 2"}).text

Whatever the model gets wrong is text for the model, and so is what it has done to its shell: the editor's own commands
run in a bash apart from that. Only SandboxDied is raised.
"""

from __future__ import annotations

import json
import posixpath
import re
import secrets
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from srft.agent.model import well_formed
from srft.env.sandbox import Sandbox

MAX_FILE_BYTES = 4 << 20
"""Larger files are for bash: each edit carries the whole file to the host and back."""

CONTEXT_LINES = 4
"""Lines shown above and below an edit."""

_RUN_TIMEOUT_S = 60.0

_SETTINGS = "cd /; umask 022; PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What the editor's own commands run with."""

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


class _Refused(Exception):
    """The edit cannot be done; the text tells the model why."""


@dataclass(frozen=True)
class _Change:
    """One edit in a file's history. `before` is `None` where the edit created the file."""

    before: bytes | None
    after: bytes


@dataclass(frozen=True)
class _File:
    """What stands at a path. `path` has its links resolved; `mode` is stat's st_mode, 0 for a link to nothing."""

    path: str
    mode: int
    size_bytes: int


class Editor:
    """The edit tool of one episode, with the history that `undo` needs."""

    def __init__(self, sandbox: Sandbox, workdir: str) -> None:
        self._sandbox = sandbox
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
                raise _Refused(f"There is no edit command {name!r}; expected {', '.join(self._commands)}.")
            command, required, optional = self._commands[name]
            _check_arguments(name, set(rest), required, optional)
            return EditResult(command(self._path(path), **rest), ok=True)
        except _Refused as refusal:
            return EditResult(str(refusal), ok=False)
        except OSError as error:
            return EditResult(f"The file system refused: {error}.", ok=False)

    def _path(self, path: Any) -> str:
        if not isinstance(path, str) or not path or "\0" in path:
            raise _Refused(f"path is {path!r}; expected a file's path.")
        return posixpath.join(self._workdir, well_formed(path))

    # -- commands --------------------------------------------------------------------------------------------

    def _view(self, path: str, view_range: Any = None) -> str:
        there = self._stat(path)
        if there is not None and stat.S_ISDIR(there.mode):
            if view_range is not None:
                raise _Refused(f"{path} is a folder; view_range is for files.")
            return self._list(path)
        lines = _lines(self._read(self._file(path)))
        if not lines:
            return f"{path} is empty."
        first, last = (1, len(lines)) if view_range is None else _view_range(view_range, len(lines))
        endings = ", lines end in CRLF" if lines[0].endswith("\r\n") else ""
        return f"{path}, lines {first} to {last} of {len(lines)}{endings}:\n{_numbered(lines, first, last)}"

    def _create(self, path: str, file_text: Any) -> str:
        text = _text("file_text", file_text)
        if self._stat(path) is not None:
            raise _Refused(f"{path} is there already; change it with replace or insert, or remove it first.")
        if text and not text.endswith("\n"):
            text += "\n"
        self._run(f"mkdir -p -- {shlex.quote(posixpath.dirname(path))}")
        self._sandbox.write(path, _encode(text))
        self._remember(self._file(path).path, before=None, after=_encode(text))
        return f"Created {path} ({_count(len(_lines(text)), 'line')})."

    def _replace(self, path: str, old_text: Any, new_text: Any) -> str:
        old, new, there = _text("old_text", old_text), _text("new_text", new_text), self._file(path)
        if not old:
            raise _Refused("old_text is empty; expected the text to be replaced.")
        if old == new:
            raise _Refused("old_text and new_text are the same; nothing would change.")
        text = self._read(there)
        span = _only_occurrence(old, text, path)
        new = _with_newlines_of(text, new)
        line = text.count("\n", 0, span[0]) + 1
        now = self._write(there, text, text[: span[0]] + new + text[span[1] :])
        return f"Edited {path}. Now:\n{_snippet(now, line, line + new.count(chr(10)))}"

    def _insert(self, path: str, insert_line: Any, new_text: Any) -> str:
        new, there = _text("new_text", new_text), self._file(path)
        text = self._read(there)
        lines, after = _lines(text), _integer("insert_line", insert_line)
        if not 0 <= after <= len(lines):
            raise _Refused(f"insert_line is {after}; {path} has lines 1 to {len(lines)} (0 is the top).")
        if not new:
            raise _Refused("new_text is empty; expected the text to be inserted.")
        newline, head, tail = _newline(text), "".join(lines[:after]), "".join(lines[after:])
        body = _with_newlines_of(text, new).removesuffix(newline)
        if head and not head.endswith("\n"):
            now = self._write(there, text, head + newline + body)  # the file had no final newline and gets none
        else:
            now = self._write(there, text, head + body + newline + tail)
        return f"Edited {path}. Now:\n{_snippet(now, after + 1, after + 1 + body.count(chr(10)))}"

    def _undo(self, path: str) -> str:
        there = self._stat(path)
        real = there.path if there is not None else path
        if not (changes := self._history.get(real)):
            raise _Refused(f"There is no edit of {path} to undo.")
        change = changes[-1]
        # The size first: what a command has put there since may be too large to read.
        if there is None or there.size_bytes != len(change.after) or self._sandbox.read(real) != change.after:
            raise _Refused(f"{path} was changed by something else since its last edit; undo would lose that.")
        if change.before is None:
            self._run(f"rm -f -- {shlex.quote(real)}")
        else:
            self._sandbox.write(real, change.before)
        changes.pop()
        if change.before is None:
            return f"Removed {path}, which the edit had created."
        return f"Undid the last edit of {path}."

    # -- the sandbox -----------------------------------------------------------------------------------------

    def _run(self, command: str) -> str:
        """What a command of the editor's own prints.

        The agent's shell may trace, print by itself and have functions named like commands: only what stands between
        two markers counts.
        """
        nonce = secrets.token_hex(8)
        result = self._sandbox.run(_apart(command, nonce), _RUN_TIMEOUT_S)
        answer = re.search(rf"\x1e{nonce}\x1e(.*)\x1e{nonce} (\d+)\x1e", result.output, re.DOTALL)
        if answer is None:
            said = [line for line in result.output.splitlines() if line.strip() and nonce not in line]
            reason = "the command timed out" if result.timed_out else said[-1][:200] if said else "the shell is silent"
            raise _Refused(f"The file system refused: {reason}.")
        if answer[2] != "0":
            raise _Refused(f"The file system refused: {answer[1].strip() or f'exit code {answer[2]}'}.")
        return answer[1]

    def _stat(self, path: str) -> _File | None:
        """What stands at a path, links followed. `None`: nothing."""
        quoted = shlex.quote(path)
        # A dangling link is 'nothing there' for stat, but writing to it would replace the link.
        found = self._run(
            f"(if [ -e {quoted} ]; then stat -L -c '%f %s' -- {quoted} && readlink -f -- {quoted}; "
            f"elif [ -L {quoted} ]; then printf '0 0\\n%s\\n' {quoted}; fi)"
        )
        if not found:
            return None
        if not (parts := re.fullmatch(r"([0-9a-f]{1,8}) ([0-9]{1,18})\n(.+)\n", found, re.DOTALL)):
            raise _Refused(f"{path} cannot be looked at: stat and readlink answer {found[:200]!r}; use bash.")
        return _File(parts[3], int(parts[1], 16), int(parts[2]))

    def _file(self, path: str) -> _File:
        """A regular file of a size the tool takes."""
        there = self._stat(path)
        if there is None:
            raise _Refused(f"There is no file {path}.")
        if not stat.S_ISREG(there.mode):
            raise _Refused(f"{path} is {_kind(there.mode)}; expected a file.")
        if there.size_bytes > MAX_FILE_BYTES:
            raise _Refused(
                f"{path} has {there.size_bytes} bytes, more than the edit tool takes ({MAX_FILE_BYTES}); use bash."
            )
        return there

    def _read(self, there: _File) -> str:
        """A file's text; bytes that are not UTF-8 become lone surrogates, which `_encode` turns back."""
        content = self._sandbox.read(there.path)
        if b"\0" in content:
            raise _Refused(f"{there.path} is a binary file; use bash.")
        return content.decode("utf-8", "surrogateescape")

    def _write(self, there: _File, before: str, after: str) -> str:
        self._sandbox.write(there.path, _encode(after))
        self._remember(there.path, before=_encode(before), after=_encode(after))
        return after

    def _remember(self, real: str, *, before: bytes | None, after: bytes) -> None:
        self._history.setdefault(real, []).append(_Change(before=before, after=after))

    def _list(self, path: str) -> str:
        # Globs and builtins only: `find` differs between images, and a long list would not fit a command line.
        listing = self._run(
            f"(cd -- {shlex.quote(path)} && for e in * */*; do "
            '[ -e "$e" ] || [ -L "$e" ] || continue; '
            'if [ -d "$e" ]; then printf "%s/\\n" "$e"; else printf "%s\\n" "$e"; fi; done | LC_ALL=C sort)'
        )
        return f"{path}, two levels, hidden files left out:\n{listing or '(empty)'}"


def _apart(command: str, nonce: str) -> str:
    """A command in a bash of its own, without the agent's variables, functions and options; its answer between markers.

    The markers' RS byte stands as an octal escape, so that a shell that traces or echoes cannot print one.
    """
    script = f"{_SETTINGS}; printf '\\036%s\\036' {nonce}; {{ {command}; }} 2>&1; printf '\\036%s %d\\036' {nonce} $?"
    # exec takes no function, and a path no search; in a subshell, or it would replace the agent's shell.
    return f"( builtin exec -c /bin/bash --noprofile --norc -c {shlex.quote(script)} )"


# -- arguments -----------------------------------------------------------------------------------------------


def _check_arguments(command: str, given: set[str], required: frozenset[str], optional: frozenset[str]) -> None:
    if missing := sorted(required - given):
        raise _Refused(f"{command} needs {', '.join(missing)}.")
    if unknown := sorted(given - required - optional):
        takes = ", ".join(["path", *sorted(required | optional)])
        raise _Refused(f"{command} does not take {', '.join(unknown)}; it takes {takes}.")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused(f"{name} is {value!r}; expected a text.")
    return well_formed(value)


def _integer(name: str, value: Any) -> int:
    """A whole number; the XML format gives digits."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _Refused(f"{name} is {value!r}; expected a whole number.")


def _view_range(value: Any, line_count: int) -> tuple[int, int]:
    """First and last line, both counted from 1 and there. The XML format gives the list as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list) or len(value) != 2:
        raise _Refused("view_range must be the first and the last line, like [20, 60].")
    first, last = _integer("view_range", value[0]), _integer("view_range", value[1])
    last = line_count if last == -1 else min(last, line_count)
    if not 1 <= first <= last:
        raise _Refused(f"view_range is {value}; the file has lines 1 to {line_count}.")
    return first, last


# -- text ----------------------------------------------------------------------------------------------------


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a link to nothing" if mode == 0 else "a device, a pipe or a socket"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


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
    pattern = re.escape(old.replace("\r\n", "\n")).replace("\\\n", r"(?:\r\n|(?<!\r)\n)")
    # A lookahead finds occurrences that overlap too: "aa" stands twice in "aaa".
    found = [match.span(1) for match in re.finditer(f"(?=({pattern}))", text)]
    if not found:
        raise _Refused(
            f"old_text does not stand in {path}; it must match to the character, white space included. "
            "View the file and copy the text from there, without the line numbers."
        )
    if len(found) > 1:
        numbers = [str(text.count("\n", 0, start) + 1) for start, _ in found[:10]]
        shown = ", ".join(numbers) + (", ..." if len(found) > 10 else "")
        raise _Refused(
            f"old_text stands {len(found)} times in {path}, at lines {shown}; "
            "add lines around it until it is the only one."
        )
    return found[0]


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
