r"""A persistent bash behind a byte stream, and the sandbox logic that every backend shares.

Reads and writes the channels that a backend opens, one to each bash. A sandbox has two. The *control* bash is its
process 1: it outlives `kill -9 -1`, and kills from within, as a builtin, so also when no process can be forked any
more. The *work* bash runs the agent's commands; it may die (`exit`, `exec`, `set -e`) and is then replaced in the same
directory.

A command travels as one quoted word, so that an open quote or heredoc ends with it, and is framed by two markers that
carry a fresh nonce (RS is the byte 0x1e; the script writes it as an octal escape, so that `set -v` and `set -x`
cannot print a marker):

    -> ( printf '\036%s B %d \036' NONCE $BASHPID; cd -- DIR; eval 'COMMAND' ) </dev/null 2>&1
       printf '\036%s E %d %q\036' NONCE $? "$PWD"
    <- RS NONCE B <process group> RS   ...output...   RS NONCE E <exit code> <directory> RS

`framing.py` reads the answer, `truncation.py` keeps what fits of the output.

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
from typing import NamedTuple

from srft.env.errors import SandboxDied
from srft.env.sandbox.channel import Channel, ChannelClosed
from srft.env.sandbox.contract import OUTPUT_LIMIT_BYTES, CommandResult, Mode, Sandbox
from srft.env.sandbox.framing import Marker, MarkerReader
from srft.env.sandbox.truncation import HeadTail

BASH = ("bash", "--noprofile", "--norc")

BEGIN_TIMEOUT_S = 15.0
"""A command that has not begun by then met a shell that cannot fork or read: all is killed, and it is sent again."""

KILL_TIMEOUT_S = 5.0
GONE_TIMEOUT_S = 1.0
LONGEST_DIRECTORY = 16_000
"""Longer ones are cut, or their marker would be too long: a byte takes up to four characters when bash quotes it."""

LONG_COMMAND = 1 << 16
OUTPUT_FD = 61
"""The work shell's own way to the channel: `exec >FILE` in a command does not take it."""

OPENS = re.compile(r"['\"`({\[]")
"""A command without any of these has nothing that can be left open."""

LEFT_OPEN = re.compile(rb"unexpected EOF|conditional")
CONTROL_TIMEOUT_S = 20.0

# What process 1 runs, builtins alone, to kill what a command has left: every process that began after the command was
# sent, whatever group or session it went into, and kills its like until a look finds none. Spared are the shell, what
# another program put into the sandbox (no parent inside), and children of processes that were there before.
_SWEEP = r"""srft_sweep() {
local since=$1 shell=$2 folder pid above stat found=0; local -a parents begins
for folder in /proc/[0-9]*; do
    stat=; IFS= builtin read -r -d '' stat <"$folder/stat"; stat=${stat##*) }; builtin set -- $stat
    case $1 in ''|Z|X) ;; *) pid=${folder#/proc/}; parents[pid]=$2; begins[pid]=${20} ;; esac
done
for pid in "${!parents[@]}"; do
    [ "$pid" != 1 ] && [ "$pid" != "$shell" ] || continue
    above=$pid
    while [ "${begins[above]}" -ge "$since" ]; do
        above=${parents[above]}
        case $above in 0) break ;; 1|"$shell") above=ours; break ;; esac
        [ -n "${parents[above]}" ] || { above=ours; break; }
    done
    [ "$above" = ours ] && builtin kill -9 "$pid" && found=1
done
return $found
}; srft_sweep"""


_UPTIME = "$srft_s$srft_t"
CLOCK_READINGS = 3
TICKS_PER_S = 100
"""Of /proc/uptime's two decimals, and of the start times in /proc/PID/stat on every Linux."""


