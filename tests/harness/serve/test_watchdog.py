"""The watchdog: a server and what it has started end with their owner, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srft.harness.serve import watchdog

# A server with a worker; both note their ids and ignore a polite end where told to.
SERVER = """
import os, signal, sys, time
if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
with open({pids!r}, "a") as file: file.write(f"{{os.getpid()}}\\n")
print("serving", flush=True)
time.sleep(300)
"""
OWNER = """
import subprocess, sys, time
command = [sys.executable, "-I", {watchdog!r}, "--log", {log!r}, "--", sys.executable, "-c", {server!r}]
process = subprocess.Popen(command, stdin=subprocess.PIPE)
time.sleep(300)
"""


def wait_for(condition, *, limit_s: float = 30.0) -> None:
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def owner(tmp_path):
    """An owner of a watched server, and the ids of the server and its worker."""
    pids, log = tmp_path / "pids", tmp_path / "log"
    server = SERVER.format(pids=str(pids), stubborn=False)
    script = OWNER.format(watchdog=watchdog.__file__, log=str(log), server=server)
    process = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    yield process, [int(pid) for pid in pids.read_text().split()]
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_owner(owner, tmp_path, number):
    process, pids = owner
    assert not any(map(is_gone, pids))
    os.kill(process.pid, number)
    wait_for(lambda: all(map(is_gone, pids)))
    assert (tmp_path / "log").read_text().count("serving") == 2  # two processes write it, line ends as they come


def test_it_ends_when_its_owner_lets_go_and_gives_the_servers_code(tmp_path):
    command = [sys.executable, "-I", watchdog.__file__, "--log", str(tmp_path / "log"), "--", sys.executable, "-c"]
    process = subprocess.Popen([*command, "import sys; print('no'); sys.exit(7)"], stdin=subprocess.PIPE)
    assert (process.wait(30), (tmp_path / "log").read_text()) == (7, "no\n")
    process.stdin.close()
    process = subprocess.Popen([*command, "import time; time.sleep(300)"], stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(30) == 128 + signal.SIGTERM
