"""What the processes of an unconfined local sandbox stand on: the host itself. There is NO protection.

Commands run as the caller on the host, and absolute paths reach the host. Only the task's directory, HOME and TMPDIR
are private: they lie in the episode's folder (see `episode_folder.py`). Limits hold as far as a cgroup holds them.

    ground = HostGround(spec, episode, {})
    ground.start()
    channel = ground.open_channel()      # a bash in a session of its own, in spec.workdir
    ground.end()                         # kills what is the sandbox's, and nothing else
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from srft.env.errors import SandboxDied
from srft.env.local.cgroups import CgroupSet
from srft.env.local.channel import END_TIMEOUT_S, FdChannel, process_channel, wait_or_kill
from srft.env.local.episode_folder import EpisodeFolder, copy_command, run_checked
from srft.env.local.files import SandboxFiles
from srft.env.local.rootfs import PATH
from srft.env.sandbox.contract import SandboxSpec
from srft.env.sandbox.shell import BASH, Control

MARKER = "SRFT_SANDBOX"
"""The environment variable that tells the processes of an unconfined sandbox from all others."""

# When srft dies this reads the end of its script, and kills what carries the marker.
_WATCHDOG = r"""
while read -r line; do [ "$line" = done ] && exit; done
for attempt in 1 2 3; do
    for process in /proc/[0-9]*; do
        mapfile -d '' -t variables <"$process/environ" || continue
        for variable in "${variables[@]}"; do
            [ "$variable" = "MARK" ] && kill -9 "${process#/proc/}"
        done
    done
done 2>/dev/null
"""


class _HostControl(Control):
    """Kills from outside, and only what belongs to the sandbox: `kill -9 -1` would end the user's session."""

    def __init__(self, ground: "HostGround") -> None:
        self._ground = ground

    def ask(self, builtin: str, timeout_s: float = 0.0) -> int:
        assert builtin == ":", "there is no control bash outside bubblewrap"
        if self._ground.ended:
            raise SandboxDied("the sandbox is gone: it was closed")
        return 0

    def kill_since(self, sent: float, *, group: int, shell: int) -> None:
        deadline = time.monotonic() + END_TIMEOUT_S
        while time.monotonic() < deadline:
            younger = [pid for pid in self._ground.members() if pid != shell and _began_s(pid) >= sent - 0.01]
            if not younger and group not in map(_group_of, self._ground.members()):
                return
            for kill, target in ((os.killpg, group), *((os.kill, pid) for pid in younger)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(target, signal.SIGKILL)
            time.sleep(0.001)

    def kill_all(self) -> None:
        self._ground.kill_members()

    def alive(self, pid: int) -> bool:
        self.ask(":")
        return _stat_fields(pid)[:1] not in ([], ["Z"])

    def close(self) -> None:
        """There is nothing to let go of."""


class HostGround:
    """No confinement. Its processes are those in its cgroups, with its marker, in its sessions, or born of these.

    Where no cgroup is to be had, one that has left parent, session and environment behind is not known any more.
    """

    def __init__(self, spec: SandboxSpec, episode: EpisodeFolder, env: Mapping[str, str]) -> None:
        self._spec, self._episode = spec, episode
        self._mark = f"{MARKER}={episode.token}"
        self._env = {
            **env,
            "PATH": os.environ.get("PATH", PATH),
            "HOME": str(episode.rootfs / "root"),
            "TMPDIR": str(episode.rootfs / "tmp"),
            **spec.env,
            MARKER: episode.token,
        }
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._shells: list[subprocess.Popen[bytes]] = []
        self._cgroups: CgroupSet | None = None
        self._ending = threading.Lock()
        self.ended = False
        self.limits_held: frozenset[str] = frozenset()
        self.files = SandboxFiles(os.open("/", os.O_PATH | os.O_DIRECTORY))

    def start(self) -> Control:
        self._cgroups = CgroupSet(self._spec.limits, name=f"srft-{self._episode.token}")
        self._episode.note_cgroups(self._cgroups.paths)
        self.limits_held = self._cgroups.held
        self._watchdog = subprocess.Popen(
            [*BASH, "-c", _WATCHDOG.replace("MARK", self._mark)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return _HostControl(self)

    def open_channel(self) -> FdChannel:
        if self.ended or self._cgroups is None:
            raise SandboxDied("the sandbox is gone: it was closed")
        shell = subprocess.Popen(
            self._cgroups.joined(BASH),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._env,
            cwd=self._spec.workdir,
            start_new_session=True,
            umask=0o022,
        )
        self._shells.append(shell)
        return process_channel(shell, lambda: self._exit_code(shell))

    @staticmethod
    def _exit_code(shell: "subprocess.Popen[bytes]") -> int | None:
        try:
            code = shell.wait(1.0)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code

    def members(self) -> set[int]:
        """Its processes as of now, zombies apart."""
        found = self._cgroups.pids() if self._cgroups else set()
        children: dict[int, list[int]] = {}
        sessions = {shell.pid for shell in self._shells}
        for pid in _all_pids():
            fields = _stat_fields(pid)
            if not fields or fields[0] == "Z":
                found.discard(pid)
                continue
            children.setdefault(int(fields[1]), []).append(pid)
            if int(fields[3]) in sessions or self._is_marked(pid):
                found.add(pid)
        unseen = list(found)
        while unseen:
            born = set(children.get(unseen.pop(), ())) - found
            found |= born
            unseen += born
        return found - {os.getpid()}

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def kill_members(self) -> None:
        deadline = time.monotonic() + END_TIMEOUT_S
        while (members := self.members()) and time.monotonic() < deadline:
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none forks away
                for pid in members:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
        for shell in self._shells:
            wait_or_kill(shell)
        self._shells = []

    def copy(self, source: Path, target: Path) -> None:
        run_checked(copy_command(str(source), str(target)))

    def end(self) -> None:
        with self._ending:
            self.ended = True
            self.files.close()
            if self._watchdog is not None:
                self.kill_members()
                self._watchdog.communicate(b"done\n")
                self._watchdog = None
            if self._cgroups is not None:
                self._cgroups.remove()
                self._cgroups = None


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat after the name: state, parent, process group, session, ... Empty: no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _began_s(pid: int) -> float:
    """When it began, in seconds since the machine did; of one that is gone, before all others."""
    fields = _stat_fields(pid)
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if len(fields) > 19 else -1.0


def _group_of(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return int(fields[2]) if fields else None
