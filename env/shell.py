r"""A persistent bash behind a byte stream, and the sandbox logic that every backend shares.

A sandbox has two of them. The *control* bash is its process 1: it outlives `kill -9 -1`, and kills from within, as a
builtin, so also when no process can be forked any more. The *work* bash runs the agent's commands; it may die (`exit`,
`exec`, `set -e`) and is then replaced in the same directory.

A command travels as one quoted word, so that an open quote or heredoc ends with it, and is framed by two markers that
carry a fresh nonce (RS is the byte 0x1e; in the script it stands as an octal escape, so that `set -v` and `set -x`
cannot print a marker):

    -> ( printf '\036%s B %d \036' NONCE $BASHPID; cd -- DIR; eval 'COMMAND' ) </dev/null 2>&1
       printf '\036%s E %d %q\036' NONCE $? "$PWD"
    <- RS NONCE B <process group> RS   ...output...   RS NONCE E <exit code> <directory> RS

In persistent mode a brace group takes the place of the subshell. There is no server, no installation and no Python in
the sandbox. A command that finds out the nonce can forge its own end; what it prints after that is dropped, and the
next command has another nonce.
"""

import math
import re
import secrets
import shlex
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

from srft.env.errors import SandboxDied
from srft.env.sandbox import OUTPUT_LIMIT_BYTES, CommandResult, Mode, Sandbox

BASH = ("bash", "--noprofile", "--norc")

BEGIN_TIMEOUT_S = 15.0
"""A command that has not begun by then met a shell that cannot fork or read: all is killed, and it is sent again."""

KILL_TIMEOUT_S = 5.0
LIVENESS_INTERVAL_S = 0.5
LONGEST_MARKER_BYTES = 1 << 16
LONGEST_DIRECTORY = 16_000
"""Longer ones are cut, or their marker would be too long: a byte takes up to four characters when bash quotes it."""

LONG_COMMAND = 1 << 16
OUTPUT_FD = 61
"""The work shell's own way to the channel: `exec >FILE` in a command does not take it."""

OPENS = re.compile(r"['\"`({\[]")
"""A command without any of these has nothing that can be left open."""

LEFT_OPEN = re.compile(rb"unexpected EOF|conditional")
RS = b"\x1e"
CONTROL_TIMEOUT_S = 20.0


class ChannelClosed(Exception):
    """The other end of a byte stream is gone."""


class Channel(Protocol):
    """Two-way byte stream to a bash: its stdin, and its stdout and stderr."""

    def send(self, content: bytes, timeout_s: float) -> None:
        """Send all of it. Raises ChannelClosed, TimeoutError."""

    def receive(self, timeout_s: float) -> bytes:
        """What has come, at least one byte. Raises ChannelClosed at its end, TimeoutError."""

    def exit_code(self) -> int | None:
        """The exit code of the bash behind it once it has ended, where that can be known."""

    def close(self) -> None:
        """Let go of it. Idempotent."""


