"""Rootless Podman for tests: its Docker API on a socket of its own, with a storage of its own.

    with rootless_podman() as url:          # 'unix:///var/tmp/srft-podman-x1y2/podman.sock'; skips where it cannot run
        docker.DockerClient(url).ping()

As root the service runs as the first user that /etc/subuid gives user ids to.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import requests

START_TIMEOUT_S = 30.0
END_TIMEOUT_S = 5.0
INSTALL = "Debian: apt-get install podman uidmap slirp4netns fuse-overlayfs; useradd somebody"
STORAGE = '[storage]\ndriver = "overlay"\nrunroot = "{home}/run"\ngraphroot = "{home}/storage"\n'


@contextlib.contextmanager
def rootless_podman() -> Iterator[str]:
    for program in ("podman", "newuidmap", "setpriv"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} ({INSTALL})")
    user = _user()
    home = Path(tempfile.mkdtemp(prefix="srft-podman-", dir="/var/tmp"))
    try:
        with _service(home, user) as url:
            yield url
    finally:
        subprocess.run(
            [*_as(home, user), "podman", "unshare", "rm", "-rf", str(home / "storage")], cwd=home, check=False
        )
        shutil.rmtree(home, ignore_errors=True)


def _user() -> pwd.struct_passwd:
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    names = [line.partition(":")[0] for line in Path("/etc/subuid").read_text().splitlines()]
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip(f"no user has user ids for Podman in /etc/subuid ({INSTALL})")


def _as(home: Path, user: pwd.struct_passwd) -> list[str]:
    own = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    return [*(own if os.getuid() == 0 else []), "env", f"HOME={home}", f"XDG_RUNTIME_DIR={home}"]


@contextlib.contextmanager
def _service(home: Path, user: pwd.struct_passwd) -> Iterator[str]:
    (home / ".config" / "containers").mkdir(parents=True)
    (home / ".config" / "containers" / "storage.conf").write_text(STORAGE.format(home=home))
    for path in (home, *home.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    url, log = f"unix://{home}/podman.sock", home / "log"
    command = [*_as(home, user), "podman", "--cgroup-manager=cgroupfs", "system", "service", "--time=0", url]
    with log.open("wb") as said:
        service = subprocess.Popen(
            command, cwd=home, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        _wait(url, service, log)
        yield url
    finally:
        service.terminate()
        service.wait()


def _kill_all_of(home: Path) -> None:
    """What outlives the service: a process that keeps the user namespace, and one for each command that was run."""
    for pid_file in home.rglob("pause.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
    deadline = time.monotonic() + END_TIMEOUT_S
    while (left := list(_processes_of(home))) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _processes_of(home: Path) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(home).encode() in (folder / "cmdline").read_bytes():
                yield int(folder.name)


def _wait(url: str, service: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and service.poll() is None:
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
            docker.DockerClient(url, timeout=5).ping()
            return
        time.sleep(0.1)
    pytest.skip(f"rootless Podman does not start here: {log.read_text(errors='replace')[-500:]}")
