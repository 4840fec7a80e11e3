"""The Docker sandbox (and Podman's, through its Docker socket in DOCKER_HOST).

Reads and writes the engine alone: containers and snapshots, which are images, each labelled with its owner.

    with DockerSandbox(SandboxSpec(image="srft/base:bookworm")) as sandbox:
        sandbox.run("git --version", timeout_s=10).output      # 'git version 2.39.5\n'
    reap()                                                     # []: nothing was left behind

Process 1 of the container is the control bash, on the engine's attach socket with `StdinOnce`: when this process dies,
however it dies, the engine closes that socket, process 1 reads the end of its script and the container removes itself.
`reap` is for what is left when the engine itself went down.
"""

import contextlib
import errno
import os
import posixpath
import re
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import docker
import requests
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from loguru import logger

from srft.env.docker.archive import STAT_HEADER, Found, content_of, found_in, tar_of
from srft.env.docker.channel import DockerChannel
from srft.env.docker.snapshots import OWNER_LABEL, keep_snapshot, remove_snapshot
from srft.env.errors import EngineError, ImageError, SandboxDied
from srft.env.sandbox.contract import READ_LIMIT_BYTES, SandboxSpec
from srft.env.sandbox.owner import is_orphan, owner
from srft.env.sandbox.shell import BASH, Control, ShellSandbox

LABEL = "srft"

API_TIMEOUT_S = 300
MAX_CONNECTIONS = 256
EXIT_CODE_TIMEOUT_S = 5.0
REMOVAL_S = 30.0
MAX_LINKS = 16
KERNEL_FOLDERS = ("/dev/", "/proc/", "/sys/")


def engine() -> docker.DockerClient:
    """The engine at DOCKER_HOST or its default socket, one client for all threads. Raises EngineError."""
    return _engine(os.getpid())


@cache
def _engine(_pid: int) -> docker.DockerClient:
    _check_context()
    # By process: a forked child (AsyncVectorEnv) that used its parent's connections would read its parent's answers.
    try:
        return docker.from_env(timeout=API_TIMEOUT_S, max_pool_size=MAX_CONNECTIONS)
    except (DockerException, requests.RequestException) as error:
        raise EngineError(
            f"no container engine answers at {engine_address()} ({error}); start Docker (or Podman with DOCKER_HOST "
            "set to its socket), or take --sandbox local"
        ) from None


def _check_context() -> None:
    """Raises EngineError for a context that is not there: the client would take the default socket without a word."""
    name = os.environ.get("DOCKER_CONTEXT")
    if name and not os.environ.get("DOCKER_HOST") and ContextAPI.get_context(name) is None:
        raise EngineError(
            f"no Docker context {name}, which DOCKER_CONTEXT names; `docker context ls` lists those there"
        )


