"""Files of a local sandbox, read and written from the host without ever being led out of it.

Reads and writes below one open folder, the sandbox's root, by the paths its processes use.

    files = SandboxFiles(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY), bound=["/usr"])
    files.read("/testbed/setup.py")      # the bytes of that file
"""

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from srft.env.errors import SandboxDied

MAX_LINKS = 40


class SandboxFiles:
    """Reads and writes files by the paths that the sandbox's processes would use.

    Every path is walked from `root_fd` one name at a time with O_NOFOLLOW, and links are followed by hand, so that no
    link, and none put there while we walk, leads out of it. `bound`: folders in the root that are the host's,
    read-only. `hidden`: those that are not entered: we may have rights in /proc that the sandbox's processes have not.
    """

    def __init__(
        self, root_fd: int, *, bound: Sequence[str] = (), hidden: Sequence[str] = (), owner_uid: int | None = None
    ) -> None:
        self._root_fd: int | None = root_fd
        self._bound = {path.lstrip("/") for path in bound}
        self._hidden = {path.lstrip("/") for path in hidden}
        self._owner_uid = owner_uid
        self._closing = threading.Lock()

    def close(self) -> None:
        with self._closing:
            if self._root_fd is not None:
                os.close(self._root_fd)
                self._root_fd = None

    def _open_root(self) -> int:
        with self._closing:
            if self._root_fd is None:
                raise SandboxDied("the sandbox is gone: it was closed")
            return os.dup(self._root_fd)

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        with self._parent(path, make=False) as found:
            if not found.name:
                raise IsADirectoryError(errno.EISDIR, "a directory in the sandbox", path)
            # Non-blocking, or a FIFO would hold us until somebody writes.
            fd = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=found.folder_fd)
            with open(fd, "rb") as file:
                mode = os.fstat(fd).st_mode
                if stat.S_ISDIR(mode):
                    raise IsADirectoryError(errno.EISDIR, "a directory in the sandbox", path)
                if not stat.S_ISREG(mode):
                    raise FileNotFoundError(errno.ENOENT, "not a regular file in the sandbox", path)
                if found.read_only and not mode & stat.S_IROTH:
                    raise PermissionError(errno.EACCES, "not readable in the sandbox", path)
                content = file.read(limit_bytes + 1)
                if len(content) > limit_bytes:
                    raise OSError(errno.EFBIG, f"more than {limit_bytes} bytes in the sandbox", path)
                return content

    def write(self, path: str, content: bytes, *, mode: int | None) -> None:
        with self._parent(path, make=True) as found:
            there = None
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(found.name or ".", dir_fd=found.folder_fd, follow_symlinks=False).st_mode
            if there is not None and stat.S_ISDIR(there):
                raise IsADirectoryError(errno.EISDIR, "a directory in the sandbox", path)
            if found.read_only:
                raise OSError(errno.EROFS, "read-only in the sandbox", path)
            if mode is None:
                mode = stat.S_IMODE(there) if there is not None and stat.S_ISREG(there) else 0o644
            self._replace(found, content, mode)

    def _replace(self, found: "_Found", content: bytes, mode: int) -> None:
        """A new file in the old one's place, so that a full disk leaves the old one whole."""
        fresh = f".srft-{secrets.token_hex(8)}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=found.folder_fd)
        try:
            with open(fd, "wb") as file:
                if self._owner_uid is not None:
                    os.fchown(fd, self._owner_uid, self._owner_uid)
                os.fchmod(fd, mode)
                file.write(content)
            os.replace(fresh, found.name, src_dir_fd=found.folder_fd, dst_dir_fd=found.folder_fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=found.folder_fd)
            raise

    @contextlib.contextmanager
    def _parent(self, path: str, *, make: bool) -> Iterator["_Found"]:
        """The folder that holds the file, and its name there ("" for the root itself). `make`: missing folders too."""
        folders = [self._open_root()]
        opened = list(folders)
        names = _names(path)
        links = 0
        try:
            bound = False
            while names:
                name = names.pop(0)
                if name == "..":
                    folders = folders[:-1] or folders
                elif len(folders) == 1 and name in self._hidden:
                    raise FileNotFoundError(errno.ENOENT, f"/{name} is not read or written from outside", path)
                elif (target := _link_target(name, folders[-1])) is not None:
                    links += 1
                    if links > MAX_LINKS:
                        raise OSError(errno.ELOOP, "too many levels of symlinks in the sandbox", path)
                    names = _names(target) + names
                    folders = folders[:1] if target.startswith("/") else folders
                elif not names and not (len(folders) == 1 and name in self._bound):
                    yield _Found(folders[-1], name, read_only=bound and len(folders) > 1)
                    return
                else:
                    bound = name in self._bound if len(folders) == 1 else bound
                    fd = self._open_folder(name, folders[-1], make=make, read_only=bound)
                    opened.append(fd)
                    folders = [*folders, fd]
            yield _Found(folders[-1], "", read_only=bound)
        finally:
            for fd in opened:
                os.close(fd)

    def _open_folder(self, name: str, folder_fd: int, *, make: bool, read_only: bool) -> int:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            return os.open(name, flags, dir_fd=folder_fd)
        except FileNotFoundError:
            if not make:
                raise
        if read_only:
            raise OSError(errno.EROFS, "read-only in the sandbox", name)
        with contextlib.suppress(FileExistsError):  # a process in the sandbox may have been first
            os.mkdir(name, 0o755, dir_fd=folder_fd)
            if self._owner_uid is not None:
                os.chown(name, self._owner_uid, self._owner_uid, dir_fd=folder_fd, follow_symlinks=False)
        return os.open(name, flags, dir_fd=folder_fd)


class _Found(NamedTuple):
    folder_fd: int
    name: str
    read_only: bool


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _link_target(name: str, folder_fd: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder_fd)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT}:  # no link; nothing there
            return None
        raise
