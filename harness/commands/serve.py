"""`srft serve`: a model folder as an OpenAI-compatible server."""

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srft.harness.commands.options import JsonOption, SetOption, print_json, required, stopping

if TYPE_CHECKING:
    from srft.harness.serve.server import ServeConfig

POLL_S = 1.0


def serve(
    model: Annotated[str | None, typer.Option("--model", metavar="DIR", help="Weights, or a LoRA adapter.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What requests call it; the folder's name.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="A free one unless given.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="auto, vllm or transformers.")] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="A YAML file: `serve:` and keys.")
    ] = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Serve a model until Ctrl-C or SIGTERM: vLLM where it can run, else transformers in this process.

    Example: `srft serve --model runs/demo/round-001/model/srft --port 8000 --set serve.dtype=float32`
    """
    from srft.harness.config.config import read_config
    from srft.harness.serve.server import ServeCommandConfig, choose_kind
    from srft.harness.serve.weights import check_folder

    folder = required(model, "--model")
    settings = read_config(
        ServeCommandConfig, file=config, sets=sets or (), **{"serve.port": port, "serve.kind": kind}
    ).serve
    check_folder(folder)
    served_name = name or Path(folder).resolve().name
    chosen = choose_kind(settings)
    with stopping() as stop:
        run = _run_vllm if chosen == "vllm" else _run_transformers
        run(folder, served_name, settings, lambda url: _announce(url, served_name, chosen, json=json), stop)


def _run_vllm(folder: str, name: str, config: "ServeConfig", ready: Any, stop: threading.Event) -> None:
    from srft.agent.models.openai import OpenAIConfig
    from srft.env.errors import ModelError
    from srft.harness.serve.vllm import VllmServer

    log = Path(f"serve-{os.getpid()}.log")
    print(f"srft: vLLM's log is {log}", file=sys.stderr)
    server = VllmServer(folder, name=name, config=config, sampling=OpenAIConfig(), log=log, stop=stop)
    try:
        ready(server.url)
        while not stop.wait(POLL_S):
            if (ended := server.how_it_ended()) is not None:
                raise ModelError(ended)
    finally:
        server.close()


def _run_transformers(folder: str, name: str, config: "ServeConfig", ready: Any, stop: threading.Event) -> None:
    from srft.agent.models.openai import OpenAIConfig
    from srft.harness.serve.http import make_app, serve_http
    from srft.harness.serve.local_server import LocalServer

    server = LocalServer(folder, name=name, config=config, sampling=OpenAIConfig())
    try:
        app = make_app(server.engine, name=name)
        serve_http(app, host=config.host, port=config.port, ready=ready, stop=stop)
    finally:
        server.close()


def _announce(url: str, name: str, kind: str, *, json: bool) -> None:
    if json:
        print_json({"url": url, "model": name, "kind": kind, "pid": os.getpid()})
    else:
        print(f"{name} is served by {kind} at {url}; Ctrl-C ends it. Ask it with")
        print(f"  srft collect --tasks tasks.jsonl --model {url}#{name} --run runs/first")
    sys.stdout.flush()
