"""Confines a local sandbox's processes: bubblewrap, over an overlay file system where the kernel has it.

Reads the host's /usr and the episode's folder, writes below that folder (see `episode_folder.py`), makes cgroups.

A process sees: a writable root of its own (the copy, with /tmp, /root, /var and a small /etc), the host's /usr, what
/bin, /sbin and /lib* stand for, /etc/alternatives and /etc/fonts, read-only; a fresh /proc, /dev and /dev/shm; nothing
else of the host. It is root of a user namespace with that one user: the caller, or, where the caller is root, a user id
that owns nothing else. So `chown` to others fails, and no capability reaches the host. Any network but "none" is the
host's own.

What limits hold: with a writable cgroup (v1, or v2 below a parent that hands on its controllers) pids, memory and cpus,
for the sandbox as a whole. Without one, pids by RLIMIT_NPROC (counted per user namespace since Linux 5.14), memory per
process by RLIMIT_DATA, and cpus not at all; `limits_held` says which. Disk space is not limited, as with Docker's
overlay2; /dev/shm has 64 MiB.

    ground = BubblewrapGround(spec, episode, {})      # an EpisodeFolder whose rootfs/ is filled
    control = ground.start()                          # process 1: a bash that obeys us alone
    channel = ground.open_channel()                   # a work bash, on two FIFOs
    ground.end()
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from srft.env.errors import EngineError, SandboxDied
from srft.env.local.cgroups import CgroupSet
from srft.env.local.channel import FdChannel, process_channel, wait_or_kill
from srft.env.local.episode_folder import EpisodeFolder, copy_command, host_uid, run_checked
from srft.env.local.files import SandboxFiles
from srft.env.local.rootfs import BOUND, PATH
from srft.env.sandbox.contract import SandboxSpec
from srft.env.sandbox.shell import BASH, Control

SHM_BYTES = 64 << 20
START_TIMEOUT_S = 20.0
FIFO_FOLDER = "/run/srft"

BOUND_ETC = ("/etc/alternatives", "/etc/fonts")
"""Many files that nobody changes. Bound, they need not be copied for each episode."""

# Docker's default set, less what makes devices and raw packets. They count in the sandbox's user namespace only.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)


def check_bubblewrap() -> None:
    """Raises EngineError, with the remedy, where bubblewrap is missing or the kernel does not let it work."""
    if problem := _bubblewrap_problem(host_uid()):
        raise EngineError(problem)


@cache
def _bubblewrap_problem(_uid: int) -> str | None:
    if shutil.which("bwrap") is None:
        return (
            "the local sandbox needs bubblewrap, and there is no `bwrap` on PATH; install the package bubblewrap, or "
            "take --sandbox docker"
        )
    try:
        tried = subprocess.run(
            [*confined_command([*system_mounts(), "--proc", "/proc"]), "true"],
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run ({error}); take --sandbox docker"
    if tried.returncode == 0:
        return None
    return (
        f"bubblewrap cannot make a sandbox here: {tried.stderr.strip()}; it needs user namespaces (sysctl "
        "user.max_user_namespaces > 0, kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0; inside Docker: --privileged), or take --sandbox docker"
    )


@cache
def _bubblewrap_help() -> str:
    shown = subprocess.run(["bwrap", "--help"], capture_output=True, text=True)
    return shown.stdout + shown.stderr


def confined_command(mounts: Sequence[str], *, network: bool = False, capabilities: Sequence[str] = ()) -> list[str]:
    """The command line, up to the command, that runs it in namespaces of its own over these mounts."""
    uid = str(host_uid())
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]
    own = ["--unshare-user", "--uid", "0", "--gid", "0", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    if "--disable-userns" in _bubblewrap_help():
        own.append("--disable-userns")
    if not network:
        own.append("--unshare-net")
    own += ["--cap-drop", "ALL"]
    for capability in (*CAPABILITIES, *capabilities):
        own += ["--cap-add", capability if capability.startswith("CAP_") else f"CAP_{capability}"]
    own += ["--hostname", "srft", "--clearenv", "--setenv", "PATH", PATH]
    return [*(drop if os.getuid() == 0 else []), "bwrap", *own, *mounts]


def system_mounts() -> list[str]:
    """The host's programs, read-only. Where /bin is a link into /usr, it is made again as one."""
    mounts = [option for path in bound_folders() for option in ("--ro-bind", path, path)]
    for path in BOUND:
        if os.path.islink(path):
            mounts += ["--symlink", os.readlink(path), path]
    return mounts


