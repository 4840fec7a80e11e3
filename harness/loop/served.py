"""The models that a loop asks, one at a time: served, proven to be the right ones, shut down.

servers = ServedModels(ServeConfig(), logs=run.path / "logs", workers=64)
served = servers.serve("round-001/model/srft", name="round-001.srft", base="models/base", sampling=OpenAIConfig())
served.model.reply(messages), served.figures["probe"]
servers.close()

What a probe expects is computed once for equal weights, before their server starts, and kept beside the server's logs:

    logs/probe-<weights id>-<tokens>.json
"""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from srft.agent.models.contract import Model
from srft.agent.models.openai import OpenAIConfig
from srft.harness.run.store import write_atomic
from srft.harness.serve.memory import give_back
from srft.harness.serve.probe import Expected, expected_logprobs, probe, probe_tokens
from srft.harness.serve.server import ServeConfig, Server, start_server
from srft.train.fit.weights import weights_id


class Served(NamedTuple):
    """A model that answers, what was found out about it, and how long that took."""

    model: Model
    figures: dict[str, Any]
    wall_s: float


class ServedModels:
    """At most one server at a time; further weights go into it, as long as they are to be sampled alike.

    workers: how many episodes ask at a time, which a server is to take together unless `serve.batch` says otherwise.
    """

    def __init__(self, config: ServeConfig, *, logs: Path, workers: int) -> None:
        self._config = msgspec.structs.replace(config, batch=config.batch or workers)
        self._logs = logs
        self._server: Server | None = None
        self._sampling: OpenAIConfig | None = None

    def serve(self, weights: str, *, name: str, base: str, sampling: OpenAIConfig) -> Served:
        """Serve these weights. Raises StaleWeights where other ones answer, OutOfMemory, and the server's own errors.

        base: what the weights were trained from: a server that answers with those still is found out.
        """
        began = time.monotonic()
        expected = self._expected(weights, probe_tokens(weights))
        of_base = self._expected(base, expected.token_ids) if base != weights else None
        give_back()  # the direct forward's memory, before a server measures what is free
        if self._server is not None and self._sampling == sampling:
            self._server.load(weights, name=name)
        else:
            self.close()
            log = self._logs / f"serve-{name}.log"
            self._server = start_server(weights, name=name, config=self._config, sampling=sampling, log=log)
            self._sampling = sampling
        found = probe(self._server, expected, base=of_base)
        figures = {"kind": self._server.kind, "dtype": self._server.dtype, "name": name, "probe": found._asdict()}
        return Served(self._server.model, figures, time.monotonic() - began)

    def _expected(self, weights: str, token_ids: Sequence[int]) -> Expected:
        """What the weights give, computed unless it was before: here, or by an earlier command."""
        tokens = hashlib.sha256(msgspec.json.encode(list(token_ids))).hexdigest()[:8]
        path = self._logs / f"probe-{weights_id(weights)}-{tokens}.json"
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Expected)
        except (OSError, msgspec.DecodeError):
            kept = expected_logprobs(weights, token_ids)
            self._logs.mkdir(parents=True, exist_ok=True)
            write_atomic(path, msgspec.json.encode(kept))
        return msgspec.structs.replace(kept, weights=str(weights))

    def close(self) -> None:
        """Free what a server holds. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        give_back()
