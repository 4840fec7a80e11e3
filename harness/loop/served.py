"""The models that a loop asks, one at a time: served, proven to be the right ones, shut down.

servers = ServedModels(ServeConfig(), logs=run.path / "logs")
served = servers.serve("round-001/model/srft", name="round-001.srft", base="models/base", sampling=OpenAIConfig())
served.model.reply(messages), served.figures["probe"]
servers.close()
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

from srft.agent.models.contract import Model
from srft.agent.models.openai import OpenAIConfig
from srft.harness.serve.probe import probe
from srft.harness.serve.server import ServeConfig, Server, start_server


class Served(NamedTuple):
    """A model that answers, what was found out about it, and how long that took."""

    model: Model
    figures: dict[str, Any]
    wall_s: float


class ServedModels:
    """At most one server at a time; further weights go into it, as long as they are to be sampled alike."""

    def __init__(self, config: ServeConfig, *, logs: Path) -> None:
        self._config, self._logs = config, logs
        self._server: Server | None = None
        self._sampling: OpenAIConfig | None = None

    def serve(self, weights: str, *, name: str, base: str, sampling: OpenAIConfig) -> Served:
        """Serve these weights. Raises StaleWeights where other ones answer, and the server's own errors.

        base: what the weights were trained from: a server that answers with those still is found out.
        """
        began = time.monotonic()
        folder = Path(weights)
        if self._server is not None and self._sampling == sampling:
            self._server.load(folder, name=name)
        else:
            self.close()
            self._logs.mkdir(parents=True, exist_ok=True)
            log = self._logs / f"serve-{name}.log"
            self._server = start_server(folder, name=name, config=self._config, sampling=sampling, log=log)
            self._sampling = sampling
        found = probe(self._server, folder, base=base if base != weights else None)
        figures = {"kind": self._server.kind, "dtype": self._server.dtype, "name": name, "probe": found._asdict()}
        return Served(self._server.model, figures, time.monotonic() - began)

    def close(self) -> None:
        """Free what a server holds. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
