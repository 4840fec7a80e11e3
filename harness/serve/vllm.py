"""vLLM as a managed process: started, watched, logged, given new weights, stopped.

    server = VllmServer(folder, name="round-001", config=ServeConfig(), sampling=OpenAIConfig(), log=Path("serve.log"))

It runs under `watchdog.py`, which ends it with this process whatever ends that. vLLM may live in an interpreter of its
own: it pins versions of torch and transformers. New weights: an adapter on the base that is served already is loaded at
run time; anything else is a restart, which takes half a minute, because the quicker ways are wrong in silence for some
models (`reload_weights` where embeddings are tied).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec
from loguru import logger

from srft.agent.models.contract import ContextOverflow
from srft.agent.models.openai import OpenAIConfig, OpenAIModel
from srft.agent.models.overflow import is_overflow
from srft.env.errors import InputError, ModelError
from srft.harness.serve import watchdog
from srft.harness.serve.server import ServeConfig, names_used_once, served_dtype
from srft.harness.serve.tool_calls import vllm_parser
from srft.harness.serve.weights import adapter_rank, tokenizer_of
from srft.train.fit.weights import base_of
from srft.train.rows.render import Renderer

PYTHON_VARIABLE = "SRFT_VLLM_PYTHON"
POLL_S = 0.5
REQUEST_S = 600.0
LOG_LINES = 15
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM makes room for."""


def find_vllm(config: ServeConfig) -> str | None:
    """The interpreter that has vLLM: the configuration's, the environment's, or this one. Raises InputError."""
    for named, where in ((config.vllm_python, "serve.vllm_python"), (os.environ.get(PYTHON_VARIABLE), PYTHON_VARIABLE)):
        if named:
            if not os.access(named, os.X_OK):
                raise InputError(f"{where} {named}: no interpreter there; expected the path of a python that has vllm")
            return named
    return sys.executable if find_spec("vllm") else None


