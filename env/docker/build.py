"""Building a task's image: what goes into the build, the build itself, and how to tell that it is still the same.

Reads the Dockerfile's folder, SSL_CERT_FILE and PIP_CERT; writes the context's copy and the engine's image.

    build_id(task.dockerfile)                                # 'd04a7c...': other after an edit of any file that goes in
    build(client.api, image, task.dockerfile, platform=None)

A build gets

- the files of the Dockerfile's folder, less those of the task's row (`ROW_FILES`: the issue, the answer, the tests and
  their assets, the hints) and what its .dockerignore names;
- a folder certs/, for `COPY certs/ /etc/ssl/certs/`. Where SSL_CERT_FILE or PIP_CERT is set on this machine,
  certs/ca-certificates.crt is that bundle, and the build arguments PIP_CERT, SSL_CERT_FILE and REQUESTS_CA_BUNDLE name
  it as it then lies in the image. Behind a proxy that inspects TLS, pip needs them;
- the build argument BASE_IMAGE (`$SRFT_BASE_IMAGE`, else srft/base:bookworm), for `ARG BASE_IMAGE` and
  `FROM ${BASE_IMAGE}`.

A Dockerfile that needs BuildKit (`RUN --mount`, heredocs, `COPY --chmod`) is built with it where the engine has it; all
others by the classic builder, whose layers go when the image goes.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import docker
from docker.errors import APIError, ImageNotFound
from docker.utils import build as docker_build
from loguru import logger

from srft.env.errors import ImageError

DEFAULT_BASE_IMAGE = "srft/base:bookworm"

ROW_FILES = frozenset(
    (
        *("gold.patch", "test.patch", "tests.json", "eval.sh", "hints.md", "test_assets"),
        *("task.yaml", "problem_statement.md"),
    )
)
"""What of a task's folder in a task repo is the task's row (`swebench.task.repo` names it). `COPY .` would put the
answer where the agent can read it, and another wording of the issue would ask for another image."""

CA_IN_IMAGE = "/etc/ssl/certs/ca-certificates.crt"
CA_BUILD_ARGS = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")

BUILT_LABEL = "srft.image"
ID_LABEL = "srft.build"
"""What a built image was made of: the build's id and the base image's."""

SILENCE_S = 3600
"""How long a build step may print nothing; pip is quiet for long."""

_TRACE = "moby.buildkit.trace"
_GAP = r"(?:[ \t]|\\\n)+"
_NEEDS_BUILDKIT = re.compile(
    rf"^[ \t]*(?:RUN|COPY|ADD)(?:{_GAP}--\S+)*?{_GAP}"
    r"(?:--(?:mount|network|security|link|chmod|parents|exclude|checksum|keep-git-dir)\b"
    r"|(?:[^\n]*\\\n)*(?:[^\n]*[ \t])?<<-?[\"']?[A-Za-z_])",
    re.IGNORECASE | re.MULTILINE,
)
"""Options that only BuildKit knows, which come first, and heredocs."""


def base_image() -> str:
    """The image that `FROM ${BASE_IMAGE}` names."""
    return os.environ.get("SRFT_BASE_IMAGE") or DEFAULT_BASE_IMAGE


def build_id(dockerfile: Path) -> str:
    """A hash of the files that the build gets, their names and modes, and of the base image's name."""
    digest = hashlib.sha256(base_image().encode())
    for path in _context_files(dockerfile.parent):
        found = dockerfile.parent / path
        mode = found.lstat().st_mode
        content = b""
        if stat.S_ISLNK(mode):
            content = os.fsencode(os.readlink(found))
        elif stat.S_ISREG(mode):
            content = found.read_bytes()
        executable = bool(mode & 0o111) and not stat.S_ISLNK(mode)
        digest.update(repr((path, stat.S_IFMT(mode), executable, hashlib.sha256(content).digest())).encode())
    return digest.hexdigest()[:16]


