"""A served model: vLLM where it can run, else transformers in this process, behind one interface.

server = start_server(folder, name="round-001", config=ServeConfig(), log=Path("serve.log"))
server.model                                    # a Model: episodes ask it; token ids and logprobs are kept
server.load(next_folder, name="round-002")      # new weights: by restart, or as an adapter under a fresh name
probe(server, next_folder)                      # that they are what is served
server.close()
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
from loguru import logger

from srft.agent.models.contract import Model
from srft.agent.models.openai import OpenAIConfig
from srft.env.errors import InputError
from srft.env.identity import MAY_CHANGE

Kind = Literal["auto", "vllm", "transformers"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
MORE_THAN_0 = msgspec.Meta(gt=0)


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is served."""

    kind: Kind = "auto"
    """What serves: "auto" takes vLLM where an interpreter has it, else transformers."""
    dtype: Dtype = "auto"
    """The type of the weights: "auto" is bfloat16 where the machine computes in it, else float32."""
    max_model_len: Annotated[int, MORE_THAN_0] | None = None
    """The most tokens of a conversation; `null`: the model's own limit."""
    batch: Annotated[Annotated[int, MORE_THAN_0] | None, MAY_CHANGE] = None
    """Requests at a time; `null`: in a loop as many as its workers, else vLLM's own number, or 16 in this process."""
    cache_gib: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    """Memory for keys and values; `null`: a share of what is free (vLLM on a GPU decides itself)."""
    host: Annotated[str, MAY_CHANGE] = "127.0.0.1"
    """The address that the HTTP server listens on."""
    port: Annotated[Annotated[int, msgspec.Meta(ge=1, le=65535)] | None, MAY_CHANGE] = None
    """The port of the HTTP server; `null`: a free one."""
    vllm_python: Annotated[str | None, MAY_CHANGE] = None
    """The interpreter that imports vllm; `null`: the one that SRFT_VLLM_PYTHON names, else this one."""
    vllm_args: Annotated[tuple[str, ...], MAY_CHANGE] = ()
    """Further arguments of vLLM's server, say ["--tensor-parallel-size", "8"]."""
    tool_call_parser: str | None = None
    """vLLM's name for how the model writes tool calls; `null`: the one that fits its chat template."""
    start_timeout_s: Annotated[float, MORE_THAN_0, MAY_CHANGE] = 600.0
    """Seconds until the server must answer."""


class ServeCommandConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `srft serve` reads: the group of keys that a loop's configuration has too."""

    serve: ServeConfig = ServeConfig()


class Server(Protocol):
    """Something that serves one model folder.

    model: for episodes; it is another one after `load`. url: of the OpenAI-compatible API, `None` in this process.
    dtype: what it computes in, as ServeConfig names it.
    """

    @property
    def kind(self) -> Literal["vllm", "transformers"]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def model(self) -> Model: ...

    @property
    def url(self) -> str | None: ...

    def model_for(self, sampling: OpenAIConfig) -> Model:
        """The same model, sampled with other settings."""
        ...

    def logprobs(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Of token_ids[1:], each given those before, under what is served. Raises ModelError, ContextOverflow."""
        ...

    def load(self, weights: str | Path, *, name: str) -> None:
        """Serve other weights, under a name that was not used before; prefix caches are forgotten.

        Raises InputError, ModelError.
        """
        ...

    def close(self) -> None:
        """End it. Idempotent."""
        ...


def start_server(
    weights: str | Path,
    *,
    name: str,
    config: ServeConfig | None = None,
    sampling: OpenAIConfig | None = None,
    log: Path,
) -> Server:
    """Serve a model folder, or a name on the hub; it answers when this returns. Raises InputError, ModelError.

    sampling: an endpoint's settings, of which those of sampling count. log: the file that a server process writes to.
    """
    from srft.harness.serve.weights import check_folder

    config, sampling = config or ServeConfig(), sampling or OpenAIConfig()
    check_folder(weights)
    if choose_kind(config) == "vllm":
        from srft.harness.serve.vllm import VllmServer

        return VllmServer(weights, name=name, config=config, sampling=sampling, log=log)
    from srft.harness.serve.local_server import LocalServer

    return LocalServer(weights, name=name, config=config, sampling=sampling)


def check_native(weights: str | Path, config: ServeConfig) -> None:
    """Raises InputError where a model served so cannot be asked with `format: native`: its tool calls are not read."""
    from srft.harness.serve.tool_calls import NO_CALLS, ToolCalls, vllm_parser
    from srft.harness.serve.weights import tokenizer_of
    from srft.train.rows.render import Renderer

    kind = choose_kind(config)
    if kind == "vllm" and config.tool_call_parser is not None:
        return
    template = Renderer.load(tokenizer_of(weights)).template
    if kind == "transformers" and ToolCalls.of(template) is None:
        raise InputError(f"format native: {weights}: {NO_CALLS}")
    if kind == "vllm" and vllm_parser(template) is None:
        raise InputError(
            f"format native: {weights}: its chat template writes no tool calls, or none for which a parser of vLLM is "
            "known. Name the parser in serve.tool_call_parser, or take format backtick, xml or json."
        )


def choose_kind(config: ServeConfig) -> Literal["vllm", "transformers"]:
    """What "auto" is here, said in the log. Raises InputError for a vLLM that is asked for and not there."""
    from srft.harness.serve.vllm import find_vllm

    if config.kind == "transformers":
        return "transformers"
    python = find_vllm(config)
    if config.kind == "vllm":
        if python is None:
            raise InputError(
                "serve.kind vllm: no interpreter that imports vllm; install it in an environment of its own and "
                "name its python in serve.vllm_python or SRFT_VLLM_PYTHON, or take kind transformers"
            )
        return "vllm"
    logger.info("serving with {}", f"vLLM of {python}" if python else "transformers in this process: no vLLM here")
    return "vllm" if python else "transformers"


def served_dtype(config: ServeConfig) -> str:
    """What "auto" is on this machine."""
    import torch

    from srft.harness.serve.forward import choose_dtype

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return str(choose_dtype(config.dtype, device)).removeprefix("torch.")


def names_used_once(used: set[str], name: str) -> None:
    """Note a name. Raises InputError for one that was used before: its prefix-cache blocks may be served."""
    if name in used:
        raise InputError(f"served name {name!r}: used before by this server; give each round's weights a fresh one")
    used.add(name)