def _now() -> float:
    """A clock that keeps running while the machine sleeps, as /proc/uptime does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _ignore(_chunk: bytes) -> None:
    pass


class Control:
    """The control bash: kills inside the sandbox, whatever the work shell is doing."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._behind_s: float | None = None

    def ask(self, builtin: str, timeout_s: float = CONTROL_TIMEOUT_S) -> int:
        """The exit code of one builtin. Raises SandboxDied when there is no answer."""
        return self._ask(builtin, timeout_s).number

    def _ask(self, builtin: str, timeout_s: float, *, said: str = "") -> Marker:
        """The exit code, and in the place of the directory a word that the shell expands. Raises SandboxDied."""
        nonce = secrets.token_hex(8)
        script = f"{builtin} 2>/dev/null; builtin printf '\\036%s E %d %s\\036' {nonce} $? {said or '-'}\n"
        reader = MarkerReader(self._channel, nonce)
        try:
            self._channel.send(script.encode(), timeout_s)
            marker = reader.read(time.monotonic() + timeout_s, _ignore, lambda: None)
        except (ChannelClosed, TimeoutError):
            marker = None
        if marker is None:
            raise SandboxDied(
                "the sandbox is gone: its first process does not answer (killed from outside, out of memory, or the "
                "engine restarted); the episode is over and may be retried"
            )
        return marker

    def kill_since(self, sent: float, *, group: int, shell: int) -> None:
        """Kill a command that was sent at that time (of `_now`): its process group, and all that began since.

        Returns when they are gone. shell: the work shell, which is spared unless it is the group.
        """
        self.ask(f"kill -9 -- -{group}")
        self.compare_clocks()
        if self._behind_s is None:  # no /proc to look into
            self.kill_all()
            return
        since = math.floor((sent + self._behind_s) * TICKS_PER_S)  # no later than the command's first process
        deadline, pause = time.monotonic() + GONE_TIMEOUT_S, 0.001
        while self.ask(f"{_SWEEP} {since} {shell}"):
            if time.monotonic() > deadline:  # it forks as fast as it is killed
                self.kill_all()
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def compare_clocks(self) -> None:
        """Learn how far the sandbox's uptime is from `_now`, at the least. Raises SandboxDied.

        The quickest answer tells it best: one that was under way for a second leaves a second in doubt, and
        what began within it would be taken for the command's.
        """
        for _ in range(CLOCK_READINGS):
            asked = _now()
            said = self._ask("IFS='. ' builtin read -r srft_s srft_t _ </proc/uptime", CONTROL_TIMEOUT_S, said=_UPTIME)
            answered = _now()
            if not said.directory.isdigit():
                self._behind_s = None
                return
            uptime = int(said.directory) / TICKS_PER_S
            least, most = uptime - answered, uptime + 1 / TICKS_PER_S - asked
            # More than `most`: a sandbox on another machine, whose clock has fallen behind since.
            if self._behind_s is None or not least <= self._behind_s <= most:
                self._behind_s = least
            if answered - asked < 1 / TICKS_PER_S:
                return

    def kill_all(self) -> None:
        self._kill("-1")

    def _kill(self, target: str) -> None:
        """Returns when they are gone: a killed process lives on until the kernel comes to it.

        Or after GONE_TIMEOUT_S: a zombie that its parent does not collect counts here, and will not go.
        """
        self.ask(f"kill -9 {target}")
        deadline, pause = time.monotonic() + GONE_TIMEOUT_S, 0.001
        while self.ask(f"kill -0 {target}") == 0 and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

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
            marker = MarkerReader(self._channel, nonce).read(
                time.monotonic() + CONTROL_TIMEOUT_S, _ignore, lambda: None
            )
        except (ChannelClosed, TimeoutError):
            marker = None
        if marker is None:
            self.close()
            raise SandboxDied("the sandbox's bash does not start (an `init` that ends it, or no room for a process)")
        self._pid = marker.number
        self._control.compare_clocks()

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
        reader = MarkerReader(self._channel, nonce)
        ran = _Ran(begun=False, died=False, timed_out=False, exit_code=None)
        sent = _now()
        try:
            self._send(_script(lead, command, nonce, in_subshell=in_subshell))
            begin = reader.read(time.monotonic() + BEGIN_TIMEOUT_S, _ignore, self._check_alive)
            if begin is None or begin.kind != "B":
                return ran
            ran = ran._replace(begun=True)
            end = reader.read(time.monotonic() + timeout_s, sink, self._check_alive)
            if end is None:
                ran = ran._replace(timed_out=True)
                self._control.kill_since(sent, group=begin.number, shell=self._pid)
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
