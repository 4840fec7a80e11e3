"""Files of a container over the engine's API: a path's status in a header, its content as a tar stream.

Reads what the engine has answered, writes nothing: `sandbox.py` asks and sends.

    found_in(response.headers[STAT_HEADER])         # Found(is_directory=False, is_regular=True, permissions=0o644, ...)
    content_of(stream, limit_bytes=1000)            # b"x = 1\n"
    tar_of("new/x.py", b"x = 1\n", mode=0o644, ids=(0, 0))      # the archive of new/ and of the file in it
"""

import io
import tarfile
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from docker.utils import decode_json_header

STAT_HEADER = "X-Docker-Container-Path-Stat"

# The engine's mode bits are those of Go's os.FileMode.
GO_DIRECTORY = 1 << 31
GO_SYMLINK = 1 << 27
GO_KIND_BITS = 0x8F28_0000


class Found(NamedTuple):
    """What the engine says of a path in the container. `link_target` is "" for all but symlinks."""

    is_directory: bool
    is_regular: bool
    permissions: int
    link_target: str


def found_in(header: str) -> Found:
    stat = decode_json_header(header)
    kind = stat["mode"] & GO_KIND_BITS
    # Podman gives every path a link target.
    link_target = stat["linkTarget"] if kind == GO_SYMLINK else ""
    return Found(kind == GO_DIRECTORY, kind == 0, stat["mode"] & 0o777, link_target)


def content_of(chunks: Iterable[bytes], *, limit_bytes: int) -> bytes | None:
    """The first file of an archive that comes in chunks; `None` for one of more bytes than the limit."""
    with tarfile.open(fileobj=_Reader(chunks), mode="r|") as archive:
        member = archive.next()
        if member is not None and member.size > limit_bytes:
            return None
        content = archive.extractfile(member) if member else None
        return content.read() if content else b""


class _Reader(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        taken = self._left[: len(buffer)]
        buffer[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)


def tar_of(path: str, content: bytes, *, mode: int, ids: tuple[int, ...]) -> bytes:
    """An archive of one file and the directories in its path; ids: user and group."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        folders = [path[:at] for at, character in enumerate(path) if character == "/"]
        for name in [*folders, path]:
            member = tarfile.TarInfo(name)
            member.uid, member.gid = ids
            member.mtime = int(time.time())  # or Python would trust a stale .pyc of the file it replaces
            if name == path:
                member.mode, member.size = mode, len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.mode, member.type = 0o755, tarfile.DIRTYPE
                tar.addfile(member)
    return archive.getvalue()
