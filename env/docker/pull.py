"""Pulling an image: the engine's stream read to its end, passing failures tried again, others said in their own words.

Reads and writes the engine.

    pull(client.api, "swebench/sweb.eval.x86_64.x:latest", platform=None, before_each=bucket.take)

An engine answers a pull with a stream of progress, and tells in it, not by the status, what fails once the download has
begun: a layer that is refused, a connection that ends, a full disk.
"""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

import docker
from docker.errors import APIError
from docker.utils import parse_repository_tag
from loguru import logger

from srft.env.errors import ImageError

ATTEMPTS = 4
BACKOFF_S = 5.0
"""Before the second attempt; before each further one three times as long."""


class Failure(NamedTuple):
    """A kind of failure. passes: it may be gone after a while. remedy: what the user can do."""

    name: str
    signs: str
    passes: bool
    remedy: str


FAILURES = (
    Failure(
        "the registry's rate limit",
        r"toomanyrequests|too many requests|rate limit|\b429\b",
        True,
        "wait, log in (docker login raises the limit), set images.pulls_per_minute, or pull through a mirror",
    ),
    Failure(
        "no space left on the engine's disk",
        r"no space left|disk quota exceeded|not enough (?:disk )?space",
        False,
        "make room there (docker system df, srft clean), or set images.disk_budget_gib",
    ),
    Failure(
        "not for this machine's platform",
        r"no matching manifest|does not match the specified platform|no image found in (?:image index|manifest list)",
        False,
        "set images.platform, say linux/amd64, which an engine runs with emulation, or take an image made for it",
    ),
    Failure(
        "the registry's certificate is not trusted",
        r"x509|certificate",
        False,
        "give the engine the registry's or the proxy's CA certificate",
    ),
    Failure(
        "the registry cannot be reached",
        r"connection refused|no such host|network is unreachable|no route to host|proxyconnect",
        False,
        "check its name and the way to its registry (network, proxy), or load or build it under that name",
    ),
    Failure(
        "no access",
        r"denied|unauthorized|authentication required|no basic auth|forbidden|\b40[13]\b",
        False,
        "check its name, and log in to its registry with docker login",
    ),
    Failure(
        "not in its registry",
        r"manifest unknown|not found|unknown blob|name unknown|does not exist|no such image|\b404\b",
        False,
        "check its name and tag, or load or build it under that name",
    ),
    Failure(
        "the registry or the way to it fails",
        r"time(?:d )?[ -]?out|deadline exceeded|reset by peer|connection reset|broken pipe|\beof\b|\b5\d\d\b|"
        r"server misbehaving|temporary failure|unavailable|bad gateway|closed network connection|tls handshake",
        True,
        "try again later, or load or build it under that name",
    ),
)
UNKNOWN = Failure("", "", False, "check its name and the way to its registry, or load or build it under that name")


def failure_of(reason: str) -> Failure:
    """Which kind of failure an engine's words tell of.

    >>> failure_of("download failed after attempts=1: toomanyrequests: slow down").name
    "the registry's rate limit"
    """
    return next((one for one in FAILURES if re.search(one.signs, reason, re.IGNORECASE)), UNKNOWN)


def pull(api: docker.APIClient, image: str, *, platform: str | None, before_each: Callable[[], object]) -> None:
    """Have the image on the engine. before_each: called before every attempt. Raises ImageError, and docker's own
    where the engine does not answer."""
    for attempt in range(1, ATTEMPTS + 1):
        before_each()
        reason = _attempt(api, image, platform)
        if reason is None:
            return
        failure = failure_of(reason)
        if not failure.passes or attempt == ATTEMPTS:
            tried = f" {attempt} times" if attempt > 1 else ""
            kind = f"{failure.name}: " if failure.name else ""
            raise ImageError(
                f"image {image}: not on this engine, and pulling it{tried} failed ({kind}{reason}); {failure.remedy}"
            )
        logger.warning("image {}: pull {} of {} failed ({})", image, attempt, ATTEMPTS, reason)
        time.sleep(BACKOFF_S * 3 ** (attempt - 1))


def _attempt(api: docker.APIClient, image: str, platform: str | None) -> str | None:
    """Why the pull failed; `None` when it has not. The image is whole only where the stream ends without an error."""
    repository, tag = parse_repository_tag(image)
    reason = None
    try:
        for line in api.pull(repository, tag=tag or "latest", stream=True, decode=True, platform=platform):
            if "error" in line or "errorDetail" in line:
                reason = str(line.get("error") or line["errorDetail"].get("message") or line["errorDetail"])
    except APIError as error:
        reason = str(error.explanation or error)
    return None if reason is None else " ".join(reason.split())
