"""Runs a server process that ends with the process that wanted it, whatever ends that: `kill -9` too.

    python -I watchdog.py --log FILE -- python -m vllm.entrypoints.openai.api_server ...

The owner holds the other end of this process's stdin. When it closes it, or dies, stdin ends, and the server's process
group is ended: SIGTERM, then after ten seconds SIGKILL. The watchdog ends with the server's exit code. A signal on the
owner's death (prctl) would not do: it is sent when the thread that started the process ends. It does here, for the
watchdog itself, which has one thread. Runs as a plain
file, so that nothing of srft is imported; -I keeps the files beside it (http.py) from being taken for Python's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

GRACE_S = 10.0
_PR_SET_PDEATHSIG = 1


def _end_with_watchdog() -> None:
    """In the server's process, before it begins."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """The server and all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
    # The server is gone; what it had started may not be.


def _when_owner_is_gone(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    _end_group(process)


def main(arguments: Sequence[str]) -> int:
    log, command = arguments[1], arguments[3:]
    # Ctrl-C in a terminal reaches this process too, and it is the owner that decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_watchdog,
        )
    signal.signal(signal.SIGTERM, lambda *_: _end_group(process))
    threading.Thread(target=_when_owner_is_gone, args=(process,), daemon=True).start()
    code = process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that a server that crashed has left
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
