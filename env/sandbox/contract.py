"""The contract of a sandbox: one task's file system, processes and shell.

`start, run, write, read, snapshot, restore, close`. `docker/sandbox.py` and `local/sandbox.py` implement it,
`sandbox/conformance/suite.py` holds it as checks that every backend runs, and `shell.py` is the persistent bash that
all of them talk to.

    with open_sandbox("docker", SandboxSpec(image="debian:12", workdir="/")) as sandbox:
        sandbox.run("echo hello", timeout_s=10).output     # 'hello\n'
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

Mode = Literal["stateless", "persistent"]

OUTPUT_LIMIT_BYTES = 1 << 20
"""How much of a command's output is kept by default: half from its head, half from its tail."""


READ_LIMIT_BYTES = 256 << 20
"""How large a file may be that is read out of a sandbox."""


@dataclass(frozen=True)
class Limits:
    """What a sandbox may use. `None` means no limit."""

    memory_bytes: int | None = 4 << 30
    cpus: float | None = None
    pids: int | None = 1024


@dataclass(frozen=True)
class SandboxSpec:
    """What to start.

    image: an engine's image name; for the local sandbox a prepared directory (see `local/sandbox.py`).
    mode: `stateless` runs each command in a fresh subshell of `workdir` (mini-swe-agent's semantics);
        `persistent` keeps directory and variables between commands (SWE-agent's).
    init: bash that every new shell runs once, say to activate an environment.
    network: an engine's network name; "none" is no network at all.
    new_privileges: whether a process may gain some, by sudo and the like.
    platform: the image's, where an engine has it for several or emulates another: linux/amd64. `None`: the engine's.
    labels: who owns it; the reaper and `srft clean` read them.
    """

    image: str
    workdir: str = "/testbed"
    user: str = "root"
    mode: Mode = "stateless"
    init: str = ""
    env: dict[str, str] = field(default_factory=dict)
    network: str = "none"
    limits: Limits = Limits()
    capabilities: tuple[str, ...] = ()
    new_privileges: bool = False
    platform: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CommandResult:
    """What a command did.

    output: stdout and stderr in the order they were written, UTF-8 with U+FFFD for anything else. Where more than
        the limit was printed, the middle is missing: `elided_bytes` of it, at `elided_at` characters into `output`.
    exit_code: bash's, `None` when the command was killed at its timeout.
    shell_restarted: the command ended the shell (`exit`, `exec`, `set -e`, a timeout in persistent mode): variables
        are lost, the directory is kept.
    """

    output: str
    exit_code: int | None
    wall_s: float = field(compare=False)
    timed_out: bool = False
    elided_bytes: int = 0
    elided_at: int = 0
    shell_restarted: bool = False


class Sandbox(ABC):
    """One sandbox. Not thread-safe, except `close`, which any thread may call to end a running command."""

    spec: SandboxSpec

    @abstractmethod
    def start(self) -> None:
        """Start it. Raises EngineError, ImageError."""

    @abstractmethod
    def run(
        self, command: str, timeout_s: float = math.inf, *, output_limit_bytes: int = OUTPUT_LIMIT_BYTES
    ) -> CommandResult:
        """Run one bash command (any text: several lines, heredocs, unbalanced quotes). Raises SandboxDied."""

    @abstractmethod
    def read(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        """The bytes of a regular file.

        Raises FileNotFoundError, IsADirectoryError, SandboxDied, and OSError (EFBIG) for a file of more bytes than the
        limit: a sparse one takes no disk there, and would take all memory here.
        """

    @abstractmethod
    def write(self, path: str, content: bytes, *, mode: int | None = None) -> None:
        """Create or replace a file, with the directories above it; a symlink is followed.

        mode: permission bits; `None` keeps those of a file that is there and gives a new one 0644.
        Raises IsADirectoryError, SandboxDied, and OSError where the sandbox refuses (a full disk).
        """

    @abstractmethod
    def snapshot(self) -> str:
        """Keep the file system as it is now; its name goes to `restore`. Processes are not kept."""

    @abstractmethod
    def restore(self, snapshot: str) -> None:
        """Go back to a snapshot: its files, a fresh shell, no processes."""

    def disown(self, snapshot: str) -> None:
        """Let a snapshot outlive this sandbox, as an image for others. Only where snapshots are images."""
        raise NotImplementedError(f"{type(self).__name__} keeps its snapshots to itself")

    @abstractmethod
    def kill_all(self) -> None:
        """Kill every process in the sandbox; the next command gets a fresh shell. Raises SandboxDied."""

    @abstractmethod
    def close(self) -> None:
        """Remove it and its snapshots. Idempotent, never raises for a sandbox that is already gone."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
