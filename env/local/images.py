r"""Local images from Dockerfiles, without an engine.

Reads a task repo's Dockerfile and the files beside it (the build context: all but `ROW_FILES`), writes a local image
(`rootfs.py`).
The instructions run in a local sandbox with the host's network, on the host's own /usr in place of the base image: so
the host must have what the base image is expected to have (Python 3 with venv, git), and nothing can be put into /usr.

    ensure_local_image(task)      # once; later calls find it there, until the Dockerfile or its files change
    build_local_image("demo/x:latest", Path("tasks/x/Dockerfile"))

Understood: FROM (recorded, not used), ARG, ENV, COPY from the context, RUN, WORKDIR, USER root; LABEL, EXPOSE, CMD,
ENTRYPOINT, STOPSIGNAL and MAINTAINER change no file and are passed over, as the Docker sandbox does with them.

What comes before and with the last RUN is kept as an image of its own, srft/layer:<hash of all that went into it>, and
the next image that begins alike starts from there: the tasks of one project install its environment once. To have its
RUN done again, remove the folders of the image and of the layer below $SRFT_LOCAL_IMAGES; the log names them.

The conventions of image builds (`docker/build.py`) hold here too: the context gets a folder certs/ with the host's CA
bundle, where there is one, and then the build arguments PIP_CERT, SSL_CERT_FILE and REQUESTS_CA_BUNDLE name the place
it is copied to.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from loguru import logger

from srft.env.docker.build import CA_BUILD_ARGS, CA_IN_IMAGE, ROW_FILES
from srft.env.errors import ImageError
from srft.env.local.oci import fetch_image
from srft.env.local.rootfs import PATH, LocalImage, image_folder, load_image, locked_image
from srft.env.local.sandbox import LocalSandbox, new_image
from srft.env.sandbox.contract import Limits, SandboxSpec
from srft.env.tasks.task import Task

RUN_TIMEOUT_S = 3600.0
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
IGNORED = frozenset({"LABEL", "EXPOSE", "CMD", "ENTRYPOINT", "STOPSIGNAL", "MAINTAINER"})


def ensure_local_image(task: Task) -> None:
    """Have the task's image on this machine: found, built from the task's Dockerfile, or fetched. Raises ImageError.

    One that was built is built again when the Dockerfile or what it copies has changed. Many processes may ask at once:
    one builds, the others wait.
    """
    if task.dockerfile is None or not task.dockerfile.is_file():
        fetch_image(task.image)
    elif not _is_current(task.image, task.dockerfile):
        with locked_image(task.image):
            if not _is_current(task.image, task.dockerfile):
                build_local_image(task.image, task.dockerfile)


def _is_current(image: str, dockerfile: Path) -> bool:
    """Whether the image is there and made from these files. One that was made by hand is left alone."""
    if not (image_folder(image) / "rootfs").is_dir():
        return False
    there = load_image(image)
    return there.dockerfile is None or there.digest == _digest_of_build(dockerfile, _stamps(dockerfile.parent))


def _stamps(context: Path) -> tuple[tuple[str, int, int], ...]:
    """Size and time of every file in the context: cheaper to look at than what they hold."""
    found = [(path, path.lstat()) for path in sorted(context.rglob("*")) if not path.is_dir()]
    return tuple((str(path), status.st_size, status.st_mtime_ns) for path, status in found)


@lru_cache(maxsize=4096)
def _digest_of_build(dockerfile: Path, _stamps: tuple[tuple[str, int, int], ...]) -> str | None:
    return _planned(dockerfile, {}).settings().digest


def build_local_image(image: str, dockerfile: Path, *, build_args: Mapping[str, str] | None = None) -> None:
    """Build it, in place of an image of that name. Raises ImageError with the Dockerfile and the line."""
    logger.info("building the local image {} from {}", image, dockerfile)
    plan = _planned(dockerfile, build_args or {})
    start, last_run = new_image("srft/scratch"), plan.last_run()
    if 0 < last_run < len(plan.steps):
        shared = plan.steps[last_run - 1]
        layer = f"srft/layer:{shared.key}"
        with locked_image(layer) as is_there:
            if not is_there:
                plan.perform(start, plan.steps[:last_run], layer, shared.settings)
            else:
                logger.info("{} is built from the local image {}", image, layer)
        start = layer
    else:
        last_run = 0
    plan.perform(start, plan.steps[last_run:], image, plan.settings())


def _planned(dockerfile: Path, build_args: Mapping[str, str]) -> "_Plan":
    plan = _Plan(dockerfile, {**_proxies(), **build_args})
    for instruction in read_dockerfile(dockerfile):
        plan.add(instruction)
    return plan


def _host_ca_bundle() -> Path | None:
    candidates = [os.environ.get(name) for name in CA_BUILD_ARGS] + [CA_IN_IMAGE]
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def _proxies() -> dict[str, str]:
    return {name: os.environ[name] for name in PROXY_VARIABLES if os.environ.get(name)}


class Instruction(NamedTuple):
    line: int
    keyword: str
    text: str


def read_dockerfile(path: Path) -> list[Instruction]:
    """Its instructions, continuation lines joined and comments left out."""
    instructions = []
    begun: list[str] = []
    first = 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not begun):
            continue
        first = first if begun else number
        continued = re.fullmatch(r"(.*)\\[ \t]*", line)
        begun.append(continued[1] if continued else line)
        if not continued:
            instructions.append(_instruction(first, "".join(begun)))
            begun = []
    if begun:
        instructions.append(_instruction(first, "".join(begun)))
    return instructions


def _instruction(line: int, text: str) -> Instruction:
    keyword, _, rest = text.strip().partition(" ")
    return Instruction(line, keyword.upper(), rest.strip())


class File(NamedTuple):
    """A file to copy. digest: of its content."""

    target: str
    source: Path
    mode: int
    digest: str


class Step(NamedTuple):
    """One instruction as it is carried out. work: a script, or files.

    key: a hash of it, of all before it and of the host's system. settings: the image's, after it.
    """

    instruction: Instruction
    work: str | list[File]
    key: str
    settings: LocalImage

    def act(self, sandbox: LocalSandbox) -> None:
        """Raises ValueError where the script fails, OSError where the sandbox refuses a file."""
        if not isinstance(self.work, str):
            for file in self.work:
                sandbox.write(file.target, file.source.read_bytes(), mode=file.mode)
            return
        ran = sandbox.run(self.work, RUN_TIMEOUT_S)
        if ran.timed_out:
            raise ValueError(f"not finished after {RUN_TIMEOUT_S:.0f} s")
        if ran.exit_code != 0:
            raise ValueError(f"exit code {ran.exit_code}: {ran.output.strip()[-2000:]}")


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def _host_key() -> str:
    """The stand-in for the base image: the host's system."""
    release = Path("/etc/os-release")
    return _digest(release.read_text() if release.is_file() else "", os.path.realpath("/usr/bin/python3"))


