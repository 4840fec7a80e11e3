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
    """

    daemon_threads = True

    def __init__(self, *, images: int = 1, layer_bytes: int = 5, architectures: tuple[str, ...] = ("amd64",)) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.asked = {"manifests": 0, "blobs": 0}
        self._refusals: dict[Asked, list[Refusal]] = {"manifests": [], "blobs": []}
        self._contents: dict[str, tuple[str, bytes]] = {}
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
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            member = tarfile.TarInfo(f"{name}-{secrets.token_hex(4)}")
            member.size = layer_bytes
            tar.addfile(member, io.BytesIO(os.urandom(layer_bytes)))
        described = {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer.getvalue())]},
            "history": [{"created_by": "srft"}],
        }
        config = self._kept(f"{KIND}container.image.v1+json", json.dumps(described).encode())
        packed = self._kept(f"{KIND}image.rootfs.diff.tar.gzip", gzip.compress(layer.getvalue(), 1))
        kind = f"{KIND}distribution.manifest.v2+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [packed]}
        return self._kept(kind, json.dumps(manifest).encode())

    def _kept(self, kind: str, content: bytes) -> dict[str, Any]:
        self._contents[digest(content)] = (kind, content)
        return {"mediaType": kind, "size": len(content), "digest": digest(content)}


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
