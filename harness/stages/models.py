"""The model that a configuration names.

open_model("http://localhost:8000/v1#my-model", settings=OpenAIConfig(max_tokens=2048))
open_model("openai:gpt-4.1")                            # at OPENAI_BASE_URL, with the key in OPENAI_API_KEY
open_model("replay:recorded.jsonl.gz"), open_model("script:replies.yaml"), open_model("local:models/base")
open_model("demonstrator", tasks=tasks, demonstrator=DemonstratorConfig(style="short"), format="backtick")
model = configured_model(config, tasks)                 # the one of a CollectConfig
close_model(model)
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from srft.agent.demonstrator.demonstrator import Demonstrator, DemonstratorConfig, FormatName
from srft.agent.models.contract import Model
from srft.agent.models.endpoint import read_endpoint
from srft.agent.models.openai import OpenAIConfig, OpenAIModel
from srft.agent.models.scripted import ReplayModel, ScriptedModel
from srft.env.errors import InputError
from srft.env.tasks.task import Task
from srft.harness.config.config import CollectConfig


def open_model(
    name: str,
    *,
    settings: OpenAIConfig | None = None,
    tasks: Iterable[Task] | None = None,
    demonstrator: DemonstratorConfig | None = None,
    format: FormatName = "backtick",
    where: str = "--model",
) -> Model:
    """The model, an endpoint not asked yet. Raises InputError.

    where: what named it. settings: an endpoint's. format: the action format that replies are to have. tasks,
    demonstrator: what `demonstrator` needs: the tasks with their reference fixes, and its settings.
    """
    if name == "demonstrator":
        if tasks is None:
            raise InputError("--model demonstrator needs the tasks and their reference fixes; none were given")
        return Demonstrator(tasks, demonstrator, format=format)
    kind, _, file = name.partition(":")
    if kind == "local" and file:
        return _served_here(Path(file), settings or OpenAIConfig(), native=format == "native")
    if kind == "replay":
        return ReplayModel.load(file)
    if kind == "script":
        return ScriptedModel.load(file)
    endpoint = read_endpoint(name)
    if endpoint is None:
        raise InputError(f"{where} {name}: not a model. Give {_KINDS}.{_meant(name)}")
    settings = settings or OpenAIConfig()
    served_name, url = endpoint.name or settings.name, endpoint.url or settings.base_url
    if not served_name:
        raise InputError(f"{where} {name}: it does not say which model; give {name}#NAME")
    return OpenAIModel(msgspec.structs.replace(settings, base_url=url, name=served_name))


_KINDS = "http://HOST/v1#NAME, openai:NAME, local:DIR, demonstrator, replay:FILE or script:FILE"


def _meant(name: str) -> str:
    """A hint for what is likely to have been meant."""
    if Path(name).is_dir():
        return f" For a model folder: local:{name}."
    if Path(name).suffix in {".jsonl", ".gz"}:
        return f" For recorded runs: replay:{name}."
    return f" For a model at OPENAI_BASE_URL: openai:{name}." if name and ":" not in name else ""


def configured_model(config: CollectConfig, tasks: Iterable[Task]) -> Model:
    """The model that a collection names; `close_model` ends it. Raises InputError."""
    if config.ray.address is not None and config.model.startswith("local:"):
        raise InputError(
            f"model {config.model}: ray.address is set, and a model in this process cannot be asked from other "
            "machines. Serve it (srft serve) where the nodes reach it, and give its URL, or leave ray.address out."
        )
    return open_model(
        config.model, settings=config.openai, tasks=tasks, demonstrator=config.demonstrator, format=config.format
    )


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


def close_model(model: Model) -> None:
    """End what runs in this process for a model: the engine of `local:DIR`. The others hold nothing."""
    if isinstance(model, _Closable):
        model.close()


def _served_here(folder: Path, settings: OpenAIConfig, *, native: bool) -> Model:
    """A model folder, served by the engine in this process until the model is closed."""
    from srft.harness.serve.local_server import LocalServer
    from srft.harness.serve.server import ServeConfig, check_native
    from srft.harness.serve.weights import check_folder

    check_folder(folder)
    if native:
        check_native(folder, ServeConfig(kind="transformers"))
    return LocalServer(folder, name=folder.name, config=ServeConfig(), sampling=settings).model


def check_model(model: Model) -> None:
    """Ask an endpoint whether it is there, takes the key and knows the model. Raises ModelError."""
    if isinstance(model, OpenAIModel):
        model.check()
