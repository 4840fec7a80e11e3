"""What an image is built from: the task's folder without the answers, and this machine's CA bundle.

Reads the Dockerfile's folder, SSL_CERT_FILE and PIP_CERT; writes the folder that a build gets as its context.

    make_context(Path("/tmp/context"), task.dockerfile)     # {"PIP_CERT": "/etc/ssl/certs/ca-certificates.crt", ...}

A build gets

- the files of the Dockerfile's folder, less what an agent must not see (`ANSWER_FILES`): the answer, the tests and
  their assets, the hints;
- a folder certs/, for `COPY certs/ /etc/ssl/certs/`. Where SSL_CERT_FILE or PIP_CERT is set on this machine,
  certs/ca-certificates.crt is that bundle, and the build arguments PIP_CERT, SSL_CERT_FILE and REQUESTS_CA_BUNDLE name
  it as it then lies in the image. Behind a proxy that inspects TLS, pip needs them.
"""

import os
import shutil
from pathlib import Path

from loguru import logger

ANSWER_FILES = frozenset({"gold.patch", "test.patch", "tests.json", "eval.sh", "hints.md", "test_assets"})
"""Files and folders of a task's folder in a task repo (`swebench.task.repo` names them). `COPY .` would put them where
the agent can read them."""

CA_IN_IMAGE = "/etc/ssl/certs/ca-certificates.crt"
CA_BUILD_ARGS = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def make_context(context: Path, dockerfile: Path) -> dict[str, str]:
    """Copy the Dockerfile's folder without the answers, add certs/. Returns the build arguments for the bundle."""

    def answers(folder: str, _names: list[str]) -> frozenset[str]:
        return ANSWER_FILES if Path(folder) == dockerfile.parent else frozenset()

    shutil.copytree(dockerfile.parent, context, symlinks=True, ignore=answers)
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
