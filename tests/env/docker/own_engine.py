"""An engine of the test's own, on a disk of a given size: what fills it or empties it hurts nobody else.

    with own_engine(disk_bytes=5 << 30) as mine:
        docker.DockerClient(base_url=mine.url)

Needs root, dockerd, mkfs.ext4 and a free loop device; without them it skips.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import docker
import pytest

from tests.env.waiting import wait_until


class OwnEngine(NamedTuple):
    url: str
    disk: Path

    def used_bytes(self) -> int:
        """Of the disk, by whatever."""
        found = os.statvfs(self.disk)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@contextlib.contextmanager
def own_engine(*, disk_bytes: int) -> Iterator[OwnEngine]:
    missing = [name for name in ("dockerd", "ip", "mkfs.ext4", "mount", "umount") if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"an engine of one's own needs root and {', '.join(missing) or 'a loop device'}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="srft-engine-")))
        disk = folder / "disk"
        disk.mkdir()
        _mounted(folder / "image", disk, disk_bytes)
        stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        bridge = _bridge(stack)
        options = {"data-root": disk / "data", "exec-root": folder / "exec", "pidfile": folder / "pid"}
        socket = folder / "socket"
        command = [f"--{name}={path}" for name, path in options.items()] + [f"--host=unix://{socket}"]
        with (folder / "log").open("wb") as log:
            off = [f"--{name}=false" for name in ("iptables", "ip-masq", "ip-forward")]
            daemon = subprocess.Popen(["dockerd", *command, f"--bridge={bridge}", *off], stdout=log, stderr=log)
        stack.callback(daemon.wait)
        stack.callback(daemon.terminate)
        engine = OwnEngine(f"unix://{socket}", disk)
        wait_until(lambda: _answers(engine.url, daemon, folder / "log"))
        yield engine


def _bridge(stack: contextlib.ExitStack) -> str:
    """A bridge with no way out. Without one of its own (`--bridge=none`) dockerd removes the other engine's docker0."""
    name = f"srft{secrets.token_hex(3)}"
    for command in (["link", "add", name, "type", "bridge"], ["addr", "add", "10.213.45.1/24", "dev", name]):
        done = subprocess.run(["ip", *command], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no bridge of one's own can be made here: {done.stderr.strip()}")
        if "link" in command:
            stack.callback(subprocess.run, ["ip", "link", "del", name], check=True)
    return name


def _mounted(image: Path, disk: Path, size: int) -> None:
    image.touch()
    os.truncate(image, size)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(disk)]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no disk of one's own can be made here: {done.stderr.strip()}")


def _answers(url: str, daemon: "subprocess.Popen[bytes]", log: Path) -> bool:
    if daemon.poll() is not None:
        pytest.skip(f"no engine of one's own runs here: {log.read_text(errors='replace')[-300:]}")
    try:
        docker.DockerClient(base_url=url, timeout=10).close()
    except docker.errors.DockerException:
        return False
    return True
