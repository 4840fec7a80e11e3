"""The backend that a configuration asks for: the sandboxes' kind, and how images are had.

Reads the configuration, writes nothing.

    with closing(open_backend(config.sandbox.kind, config.images)) as backend: ...
"""

from srft.env.backends import Backend, choose_backend
from srft.harness.config.config import ImagesConfig


def open_backend(kind: str, images: ImagesConfig) -> Backend:
    """Raises EngineError."""
    budget = images.disk_budget_gib
    return choose_backend(
        kind,
        disk_budget_bytes=None if budget is None else int(budget * (1 << 30)),
        pulls_per_minute=images.pulls_per_minute,
        platform=images.platform,
    )
