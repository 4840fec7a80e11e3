"""The command line without its start: a process that has imported everything already, and forks for each command.

A command is a process of its own as for a user, with its own directory, environment and exit code; only the seconds of
importing are saved. What a test of the start itself, of signals or of a changed interpreter needs is a real
`python -m srft`.

    commands = Forked(os.environ)
    commands.run(["show", "--run", "r"], cwd=folder)      # subprocess.CompletedProcess
    commands.write_script(folder / "srft")                # the same for a shell
    commands.close()

Messages on its socket: one of JSON with the arguments, directory and environment, and the three standard streams; the
answer is the exit code.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

READ_ON_IMPORT = (
    "HF_",
    "HUGGINGFACE_",
    "TRANSFORMERS_",
    "TOKENIZERS_",
    "TORCH",
    "OMP_",
    "MKL_",
    "PYTHON",
    "LD_",
    "CUDA_",
)
"""Variables that a library reads when it is imported; with others than this process's own a command is started anew."""

ALSO = (
    "accelerate",
    "datasets",
    "docker",
    "matplotlib.pyplot",
    "openai",
    "peft",
    "scipy.stats",
    "transformers",
    "uvicorn",
)
LENGTH_BYTES = 8


class Forked:
    """Forks commands of one environment; started at the first."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._folder = tempfile.TemporaryDirectory(prefix="srft-forked-")
        self.socket = Path(self._folder.name) / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is None:
            command = [sys.executable, "-m", "tests.forked", str(self.socket)]
            root = Path(__file__).parent.parent
            self._process = subprocess.Popen(
                command, cwd=root, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
            assert self._process.stdout is not None
            if self._process.stdout.readline() != b"ready\n":
                raise AssertionError("the process that forks commands did not start")

    def run(
        self,
        arguments: Sequence[str],
        *,
        module: str = "srft",
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """As `python -m MODULE ARGUMENTS...` would run. env: of this process, as it is now, unless given."""
        environment = dict(os.environ if env is None else env)
        if _read_on_import(environment) != _read_on_import(self._environment):
            command = [sys.executable, "-m", module, *arguments]
            return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)
        self.start()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, open(os.devnull) as nothing:
            files = [nothing.fileno(), output.fileno(), errors.fileno()]
            told = {"module": module, "arguments": arguments, "folder": str(cwd), "environment": environment}
            code = ask(str(self.socket), told, files, timeout)
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, output.read().decode(), errors.read().decode())

    def write_script(self, path: Path) -> None:
        """A program that forks the command it is given, with its own streams."""
        self.start()
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} --ask {self.socket} "$@"\n')

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()


def _read_on_import(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_ON_IMPORT)}


def ask(address: str, told: Mapping[str, object], files: list[int], timeout: float | None = None) -> int:
    """The exit code of a command. Raises TimeoutError. The command is killed when its asker is gone."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(address)
        message = json.dumps(told).encode()
        socket.send_fds(connection, [len(message).to_bytes(LENGTH_BYTES, "big")], files)
        connection.sendall(message)
        return int(connection.recv(16) or b"-9")


def _serve(address: str) -> None:
    _import_all()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _attend(connection)
            connection.close()


def _attend(connection: socket.socket) -> None:
    """In a child: fork the command, and tell its exit code; kill it when the asker hangs up."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, files, *_ = socket.recv_fds(connection, LENGTH_BYTES, 3)
    content = b""
    while len(content) < int.from_bytes(length, "big"):
        content += connection.recv(1 << 16)
    told = json.loads(content)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(told, files)
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, connection], [], [])[0]:  # the asker sends nothing more: it is gone
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(str(code).encode())
    os._exit(0)


def _become(told: dict[str, Any], files: list[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv = [told["module"], *told["arguments"]]
    code = 1
    try:
        runpy.run_module(told["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        _end(code)


def _end(code: int) -> None:
    """As the interpreter ends: threads are waited for and what was registered is run."""
    import atexit
    import threading

    threading._shutdown()
    atexit._run_exitfuncs()
    os._exit(code)


def _import_all() -> None:
    import srft

    for module in pkgutil.walk_packages(srft.__path__, "srft."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError:  # an extra that is not installed
                continue
    for name in ALSO:
        importlib.import_module(name)


if __name__ == "__main__":
    if sys.argv[1] == "--ask":
        here = {"folder": os.getcwd(), "environment": dict(os.environ)}
        sys.exit(ask(sys.argv[2], {"module": "srft", "arguments": sys.argv[3:], **here}, [0, 1, 2]))
    _serve(sys.argv[1])