class HeadTail:
    """The first and the last bytes of a stream of any length, in bounded memory.

    >>> kept = HeadTail(limit_bytes=6)
    >>> for chunk in (b"abcd", b"efgh", b"ij"): kept.append(chunk)
    >>> kept.head(), kept.tail(), kept.elided_bytes
    (b'abc', b'hij', 4)
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._head_bytes = limit_bytes // 2
        self._tail_bytes = limit_bytes - self._head_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def append(self, chunk: bytes) -> None:
        if room := self._head_bytes - len(self._head):
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        if len(self._tail) > 2 * self._tail_bytes:  # trimmed in gulps, so that each byte is moved once
            self._trim()

    def _trim(self) -> None:
        excess = max(0, len(self._tail) - self._tail_bytes)
        del self._tail[:excess]
        self._dropped += excess

    @property
    def elided_bytes(self) -> int:
        self._trim()
        return self._dropped

    def head(self) -> bytes:
        return bytes(self._head)

    def tail(self) -> bytes:
        self._trim()
        return bytes(self._tail)

    def text(self) -> "KeptText":
        """It decoded. A character that the elision cuts is left out and counted with it."""
        head, tail = self.head(), self.tail()
        if not self._dropped:
            text = (head + tail).decode(errors="replace")
            return KeptText(text, len(text), 0)
        head = re.sub(rb"([\xc0-\xf7]|[\xe0-\xf7][\x80-\xbf]|[\xf0-\xf7][\x80-\xbf]{2})\Z", b"", head)
        tail = re.sub(rb"\A[\x80-\xbf]{1,3}", b"", tail)
        cut_bytes = len(self._head) + len(self._tail) - len(head) - len(tail)
        before = head.decode(errors="replace")
        return KeptText(before + tail.decode(errors="replace"), len(before), self._dropped + cut_bytes)


class KeptText(NamedTuple):
    """What was kept of a stream: `elided_bytes` are missing at `elided_at` characters into `text`."""

    text: str
    elided_at: int
    elided_bytes: int


class _Marker(NamedTuple):
    """`B` with a process group, `E` with an exit code and the directory, `S` with a process."""

    kind: str
    number: int
    directory: str


_AFTER_START = re.compile(rb"([BES]) ([0-9]{1,9}) ([^\x1e]{0,%d})\x1e" % LONGEST_MARKER_BYTES)


class _MarkerReader:
    """Splits a channel's bytes into output and the markers of one nonce. Whatever is not exactly a marker is output."""

    def __init__(self, channel: Channel, nonce: str) -> None:
        self._channel = channel
        self._start = b"\x1e%s " % nonce.encode()
        self._pending = b""

    def read(self, deadline: float, sink: Callable[[bytes], None], idle: Callable[[], None]) -> _Marker | None:
        """The next marker, what stands before it given to `sink`; `None` at the deadline (of time.monotonic).

        `idle` is called every LIVENESS_INTERVAL_S and may raise. Raises ChannelClosed.
        """
        next_idle = time.monotonic() + LIVENESS_INTERVAL_S
        while True:
            if marker := self._take_marker(sink):
                return marker
            now = time.monotonic()
            if now >= deadline:
                return None
            if now >= next_idle:
                idle()
                next_idle = time.monotonic() + LIVENESS_INTERVAL_S
            try:
                self._pending += self._channel.receive(max(0.0, min(deadline, next_idle) - now))
            except TimeoutError:
                continue
            except ChannelClosed:
                self.flush(sink)
                raise

    def _take_marker(self, sink: Callable[[bytes], None]) -> _Marker | None:
        if RS not in self._pending:  # nearly always, and quicker to see than that nothing matches
            self.flush(sink)
            return None
        if whole := self._find():
            sink(self._pending[: whole.start() - len(self._start)])
            self._pending = self._pending[whole.end() :]
            kind, number, directory = (field.decode(errors="surrogateescape") for field in whole.groups())
            return _Marker(kind, int(number), directory)
        # What follows the last RS may be the beginning of a marker, if it is that of any.
        at = self._pending.rfind(RS)
        rest = self._pending[at:]
        beginning = rest.startswith(self._start) or self._start.startswith(rest)
        if not beginning or len(rest) > len(self._start) + 12 + LONGEST_MARKER_BYTES:
            rest = b""
        sink(self._pending[: len(self._pending) - len(rest)])
        self._pending = rest
        return None

    def _find(self) -> re.Match[bytes] | None:
        at = self._pending.find(self._start)
        while at >= 0:
            # Compiled once for all nonces: to compile takes longer than the whole round trip.
            if whole := _AFTER_START.match(self._pending, at + len(self._start)):
                return whole
            at = self._pending.find(self._start, at + 1)
        return None

    def flush(self, sink: Callable[[bytes], None]) -> None:
        sink(self._pending)
        self._pending = b""


def _ignore(_chunk: bytes) -> None:
    pass


class Control:
    """The control bash: kills inside the sandbox, whatever the work shell is doing."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def ask(self, builtin: str, timeout_s: float = CONTROL_TIMEOUT_S) -> int:
        """The exit code of one builtin. Raises SandboxDied when there is no answer."""
        nonce = secrets.token_hex(8)
        script = f"{builtin} 2>/dev/null; builtin printf '\\036%s E %d \\036' {nonce} $?\n"
        reader = _MarkerReader(self._channel, nonce)
        try:
            self._channel.send(script.encode(), timeout_s)
            marker = reader.read(time.monotonic() + timeout_s, _ignore, lambda: None)
        except (ChannelClosed, TimeoutError):
            marker = None
        if marker is None:
            raise SandboxDied(
                "the sandbox is gone: its first process does not answer (killed from outside, out of memory, or the "
                "engine restarted); the episode cannot go on and may be retried"
            )
        return marker.number

    def kill_group(self, group: int) -> None:
        self.ask(f"kill -9 -- -{group}")

    def kill_all(self) -> None:
        self.ask("kill -9 -1")

    def alive(self, pid: int) -> bool:
        return self.ask(f"kill -0 {pid}") == 0

    def close(self) -> None:
        self._channel.close()


class _Ran(NamedTuple):
    """How a command ended: `begun` is False when the shell never took it up, `died` when the shell ended with it."""

    begun: bool
    died: bool
    timed_out: bool
    exit_code: int | None


class _ShellEnded(Exception):
    """The work shell's process is gone, though something still holds its output open."""


