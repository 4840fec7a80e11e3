r"""The local sandbox, for machines without a container engine: bubblewrap, or nothing at all where that is asked for.

Reads local images and writes one folder per episode, removed by `close`:

    $SRFT_LOCAL_IMAGES (default ~/.cache/srft/images) / <image name, %-escaped> / rootfs/      testbed/, opt/, root/ ...
                                                                                 image.json   {"env", "workdir", ...}
    $SRFT_LOCAL_EPISODES (default /var/tmp/srft-<uid>) / <owner>+<token> / rootfs/       the episode's own copy
                                                                          snapshots/

    with LocalSandbox(SandboxSpec(image=empty_image())) as sandbox:
        sandbox.run("git status --short", timeout_s=10).output     # ''

Where the kernel can (Linux 5.11, and a file system that takes it), "copy" is an overlay mounted for the sandbox alone:
a start costs the same for every image. Else the image is copied. Images made by hand are always copied; they are given
what is missing of /etc, /tmp and the like.

With bubblewrap a process sees: a writable root of its own (the copy, with /tmp, /root, /var and a small /etc), the
host's /usr, what /bin, /sbin and /lib* stand for, /etc/alternatives and /etc/fonts, read-only; a fresh /proc, /dev and
/dev/shm; nothing else of the host. It is root of a user namespace with that one user: the caller, or, where the caller
is root, a user id that owns nothing else. So `chown` to others fails, and no capability reaches the host. Any network
but "none" is the host's own.

What limits hold: with a writable cgroup (v1, or v2 below a parent that hands on its controllers) pids, memory and cpus,
for the sandbox as a whole. Without one, pids by RLIMIT_NPROC (counted per user namespace since Linux 5.14), memory per
process by RLIMIT_DATA, and cpus not at all; `LocalSandbox.limits_held` says which. Disk space is not limited, as with
Docker's overlay2; /dev/shm has 64 MiB.

With `confinement="none"` there is NO protection: commands run as the caller on the host, and absolute paths reach the
host. Only the task's directory, HOME and TMPDIR are private; `spec.workdir` is rewritten to where that copy lies.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from urllib.parse import quote, unquote

import msgspec

from srft.env.cgroups import CgroupSet, cgroup_pids, remove_cgroup
from srft.env.docker import is_orphan, owner
from srft.env.errors import EngineError, ImageError, InputError, SandboxDied
from srft.env.local_files import SandboxFiles
from srft.env.sandbox import SandboxSpec
from srft.env.shell import BASH, ChannelClosed, Control, ShellSandbox

Confinement = Literal["bubblewrap", "none"]

UNCLAIMED_UID = 2_000_000_000
"""Who a sandbox of root's is on the host: in the range that no distribution, container engine or systemd hands out."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_BYTES = 64 << 20
START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0
FIFO_FOLDER = "/run/srft"
MARKER = "SRFT_SANDBOX"
"""The environment variable that tells the processes of an unconfined sandbox from all others."""

BOUND = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

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

# What programs look up in /etc. No keys, no passwords, no accounts: those files are written new.
ETC = (
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "profile",
    "protocols",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
ETC_NEW = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1\tlocalhost srft\n::1\tlocalhost\n",
    "hostname": "srft\n",
}


class LocalImage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """image.json. owner: the user id that owns all of rootfs/, so that a copy need not be given away again.

    base, dockerfile: where it was built from, for the record.
    """

    env: dict[str, str] = {}
    workdir: str = "/testbed"
    owner: int | None = None
    base: str | None = None
    dockerfile: str | None = None


def image_folder(image: str) -> Path:
    """Where the local image of that name lies, or would lie."""
    if image in {"", ".", ".."}:
        raise InputError(f"image {image!r}: expected an image name")
    root = os.environ.get("SRFT_LOCAL_IMAGES") or Path.home() / ".cache" / "srft" / "images"
    return Path(root, quote(image, safe=""))


