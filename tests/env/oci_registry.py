"""A registry on loopback, and an OCI image for it that is made of this machine's programs, without an engine.

with Registry() as registry:
    image = registry.push("srft/hand", [layer({"etc/x": b"1"})])     # 127.0.0.1:PORT/srft/hand:1
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

_SHELL = "bash sh env expr false kill nproc printf pwd seq setsid sleep test true uname whoami xargs yes id date"
_FILES = "chmod chown cp dd find ln ls mkdir mkfifo mktemp mv readlink realpath rm rmdir stat tar tee touch basename"
_TEXT = "awk base64 cat cmp comm cut diff dirname grep gzip head join od paste patch sed sha256sum sort tac tail tr"
_MORE = "uniq wc git install timeout truncate split shuf nl fold md5sum sha1sum df du sync nice nohup stdbuf tty users"
PROGRAMS = f"{_SHELL} {_FILES} {_TEXT} {_MORE}".split()

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
MAKE_TESTBED = """
cd "$1" && git init -q -b main && git config user.email a@b && git config user.name a &&
echo 41 >answer.txt && echo keep >kept.txt && git add . && git commit -q -m base
"""

UNKNOWN = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer(
    files: Mapping[str, bytes],
    *,
    links: Mapping[str, str] | None = None,
    modes: Mapping[str, int] | None = None,
    uid: int = 0,
) -> bytes:
    """A layer as a tar: files, symlinks by their target, modes (0755 else), all of one user's."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.uid, entry.gid = tarfile.SYMTYPE, target, uid, uid
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), (modes or {}).get(name, 0o755), uid, uid
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def programs_layer(more: Mapping[str, bytes] | None = None) -> bytes:
    """bash, git, coreutils and what they load, from this machine; and more files, of mode 0644."""
    found = [path for path in map(shutil.which, PROGRAMS) if path]
    said = subprocess.run(["ldd", *found], capture_output=True, text=True, check=False).stdout
    libraries = set(re.findall(r"(/\S+) \(0x", said))
    files = {f"usr/bin/{Path(path).name}": Path(path).read_bytes() for path in found}
    files["etc/passwd"] = b"root:x:0:0:root:/root:/bin/bash\n"
    files |= {_under_usr(path): Path(path).read_bytes() for path in libraries}
    folders = ("bin", "lib", "lib64")
    links = {folder: f"usr/{folder}" for folder in folders}
    return layer({**files, **(more or {})}, links=links, modes=dict.fromkeys(more or (), 0o644))


def files_of_testbed(folder: Path) -> dict[str, bytes]:
    """The repository of `tests/tiny.py`'s tasks, as files of a layer. folder: a new one, to make it in."""
    folder.mkdir()
    subprocess.run(["bash", "-c", MAKE_TESTBED, "make", folder], check=True)
    return {f"testbed/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _under_usr(path: str) -> str:
    path = os.path.normpath(path).lstrip("/")
    return path if path.startswith("usr/") else f"usr/{path}"


class Registry(ThreadingHTTPServer):
    """Images over HTTP, as registries give them out. asked: the paths of all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.content: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def push(
        self,
        name: str,
        layers: Sequence[bytes],
        *,
        env: Iterable[str] = ("PATH=/usr/bin",),
        workdir: str = "/testbed",
        user: str = "",
    ) -> str:
        """Have an image; its name to fetch it by."""
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        config = {
            "architecture": machine,
            "os": "linux",
            "config": {"Env": list(env), "WorkingDir": workdir, "User": user},
            "rootfs": {"type": "layers", "diff_ids": [_digest(content) for content in layers]},
        }
        packed = [self._put(LAYER, gzip.compress(content, 1, mtime=0)) for content in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._put(CONFIG, json.dumps(config).encode()),
            "layers": packed,
        }
        self.content[f"/v2/{name}/manifests/1"] = (MANIFEST, json.dumps(manifest).encode())
        return f"{self.host}/{name}:1"

    def _put(self, kind: str, content: bytes) -> dict[str, object]:
        self.content[_digest(content)] = (kind, content)
        return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Request(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        registry = self.server
        assert isinstance(registry, Registry)
        registry.asked.append(self.path)
        missing = (
            404,
            ("application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'),
        )
        known = registry.content.get(self.path) or registry.content.get(self.path.rpartition("/")[2])
        status, (kind, content) = (200, known) if known else missing
        if self.path == "/v2/":
            status, kind, content = 200, "application/json", b"{}"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 200 and "/manifests/" in self.path:
            self.send_header("Docker-Content-Digest", _digest(content))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing: tests read what was printed."""
