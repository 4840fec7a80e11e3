r"""Local images from Dockerfiles, without an engine.

Reads a task repo's Dockerfile and the files beside it (the build context: all but `ANSWER_FILES`), writes a local image
(`local_rootfs.py`).
The instructions run in a local sandbox with the host's network, on the host's own /usr in place of the base image: so
the host must have what the base image is expected to have (Python 3 with venv, git), and nothing can be put into /usr.

    ensure_local_image(task)      # once; later calls find it there
    build_local_image("demo/x:latest", Path("tasks/x/Dockerfile"))

Understood: FROM (recorded, not used), ARG, ENV, COPY from the context, RUN, WORKDIR, USER root; LABEL, EXPOSE, CMD,
ENTRYPOINT, STOPSIGNAL and MAINTAINER change no file and are passed over, as the Docker sandbox does with them.

The conventions of image builds (`build_context.py`) hold here too: the context gets a folder certs/ with the host's CA
bundle, where there is one, and then the build arguments PIP_CERT, SSL_CERT_FILE and REQUESTS_CA_BUNDLE name the place
it is copied to.
"""

import fcntl
import json
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from loguru import logger

from srft.env.build_context import ANSWER_FILES, CA_BUILD_ARGS, CA_IN_IMAGE
from srft.env.errors import ImageError
from srft.env.local import LocalSandbox, new_image
from srft.env.local_rootfs import PATH, LocalImage, image_folder
from srft.env.sandbox import Limits, SandboxSpec
from srft.env.task import Task

RUN_TIMEOUT_S = 3600.0
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
IGNORED = frozenset({"LABEL", "EXPOSE", "CMD", "ENTRYPOINT", "STOPSIGNAL", "MAINTAINER"})


