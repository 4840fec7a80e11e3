"""A git repository of one commit, written without git: the same files give the same bytes.

    files = repository({"ledger.py": File(b"..."), "run.sh": File(b"...", mode=0o755)}, message="ledger")
    files["HEAD"]                                           # b"ref: refs/heads/main\\n"

The result is the content of a .git folder: the commit, with the branch main and the tag base on it, in one pack, and an
index. It is copied into an image in one step; running git there instead costs a container's start for every task.
"""

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

IDENTITY = "srft <srft@localhost> 1577836800 +0000"
"""Who commits, and when: at the beginning of 2020."""

_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
[user]
\tname = srft
\temail = srft@localhost
[log]
\tshowRoot = false
"""

_PACK_TYPES = {b"commit": 1, b"tree": 2, b"blob": 3}


class File(NamedTuple):
    """A file's content and permission bits; a symlink's content is its target."""

    content: bytes
    mode: int = 0o644
    is_link: bool = False

    @property
    def git_mode(self) -> int:
        if self.is_link:
            return 0o120000
        return 0o100755 if self.mode & 0o100 else 0o100644


class _Object(NamedTuple):
    kind: bytes
    content: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.sha1(b"%s %d\0%s" % (self.kind, len(self.content), self.content)).digest()


def repository(files: Mapping[str, File], *, message: str, exclude: Iterable[str] = ()) -> dict[str, bytes]:
    """{path in .git: content} of a repository whose one commit holds these files."""
    blobs = {path: _Object(b"blob", file.content) for path, file in files.items()}
    objects = list(blobs.values())
    tree = _tree({path: (files[path].git_mode, blob.digest) for path, blob in blobs.items()}, objects)
    commit = _Object(
        b"commit",
        f"tree {tree.hex()}\nauthor {IDENTITY}\ncommitter {IDENTITY}\n\n{message}\n".encode(),
    )
    objects.append(commit)
    name, pack, index = _pack(objects)
    reference = commit.digest.hex().encode() + b"\n"
    return {
        "HEAD": b"ref: refs/heads/main\n",
        "config": _CONFIG.encode(),
        "index": _index(files, blobs),
        "info/exclude": "".join(f"{pattern}\n" for pattern in exclude).encode(),
        f"objects/pack/pack-{name}.idx": index,
        f"objects/pack/pack-{name}.pack": pack,
        "refs/heads/main": reference,
        "refs/tags/base": reference,
    }


def _tree(entries: Mapping[str, tuple[int, bytes]], objects: list[_Object]) -> bytes:
    """The digest of a folder's tree; it and those below are added to the objects."""
    here: dict[str, tuple[int, bytes]] = {}
    below: dict[str, dict[str, tuple[int, bytes]]] = {}
    for path, entry in entries.items():
        folder, slash, rest = path.partition("/")
        if slash:
            below.setdefault(folder, {})[rest] = entry
        else:
            here[path] = entry
    here |= {folder: (0o40000, _tree(inside, objects)) for folder, inside in below.items()}
    # git sorts a folder as if its name ended with a slash.
    names = sorted(here, key=lambda name: f"{name}/".encode() if name in below else name.encode())
    content = b"".join(b"%o %s\0%s" % (here[name][0], name.encode(), here[name][1]) for name in names)
    tree = _Object(b"tree", content)
    objects.append(tree)
    return tree.digest


def _pack(objects: Iterable[_Object]) -> tuple[str, bytes, bytes]:
    """(name, pack, index of the pack), in git's formats of version 2."""
    unique = sorted({one.digest: one for one in objects}.items())
    pack = bytearray(struct.pack(">4sLL", b"PACK", 2, len(unique)))
    checksums, offsets = [], []
    for _, one in unique:
        # Level 0 stores: other levels give other bytes with another zlib.
        entry = _entry_head(_PACK_TYPES[one.kind], len(one.content)) + zlib.compress(one.content, 0)
        offsets.append(len(pack))
        checksums.append(zlib.crc32(entry))
        pack += entry
    pack += hashlib.sha1(pack).digest()
    firsts = [digest[0] for digest, _ in unique]
    fan_out = [sum(first <= byte for first in firsts) for byte in range(256)]
    index = struct.pack(">4sL256L", b"\377tOc", 2, *fan_out) + b"".join(digest for digest, _ in unique)
    index += struct.pack(f">{len(unique)}L", *checksums) + struct.pack(f">{len(unique)}L", *offsets) + pack[-20:]
    name = hashlib.sha1(b"".join(digest for digest, _ in unique)).hexdigest()
    return name, bytes(pack), index + hashlib.sha1(index).digest()


def _entry_head(kind: int, size: int) -> bytes:
    """Type and size: four bits of the size in the first byte, seven in each further one."""
    head = bytearray()
    byte, size = kind << 4 | size & 15, size >> 4
    while size:
        head.append(byte | 128)
        byte, size = size & 127, size >> 7
    head.append(byte)
    return bytes(head)


def _index(files: Mapping[str, File], blobs: Mapping[str, _Object]) -> bytes:
    """An index of version 2 that knows nothing of times and inodes: git looks at the files once and notes them."""
    paths = sorted(files, key=str.encode)
    content = bytearray(struct.pack(">4sLL", b"DIRC", 2, len(paths)))
    for path in paths:
        name = path.encode()
        entry = struct.pack(">6L", 0, 0, 0, 0, 0, 0) + struct.pack(">4L", files[path].git_mode, 0, 0, 0)
        entry += blobs[path].digest + struct.pack(">H", min(len(name), 0xFFF)) + name
        content += entry + b"\0" * (8 - len(entry) % 8)
    return bytes(content) + hashlib.sha1(content).digest()


def is_plain_path(path: str) -> bool:
    """Whether a path needs no quoting anywhere: in a patch's head, a shell, a Dockerfile."""
    return re.fullmatch(r"[\w./+@-]+", path, re.ASCII) is not None
