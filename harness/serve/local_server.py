"""The in-process engine as a Server: what `start_server` gives where there is no vLLM.

server = LocalServer(folder, name="round-001", config=ServeConfig(kind="transformers"), sampling=OpenAIConfig())
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from srft.agent.models.openai import OpenAIConfig
from srft.harness.serve.engine import BATCH, Engine
from srft.harness.serve.local_model import LocalModel
from srft.harness.serve.server import ServeConfig, names_used_once


class LocalServer:
    """The engine, and the model over it."""

    kind: Literal["transformers"] = "transformers"
    url = None

    def __init__(self, weights: str | Path, *, name: str, config: ServeConfig, sampling: OpenAIConfig) -> None:
        self.engine = Engine(
            weights,
            dtype=config.dtype,
            batch=config.batch or BATCH,
            max_model_len=config.max_model_len,
            cache_gib=config.cache_gib,
        )
        self.dtype = str(self.engine.dtype).removeprefix("torch.")
        self.model = LocalModel(self.engine, sampling, name=name)
        self._sampling = sampling
        self._used = {name}

    def model_for(self, sampling: OpenAIConfig) -> LocalModel:
        return LocalModel(self.engine, sampling, name=self.model.name)

    def logprobs(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        return self.engine.logprobs(token_ids)

    def load(self, weights: str | Path, *, name: str) -> None:
        names_used_once(self._used, name)
        self.engine.load(weights)
        self.model = LocalModel(self.engine, self._sampling, name=name)

    def close(self) -> None:
        self.engine.close()