class _Plan:
    """One build: the variables so far, and the steps that its instructions come to."""

    def __init__(self, dockerfile: Path, build_args: Mapping[str, str]) -> None:
        self.steps: list[Step] = []
        self._dockerfile = dockerfile
        self._bundle = _host_ca_bundle()
        certificates = dict.fromkeys(CA_BUILD_ARGS, CA_IN_IMAGE) if self._bundle is not None else {}
        self._build_args = {**certificates, **build_args}
        self._args: dict[str, str] = {}
        self._env: dict[str, str] = {"PATH": PATH}
        self._workdir = "/"
        self._base: str | None = None
        self._key = _host_key()

    def last_run(self) -> int:
        """How many steps there are up to the last RUN, and with it."""
        return max((place for place, step in enumerate(self.steps, 1) if step.instruction.keyword == "RUN"), default=0)

    def perform(self, start: str, steps: Sequence[Step], image: str, settings: LocalImage) -> None:
        """Do these steps in a sandbox of the image `start`, and save it with these settings. Raises ImageError."""
        spec = SandboxSpec(image=start, workdir="/", network="host", limits=Limits(None, None, None))
        with LocalSandbox(spec) as sandbox:
            for step in steps:
                with self._located(step.instruction):
                    step.act(sandbox)
            sandbox.save_image(image, settings)

    def add(self, instruction: Instruction) -> None:
        """Raises ImageError for what the local builder does not know or find."""
        keyword, text = instruction.keyword, instruction.text
        if keyword in IGNORED:
            return
        kinds: dict[str, Callable[[str], str | list[File] | None]] = {
            "FROM": self._from,
            "ARG": self._arg,
            "ENV": self._set_env,
            "COPY": self._copy,
            "RUN": self._run,
            "WORKDIR": self._enter,
            "USER": self._user,
        }
        with self._located(instruction):
            if keyword not in kinds:
                raise ValueError(f"the local builder does not know {keyword}")
            if self._base is None and keyword not in {"FROM", "ARG"}:
                raise ValueError("expected FROM first")
            if re.match("--[a-z]", text):
                raise ValueError(f"the local builder knows no options of {keyword} ({text.split()[0]})")
            work = kinds[keyword](text)
        if work is not None:
            content = work if isinstance(work, str) else [(file.target, file.mode, file.digest) for file in work]
            self._key = _digest(self._key, content)
            self.steps.append(Step(instruction, work, self._key, self.settings()))

    @contextlib.contextmanager
    def _located(self, instruction: Instruction) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError) as error:
            raise ImageError(
                f"{self._dockerfile}:{instruction.line}: {error}; the local sandbox builds on this machine's own /usr, "
                "and cannot install into it: change the Dockerfile, or take --sandbox docker"
            ) from error

    def settings(self) -> LocalImage:
        """The image's, after all that was added."""
        return LocalImage(
            env=dict(self._env),
            workdir=self._workdir,
            digest=_digest(self._key, sorted(self._env.items()), self._workdir),
            base=self._base,
            dockerfile=str(self._dockerfile),
        )

    def _variables(self) -> dict[str, str]:
        return {**self._args, **self._env}

    def _from(self, text: str) -> None:
        if self._base is not None:
            raise ValueError("a second FROM (multi-stage builds need an engine)")
        self._base = expand(text, self._args) or text  # a base image that the caller did not name
        self._args = {name: value for name, value in self._build_args.items() if name in PROXY_VARIABLES}

    def _arg(self, text: str) -> None:
        for word in _words(text):
            name, has_default, default = word.partition("=")
            if name in self._build_args:
                self._args[name] = self._build_args[name]
            elif has_default:
                self._args[name] = expand(default, self._variables())

    def _set_env(self, text: str) -> None:
        words = _words(text)
        variables = self._variables()
        if "=" not in words[0]:  # the old form: ENV NAME the rest of the line
            name, _, value = text.partition(" ")
            self._env[name] = expand(value.strip(), variables)
            return
        for word in words:
            name, is_pair, value = word.partition("=")
            if not is_pair:
                raise ValueError(f"expected NAME=VALUE, got {word!r}")
            self._env[name] = expand(value, variables)

    def _enter(self, text: str) -> str:
        self._workdir = os.path.normpath(os.path.join(self._workdir, expand(text, self._variables())))
        return f"mkdir -p -- {shlex.quote(self._workdir)}"

    def _user(self, text: str) -> None:
        if text.split(":")[0] not in {"root", "0"}:
            raise ValueError(f"USER {text}: the local sandbox has one user, root")

    def _run(self, text: str) -> str:
        if re.search(r"(?:^|\s)<<-?['\"]?[A-Za-z_]", text):
            raise ValueError("heredocs in RUN are not understood")
        command = shlex.join(json.loads(text)) if text.startswith("[") and text.endswith("]") else text
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self._variables().items())
        return f"{exports}cd -- {shlex.quote(self._workdir)} || exit\n{command}"

    def _copy(self, text: str) -> list[File]:
        words = json.loads(text) if text.startswith("[") else _words(text)
        *sources, target = (expand(word, self._variables()) for word in words)
        if not sources:
            raise ValueError("expected COPY SOURCE... TARGET")
        into_folder = target.endswith("/") or len(sources) > 1
        target = os.path.join(self._workdir, target)
        return [file for source in sources for file in self._copied(source, target, into_folder=into_folder)]

    def _copied(self, source: str, target: str, *, into_folder: bool) -> Iterator[File]:
        if source.strip("/").removeprefix("./").split("/")[0] == "certs" and not self._in_context("certs").exists():
            if self._bundle is not None:
                yield _file(self._bundle, os.path.join(target, Path(CA_IN_IMAGE).name))._replace(mode=0o644)
            return
        found = self._in_context(source)
        if not found.exists() or self._is_of_row(found):
            raise ValueError(f"COPY {source}: not in the build context {self._dockerfile.parent}")
        if found.is_file():
            yield _file(found, os.path.join(target, found.name) if into_folder else target)
            return
        for path in sorted(found.rglob("*")):
            if path.is_file() and not self._is_of_row(path):
                yield _file(path, os.path.join(target, path.relative_to(found)))

    def _in_context(self, source: str) -> Path:
        context = self._dockerfile.parent.resolve()
        found = (context / source.lstrip("/")).resolve()
        if not found.is_relative_to(context):
            raise ValueError(f"COPY {source}: leads out of the build context {context}")
        return found

    def _is_of_row(self, path: Path) -> bool:
        """Whether it is a file or folder of the task's row, a link to one, or lies in one: no image holds it."""
        context, real = self._dockerfile.parent.resolve(), path.resolve()
        return real.is_relative_to(context) and real.relative_to(context).parts[:1] in {(name,) for name in ROW_FILES}