class VllmServer:
    """A vLLM process that serves one model folder. Raises InputError, ModelError.

    stop: when set, it is no longer waited for while it starts (ModelError).
    """

    kind: Literal["vllm"] = "vllm"

    def __init__(
        self,
        weights: str | Path,
        *,
        name: str,
        config: ServeConfig,
        sampling: OpenAIConfig,
        log: Path,
        stop: threading.Event | None = None,
    ) -> None:
        python = find_vllm(config)
        assert python is not None, "choose_kind looked"
        self._python, self._config, self._sampling, self.log = python, config, sampling, log
        self.dtype = served_dtype(config)
        self._wanted_end = stop or threading.Event()
        self._port = config.port or free_port(config.host)
        self._process: subprocess.Popen[bytes] | None = None
        self._used: set[str] = set()
        self._name = name
        self._base: str | None = None
        self._rank = 0
        self._start(weights, name)

    @property
    def _root(self) -> str:
        return f"http://{self._config.host}:{self._port}"

    @property
    def url(self) -> str:
        return f"{self._root}/v1"

    @property
    def pid(self) -> int | None:
        """The watchdog's."""
        return self._process.pid if self._process else None

    @property
    def model(self) -> OpenAIModel:
        return self._model

    def model_for(self, sampling: OpenAIConfig) -> OpenAIModel:
        return OpenAIModel(_endpoint(sampling, url=self.url, name=self._name, tokenizer=self._tokenizer))

    def logprobs(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        request = {"model": self._name, "prompt": list(token_ids), "max_tokens": 1, "temperature": 0}
        answer = self._post("/v1/completions", request | {"prompt_logprobs": 0})
        try:
            rows = answer["choices"][0]["prompt_logprobs"][1:]
            return tuple(float(row[str(token)]["logprob"]) for row, token in zip(rows, token_ids[1:], strict=True))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ModelError(f"{self.url}: expected prompt_logprobs of {len(token_ids)} tokens ({error!r})") from error

    def load(self, weights: str | Path, *, name: str) -> None:
        if name in self._used:
            names_used_once(self._used, name)
        base, rank = base_of(weights), adapter_rank(weights) or 0
        if self._base is None or base != self._base or rank > self._rank:
            self._stop()
            self._start(weights, name)
            return
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(Path(weights).resolve())})
        before, self._name, self._tokenizer = self._name, name, tokenizer_of(weights)
        names_used_once(self._used, name)
        self._open_model()
        self._post("/v1/unload_lora_adapter", {"lora_name": before})
        self._post("/reset_prefix_cache", None)

    def how_it_ended(self) -> str | None:
        """A sentence where the process has ended by itself; `None` while it runs."""
        code = self._process.poll() if self._process else None
        return None if code is None else f"vLLM ended with {code}; {self._last_lines(0)}"

    def close(self) -> None:
        self._stop()

    def _start(self, weights: str | Path, name: str) -> None:
        names_used_once(self._used, name)
        self._name, self._base, self._tokenizer = name, base_of(weights), tokenizer_of(weights)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begun = self.log.stat().st_size if self.log.exists() else 0
        self._process = subprocess.Popen(
            [sys.executable, "-I", watchdog.__file__, "--log", str(self.log), "--", *self._command(weights)],
            stdin=subprocess.PIPE,
            env=self._environment(weights),
        )
        try:
            self._wait_until_healthy(begun)
            self._open_model()
        except BaseException:  # Ctrl-C too: no server stays behind
            self._stop()
            raise

    def _command(self, weights: str | Path) -> list[str]:
        config, served = self._config, weights if self._base is None else self._base
        command = [self._python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(served)]
        command += ["--host", config.host, "--port", str(self._port), "--dtype", self.dtype]
        if config.batch is not None:
            command += ["--max-num-seqs", str(config.batch)]
        if (parser := config.tool_call_parser or _tool_call_parser(weights)) is not None:
            command += ["--enable-auto-tool-choice", "--tool-call-parser", parser]
        if self._base is None:
            command += ["--served-model-name", self._name]
        else:
            wanted = adapter_rank(weights) or 0
            self._rank = next((rank for rank in RANKS if rank >= wanted), wanted)
            command += ["--enable-lora", "--max-lora-rank", str(self._rank), "--max-loras", "1"]
            command += ["--served-model-name", f"{self._name}-base"]
            command += ["--lora-modules", f"{self._name}={Path(weights).resolve()}"]
            if Path(weights, "tokenizer.json").is_file():  # its template is the one that was trained on
                command += ["--tokenizer", str(weights)]
        if config.max_model_len is not None:
            command += ["--max-model-len", str(config.max_model_len)]
        if not _has_gpu():
            command.append("--enforce-eager")
        return [*command, *config.vllm_args]

    def _environment(self, weights: str | Path) -> dict[str, str]:
        environment = {
            **os.environ,
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_SERVER_DEV_MODE": "1",  # offers /reset_prefix_cache
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        }
        if Path(self._base or weights).is_dir():
            environment["HF_HUB_OFFLINE"] = "1"
        if not _has_gpu():
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(self._config.cache_gib or 1)))
        return environment

    def _open_model(self) -> None:
        self._model = self.model_for(self._sampling)

    def _wait_until_healthy(self, log_begins: int) -> None:
        assert self._process is not None
        until_s = time.monotonic() + self._config.start_timeout_s
        while time.monotonic() < until_s:
            if self._wanted_end.is_set():
                raise ModelError("stopped before vLLM answered")
            if (code := self._process.poll()) is not None:
                raise ModelError(f"vLLM ended with {code} before it answered; {self._last_lines(log_begins)}")
            if self._is_healthy():
                return
            time.sleep(POLL_S)
        raise ModelError(
            f"vLLM does not answer at {self._root} after {self._config.start_timeout_s:g} s; raise "
            f"serve.start_timeout_s, or fix what its log says; {self._last_lines(log_begins)}"
        )

    def _last_lines(self, begins: int) -> str:
        with self.log.open("rb") as file:
            file.seek(begins)
            lines = deque(file, maxlen=LOG_LINES)
        return f"the last lines of {self.log}:\n" + b"".join(lines).decode(errors="replace").rstrip()

    def _is_healthy(self) -> bool:
        try:
            with _ask(f"{self._root}/health", timeout_s=5.0):
                return True
        except (OSError, HTTPException):  # a refused connection and an HTTP error are both OSErrors
            return False

    def _post(self, path: str, content: dict[str, Any] | None) -> Any:
        """The decoded answer, `None` where it is empty or text. Raises ModelError, ContextOverflow."""
        try:
            with _ask(self._root + path, content=msgspec.json.encode(content), timeout_s=REQUEST_S) as answer:
                body, kind = answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if is_overflow(said, status=error.code):
                raise ContextOverflow(f"{self._root}{path}: {said[:300]}") from None
            raise ModelError(f"{self._root}{path}: expected 200, got {error.code}: {said[:600]}") from None
        except (OSError, HTTPException) as error:
            raise ModelError(f"{self._root}{path}: no answer ({error}); look at {self.log}") from error
        return msgspec.json.decode(body) if body and kind == "application/json" else None

    def _stop(self) -> None:
        """End the process and wait until it is gone. Idempotent."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()  # the watchdog sees it, and ends the server
        try:
            self._process.wait(3 * watchdog.GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _endpoint(sampling: OpenAIConfig, *, url: str, name: str, tokenizer: str | Path) -> OpenAIConfig:
    """tokenizer: of the served weights, whose vocabulary is noted beside sampled ids."""
    known = str(tokenizer) if Path(tokenizer, "tokenizer.json").is_file() else None
    return msgspec.structs.replace(
        sampling, base_url=url, name=name, api_key_env="", tokenizer=sampling.tokenizer or known
    )


def _tool_call_parser(weights: str | Path) -> str | None:
    """vLLM's parser for this model's tool calls; `None` where none is known, and `format: native` is refused."""
    try:
        return vllm_parser(Renderer.load(tokenizer_of(weights)).template)
    except InputError as error:  # no chat template, say: the server may still be asked for completions
        logger.debug("{}: no tool calls ({})", weights, error)
        return None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy from the environment cannot reach a server on this machine."""


def _ask(url: str, *, content: bytes | None = None, timeout_s: float) -> Any:
    request = urllib.request.Request(url, data=content, headers={"Content-Type": "application/json"})
    return _OPENER.open(request, timeout=timeout_s)


def free_port(host: str) -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
