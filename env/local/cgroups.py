"""Cgroups that hold a local sandbox's limits, where this process may make them.

Reads /proc/self/cgroup and /proc/self/mountinfo, writes below /sys/fs/cgroup (v1 and v2), below our own cgroup.

    cgroups = CgroupSet(Limits(pids=100), name="srft-1")
    subprocess.Popen(cgroups.joined(["bash", "-c", "..."]))
    cgroups.held          # frozenset({'pids'}), or empty where this is not allowed
    cgroups.remove()
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from srft.env.sandbox.contract import Limits
from srft.env.sandbox.shell import BASH

END_TIMEOUT_S = 10.0


class _Cgroup(NamedTuple):
    """One cgroup made for a sandbox, and the controllers it has of those wanted."""

    path: Path
    controllers: frozenset[str]


class CgroupSet:
    """The cgroups that hold one sandbox's limits: one with v2, one per controller with v1, none where not allowed."""

    def __init__(self, limits: Limits, *, name: str) -> None:
        wanted = {
            "pids": None if limits.pids is None else limits.pids + 1,  # bubblewrap's own process outside is one
            "memory": limits.memory_bytes,
            "cpu": limits.cpus,
        }
        self._wanted = {controller: value for controller, value in wanted.items() if value is not None}
        self.groups: list[_Cgroup] = []
        for parent, controllers in _cgroup_parents(frozenset(self._wanted)):
            if not controllers <= self.held:
                self._try(parent / name, controllers - self.held)

    @property
    def held(self) -> frozenset[str]:
        return frozenset().union(*(group.controllers for group in self.groups))

    @property
    def paths(self) -> list[Path]:
        return [group.path for group in self.groups]

    def _try(self, path: Path, controllers: frozenset[str]) -> None:
        try:
            path.mkdir()
        except OSError:
            return
        try:
            for controller in controllers:
                self._limit(path, controller, self._wanted[controller])
        except OSError:
            path.rmdir()
            return
        self.groups.append(_Cgroup(path, controllers))

    @staticmethod
    def _limit(path: Path, controller: str, value: float) -> None:
        version_2 = (path / "cgroup.controllers").exists()
        if controller == "pids":
            (path / "pids.max").write_text(str(value))
        elif controller == "memory" and version_2:
            (path / "memory.max").write_text(str(value))
            if (path / "memory.swap.max").exists():
                (path / "memory.swap.max").write_text("0")
        elif controller == "memory":
            (path / "memory.limit_in_bytes").write_text(str(value))
            if (path / "memory.memsw.limit_in_bytes").exists():
                (path / "memory.memsw.limit_in_bytes").write_text(str(value))
        elif version_2:
            (path / "cpu.max").write_text(f"{int(value * 100_000)} 100000")
        else:
            (path / "cpu.cfs_period_us").write_text("100000")
            (path / "cpu.cfs_quota_us").write_text(str(int(value * 100_000)))

    def joined(self, command: Sequence[str]) -> list[str]:
        """The command, run by a process that enters the cgroups first."""
        script = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
        return [*BASH, "-c", script, "srft", *map(str, self.paths), "--", *command]

    def remove(self) -> None:
        for path in self.paths:
            remove_cgroup(path)
        self.groups = []


def cgroup_pids(path: Path) -> set[int]:
    try:
        return set(map(int, (path / "cgroup.procs").read_text().split()))
    except OSError:
        return set()


def remove_cgroup(path: Path) -> bool:
    deadline = time.monotonic() + END_TIMEOUT_S
    while path.exists():  # busy as long as a dead process is not yet collected
        with contextlib.suppress(OSError):
            path.rmdir()
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _cgroup_parents(wanted: frozenset[str]) -> Iterator[tuple[Path, frozenset[str]]]:
    """(folder, controllers that a new folder in it would have) that may be tried, the nearest to us first.

    Below our own cgroup, so that what bounds us bounds the sandbox too. In v2 a cgroup that holds processes
    cannot hand on controllers, so the nearest ancestor that does is taken.
    """
    mounts = _cgroup_mounts()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, own = line.split(":", 2)
        for mount in mounts:
            if mount.version_2 != (names == "") or not mount.holds(names):
                continue
            folder = mount.folder(own)
            if not mount.version_2:
                if controllers := wanted & set(names.split(",")):
                    yield folder, controllers
                continue
            while folder.is_relative_to(mount.point):
                with contextlib.suppress(OSError):
                    if controllers := wanted & set((folder / "cgroup.subtree_control").read_text().split()):
                        yield folder, controllers
                folder = folder.parent


class _CgroupMount(NamedTuple):
    point: Path
    root: str
    version_2: bool
    options: frozenset[str]

    def holds(self, names: str) -> bool:
        return self.version_2 or set(names.split(",")) <= self.options

    def folder(self, own: str) -> Path:
        """Where a cgroup of /proc/self/cgroup lies; a container mounts only a part of the tree, its `root`."""
        inside = own.removeprefix(self.root) if self.root != "/" else own
        return self.point / inside.lstrip("/")


def _cgroup_mounts() -> list[_CgroupMount]:
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            root, point = before.split(" ")[3:5]
            mounts.append(_CgroupMount(Path(point), root, kind == "cgroup2", frozenset(options.split(","))))
    return mounts