def _context_files(folder: Path) -> list[str]:
    """What of the Dockerfile's folder goes into the build, relative, in a fixed order."""
    ignored = folder / ".dockerignore"
    patterns = ignored.read_text().splitlines() if ignored.is_file() else []
    patterns = [line.strip() for line in patterns if line.strip() and not line.strip().startswith("#")]
    return sorted(
        path
        for path in docker_build.exclude_paths(str(folder), patterns, dockerfile="Dockerfile")
        if Path(path).parts[:1] and Path(path).parts[0] not in ROW_FILES
    )


def make_context(context: Path, dockerfile: Path) -> dict[str, str]:
    """Copy what the build gets to an empty folder, add certs/. Returns the build arguments for the bundle."""
    context.mkdir(parents=True, exist_ok=True)
    for path in _context_files(dockerfile.parent):
        source, target = dockerfile.parent / path, context / path
        if source.is_dir() and not source.is_symlink():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copystat(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    certs = context / "certs"
    certs.mkdir(exist_ok=True)
    (certs / ".keep").touch()  # COPY refuses a folder without files
    bundle = _ca_bundle()
    if bundle is None:
        return {}
    shutil.copyfile(bundle, certs / "ca-certificates.crt")
    return dict.fromkeys(CA_BUILD_ARGS, CA_IN_IMAGE)


def _ca_bundle() -> str | None:
    named = {variable: os.environ[variable] for variable in ("SSL_CERT_FILE", "PIP_CERT") if os.environ.get(variable)}
    for variable, path in named.items():
        if os.path.isfile(path):
            return path
        logger.warning("{}={}: no such file; the build goes without it", variable, path)
    return None


def made_of(api: docker.APIClient, dockerfile: Path) -> str:
    """What an image built from it now would bear as ID_LABEL."""
    try:
        base_id = api.inspect_image(base_image())["Id"]
    except ImageNotFound:
        base_id = "not here"
    return hashlib.sha256(f"{build_id(dockerfile)} {base_id}".encode()).hexdigest()[:16]


def needs_buildkit(dockerfile_text: str) -> bool:
    r"""Whether the classic builder would refuse it.

    >>> needs_buildkit("RUN --mount=type=cache,target=/c pip install x"), needs_buildkit("RUN cat <<END\nx\nEND")
    (True, True)
    >>> needs_buildkit("RUN echo 1 << 2 && git log --mount"), needs_buildkit("COPY --from=a --chown=b c d")
    (False, False)
    """
    return _NEEDS_BUILDKIT.search(dockerfile_text) is not None


def build(
    api: docker.APIClient, image: str, dockerfile: Path, *, platform: str | None, keep_cache: bool = True
) -> None:
    """Build the image, labelled with what it was made of. Raises ImageError, and docker's own where the engine does not
    answer. keep_cache: what BuildKit has kept of this build, for the next."""
    with_buildkit = needs_buildkit(dockerfile.read_text(errors="replace")) and not _is_podman(api)
    before = set() if keep_cache or not with_buildkit else _cache_ids(api)
    log: list[str] = []
    try:
        for line in _answers(api, image, dockerfile, platform=platform, with_buildkit=with_buildkit):
            log += _said(line)
            if "error" in line or "errorDetail" in line:
                reason = str(line.get("error") or line["errorDetail"].get("message") or line["errorDetail"])
                raise _failed(image, dockerfile, reason, log)
    except APIError as error:
        raise _failed(image, dockerfile, str(error.explanation or error), log) from error
    finally:
        if with_buildkit and not keep_cache:
            _prune(api, _cache_ids(api) - before)


def _answers(
    api: docker.APIClient, image: str, dockerfile: Path, *, platform: str | None, with_buildkit: bool
) -> Iterator[dict[str, Any]]:
    """What the engine says of the build, line by line."""
    with tempfile.TemporaryDirectory(prefix="srft-build-") as folder:
        context = Path(folder, "context")
        arguments = {"BASE_IMAGE": base_image()} | make_context(context, dockerfile)
        labels = {BUILT_LABEL: "built", ID_LABEL: made_of(api, dockerfile)}
        asked: dict[str, Any] = {
            "t": image,
            "dockerfile": dockerfile.name,
            "buildargs": json.dumps(arguments),
            "labels": json.dumps(labels),
            "rm": True,
            "forcerm": True,
            "version": "2" if with_buildkit else "1",
        }
        if platform:
            asked["platform"] = platform
        headers = {"Content-Type": "application/x-tar"}
        api._set_auth_headers(headers)  # type: ignore[attr-defined]
        # docker-py's own `build` cannot ask for BuildKit.
        with tempfile.TemporaryFile() as archive:
            _pack(context, archive, first=dockerfile.name)
            url = api._url("/build")  # type: ignore[attr-defined]
            answer = api._post(url, data=archive, params=asked, headers=headers, stream=True, timeout=SILENCE_S)  # type: ignore[attr-defined]
            api._raise_for_status(answer)  # type: ignore[attr-defined]
            yield from api._stream_helper(answer, decode=True)  # type: ignore[attr-defined]


def _pack(context: Path, archive: IO[bytes], *, first: str) -> None:
    """The context as a tar archive. BuildKit looks at its first 512 bytes to tell what it is: a plain header."""

    def as_roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    names = sorted(str(path.relative_to(context)) for path in context.rglob("*"))
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(names, key=lambda name: name != first):
            tar.add(context / name, arcname=name, recursive=False, filter=as_roots)
    archive.seek(0)


def _is_podman(api: docker.APIClient) -> bool:
    """Podman has one builder, which takes everything."""
    return any("podman" in str(one.get("Name", "")).lower() for one in api.version().get("Components") or ())


def _said(line: dict[str, Any]) -> list[str]:
    """The text of one line of the answer; BuildKit's is in a protobuf message."""
    if line.get("id") == _TRACE and isinstance(line.get("aux"), str):
        records = _fields(base64.b64decode(line["aux"]))
        return [
            text.decode(errors="replace") for kind, log in records if kind == 3 for at, text in _fields(log) if at == 4
        ]
    return [str(line["stream"])] if "stream" in line else []


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of a protobuf message's fields that have a length: texts, bytes and messages."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        tag = varint()
        if tag & 7 == 2:
            size = varint()
            yield tag >> 3, message[place : place + size]
            place += size
        elif tag & 7 == 0:
            varint()
        else:
            place += {1: 8, 5: 4}.get(tag & 7, len(message))


def _failed(image: str, dockerfile: Path, reason: str, log: list[str]) -> ImageError:
    logger.debug("image {}: the build's log:\n{}", image, "".join(log))
    remedy = "fix the Dockerfile, or its base image or CA bundle (see srft.env.docker.build)"
    if re.search("no space left|disk quota exceeded", reason):
        remedy = "make room on the engine's disk (docker system df, srft clean), or set images.disk_budget_gib"
    return ImageError(
        f"image {image}: building it from {dockerfile} failed ({reason.strip()}{_last_line(log)}); {remedy}"
    )


def _last_line(log: list[str]) -> str:
    """What the failing step said last; the builder's own lines stand between."""
    lines = [line.strip() for line in "".join(log).splitlines()]
    own = ("--->", "Step ", "Removing intermediate container")
    said = [line for line in lines if line and not line.startswith(own)]
    return f"; its last line was: {said[-1]}" if said else ""


def _cache_ids(api: docker.APIClient) -> set[str]:
    return {str(one["ID"]) for one in api.df().get("BuildCache") or ()}


def _prune(api: docker.APIClient, ids: set[str]) -> None:
    """Remove these entries of BuildKit's cache: an image that goes would leave its layers there.

    One that another is made of goes after that.
    """
    left, before = ids, -1
    while left and len(left) != before:
        before = len(left)
        for one in sorted(left):
            asked = {"all": True, "filters": json.dumps({"id": [one]})}
            api._result(api._post(api._url("/build/prune"), params=asked), True)  # type: ignore[attr-defined]
        left = _cache_ids(api) & ids
