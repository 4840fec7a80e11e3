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
import os
import posixpath
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from srft.env.docker.archive import STAT_HEADER, Found, content_of, found_in, tar_of
from srft.env.docker.channel import DockerChannel
from srft.env.errors import EngineError, ImageError, SandboxDied
from srft.env.sandbox.contract import SandboxSpec
from srft.env.sandbox.owner import is_orphan, owner
from srft.env.sandbox.shell import BASH, Control, ShellSandbox

LABEL = "srft"
OWNER_LABEL = "srft.owner"

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
    # By process: a forked child (AsyncVectorEnv) that used its parent's connections would read its parent's answers.
    try:
        return docker.from_env(timeout=API_TIMEOUT_S, max_pool_size=MAX_CONNECTIONS)
    except (DockerException, requests.RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "the default socket")
        raise EngineError(
            f"no container engine answers at {where} ({error}); start Docker (or Podman with DOCKER_HOST set to its "
            "socket), or take --sandbox local"
        ) from None


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
            self._container = self.api.create_container_from_config(self._config(image))["Id"]
        try:
            with _engine_errors(image):
                self._start_bash(image)
            self._live_shell()
            if self.spec.user != "root":
                self._ids = tuple(map(int, self.run("id -u && id -g").output.split()))
        except BaseException:
            self.close()
            raise

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

    def read(self, path: str) -> bytes:
        path, found = self._find(path)
        if found is None:
            raise FileNotFoundError(f"{path}: no such file in the sandbox")
        if found.is_directory:
            raise IsADirectoryError(f"{path}: a directory in the sandbox")
        if not found.is_regular:
            raise FileNotFoundError(f"{path}: not a regular file in the sandbox")
        with self._file_errors(path):
            stream, _ = self.api.get_archive(self._running(), path)
            return content_of(stream)

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
            image = self.api.commit(self._running(), changes=changes)["Id"]
        self._snapshots.append(image)
        return image

    def disown(self, snapshot: str) -> None:
        self._snapshots.remove(snapshot)

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
                remove_snapshot(image, client=self._client)

    def _remove_container(self) -> None:
        self._hang_up()
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(APIError, requests.RequestException):
                remove_container(container, self.api)


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


def remove_snapshot(image: str, *, client: docker.DockerClient | None = None) -> None:
    """Remove a snapshot's image; one that a container uses stays for `reap`."""
    with contextlib.suppress(APIError, requests.RequestException):
        (client or engine()).api.remove_image(image, noprune=True)


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
        for image in client.api.images(filters={"label": LABEL}):
            if OWNER_LABEL in (image["Labels"] or {}) and (everything or is_orphan(image["Labels"][OWNER_LABEL])):
                with contextlib.suppress(APIError):
                    client.api.remove_image(image["Id"], force=True)
                    removed.append(f"snapshot {image['Id'][7:19]}")
    return removed