def engine_address() -> str:
    """Where the engine is looked for, in words: at DOCKER_HOST, else where the Docker context says."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    context = ContextAPI.get_context(name)
    if name == "default" or context is None:
        return "the default socket"
    return f"{context.Host}, the Docker context {name}"


@cache
def _is_podman(api: docker.APIClient) -> bool:
    return any("podman" in part.get("Name", "").lower() for part in api.version().get("Components") or ())


class DockerSandbox(ShellSandbox):
    """One container. `client` is for tests against a particular engine."""

    def __init__(self, spec: SandboxSpec, *, client: docker.DockerClient | None = None) -> None:
        self.spec = spec
        self._client = client
        self._container: str | None = None
        self._snapshots: list[str] = []
        self._ids: tuple[int, ...] = (0, 0)
        self._closing = threading.Lock()

    @property
    def api(self) -> docker.APIClient:
        return (self._client or engine()).api

    @property
    def container_id(self) -> str | None:
        return self._container

    def start(self) -> None:
        self._start(self.spec.image)

    def _start(self, image: str) -> None:
        with _engine_errors(image):
            created = self.api.create_container_from_config(self._config(image), platform=self.spec.platform)
        self._container = created["Id"]
        self._tell_dropped_limits()
        for warning in created.get("Warnings") or ():
            _tell_once(self.api.base_url, str(warning))
        try:
            with _engine_errors(image):
                self._start_bash(image)
            self._live_shell()
            if self.spec.user != "root":
                self._ids = self._user_ids(image)
        except BaseException:
            self.close()
            raise

    @property
    def limits_held(self) -> frozenset[str]:
        """Which of "pids", "memory", "cpu" were asked for and hold. Asks the engine, once a process."""
        return self._asked_limits() & _limits_of(self._client or engine())

    def _asked_limits(self) -> frozenset[str]:
        limits = self.spec.limits
        asked = {"pids": limits.pids, "memory": limits.memory_bytes, "cpu": limits.cpus}
        return frozenset(name for name, value in asked.items() if value is not None)

    def _tell_dropped_limits(self) -> None:
        """An engine without the cgroups for a limit starts the container all the same."""
        for name in sorted(self._asked_limits() - self.limits_held):
            _tell_once(
                self.api.base_url, f"no limit on {name} holds: it has no cgroup for it (rootless without delegation?)"
            )

    def _user_ids(self, image: str) -> tuple[int, ...]:
        """The user's and the group's number. Told by bash itself, between marks: the image's settings may print too."""
        said = self.run('builtin printf "<srft %d %d>" "$EUID" "${GROUPS[0]}"').output
        if not (found := re.search("<srft ([0-9]+) ([0-9]+)>", said)):
            raise ImageError(f"image {image}: bash does not tell who {self.spec.user} is ({said.strip()[-200:]!r})")
        return int(found[1]), int(found[2])

    def _start_bash(self, image: str) -> None:
        try:
            attached = self.api.attach_socket(
                self._running(), params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
            self._control = Control(DockerChannel(attached, lambda: None))
            self.api.start(self._running())
        except APIError as error:  # Podman's comes with the attaching, Docker's with the start
            reason = error.explanation or str(error)
            if any(of_image in reason for of_image in ("file not found", "no such file", "unable to find user")):
                message = (
                    f"image {image}: bash cannot be started in it as {self.spec.user} ({reason}); use one with bash"
                )
                raise ImageError(message) from error
            raise

    def _config(self, image: str) -> dict[str, Any]:
        spec, limits = self.spec, self.spec.limits
        return {
            "Image": image,
            "Entrypoint": [*BASH, "-p"],  # without what BASH_ENV and exported functions would make of it
            "Cmd": [],
            "User": spec.user,
            "WorkingDir": spec.workdir,  # the engine makes it where the image lacks it
            "Env": [f"{name}={value}" for name, value in spec.env.items()],
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "Healthcheck": {"Test": ["NONE"]},  # the image's own would run beside the agent's commands
            "Labels": {LABEL: "1", OWNER_LABEL: owner(), **spec.labels},
            "HostConfig": {
                "AutoRemove": True,
                "NetworkMode": spec.network,
                "LogConfig": {"Type": "none"},
                "Memory": limits.memory_bytes or 0,
                # Swap on top of the limit would let a runaway command grind the machine before it is killed.
                "MemorySwap": limits.memory_bytes or 0,
                "NanoCpus": int((limits.cpus or 0) * 1e9),
                "PidsLimit": limits.pids,
                "CapAdd": list(spec.capabilities),
                "SecurityOpt": [] if spec.new_privileges else ["no-new-privileges"],
            },
        }

    def _open_channel(self) -> DockerChannel:
        with _engine_errors(self.spec.image):
            # Not in the working directory: a command may have removed it.
            exec_id = self.api.exec_create(
                self._running(), list(BASH), stdin=True, user=self.spec.user, environment=self.spec.env, workdir="/"
            )["Id"]
            hijacked = self.api.exec_start(exec_id, socket=True)
        return DockerChannel(hijacked, lambda: self._exec_exit_code(exec_id))

    def _exec_exit_code(self, exec_id: str) -> int | None:
        # The engine notes the exit a moment after the stream has ended.
        deadline = time.monotonic() + EXIT_CODE_TIMEOUT_S
        with contextlib.suppress(APIError, requests.RequestException):
            while time.monotonic() < deadline:
                ended = self.api.exec_inspect(exec_id)
                if not ended["Running"]:
                    return ended["ExitCode"]
                time.sleep(0.002)
        return None

    def _running(self) -> str:
        if self._container is None:
            raise SandboxDied("the sandbox is not running: it was never started, or was closed")
        return self._container

    def read(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        path, found = self._find(path)
        if found is None:
            raise FileNotFoundError(f"{path}: no such file in the sandbox")
        if found.is_directory:
            raise IsADirectoryError(f"{path}: a directory in the sandbox")
        if not found.is_regular:
            raise FileNotFoundError(f"{path}: not a regular file in the sandbox")
        with self._file_errors(path):
            stream, _ = self.api.get_archive(self._running(), path)
            content = content_of(stream, limit_bytes=limit_bytes)
        if content is None:
            raise OSError(errno.EFBIG, f"more than {limit_bytes} bytes in the sandbox", path)
        return content

    def write(self, path: str, content: bytes, *, mode: int | None = None) -> None:
        path, found = self._find(path)
        if found is not None and found.is_directory:
            raise IsADirectoryError(f"{path}: a directory in the sandbox")
        if mode is None:
            mode = found.permissions if found else 0o644
        folder, name = posixpath.split(path)
        try:
            self._put(folder, name, content, mode)
        except FileNotFoundError:
            while folder != "/" and self._stat(folder) is None:
                folder, parent = posixpath.split(folder)
                name = posixpath.join(parent, name)
            self._put(folder, name, content, mode)

    def _put(self, folder: str, name: str, content: bytes, mode: int) -> None:
        with self._file_errors(folder):
            self.api.put_archive(self._running(), folder, tar_of(name, content, mode=mode, ids=self._ids))

    def _find(self, path: str) -> tuple[str, Found | None]:
        """(path with a final symlink followed, what is there or None). Relative to the workdir."""
        path = posixpath.normpath(posixpath.join(self.spec.workdir, path))
        for _ in range(MAX_LINKS):
            if re.search(r"[*?\[\\]", path) and _is_podman(self.api):
                raise OSError(f"{path}: Podman's API takes *, ?, [ and \\ in a name for a pattern; use a command")
            if path.startswith(KERNEL_FOLDERS):
                raise OSError(f"{path}: the engine cannot copy to or from {', '.join(KERNEL_FOLDERS)}; use a command")
            found = self._stat(path)
            if found is None or not found.link_target:
                return path, found
            # The engine gives the target as an absolute path, even where the link is relative.
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.link_target))
        raise OSError(f"{path}: more than {MAX_LINKS} levels of symlinks in the sandbox")

    def _stat(self, path: str) -> Found | None:
        # docker-py only has the transfer, of which an open one locks the container.
        url = f"{self.api.base_url}/v{self.api.api_version}/containers/{self._running()}/archive"
        with _engine_errors(self.spec.image):
            response = self.api.head(url, params={"path": path}, timeout=API_TIMEOUT_S)
        said = response.headers.get(STAT_HEADER)  # Podman gives it with a 404 for a symlink that leads nowhere
        if said is None:
            self._live_control().ask(":")  # while that answers, it is about the path
            if response.status_code == 404:
                return None
            raise OSError(
                f"{path}: the engine cannot look it up: a loop of symlinks, or a file where a directory must be"
            )
        return found_in(said)

    @contextlib.contextmanager
    def _file_errors(self, path: str) -> Iterator[None]:
        """What the engine refuses while the sandbox lives is about the file."""
        try:
            with _engine_errors(self.spec.image):
                yield
        except (SandboxDied, EngineError) as error:
            self._live_control().ask(":")
            if isinstance(error, SandboxDied):
                raise FileNotFoundError(f"{path}: no such file or directory in the sandbox") from error
            raise OSError(f"{path}: the sandbox refuses ({error})") from error

    def snapshot(self) -> str:
        with _engine_errors(self.spec.image):
            volumes = [mount["Destination"] for mount in self.api.inspect_container(self._running())["Mounts"]]
            if volumes:  # it would come back as the image has it
                raise EngineError(
                    f"image {self.spec.image}: no snapshot holds what lies in a volume ({', '.join(sorted(volumes))}); "
                    "build the image without VOLUME"
                )
            changes = f"LABEL {LABEL}=1 {OWNER_LABEL}={owner()}"
            try:
                image = self.api.commit(self._running(), changes=changes)["Id"]
            except APIError as error:
                if "can not pause" not in (error.explanation or ""):
                    raise
                # Rootless Podman with cgroups of version 1. What runs meanwhile may be caught half way.
                image = self.api.commit(self._running(), changes=changes, pause=False)["Id"]
        self._snapshots.append(image)
        return image

    def disown(self, snapshot: str) -> None:
        self._snapshots.remove(snapshot)
        with _engine_errors(snapshot):
            keep_snapshot(self.api, snapshot)

    def written_bytes(self) -> int:
        """What the sandbox has written so far: the size of a snapshot, beyond what it was started from."""
        return int(self._inspected(size=True).get("SizeRw") or 0)

    def mounted(self) -> list[str]:
        """The folders that are no part of a snapshot: the image's volumes."""
        return [mount["Destination"] for mount in self._inspected().get("Mounts") or ()]

    def _inspected(self, **asked: Any) -> dict[str, Any]:
        url = self.api._url("/containers/{0}/json", self._running())  # type: ignore[attr-defined]
        with _engine_errors(self.spec.image):
            said: dict[str, Any] = self.api._result(self.api._get(url, params=asked), True)  # type: ignore[attr-defined]
        return said

    def restore(self, snapshot: str) -> None:
        directory = self._shell.directory if self._shell else self._directory
        self._remove_container()
        self._directory = directory
        self._start(snapshot)

    def close(self) -> None:
        with self._closing:
            self._remove_container()
            snapshots, self._snapshots = self._snapshots, []
            for image in reversed(snapshots):  # a later one may be built on an earlier one
                remove_snapshot(self.api, image)

    def _remove_container(self) -> None:
        self._hang_up()
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(APIError, requests.RequestException):
                remove_container(container, self.api)