class Shell:
    """One work bash, for as long as it lives."""

    def __init__(self, channel: Channel, *, control: Control, mode: Mode, workdir: str) -> None:
        self._channel = channel
        self._control = control
        self._mode = mode
        self._workdir = shlex.quote(workdir)
        self._pid = 0
        self.directory = self._workdir
        """The current directory, quoted for bash."""

    def start(self, *, init: str, directory: str) -> None:
        """Get it ready in `directory` (quoted for bash). Raises SandboxDied."""
        nonce = secrets.token_hex(8)
        # Job control gives each stateless command a process group of its own; errors of the shell itself go nowhere.
        script = (
            f"exec {OUTPUT_FD}>&1 2>/dev/null; {'set -m;' if self._mode == 'stateless' else ''} unset HISTFILE; "
            f"builtin cd -- {directory} || builtin cd -- {self._workdir} || builtin cd /; "
            f"{{ builtin eval {shlex.quote(init)}; }} </dev/null >/dev/null; "
            f"builtin printf '\\036%s S %d \\036' {nonce} $BASHPID\n"
        )
        try:
            self._send(script)
            marker = _MarkerReader(self._channel, nonce).read(
                time.monotonic() + CONTROL_TIMEOUT_S, _ignore, lambda: None
            )
        except (ChannelClosed, TimeoutError):
            marker = None
        if marker is None:
            self.close()
            raise SandboxDied("the sandbox's bash does not start (an `init` that ends it, or no room for a process)")
        self._pid = marker.number

    def run(self, command: str, *, timeout_s: float, sink: Callable[[bytes], None]) -> _Ran:
        """Run one command; its output goes to `sink`, also when it is killed at its timeout."""
        # A lone surrogate becomes the three bytes that UTF-8 would have for it.
        command = command.encode(errors="surrogatepass").decode(errors="surrogateescape")
        lead = "builtin eval"
        if self._mode == "stateless":
            lead = f"builtin cd -- {self._workdir} || builtin cd /; {lead}"
        in_subshell = self._mode == "stateless" or self._is_left_open(command)
        return self._exchange(lead, command, in_subshell=in_subshell, timeout_s=timeout_s, sink=sink)

    def _is_left_open(self, command: str) -> bool:
        """Whether a quote or bracket is: bash would exit after it, or crash at the next command, variables and all."""
        if not OPENS.search(command):
            return False
        said = bytearray()
        lead = "builtin eval $'builtin set -n\\n'"  # what comes after that line is read and not run
        ran = self._exchange(lead, command, in_subshell=True, timeout_s=BEGIN_TIMEOUT_S, sink=said.extend)
        return ran.begun and LEFT_OPEN.search(said) is not None

    def _exchange(
        self, lead: str, command: str, *, in_subshell: bool, timeout_s: float, sink: Callable[[bytes], None]
    ) -> _Ran:
        nonce = secrets.token_hex(8)
        reader = _MarkerReader(self._channel, nonce)
        ran = _Ran(begun=False, died=False, timed_out=False, exit_code=None)
        try:
            self._send(_script(lead, command, nonce, in_subshell=in_subshell))
            begin = reader.read(time.monotonic() + BEGIN_TIMEOUT_S, _ignore, self._check_alive)
            if begin is None or begin.kind != "B":
                return ran
            ran = ran._replace(begun=True)
            end = reader.read(time.monotonic() + timeout_s, sink, self._check_alive)
            if end is None:
                ran = ran._replace(timed_out=True)
                self._control.kill_group(begin.number)
                end = reader.read(time.monotonic() + KILL_TIMEOUT_S, sink, self._check_alive)
            if end is not None:
                self.directory = end.directory or self.directory
                return ran._replace(exit_code=None if ran.timed_out else end.number)
        except (ChannelClosed, TimeoutError, _ShellEnded):
            pass
        reader.flush(sink)
        return ran._replace(died=True, exit_code=None if ran.timed_out else self._channel.exit_code())

    def _send(self, script: str) -> None:
        self._channel.send(script.encode(errors="surrogateescape"), BEGIN_TIMEOUT_S)

    def _check_alive(self) -> None:
        if not self._control.alive(self._pid):
            raise _ShellEnded

    def close(self) -> None:
        self._channel.close()


