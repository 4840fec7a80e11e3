"""A registry on loopback with tiny images, which may refuse, cut off or delay what it is asked.

    with Registry() as registry:
        registry.refuse("blobs", Refusal(429, b"..."), times=2)
        client.images.pull(registry.image)

It answers the pulls of a real engine, over plain HTTP, which engines allow on localhost.
"""

import gzip
import hashlib
import io
import json
import os
import secrets
import tarfile
import threading
import zlib
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

KIND = "application/vnd.docker."
Asked = Literal["manifests", "blobs"]


class Refusal(NamedTuple):
    """What is answered in place of the thing. cut: send half of the thing itself and hang up."""

    status: int = 200
    content: bytes = b"{}"
    cut: bool = False


def refusal(status: int, code: str, message: str) -> Refusal:
    """In the registries' own form."""
    return Refusal(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())


class Registry(ThreadingHTTPServer):
    """Images with one layer each, `image` and `images`; what was asked is counted.

    architectures: of the images; more than one, or another than this machine's, and the manifest is a list.
    is_of_zeros: the layers, so that large ones are small on the way.
    """

    daemon_threads = True

    def __init__(
        self,
        *,
        images: int = 1,
        layer_bytes: int = 5,
        architectures: tuple[str, ...] = ("amd64",),
        is_of_zeros: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.asked = {"manifests": 0, "blobs": 0}
        self._refusals: dict[Asked, list[Refusal]] = {"manifests": [], "blobs": []}
        self._contents: dict[str, tuple[str, bytes]] = {}
        self._is_of_zeros = is_of_zeros
        self.images = [self._publish(f"hello-{n}", layer_bytes, architectures) for n in range(images)]
        self.image = self.images[0]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """An engine that has enough hangs up."""

    def refuse(self, what: Asked, refusal: Refusal, *, times: int) -> None:
        self._refusals[what] = [refusal] * times

    def next_refusal(self, what: Asked) -> Refusal | None:
        return self._refusals[what].pop(0) if self._refusals[what] else None

    def content(self, reference: str) -> tuple[str, bytes] | None:
        """(media type, bytes) of what a path ends with: a digest, or NAME:TAG's tag."""
        return self._contents.get(reference)

    def _publish(self, name: str, layer_bytes: int, architectures: tuple[str, ...]) -> str:
        manifests = [self._manifest(name, layer_bytes, architecture) for architecture in architectures]
        if architectures == ("amd64",):
            kind, content = self._contents[manifests[0]["digest"]]
        else:
            kind = f"{KIND}distribution.manifest.list.v2+json"
            entries = [
                {**manifest, "platform": {"os": "linux", "architecture": architecture}}
                for manifest, architecture in zip(manifests, architectures, strict=True)
            ]
            content = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
        self._contents[f"srft/{name}:1"] = self._contents[digest(content)] = (kind, content)
        return f"localhost:{self.server_address[1]}/srft/{name}:1"

    def _manifest(self, name: str, layer_bytes: int, architecture: str) -> dict[str, Any]:
        diff_id, layer = (_zeros if self._is_of_zeros else _random)(f"{name}-{secrets.token_hex(4)}", layer_bytes)
        described = {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "srft"}],
        }
        config = self._kept(f"{KIND}container.image.v1+json", json.dumps(described).encode())
        packed = self._kept(f"{KIND}image.rootfs.diff.tar.gzip", layer)
        kind = f"{KIND}distribution.manifest.v2+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [packed]}
        return self._kept(kind, json.dumps(manifest).encode())

    def _kept(self, kind: str, content: bytes) -> dict[str, Any]:
        self._contents[digest(content)] = (kind, content)
        return {"mediaType": kind, "size": len(content), "digest": digest(content)}


def _random(name: str, size: int) -> tuple[str, bytes]:
    """(digest, compressed) of a layer with one file."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = size
        tar.addfile(member, io.BytesIO(os.urandom(size)))
    return digest(layer.getvalue()), gzip.compress(layer.getvalue(), 1)


def _zeros(name: str, size: int) -> tuple[str, bytes]:
    """The same of a file of zeros, which are compressed once for all layers: gzip's parts may follow one another."""
    member = tarfile.TarInfo(name)
    member.size = size
    header = member.tobuf(tarfile.USTAR_FORMAT)
    blocks = -(-size // 512) + 2
    content = hashlib.sha256(header)
    for _ in range(blocks // 2048):
        content.update(bytes(1 << 20))
    content.update(bytes(blocks % 2048 * 512))
    return f"sha256:{content.hexdigest()}", gzip.compress(header) + _compressed_zeros(blocks * 512)


@cache
def _compressed_zeros(size: int) -> bytes:
    packing = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [packing.compress(bytes(min(1 << 20, size - at))) for at in range(0, size, 1 << 20)]
    return b"".join([*parts, packing.flush()])


class _Request(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        registry = self.server
        assert isinstance(registry, Registry)
        status, kind, content, cut = 200, "application/json", b"{}", False
        for what in ("manifests", "blobs"):
            before, found, reference = self.path.partition(f"/{what}/")
            if not found:
                continue
            registry.asked[what] += 1  # type: ignore[index]
            refused = registry.next_refusal(what)  # type: ignore[arg-type]
            name = reference if ":" in reference else f"{before.removeprefix('/v2/')}:{reference}"
            there = registry.content(name)
            if there is None:
                refused = refused or refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
            if refused is None or refused.cut:
                assert there is not None
                kind, content = there
                cut = refused is not None
            else:
                status, content = refused.status, refused.content
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 200:
            self.send_header("Docker-Content-Digest", digest(content))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
