"""Locks, with flock and on a file system that has none."""

import errno
import fcntl
import subprocess
import sys
import threading

import pytest

from srft.env.errors import InputError, StorageError
from srft.harness.run import locks
from srft.harness.run.store import JsonLines, Run

WITHOUT_FLOCK = """
import errno, fcntl, os, sys
def no(*_): raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = no
from srft.harness.run.store import Run, JsonLines
"""


@pytest.fixture
def no_flock(monkeypatch):
    def no(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no)


def process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_FLOCK + code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_without_flock_a_run_is_still_one_process_at_a_time(tmp_path, no_flock):
    with Run(tmp_path / "run"):
        other = process("Run(sys.argv[1]).__enter__()", tmp_path / "run")
        assert "another srft process works in it (process " in other.stderr
        assert f"where it has ended, remove {tmp_path / 'run' / '.lock.soft'}" in other.stderr
    with Run(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / ".lock.soft").exists()


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path, no_flock):
    killed = process("held = Run(sys.argv[1]).__enter__(); os.kill(os.getpid(), 9)", tmp_path / "run")
    assert killed.returncode == -9
    assert (tmp_path / "run" / ".lock.soft").exists()
    with Run(tmp_path / "run") as run:
        assert run.round(0).path.is_dir()


def test_without_flock_appends_are_whole(tmp_path, no_flock):
    lines = JsonLines(tmp_path / "records.jsonl", dict)
    code = "lines = JsonLines(__import__('pathlib').Path(sys.argv[1]), dict)\n"
    code += "for number in range(20): lines.append({'n': number, 'x': 'x' * 3000})"
    threads = [threading.Thread(target=process, args=(code, lines.path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record["n"] for record in lines.read()) == sorted([*range(20)] * 2)


def test_an_error_of_another_kind_is_no_bare_one(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    lines = JsonLines(tmp_path / "records.jsonl", dict)
    with pytest.raises(StorageError, match=r"records\.jsonl: cannot be written \(Input/output error\)"):
        lines.append({})
    with pytest.raises(InputError, match=r"cannot be a run directory \(Input/output error\)"), Run(tmp_path / "run"):
        pass


def test_a_lock_is_given_back(tmp_path):
    lock = locks.take(tmp_path / "l")
    assert lock is not None
    assert locks.take(tmp_path / "l") is None
    lock.release()
    again = locks.take(tmp_path / "l")
    assert again is not None
    again.release()
