"""The layers of an image, and what each takes.

Reads the engine.

    layers_of(client.api, "srft/base:bookworm")     # {'sha256:4f2...': 291757241}
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import docker

# Steps that make no layer, as the classic builder and as BuildKit write them down.
_NO_LAYER = re.compile(
    r"(?:.*#\(nop\)\s+)?(?:ENV|CMD|LABEL|EXPOSE|ENTRYPOINT|USER|MAINTAINER|ARG|VOLUME|STOPSIGNAL|HEALTHCHECK|SHELL|ONBUILD)\b"
)
_MAY_BE_ONE = re.compile(r"(?:.*#\(nop\)\s+)?WORKDIR\b")


def layers_of(api: docker.APIClient, image: str) -> dict[str, int]:
    """{chain of layers, as a hash: bytes of the last}. Raises ImageNotFound."""
    said = api.inspect_image(image)
    chains = _chains(said)
    sizes = layer_sizes(list(reversed(api.history(said["Id"]))), len(chains))
    if sizes is None:  # the engine's history and layers do not match: count the image for itself
        return {str(said["Id"]): int(said["Size"])}
    return dict(zip(chains, sizes, strict=True))


def chains_of(api: docker.APIClient, image: str) -> tuple[str, ...]:
    """The keys of `layers_of`, for less. Raises ImageNotFound."""
    return _chains(api.inspect_image(image))


def _chains(said: Mapping[str, Any]) -> tuple[str, ...]:
    chain, chains = hashlib.sha256(), []
    for digest in (said.get("RootFS") or {}).get("Layers") or ():
        chain.update(digest.encode())
        chains.append(chain.hexdigest())
    return tuple(chains)


def layer_sizes(history: Sequence[Mapping[str, Any]], layers: int) -> list[int] | None:
    """The bytes of each layer, from the history of an image's steps, the oldest first; not every step has a layer.

    A step that took space has one. Of the others those have that run something, then those that change the folder, then
    settings, as many as there are layers left. `None` where more steps took space than there are layers.

    >>> step = lambda size, by: {"Size": size, "CreatedBy": by}
    >>> layer_sizes([step(9, "ADD x"), step(0, "ENV A=1"), step(0, "RUN mkdir y"), step(3, "COPY z")], 3)
    [9, 0, 3]
    """
    rank = [0 if step["Size"] else _rank(str(step.get("CreatedBy") or "")) for step in history]
    chosen = sorted(range(len(history)), key=lambda place: (rank[place], place))[:layers]
    if len(chosen) < layers or rank.count(0) > layers:
        return None
    return [int(history[place]["Size"]) for place in sorted(chosen)]


def _rank(created_by: str) -> int:
    return 3 if _NO_LAYER.match(created_by) else 2 if _MAY_BE_ONE.match(created_by) else 1