def ensure_local_image(task: Task) -> None:
    """Have the task's image on this machine: found, or built from the task's Dockerfile. Raises ImageError.

    Many processes may ask at once: one builds, the others wait.
    """
    folder = image_folder(task.image)
    if (folder / "rootfs").is_dir():
        return
    if task.dockerfile is None or not task.dockerfile.is_file():
        raise ImageError(
            f"task {task.instance_id}: image {task.image} is no local image, and the task has no Dockerfile to build "
            "it from (only task repos carry one); take --sandbox docker, which pulls it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "rootfs").is_dir():
            build_local_image(task.image, task.dockerfile)


def build_local_image(image: str, dockerfile: Path, *, build_args: Mapping[str, str] | None = None) -> None:
    """Build it, in place of an image of that name. Raises ImageError with the Dockerfile and the line."""
    logger.info("building the local image {} from {}", image, dockerfile)
    args = {**_proxies(), **(build_args or {})}
    bundle = _host_ca_bundle()
    if bundle is not None:
        args = {**dict.fromkeys(CA_BUILD_ARGS, CA_IN_IMAGE), **args}
    scratch = SandboxSpec(image=new_image("srft/scratch"), workdir="/", network="host", limits=Limits(None, None, None))
    with LocalSandbox(scratch) as sandbox:
        build = _Build(sandbox, dockerfile, args, bundle)
        for instruction in read_dockerfile(dockerfile):
            build.perform(instruction)
        sandbox.save_image(image, build.settings())


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


class _Build:
    """One build: the variables so far, and the sandbox in which the files come to be."""

    def __init__(
        self, sandbox: LocalSandbox, dockerfile: Path, build_args: Mapping[str, str], bundle: Path | None
    ) -> None:
        self._sandbox = sandbox
        self._dockerfile = dockerfile
        self._build_args = dict(build_args)
        self._bundle = bundle
        self._args: dict[str, str] = {}
        self._env: dict[str, str] = {"PATH": PATH}
        self._workdir = "/"
        self._base: str | None = None

    def settings(self) -> LocalImage:
        return LocalImage(env=self._env, workdir=self._workdir, base=self._base, dockerfile=str(self._dockerfile))

    def perform(self, instruction: Instruction) -> None:
        keyword, text = instruction.keyword, instruction.text
        if keyword in IGNORED:
            return
        steps = {
            "FROM": self._from,
            "ARG": self._arg,
            "ENV": self._set_env,
            "COPY": self._copy,
            "RUN": self._run,
            "WORKDIR": self._enter,
            "USER": self._user,
        }
        if keyword not in steps:
            raise self._error(instruction, f"the local builder does not know {keyword}")
        if self._base is None and keyword not in {"FROM", "ARG"}:
            raise self._error(instruction, "expected FROM first")
        if re.match("--[a-z]", text):
            raise self._error(instruction, f"the local builder knows no options of {keyword} ({text.split()[0]})")
        try:
            steps[keyword](text)
        except (ValueError, OSError) as error:
            raise self._error(instruction, str(error)) from error

    def _error(self, instruction: Instruction, problem: str) -> ImageError:
        return ImageError(
            f"{self._dockerfile}:{instruction.line}: {problem}; the local sandbox builds on this machine's own /usr, "
            "and cannot install into it: change the Dockerfile, or take --sandbox docker"
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

    def _enter(self, text: str) -> None:
        self._workdir = os.path.normpath(os.path.join(self._workdir, expand(text, self._variables())))
        self._bash(f"mkdir -p -- {shlex.quote(self._workdir)}", directory="/")

    def _user(self, text: str) -> None:
        if text.split(":")[0] not in {"root", "0"}:
            raise ValueError(f"USER {text}: the local sandbox has one user, root")

    def _run(self, text: str) -> None:
        if re.search(r"(?:^|\s)<<-?['\"]?[A-Za-z_]", text):
            raise ValueError("heredocs in RUN are not understood")
        command = shlex.join(json.loads(text)) if text.startswith("[") and text.endswith("]") else text
        self._bash(command, directory=self._workdir)

    def _bash(self, command: str, *, directory: str) -> None:
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self._variables().items())
        ran = self._sandbox.run(f"{exports}cd -- {shlex.quote(directory)} || exit\n{command}", RUN_TIMEOUT_S)
        if ran.timed_out:
            raise ValueError(f"not finished after {RUN_TIMEOUT_S:.0f} s")
        if ran.exit_code != 0:
            raise ValueError(f"exit code {ran.exit_code}: {ran.output.strip()[-2000:]}")

    def _copy(self, text: str) -> None:
        words = json.loads(text) if text.startswith("[") else _words(text)
        *sources, target = (expand(word, self._variables()) for word in words)
        if not sources:
            raise ValueError("expected COPY SOURCE... TARGET")
        into_folder = target.endswith("/") or len(sources) > 1
        target = os.path.join(self._workdir, target)
        for source in sources:
            self._copy_one(source, target, into_folder=into_folder)

    def _copy_one(self, source: str, target: str, *, into_folder: bool) -> None:
        if source.strip("/").removeprefix("./").split("/")[0] == "certs" and not self._in_context("certs").exists():
            if self._bundle is not None:
                self._sandbox.write(os.path.join(target, Path(CA_IN_IMAGE).name), self._bundle.read_bytes())
            return
        found = self._in_context(source)
        if not found.exists() or self._is_answer(found):
            raise ValueError(f"COPY {source}: not in the build context {self._dockerfile.parent}")
        if found.is_file():
            self._write(found, os.path.join(target, found.name) if into_folder else target)
            return
        for path in sorted(found.rglob("*")):
            if path.is_file() and not self._is_answer(path):
                self._write(path, os.path.join(target, path.relative_to(found)))

    def _in_context(self, source: str) -> Path:
        context = self._dockerfile.parent.resolve()
        found = (context / source.lstrip("/")).resolve()
        if not found.is_relative_to(context):
            raise ValueError(f"COPY {source}: leads out of the build context {context}")
        return found

    def _is_answer(self, path: Path) -> bool:
        """Whether it is a file that no image may hold, or a link to one."""
        real = path.resolve()
        return real.parent == self._dockerfile.parent.resolve() and real.name in ANSWER_FILES

    def _write(self, path: Path, target: str) -> None:
        self._sandbox.write(target, path.read_bytes(), mode=stat.S_IMODE(path.stat().st_mode))


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