@cache
def _limits_of(client: docker.DockerClient) -> frozenset[str]:
    """Which limits the engine can hold. Raises EngineError."""
    with _engine_errors("-"):
        said = client.info()
    names = {"memory": "MemoryLimit", "pids": "PidsLimit", "cpu": "CpuCfsQuota"}
    return frozenset(name for name, field in names.items() if said.get(field, True))


@cache
def _tell_once(_engine_url: str, warning: str) -> None:
    """What the engine says of a container's settings, above all the limits that it drops; once a process."""
    logger.warning("the container engine says of its sandboxes: {}", warning)


def remove_container(container: str, api: docker.APIClient) -> None:
    """Remove a container, whatever runs in it, and return when the engine no longer lists it.

    A container whose bash has ended is removed by the engine itself, which refuses a second removal meanwhile.
    Raises APIError for any other refusal, and for a removal that takes longer than REMOVAL_S.
    """
    until = time.monotonic() + REMOVAL_S
    while True:
        try:
            api.remove_container(container, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409 or time.monotonic() > until:
                raise
            time.sleep(0.05)


def image_id(image: str) -> str | None:
    """The content id of an image that is on this machine."""
    try:
        return engine().api.inspect_image(image)["Id"]
    except (APIError, requests.RequestException):
        return None


@contextlib.contextmanager
def _engine_errors(image: str) -> Iterator[None]:
    """The engine's and the HTTP client's exceptions as ours."""
    try:
        yield
    except ImageNotFound as error:
        raise ImageError(
            f"image {image}: not on this machine ({error.explanation}); pull or build it, or check its name"
        ) from error
    except NotFound as error:
        raise SandboxDied(f"the container is gone ({error.explanation}); the episode may be retried") from error
    except APIError as error:
        if error.status_code == 409:
            raise SandboxDied(f"the container is gone ({error.explanation}); the episode may be retried") from error
        raise EngineError(f"the container engine refused: {error.explanation or error}") from error
    except (requests.RequestException, DockerException) as error:
        raise EngineError(f"the container engine does not answer ({error}); is it still running?") from error


def reap(*, everything: bool = False, client: docker.DockerClient | None = None) -> list[str]:
    """Remove the containers and snapshots that dead srft processes of this host left; `everything`: of living ones too.

    Returns what was removed. Raises EngineError.
    """
    client = client or engine()
    removed = []
    with _engine_errors("-"):
        for container in client.api.containers(all=True, filters={"label": LABEL}):
            if everything or is_orphan(container["Labels"].get(OWNER_LABEL)):
                with contextlib.suppress(APIError):
                    remove_container(container["Id"], client.api)
                    removed.append(f"container {container['Id'][:12]} ({container['Image']})")
        by_socket = not client.api.base_url.startswith(("http://", "https://"))
        for image in client.api.images(filters={"label": OWNER_LABEL}):
            # A snapshot outlives a boot, and to take one too many costs a scrub: a socket is this machine's own.
            if everything or is_orphan(image["Labels"][OWNER_LABEL], same_machine=by_socket):
                with contextlib.suppress(APIError):
                    client.api.remove_image(image["Id"], force=True)
                    removed.append(f"snapshot {image['Id'][7:19]}")
    return removed
