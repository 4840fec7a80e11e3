"""Whose a container or an episode's folder is, so that what a dead process left is told from what a living one uses.

Reads /proc; `docker/sandbox.py` writes the owner into labels, `episode_folder.py` into a name.

    owner()                     # 'myhost:4711:8261302'
    is_orphan(owner())          # False; True when this process has ended
"""

import os
import socket
from pathlib import Path


def owner() -> str:
    """Names this process for the reaper: host, pid, and the pid's start time, since pids come round again."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_orphan(owned_by: str | None) -> bool:
    """Whether its owner was a process of this host and has ended. What another host owns, or nobody, is no orphan."""
    host, _, pid = (owned_by or "").rpartition(":")[0].rpartition(":")
    start_time = (owned_by or "").rpartition(":")[2]
    return host == socket.gethostname() and pid.isdigit() and _start_time(int(pid)) != start_time


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat, counted after the process name, which may hold spaces. `None`: no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