def _file(path: Path, target: str) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(target, path, stat.S_IMODE(path.stat().st_mode), digest)


_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'[^']*')+""")


def _words(text: str) -> list[str]:
    """Split at white space outside quotes; the quotes stay."""
    return _WORD.findall(text)


_PIECE = re.compile(
    r"""'(?P<raw>[^']*)' | "(?P<quoted>(?:\\.|[^"\\])*)" | \\(?P<escaped>.)
      | \$\{(?P<braced>\w+)(?:(?P<operator>:[-+])(?P<other>[^}]*))?\} | \$(?P<plain>\w+) | (?P<text>.)""",
    re.VERBOSE | re.DOTALL,
)


def expand(word: str, variables: Mapping[str, str]) -> str:
    """A Dockerfile word with its quotes removed and its variables put in.

    >>> expand('/opt/bin:$PATH', {"PATH": "/bin"}), expand('"${X:-a b}"', {}), expand("'$X'", {"X": "1"})
    ('/opt/bin:/bin', 'a b', '$X')
    """
    return "".join(_expanded(word, variables))


def _expanded(word: str, variables: Mapping[str, str]) -> Iterator[str]:
    for piece in _PIECE.finditer(word):
        found = piece.groupdict()
        if found["raw"] is not None:
            yield found["raw"]
        elif found["quoted"] is not None:
            yield expand(found["quoted"].replace("'", "\\'"), variables)
        elif found["escaped"] is not None:
            yield found["escaped"]
        elif found["text"] is not None:
            yield found["text"]
        else:
            value = variables.get(found["braced"] or found["plain"], "")
            if found["operator"] == ":-":
                value = value or expand(found["other"], variables)
            elif found["operator"] == ":+":
                value = expand(found["other"], variables) if value else ""
            yield value