def load_image(image: str) -> LocalImage:
    """What image.json says. Raises ImageError."""
    folder = image_folder(image)
    if not (folder / "rootfs").is_dir():
        raise ImageError(
            f"image {image}: no local image (expected a folder at {folder / 'rootfs'}); local images are built from a "
            "task repo's Dockerfile, or prepared by hand; else take --sandbox docker"
        )
    try:
        return msgspec.json.decode((folder / "image.json").read_bytes(), type=LocalImage)
    except FileNotFoundError:
        return LocalImage()
    except (OSError, msgspec.MsgspecError) as error:
        raise ImageError(f"{folder / 'image.json'}: not readable ({error}); remove {folder} to have it built") from None


@cache
def _host_uid() -> int:
    """Who the sandbox's root is on the host."""
    if os.getuid() != 0:
        return os.getuid()
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= UNCLAIMED_UID < first + count:
            return UNCLAIMED_UID
    return 65534  # a container with few user ids: nobody


def _checked(command: Sequence[str], *, folder: str | Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise EngineError(f"{' '.join(command[:2])} failed in the local sandbox: {done.stderr.strip()[-500:]}")


# ---------------------------------------------------------------------------------------------------- bubblewrap


def check_bubblewrap() -> None:
    """Raises EngineError, with the remedy, where bubblewrap is missing or the kernel does not let it work."""
    if problem := _bubblewrap_problem(_host_uid()):
        raise EngineError(problem)


@cache
def _bubblewrap_problem(_uid: int) -> str | None:
    if shutil.which("bwrap") is None:
        return (
            "the local sandbox needs bubblewrap, and there is no `bwrap` on PATH; install the package bubblewrap, or "
            "ask for --sandbox unsandboxed by name (it protects nothing)"
        )
    try:
        tried = subprocess.run(
            [*_confined([*_system_mounts(), "--proc", "/proc"]), "true"],
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
        "kernel.apparmor_restrict_unprivileged_userns=0; inside Docker: --privileged); else ask for --sandbox "
        "unsandboxed by name (it protects nothing)"
    )


@cache
def _bubblewrap_help() -> str:
    shown = subprocess.run(["bwrap", "--help"], capture_output=True, text=True)
    return shown.stdout + shown.stderr


def _confined(mounts: Sequence[str], *, network: bool = False, capabilities: Sequence[str] = ()) -> list[str]:
    """The command line, up to the command, that runs it in namespaces of its own over these mounts."""
    uid = str(_host_uid())
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


def _system_mounts() -> list[str]:
    """The host's programs, read-only. Where /bin is a link into /usr, it is made again as one."""
    mounts = [option for path in _bound() for option in ("--ro-bind", path, path)]
    for path in BOUND:
        if os.path.islink(path):
            mounts += ["--symlink", os.readlink(path), path]
    return mounts


def _bound() -> list[str]:
    return [path for path in BOUND if os.path.isdir(path) and not os.path.islink(path)]


# ------------------------------------------------------------------------------------------------------- channels


class FdChannel:
    """A bash's stdin and stdout as two file descriptors. `close` may come from another thread.

    Descriptors in use by another thread are closed when that thread leaves: a number closed under it could by then
    mean another file. It leaves when the sandbox's processes are dead, which is the closing sandbox's next act.
    """

    def __init__(self, *, stdin: int, stdout: int, exit_code: Any) -> None:
        self._stdin, self._stdout = stdin, stdout
        self._exit_code = exit_code
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        os.set_blocking(stdin, False)
        os.set_blocking(stdout, False)

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ChannelClosed
            self._users += 1
        try:
            yield
        except OSError as error:
            raise error if isinstance(error, TimeoutError) else ChannelClosed from error
        finally:
            with self._lock:
                self._users -= 1
                if self._closed and not self._users:
                    self._release()

    def _release(self) -> None:
        os.close(self._stdin)
        os.close(self._stdout)

    def send(self, content: bytes, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        left = memoryview(content)
        with self._use():
            while left:
                try:
                    left = left[os.write(self._stdin, left) :]
                except BlockingIOError:
                    self._wait(self._stdin, select.POLLOUT, deadline)

    def receive(self, timeout_s: float) -> bytes:
        with self._use():
            self._wait(self._stdout, select.POLLIN, time.monotonic() + timeout_s)
            if chunk := os.read(self._stdout, 1 << 16):
                return chunk
            raise ChannelClosed

    def _wait(self, fd: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        if self._closed:
            raise ChannelClosed

    def exit_code(self) -> int | None:
        return self._exit_code()

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                if not self._users:
                    self._release()


# ------------------------------------------------------------------------------------------------------- episodes


def episodes_folder() -> Path:
    """Where the episodes of this user lie; made when it is not there. Raises EngineError."""
    path = Path(os.environ.get("SRFT_LOCAL_EPISODES") or f"/var/tmp/srft-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
        if os.getuid() == 0:  # the sandbox's user must pass here
            os.chown(path, _host_uid(), _host_uid())
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.getuid(), _host_uid()}:
        raise EngineError(f"{path}: expected a folder of ours for local episodes; remove it or set SRFT_LOCAL_EPISODES")
    return path


class _Episode:
    """One sandbox's folder on the host. Its name carries its owner, for the reaper.

    rootfs/ is a copy of the image, or the place where an overlay of `lower` (a link to the image) and upper/ is
    mounted, in the sandbox's own mount namespace only.
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.path = episodes_folder() / f"{quote(owner(), safe='')}+{self.token}"
        self.rootfs = self.path / "rootfs"
        self.fifos = self.path / "fifos"
        self.log = self.path / "log"
        self.snapshots = self.path / "snapshots"
        self.overlaid = False
        self._folders = [self.path, self.fifos, self.snapshots]
        for folder in self._folders:
            folder.mkdir(mode=0o755)

    def overlay(self, lower: Path) -> None:
        """Begin anew on a tree that stays as it is."""
        self.overlaid = True
        layers = [self.path / "upper", self.path / "work", self.rootfs]
        for folder in layers:
            _remove_tree(folder)
            folder.mkdir(mode=0o755)
        (self.path / "lower").unlink(missing_ok=True)
        (self.path / "lower").symlink_to(lower)
        self._folders = list({*self._folders, *layers})

    def mounting(self, *, read_only: bool = False) -> list[str]:
        """The command line, up to the command, that runs it where the overlay is mounted. For `cwd=episode.path`."""
        if not self.overlaid:
            return []
        # Names relative to the episode's folder need no escapes for ':' and ','.
        layers = "lowerdir=upper:lower" if read_only else "lowerdir=lower,upperdir=upper,workdir=work"
        return _overlay_command(layers)

    def give_away(self, *, whole: bool) -> None:
        """To the sandbox's user: the folders that srft made, or the `whole` tree."""
        if os.getuid() == 0:
            recursive = ["-R"] if whole else []
            _checked(["chown", *recursive, "-h", f"{_host_uid()}:{_host_uid()}", *map(str, self._folders)])

    def note_cgroups(self, paths: Sequence[Path]) -> None:
        (self.path / "cgroups").write_text("".join(f"{path}\n" for path in paths))

    def remove(self) -> None:
        _remove_tree(self.path)


def _overlay_command(layers: str) -> list[str]:
    own = ["unshare", "--mount", "--propagation", "private"]
    if os.getuid() != 0:
        own += ["--user", "--map-root-user"]
        layers += ",userxattr"
    script = 'mount -t overlay overlay -o "$1" rootfs && shift && exec "$@"'
    return [*own, "--", *BASH, "-c", script, "srft", layers]


@cache
def _has_overlay(_uid: int, _episodes: Path) -> bool:
    """Whether this kernel and file system can lay an episode over its image; else images are copied."""
    episode = _Episode()
    try:
        (episode.path / "image").mkdir()
        episode.overlay(episode.path / "image")
        episode.give_away(whole=False)
        mounts = [*_system_mounts(), "--bind", str(episode.rootfs), "/episode"]
        script = "touch /episode/x && rm /episode/x"
        command = [*episode.mounting(), *_confined(mounts), *BASH, "-c", script]
        return subprocess.run(command, cwd=episode.path, capture_output=True, timeout=START_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        episode.remove()


def _remove_tree(path: Path) -> None:
    """Remove it, however unreadable parts of it were made. Nothing may run in it any more."""
    if os.getuid() != 0:
        subprocess.run(["chmod", "-R", "u+rwX", str(path)], capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


def reap_local(*, everything: bool = False) -> list[str]:
    """Remove the episodes that dead srft processes of this host left; `everything`: of living ones too.

    Their processes are dead already: process 1 of a sandbox ends with the process that started it. Returns what was
    removed.
    """
    removed = []
    for folder in sorted(episodes_folder().iterdir()):
        owned_by, _, token = folder.name.rpartition("+")
        if not token or not (everything or is_orphan(unquote(owned_by))):
            continue
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / "cgroups").read_text().splitlines():
                group = Path(line)
                for pid in cgroup_pids(group):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                remove_cgroup(group)
        _remove_tree(folder)
        removed.append(f"local episode {token}")
    return removed


def _furnish(rootfs: Path) -> None:
    """What every root folder has, as far as the image does not bring it."""
    for name, mode in (("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777), ("run", 0o755), ("home", 0o755)):
        folder = rootfs / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(mode)
    for path in BOUND:
        here = rootfs / path.lstrip("/")
        if os.path.islink(path) and not here.is_symlink():
            here.symlink_to(os.readlink(path))
    if not (rootfs / "etc").is_dir():
        _furnish_etc(rootfs / "etc")


def _furnish_etc(etc: Path) -> None:
    etc.mkdir()
    there = [name for name in ETC if Path("/etc", name).exists()]
    # --parents keeps ssl/certs at its place; the links among the certificates stay links.
    _checked(["cp", "-a", "--parents", *there, str(etc)], folder="/etc")
    for name, text in ETC_NEW.items():
        (etc / name).write_text(text)


# --------------------------------------------------------------------------------------------------- confinements


class _Ground(Protocol):
    """What a sandbox's processes stand on."""

    limits_held: frozenset[str]

    @property
    def files(self) -> SandboxFiles:
        """Raises SandboxDied."""

    def start(self) -> Control:
        """Raises EngineError."""

    def open_channel(self) -> FdChannel:
        """Raises SandboxDied."""

    def copy(self, source: Path, target: Path) -> None:
        """Copy a tree of the episode as it is now to another place in it, symlinks and all."""

    def end(self) -> None:
        """No process is left. Idempotent; from any thread."""


class _LocalControl(Control):
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


class _Bubblewrap:
    """Process 1 is the control bash, on pipes: when srft dies it reads the end of its script, and all ends with it.

    (Not `--die-with-parent`: that kills the sandbox when the *thread* that started it ends.)
    """

    def __init__(self, spec: SandboxSpec, episode: _Episode, env: Mapping[str, str]) -> None:
        self._spec, self._episode, self._env = spec, episode, env
        self._process: subprocess.Popen[bytes] | None = None
        self._first_pid = 0
        self._first_fd: int | None = None
        self._files: SandboxFiles | None = None
        self._control: _LocalControl | None = None
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
            self._control = _LocalControl(_channel(self._process, lambda: None))
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
        owner_uid = _host_uid() if os.getuid() == 0 else None
        return SandboxFiles(root_fd, bound=_bound(), hidden=("/proc", "/dev"), owner_uid=owner_uid)

    def _command(self, information_fd: int) -> list[str]:
        mounts = ["--bind", str(self._episode.rootfs), "/"]
        for path in (*_bound(), *BOUND_ETC):
            mounts += ["--ro-bind-try", path, path]
        mounts += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs"]
        mounts += ["/dev/shm", "--remount-ro", "/dev", "--ro-bind", str(self._episode.fifos), FIFO_FOLDER]
        command = _confined(mounts, network=self._spec.network != "none", capabilities=self._spec.capabilities)
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
            os.chown(fifo, _host_uid(), _host_uid() if os.getuid() == 0 else -1)
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
        mounts = [*_system_mounts(), "--proc", "/proc", "--bind", str(self._episode.path), "/episode"]
        inside = [f"/episode/{path.relative_to(self._episode.path)}" for path in (source, target)]
        command = [*self._episode.mounting(read_only=True), *_confined(mounts), *_copy(*inside)]
        _checked(command, folder=self._episode.path)

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
                _collect(self._process)
                self._process = None
            if self._cgroups is not None:
                self._cgroups.remove()
                self._cgroups = None


def _channel(process: "subprocess.Popen[bytes]", exit_code: Any) -> FdChannel:
    """Takes over a process's pipes: Popen would close them when it is collected."""
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = os.dup(process.stdin.fileno()), os.dup(process.stdout.fileno())
    process.stdin.close()
    process.stdout.close()
    return FdChannel(stdin=stdin, stdout=stdout, exit_code=exit_code)


def _collect(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _copy(source: str, target: str) -> list[str]:
    return ["cp", "-a", "--reflink=auto", "-T", source, target]


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

    def __init__(self, ground: "_Host") -> None:
        self._ground = ground

    def ask(self, builtin: str, timeout_s: float = 0.0) -> int:
        assert builtin == ":", "there is no control bash outside bubblewrap"
        if self._ground.ended:
            raise SandboxDied("the sandbox is gone: it was closed")
        return 0

    def kill_group(self, group: int) -> None:
        for pid in self._ground.members():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) == group:
                    os.killpg(group, signal.SIGKILL)
                    return

    def kill_all(self) -> None:
        self._ground.kill_members()

    def alive(self, pid: int) -> bool:
        self.ask(":")
        return _stat_fields(pid)[:1] not in ([], ["Z"])

    def close(self) -> None:
        """There is nothing to let go of."""


class _Host:
    """No confinement. Its processes are those in its cgroups, with its marker, in its sessions, or born of these.

    Where no cgroup is to be had, one that has left parent, session and environment behind is not known any more.
    """

    def __init__(self, spec: SandboxSpec, episode: _Episode, env: Mapping[str, str]) -> None:
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
        return _channel(shell, lambda: self._exit_code(shell))

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
            _collect(shell)
        self._shells = []

    def copy(self, source: Path, target: Path) -> None:
        _checked(_copy(str(source), str(target)))

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


# ------------------------------------------------------------------------------------------------------- the sandbox


class LocalSandbox(ShellSandbox):
    """One task on this machine. See the head of this file for what confines it, and what does not."""

    def __init__(self, spec: SandboxSpec, *, confinement: Confinement = "bubblewrap") -> None:
        if spec.user != "root":
            raise InputError(f"user {spec.user!r}: the local sandbox has one user, root; take --sandbox docker")
        if confinement == "none" and Path(spec.workdir) == Path("/"):
            raise InputError(
                "workdir '/': without confinement that is the host's own root (the official grader works there); take "
                "--sandbox docker or local"
            )
        self.spec = spec
        self.confinement: Confinement = confinement
        self._asked_workdir = spec.workdir
        self._episode: _Episode | None = None
        self._ground: _Ground | None = None
        self._env: dict[str, str] = {}
        self._closing = threading.Lock()

    @property
    def limits_held(self) -> frozenset[str]:
        """Which of "pids", "memory", "cpu" hold for the sandbox as a whole, and "memory per process"."""
        return self._ground.limits_held if self._ground else frozenset()

    def start(self) -> None:
        if self.confinement == "bubblewrap":
            check_bubblewrap()
        image = load_image(self.spec.image)
        self._env = image.env
        self._episode = _Episode()
        try:
            self._fill(self._episode, image)
            self._begin(self._episode)
        except BaseException:
            self.close()
            raise

    def _fill(self, episode: _Episode, image: LocalImage) -> None:
        """The episode's own copy of the image."""
        source = image_folder(self.spec.image) / "rootfs"
        if self.confinement == "none":
            inside = self._asked_workdir.lstrip("/")
            (episode.rootfs / inside).parent.mkdir(parents=True)
            for part in {inside, "root"}:
                if (source / part).is_dir():
                    # As the caller's own: git refuses to work in another user's repository.
                    copy = [*_copy(str(source / part), str(episode.rootfs / part)), "--no-preserve=ownership"]
                    _checked(copy)
            for part in (inside, "root", "tmp"):
                (episode.rootfs / part).mkdir(exist_ok=True)
            self.spec = replace(self.spec, workdir=str(episode.rootfs / inside))
            return
        if image.owner == _host_uid() and _has_overlay(_host_uid(), episodes_folder()):
            episode.overlay(source.resolve())
            episode.give_away(whole=False)
            return
        _checked(_copy(str(source), str(episode.rootfs)))
        if image.owner is None:  # made by hand
            _furnish(episode.rootfs)
        episode.give_away(whole=True)

    def _begin(self, episode: _Episode) -> None:
        kind = _Bubblewrap if self.confinement == "bubblewrap" else _Host
        self._ground = kind(self.spec, episode, self._env)
        self._control = self._ground.start()
        if self.confinement == "bubblewrap" and self.spec.network != "none":
            with contextlib.suppress(FileNotFoundError):  # a host may do without
                self._ground.files.write("/etc/resolv.conf", Path("/etc/resolv.conf").read_bytes(), mode=0o644)
        self._live_shell()

    def _open_channel(self) -> FdChannel:
        return self._running().open_channel()

    def _running(self) -> _Ground:
        self._live_control().ask(":")
        assert self._ground is not None
        return self._ground

    def _path(self, path: str) -> str:
        """The path that `files` take: absolute; without confinement the asked workdir is where its copy lies."""
        path = os.path.join(self._asked_workdir, path)
        inside = os.path.normpath(path)
        if self.confinement == "none" and Path(inside).is_relative_to(self._asked_workdir):
            return os.path.join(self.spec.workdir, os.path.relpath(inside, self._asked_workdir))
        return path

    def read(self, path: str) -> bytes:
        return self._running().files.read(self._path(path))

    def write(self, path: str, content: bytes, *, mode: int | None = None) -> None:
        self._running().files.write(self._path(path), content, mode=mode)

    def snapshot(self) -> str:
        ground = self._running()
        assert self._episode is not None
        name = secrets.token_hex(4)
        try:
            ground.copy(self._episode.rootfs, self._episode.snapshots / name)
        except EngineError:
            _remove_tree(self._episode.snapshots / name)
            raise
        return name

    def restore(self, snapshot: str) -> None:
        episode, ground = self._episode, self._ground
        if episode is None or ground is None:
            raise SandboxDied("the sandbox is not running: it was never started, or was closed")
        kept = episode.snapshots / snapshot
        if not re.fullmatch("[0-9a-f]{8}", snapshot) or not kept.is_dir():
            raise InputError(f"snapshot {snapshot!r}: this sandbox has none of that name")
        self._hang_up()
        ground.end()
        if episode.overlaid:
            episode.overlay(kept)
            episode.give_away(whole=False)
        else:
            _remove_tree(episode.rootfs)
            ground.copy(kept, episode.rootfs)
        self._begin(episode)

    def save_image(self, image: str, settings: LocalImage) -> None:
        """Make this sandbox's files the local image of that name, in place of an older one. Raises SandboxDied."""
        assert self._episode is not None
        self.kill_all()
        kept = self._episode.snapshots / self.snapshot()
        _put_image(image, kept, settings)

    def close(self) -> None:
        with self._closing:
            self._hang_up()
            if self._ground is not None:
                self._ground.end()
                self._ground = None
            if self._episode is not None:
                self._episode.remove()
                self._episode = None


def _put_image(name: str, rootfs: Path, settings: LocalImage) -> None:
    """Copy a tree into the image folder whole or not at all. It is the sandbox user's already."""
    folder = image_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    fresh.chmod(0o755)
    try:
        _checked(_copy(str(rootfs), str(fresh / "rootfs")))
        stamped = msgspec.structs.replace(settings, owner=_host_uid())
        (fresh / "image.json").write_bytes(msgspec.json.format(msgspec.json.encode(stamped)))
        if folder.exists():
            folder.rename(fresh / "old")
        fresh.rename(folder)
        _remove_tree(folder / "old")
    finally:
        _remove_tree(fresh)


def new_image(name: str, *, git_folder: str | None = None) -> str:
    """Make a local image of that name, empty but for a git repository with one empty commit; or leave the one there."""
    if (image_folder(name) / "rootfs").is_dir():
        return name
    episode = _Episode()
    try:
        episode.rootfs.mkdir()
        _furnish(episode.rootfs)
        if git_folder is not None:
            repository = str(episode.rootfs / git_folder)
            as_somebody = ["-c", "user.name=srft", "-c", "user.email=srft@example.invalid"]
            _checked(["git", "init", "-q", "-b", "main", repository])
            _checked(["git", "-C", repository, *as_somebody, "commit", "-q", "--allow-empty", "-m", "empty"])
        episode.give_away(whole=True)
        _put_image(name, episode.rootfs, LocalImage())
    finally:
        episode.remove()
    return name


def empty_image() -> str:
    """The name of a local image with nothing but an empty git repository (one commit) at /testbed."""
    return new_image("srft/empty", git_folder="testbed")
