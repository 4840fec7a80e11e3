"""The code that bugs are put into: families of our own, packages of an index, git directories.

    source = package_source("more-itertools==10.5.0")
    source.dockerfile(copies=["testbed/", "git/"])      # the text of a Dockerfile

Every Dockerfile begins with the same lines for every task of a source, so that an engine runs them once, and ends with
the copies of what is the task's own.
"""

import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from srft.env.errors import InputError
from srft.env.practice.families import family_files
from srft.env.practice.git_store import File, is_plain_path

PYTEST = "pytest==8.3.4"

EXCLUDED = ("*.egg-info/", "__pycache__/", ".pytest_cache/", "build/")
"""What git in a task leaves out: it comes from installing and running, not from the source."""

_HEAD = """\
# {title}: the project in /testbed, its Python environment in /opt/testbed.
ARG BASE_IMAGE=srft/base:bookworm
FROM ${{BASE_IMAGE}}
COPY certs/ /etc/ssl/certs/
ARG PIP_CERT
ARG REQUESTS_CA_BUNDLE
ARG SSL_CERT_FILE
ARG PIP_NO_CACHE_DIR=1
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/testbed && /opt/testbed/bin/pip install -q {requirements}
ENV PATH=/opt/testbed/bin:$PATH
ENV LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
WORKDIR /testbed
"""

_DOWNLOAD = """\
RUN mkdir /opt/sdist && pip download -q --no-deps --no-binary {name} -d /opt/sdist {name}=={version} \\
 && tar --no-same-owner --strip-components=1 -xzf /opt/sdist/*.tar.gz -C /testbed && rm -r /opt/sdist
"""

# A package that takes its version from git finds none here.
_INSTALL = """\
RUN SETUPTOOLS_SCM_PRETEND_VERSION={version} pip install -q -e . && find . -name __pycache__ -prune -exec rm -r {{}} +
"""

NOT_SOURCE = frozenset({"setup.py", "conftest.py", "noxfile.py", "tasks.py", "__main__.py", "_version.py"})
NOT_SOURCE_FOLDERS = frozenset({"test", "tests", "testing", "doc", "docs", "examples", "benchmarks", "bench", "tools"})


class Source(NamedTuple):
    """One project.

    setup: lines of the Dockerfile that put it into /testbed. context: the files that they copy, below source/. whole: a
    family's files, which every task carries; `None` where they are in the image and a task carries what it changes.
    """

    name: str
    version: str
    setup: str = ""
    context: Mapping[str, File] = {}
    whole: Mapping[str, File] | None = None
    requirements: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def fingerprint(self) -> str:
        """A hash of all that it is made of."""
        files = [
            (path, file.content.hex(), file.mode)
            for part in (self.context, self.whole or {})
            for path, file in sorted(part.items())
        ]
        return hashlib.sha256(repr((self.dockerfile(copies=()), files)).encode()).hexdigest()[:16]

    def dockerfile(self, *, copies: Iterable[tuple[str, str]]) -> str:
        """copies: (folder in the context, folder in the image), both with a slash at the end."""
        head = _HEAD.format(title=self.title, requirements=" ".join((PYTEST, *self.requirements)))
        return head + self.setup + "".join(f"COPY {source} {target}\n" for source, target in copies)


def family_source(name: str) -> Source:
    """One of our own families. Raises InputError."""
    files = family_files(name)
    digest = hashlib.sha256(repr([(path, file.content) for path, file in files.items()]).encode()).hexdigest()[:8]
    return Source(name=name, version=digest, whole=files)


def package_source(package: str, *, requirements: tuple[str, ...] = ()) -> Source:
    """`NAME==VERSION` of a package index, or a git directory, whose HEAD is taken. Raises InputError.

    requirements: what the package's tests need besides pytest, as pip understands it.
    """
    if pinned := re.fullmatch(r"([A-Za-z0-9][\w.-]*)==([\w.!+-]+)", package):
        name, version = pinned[1], pinned[2]
        setup = _DOWNLOAD.format(name=name, version=version) + _INSTALL.format(version=version)
        return Source(name=_plain(name), version=version, setup=setup, requirements=requirements)
    if not Path(package).is_dir():
        raise InputError(
            f"--from-package {package}: expected NAME==VERSION of a package index, say more-itertools==10.5.0, or the "
            "path of a git directory"
        )
    return _git_source(Path(package).resolve(), requirements)


def packages_id(packages: tuple[str, ...], *, base: Path, record: Any) -> list[str]:
    """A package of an index by name and version, a git directory by its name and the files of its HEAD."""
    return [_package_id(package, Path(package)) for package in packages]


def _package_id(package: str, folder: Path) -> str:
    if not folder.is_dir():
        return package
    return f"{package_name(package)} {_git_source(folder.resolve(), ()).fingerprint}"


def package_name(package: str) -> str:
    """What a package is called wherever it lies: a git directory by its folder's name."""
    return _plain(Path(package).resolve().name) if Path(package).is_dir() else package


def _plain(name: str) -> str:
    """A name as image names take it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _git_source(folder: Path, requirements: tuple[str, ...]) -> Source:
    command = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        archive = subprocess.run([*command, "archive", "HEAD"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(
            f"--from-package {folder}: git cannot read a commit there ({error}); commit it first"
        ) from None
    setup = "COPY source/ /testbed/\n" + _INSTALL.format(version="0.0.0")
    return Source(
        name=_plain(folder.name),
        version=commit.strip()[:12],
        setup=setup,
        context=read_tar(archive),
        requirements=requirements,
    )


def read_tar(archive: bytes) -> dict[str, File]:
    """{path: file} of the files and symlinks in a tar."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = str(PurePosixPath(member.name))
            if member.issym():
                files[path] = File(member.linkname.encode(), is_link=True)
            elif member.isfile():
                content = tar.extractfile(member)
                assert content is not None, "a regular member has content"
                files[path] = File(content.read(), mode=member.mode)
    return files


def is_test(path: str) -> bool:
    """Whether pytest collects a file by its name."""
    name = PurePosixPath(path).name
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py") or name == "tests.py")


def is_source(path: str) -> bool:
    """Whether bugs are put into a file: Python that is no test, no tool and no documentation."""
    parts = PurePosixPath(path).parts
    aside = parts[-1] in NOT_SOURCE or not NOT_SOURCE_FOLDERS.isdisjoint(parts[:-1])
    return path.endswith(".py") and not is_test(path) and not aside and is_plain_path(path)
