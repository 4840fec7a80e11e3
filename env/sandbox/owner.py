"""Whose a container or an episode's folder is, so that what a dead process left is told from what a living one uses.

Reads /proc; `docker/sandbox.py` writes the owner into labels, `episode_folder.py` into a name.

    owner()                     # 'myhost:1f0c2a9d:4026531836:4711:8261302'
    is_orphan(owner())          # False; True when this process has ended
"""

import os
import socket
from functools import cache
from pathlib import Path

UNKNOWN = "-"
"""In the place of what this system does not tell: there is no /proc (macOS), or that of another pid namespace."""


def owner() -> str:
    """Names this process for the reaper: host, boot, pid namespace, pid, and the pid's start time.

    A pid means something in its own namespace only, and comes round again there; a host's name may be another's too.
    """
    return f"{_place()}:{os.getpid()}:{_start_time(os.getpid()) or UNKNOWN}"


def is_orphan(owned_by: str | None, *, same_machine: bool = False) -> bool:
    """Whether its owner has ended for certain: a process of this host, boot and pid namespace that is not there.

    What another host or namespace owns, or nobody, is no orphan: it may be alive. same_machine: whatever bears this
    host's name is of this very machine, so that all that an earlier boot of it owned has ended.
    """
    fields = (owned_by or "").split(":")
    if len(fields) != 5 or UNKNOWN in (*fields, *_place().split(":")):
        return False
    host, boot, namespace, pid, start_time = fields
    own_host, own_boot, own_namespace = _place().split(":")
    if host != own_host or not pid.isdigit():
        return False
    if boot != own_boot:
        return same_machine
    return namespace == own_namespace and _start_time(int(pid)) != start_time


def _place() -> str:
    return _place_of(os.getpid())


@cache
def _place_of(_pid: int) -> str:
    """Host, boot and pid namespace. By process: a child may be in a namespace of its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:8]
        of_these_pids = os.readlink("/proc/self") == str(os.getpid())
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]") if of_these_pids else UNKNOWN
    except OSError:
        boot = namespace = UNKNOWN
    return f"{socket.gethostname()}:{boot}:{namespace}"


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat, counted after the process name, which may hold spaces. `None`: no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
