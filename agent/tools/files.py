"""Files of a sandbox as the edit tool sees them: looked at, listed, read and written from the host.

Reads and writes a sandbox's files by `Sandbox.read` and `write`; for the rest it runs bash with coreutils' plainest
programs. A text comes back to the byte where it was not changed, bytes that are not UTF-8 included.

    files = SandboxFiles(sandbox)
    there = files.regular("/testbed/a.py")          # File(path='/testbed/a.py', mode=33188, size_bytes=812)
    files.write(there.path, encoded(files.text(there).replace("x", "y")))

The commands run apart from the agent's shell, whatever the agent has made of that. What cannot be done is `Refused`, in
words for the model.
"""

from __future__ import annotations

import posixpath
import re
import secrets
import shlex
import stat
from dataclasses import dataclass

from srft.env.sandbox.contract import Sandbox

MAX_FILE_BYTES = 4 << 20
"""Larger files are for bash: each edit carries the whole file to the host and back."""

_RUN_TIMEOUT_S = 60.0

_SETTINGS = "cd /; umask 022; PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What the commands run with."""


class Refused(Exception):
    """An edit that cannot be done; the text tells the model why."""


@dataclass(frozen=True)
class File:
    """A file, a folder or a link. `path` has its links resolved; `mode` is stat's st_mode, 0 for a link to nothing."""

    path: str
    mode: int
    size_bytes: int

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


class SandboxFiles:
    """The files of one sandbox. Each method raises Refused, OSError or SandboxDied."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def find(self, path: str) -> File | None:
        """The file or folder at a path, links followed. `None`: nothing."""
        quoted = shlex.quote(path)
        # A dangling link is 'nothing there' for stat, but writing to it would replace the link.
        found = self._run(
            f"(if [ -e {quoted} ]; then stat -L -c '%f %s' -- {quoted} && readlink -f -- {quoted}; "
            f"elif [ -L {quoted} ]; then printf '0 0\\n%s\\n' {quoted}; fi)"
        )
        if not found:
            return None
        if not (parts := re.fullmatch(r"([0-9a-f]{1,8}) ([0-9]{1,18})\n(.+)\n", found, re.DOTALL)):
            raise Refused(f"{path} cannot be looked at: stat and readlink answer {found[:200]!r}; use bash.")
        return File(parts[3], int(parts[1], 16), int(parts[2]))

    def regular(self, path: str) -> File:
        """A regular file of a size the tool takes."""
        there = self.find(path)
        if there is None:
            raise Refused(f"There is no file {path}.")
        if not stat.S_ISREG(there.mode):
            raise Refused(f"{path} is {_kind(there)}; expected a file.")
        if there.size_bytes > MAX_FILE_BYTES:
            raise Refused(
                f"{path} has {there.size_bytes} bytes, more than the edit tool takes ({MAX_FILE_BYTES}); use bash."
            )
        return there

    def text(self, there: File) -> str:
        """A file's text; bytes that are not UTF-8 become lone surrogates, which `encoded` turns back."""
        content = self._sandbox.read(there.path)
        if b"\0" in content:
            raise Refused(f"{there.path} is a binary file; use bash.")
        return content.decode("utf-8", "surrogateescape")

    def read(self, path: str) -> bytes:
        return self._sandbox.read(path)

    def write(self, path: str, content: bytes) -> None:
        self._sandbox.write(path, content)

    def make_folder_of(self, path: str) -> None:
        self._run(f"mkdir -p -- {shlex.quote(posixpath.dirname(path))}")

    def remove(self, path: str) -> None:
        self._run(f"rm -f -- {shlex.quote(path)}")

    def listing(self, path: str) -> str:
        """What a folder holds, two levels deep, a path a line."""
        # Globs and builtins only: `find` differs between images, and a long list would not fit a command line.
        return self._run(
            f"(cd -- {shlex.quote(path)} && for e in * */*; do "
            '[ -e "$e" ] || [ -L "$e" ] || continue; '
            'if [ -d "$e" ]; then printf "%s/\\n" "$e"; else printf "%s\\n" "$e"; fi; done | LC_ALL=C sort)'
        )

    def _run(self, command: str) -> str:
        """What a command prints.

        The agent's shell may trace, print by itself and have functions named like commands: only what is between
        two markers counts.
        """
        nonce = secrets.token_hex(8)
        result = self._sandbox.run(_apart(command, nonce), _RUN_TIMEOUT_S)
        answer = re.search(rf"\x1e{nonce}\x1e(.*)\x1e{nonce} (\d+)\x1e", result.output, re.DOTALL)
        if answer is None:
            said = [line for line in result.output.splitlines() if line.strip() and nonce not in line]
            reason = "the command timed out" if result.timed_out else said[-1][:200] if said else "the shell is silent"
            raise Refused(f"The file system refused: {reason}.")
        if answer[2] != "0":
            raise Refused(f"The file system refused: {answer[1].strip() or f'exit code {answer[2]}'}.")
        return answer[1]


def _apart(command: str, nonce: str) -> str:
    """A command in a bash of its own, without the agent's variables, functions and options; its answer between markers.

    The markers' RS byte is written as an octal escape, so that a shell that traces or echoes cannot print one.
    """
    script = f"{_SETTINGS}; printf '\\036%s\\036' {nonce}; {{ {command}; }} 2>&1; printf '\\036%s %d\\036' {nonce} $?"
    # exec takes no function, and a path no search; in a subshell, or it would replace the agent's shell.
    return f"( builtin exec -c /bin/bash --noprofile --norc -c {shlex.quote(script)} )"


def _kind(there: File) -> str:
    if there.is_folder:
        return "a folder"
    return "a link to nothing" if there.mode == 0 else "a device, a pipe or a socket"


def encoded(text: str) -> bytes:
    """The bytes of a text that `SandboxFiles.text` gave, or of any other."""
    return text.encode("utf-8", "surrogateescape")