def _script(lead: str, command: str, nonce: str, *, in_subshell: bool) -> str:
    """What the work shell reads to run `lead` with the command as its last word."""
    before, word, after = "", shlex.quote(command), ""
    if len(command) > LONG_COMMAND:
        # bash reads a script from a pipe byte by byte, and this in blocks: 3 MB take 0.7 s and not 3.4 s.
        size = len(command.encode(errors="surrogateescape"))
        before = f"LC_ALL=C builtin read -r -N {size} srft_command\n{command}"
        word, after = '"$srft_command"', "builtin unset -v srft_command\n"
    # The begin is within the redirections, so that a shell that cannot make them has not begun. The end is a line
    # of its own: some errors (an assignment to a read-only variable) make bash drop the rest of the line.
    body = f"builtin printf '\\036%s B %d \\036' {nonce} $BASHPID; {lead} {word}\n"
    if in_subshell:
        framed = f"( {body}) </dev/null >&{OUTPUT_FD} 2>&1 {OUTPUT_FD}>&-"
    else:
        framed = f"{{ {body}}} </dev/null >&{OUTPUT_FD} 2>&1"
    directory = f'"${{PWD:0:{LONGEST_DIRECTORY}}}"'
    end = f"builtin printf '\\036%s E %d %q\\036' {nonce} $? {directory} >&{OUTPUT_FD}"
    return f"{before}{framed}\n{{ {end}; }} 2>/dev/null\n{after}"


class ShellSandbox(Sandbox):
    """`run` and `kill_all` for every backend that can open a control bash and work bashes."""

    _control: Control | None = None
    _shell: Shell | None = None
    _directory: str | None = None

    @abstractmethod
    def _open_channel(self) -> Channel:
        """A new work bash in the sandbox. Raises SandboxDied."""

    def run(
        self, command: str, timeout_s: float = math.inf, *, output_limit_bytes: int = OUTPUT_LIMIT_BYTES
    ) -> CommandResult:
        if "\0" in command:
            return CommandResult("the command contains a NUL character, which bash cannot run\n", 126, 0.0)
        started = time.monotonic()
        kept = HeadTail(limit_bytes=output_limit_bytes)
        ran = self._run_once(command, timeout_s, kept)
        restarted = ran.died or not ran.begun
        if not ran.begun and ran.died:  # it died since the last command
            ran = self._run_once(command, timeout_s, kept)
        if not ran.begun:
            self.kill_all()
            ran = self._run_once(command, timeout_s, kept)
        if not ran.begun:
            self.close()
            raise SandboxDied("the sandbox's bash does not take commands any more, even after all was killed in it")
        output, elided_at, elided_bytes = kept.text()
        return CommandResult(
            output=output,
            exit_code=ran.exit_code,
            wall_s=time.monotonic() - started,
            timed_out=ran.timed_out,
            elided_bytes=elided_bytes,
            elided_at=elided_at,
            shell_restarted=restarted or ran.died,
        )

    def _run_once(self, command: str, timeout_s: float, kept: HeadTail) -> _Ran:
        ran = self._live_shell().run(command, timeout_s=timeout_s, sink=kept.append)
        if ran.died or not ran.begun:
            self._drop_shell()
            self._live_control().ask(":")  # a sandbox that went down with its shell is not an exit code
        return ran

    def kill_all(self) -> None:
        self._drop_shell()
        self._live_control().kill_all()

    def _live_control(self) -> Control:
        if self._control is None:
            raise SandboxDied("the sandbox is not running: it was never started, or was closed")
        return self._control

    def _live_shell(self) -> Shell:
        if self._shell is None:
            control = self._live_control()
            try:
                self._shell = self._start_shell(control)
            except SandboxDied:
                control.kill_all()  # no room for another process: make some
                self._shell = self._start_shell(control)
        return self._shell

    def _start_shell(self, control: Control) -> Shell:
        shell = Shell(self._open_channel(), control=control, mode=self.spec.mode, workdir=self.spec.workdir)
        shell.start(init=self.spec.init, directory=self._directory or shlex.quote(self.spec.workdir))
        return shell

    def _drop_shell(self) -> None:
        shell, self._shell = self._shell, None  # first taken, then closed: `close` may come from another thread
        if shell is not None:
            self._directory = shell.directory
            shell.close()

    def _hang_up(self) -> None:
        """Let go of both bashes, for `close` and `restore`."""
        self._drop_shell()
        control, self._control = self._control, None
        if control is not None:
            control.close()