def bound_folders() -> list[str]:
    return [path for path in BOUND if os.path.isdir(path) and not os.path.islink(path)]


@cache
def has_overlay(_uid: int, _episodes: Path) -> bool:
    """Whether this kernel and file system can lay an episode over its image; else images are copied."""
    episode = EpisodeFolder()
    try:
        (episode.path / "image").mkdir()
        episode.overlay(episode.path / "image")
        episode.give_away(whole=False)
        mounts = [*system_mounts(), "--bind", str(episode.rootfs), "/episode"]
        script = "touch /episode/x && rm /episode/x"
        command = [*episode.mounting(), *confined_command(mounts), *BASH, "-c", script]
        return subprocess.run(command, cwd=episode.path, capture_output=True, timeout=START_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        episode.remove()


class _BubblewrapControl(Control):
    """The control bash inside bubblewrap; it also starts the work shells."""

    def start_shell(self, name: str) -> None:
        # Job control, or bash would have SIGINT and SIGQUIT ignored in everything that a background shell starts.
        # The output's end is opened first: once the other is open, the host knows that both are.
        fifo = f"{FIFO_FOLDER}/{name}"
        self.ask(f"set -m; {' '.join(BASH)} >{fifo}.out 2>&1 <{fifo}.in & shell_{name}=$!; set +m")

    def shell_exit_code(self, name: str) -> int | None:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            if self.ask(f"kill -0 $shell_{name}") != 0:
                return self.ask(f"wait $shell_{name}")
            time.sleep(0.002)
        return None


class BubblewrapGround:
    """Process 1 is the control bash, on pipes: when srft dies it reads the end of its script, and all ends with it.

    (Not `--die-with-parent`: that kills the sandbox when the *thread* that started it ends.)
    """

    def __init__(
        self, spec: SandboxSpec, episode: EpisodeFolder, env: Mapping[str, str], *, own_system: bool = False
    ) -> None:
        self._spec, self._episode, self._env = spec, episode, env
        self._bound = [] if own_system else bound_folders()
        self._bound_etc = () if own_system else BOUND_ETC
        self._process: subprocess.Popen[bytes] | None = None
        self._first_pid = 0
        self._first_fd: int | None = None
        self._files: SandboxFiles | None = None
        self._control: _BubblewrapControl | None = None
        self._cgroups: CgroupSet | None = None
        self._shells = 0
        self._ending = threading.Lock()
        self.limits_held: frozenset[str] = frozenset()

    @property
    def files(self) -> SandboxFiles:
        if self._files is None:
            raise SandboxDied("the sandbox is gone: it was closed")
        return self._files

    def start(self) -> Control:
        self._cgroups = CgroupSet(self._spec.limits, name=f"srft-{self._episode.token}")
        self._episode.note_cgroups(self._cgroups.paths)
        told, tell = os.pipe()
        with open(told) as information, self._episode.log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    self._cgroups.joined([*self._episode.mounting(), *self._command(tell), *BASH]),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=self._episode.path,
                    pass_fds=[tell],
                    start_new_session=True,  # Ctrl-C is ours to handle
                    umask=0o022,
                )
            finally:
                os.close(tell)
            self._control = _BubblewrapControl(process_channel(self._process, lambda: None))
            self._hold_first(information)
        try:
            self._control.ask(f"exec 2>/dev/null; {self._ulimits()}", START_TIMEOUT_S)
            self._files = self._open_files()
        except (SandboxDied, OSError):
            problem = self._episode.log.read_text(errors="replace").strip()[-500:]
            self.end()
            raise EngineError(f"bubblewrap did not start the sandbox: {problem or 'no message'}") from None
        return self._control

    def _hold_first(self, information: IO[str]) -> None:
        """Keep hold of process 1 through a pidfd: its number could come round again."""
        with contextlib.suppress(ValueError, KeyError, ProcessLookupError):
            self._first_pid = json.load(information)["child-pid"]
            self._first_fd = os.pidfd_open(self._first_pid)

    def _open_files(self) -> SandboxFiles:
        """Through process 1's root, since an overlay is mounted nowhere else."""
        root_fd = os.open(f"/proc/{self._first_pid}/root", os.O_PATH | os.O_DIRECTORY)
        owner_uid = host_uid() if os.getuid() == 0 else None
        return SandboxFiles(root_fd, bound=self._bound, hidden=("/proc", "/dev"), owner_uid=owner_uid)

    def _command(self, information_fd: int) -> list[str]:
        mounts = ["--bind", str(self._episode.rootfs), "/", "--perms", "1777", "--dir", "/tmp"]
        mounts += ["--perms", "1777", "--dir", "/var/tmp"]
        for path in (*self._bound, *self._bound_etc):
            mounts += ["--ro-bind-try", path, path]
        mounts += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs"]
        mounts += ["/dev/shm", "--remount-ro", "/dev", "--ro-bind", str(self._episode.fifos), FIFO_FOLDER]
        command = confined_command(mounts, network=self._spec.network == "host", capabilities=self._spec.capabilities)
        command += ["--as-pid-1", "--new-session", "--chdir", "/", "--info-fd", str(information_fd)]
        for name, value in {"PATH": PATH, "HOME": "/root", **self._env, **self._spec.env}.items():
            command += ["--setenv", name, value]
        return command

    def _ulimits(self) -> str:
        """The limits that no cgroup holds, as far as the kernel holds them per process or user namespace."""
        limits, held = self._spec.limits, self._cgroups.held if self._cgroups else frozenset()
        commands = ["ulimit -c 0"]
        if limits.pids is not None and "pids" not in held:
            commands.append(f"ulimit -u {limits.pids}")
            held |= {"pids"}
        if limits.memory_bytes is not None and "memory" not in held:
            commands.append(f"ulimit -d {limits.memory_bytes // 1024}")
            held |= {"memory per process"}
        self.limits_held = held
        return "; ".join(commands)

    def open_channel(self) -> FdChannel:
        assert self._control is not None
        self._shells += 1
        name = str(self._shells)
        fifos = [self._episode.fifos / f"{name}.{end}" for end in ("in", "out")]
        for fifo in fifos:
            os.mkfifo(fifo, 0o600)
            os.chown(fifo, host_uid(), host_uid() if os.getuid() == 0 else -1)
        stdout = os.open(fifos[1], os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._control.start_shell(name)
            stdin = self._open_for_writing(fifos[0])
        except BaseException:
            os.close(stdout)
            raise
        finally:
            for fifo in fifos:
                fifo.unlink()
        return FdChannel(stdin=stdin, stdout=stdout, exit_code=lambda: self._shell_exit_code(name))

    def _open_for_writing(self, fifo: Path) -> int:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads it yet
                    raise
            time.sleep(0.0005)
        raise SandboxDied("the sandbox's bash does not start (no room for a process)")

    def _shell_exit_code(self, name: str) -> int | None:
        assert self._control is not None
        return self._control.shell_exit_code(name)

    def copy(self, source: Path, target: Path) -> None:
        # In namespaces of its own: whatever links the episode's processes plant meanwhile lead nowhere from there.
        # (cp needs /proc to set the mode of a folder that it cannot open.)
        mounts = [*system_mounts(), "--proc", "/proc", "--bind", str(self._episode.path), "/episode"]
        inside = [f"/episode/{path.relative_to(self._episode.path)}" for path in (source, target)]
        command = [*self._episode.mounting(read_only=True), *confined_command(mounts), *copy_command(*inside)]
        run_checked(command, folder=self._episode.path)

    def end(self) -> None:
        with self._ending:
            if self._files is not None:
                self._files.close()
                self._files = None
            if self._first_fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
                os.close(self._first_fd)
                self._first_fd = None
            if self._process is not None:
                wait_or_kill(self._process)
                self._process = None
            if self._cgroups is not None:
                self._cgroups.remove()
                self._cgroups = None
