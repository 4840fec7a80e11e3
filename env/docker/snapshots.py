"""Snapshots as images of the engine: whose they are, which of them others may start from, and how they go.

Reads and writes the engine.

    keep_snapshot(api, snapshot)       # `docker images` lists it as srft/scrubbed
    remove_snapshot(api, snapshot)
"""

import contextlib
from collections.abc import Mapping

import docker
import requests
from docker.errors import APIError

OWNER_LABEL = "srft.owner"

KEPT = "srft/scrubbed"
"""The repository of the snapshots that a pool keeps, whichever process it is in: these may be dropped for room."""


def is_snapshot(labels: Mapping[str, str] | None) -> bool:
    return OWNER_LABEL in (labels or {})


def keep_snapshot(api: docker.APIClient, snapshot: str) -> None:
    """Mark it as one that several sandboxes start from."""
    api.tag(snapshot, KEPT, tag=snapshot.removeprefix("sha256:")[:16])


def remove_snapshot(api: docker.APIClient, snapshot: str) -> None:
    """Remove it, and what it was taken from where that has no name any more. One that a container uses stays for
    `reap`."""
    with contextlib.suppress(APIError, requests.RequestException):
        api.remove_image(snapshot)
