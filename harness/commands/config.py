"""`srft config`: every setting of a command, with its default and its meaning."""

import os
import textwrap
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
import typer
import yaml

from srft.agent.models.endpoint import without_password
from srft.env.errors import InputError
from srft.harness.commands.options import JsonOption, print_json
from srft.harness.config.explain import REQUIRED

WIDTH = 110
ENVIRONMENT = {
    "OPENAI_BASE_URL": "where a model openai:NAME is asked, unless openai.base_url says so",
    "OPENAI_API_KEY": "the key that an endpoint is sent, unless openai.api_key_env names another variable",
    "HF_TOKEN": "the key for the Hub's private and gated models and datasets, and for srft push",
    "HF_HOME": "where models and datasets of the Hub are kept",
    "HF_ENDPOINT": "another Hub",
    "HF_HUB_OFFLINE": "1: take what is kept of the Hub, ask nobody",
    "DOCKER_HOST": "the container engine, or Podman's socket",
    "SRFT_LOG": "how much is logged: TRACE, DEBUG, INFO (unless given), WARNING or ERROR; -q and -v win",
    "SRFT_VLLM_PYTHON": "the Python of an environment with vLLM",
}
SECRET = ("OPENAI_API_KEY", "HF_TOKEN")

RESUMED = {"decides": "", "may change": "; may change on resume", "adds": "; may grow on resume"}

Command = Annotated[
    str | None, typer.Argument(metavar="COMMAND", help="collect, loop, train and the like; all of them unless given.")
]


def config(command: Command = None, json: JsonOption = False) -> None:
    """Print every setting of a command as YAML: its default, and in a comment what it means. It is what `--config FILE`
    reads, and the names, with dots, are those of `--set`.

    Without COMMAND, the commands and the environment variables that count; keys are never printed.

    Example: `srft config collect > collect.yaml`
    """
    from srft.harness.config.explain import settings

    known = records()
    if command is not None and command not in known:
        raise InputError(f"srft config {command}: no such command with settings; choose from {', '.join(known)}")
    if json:
        asked = known if command is None else {command: known[command]}
        print_json({name: [one._asdict() for one in settings(kind)] for name, kind in asked.items()})
    elif command is None:
        for name, kind in known.items():
            print(f"srft config {name:<11}  {len(list(settings(kind)))} settings")
        print("\n" + "\n".join(environment()))
    else:
        print(as_yaml(settings(known[command])))


def environment() -> Iterator[str]:
    """A line for each environment variable that counts: whether it is set, and what it is for."""
    width = max(map(len, ENVIRONMENT))
    for name, meaning in ENVIRONMENT.items():
        value = os.environ.get(name)
        state = "not set" if not value else "set" if name in SECRET else without_password(value)
        yield f"{name:<{width}}  {state:<7}  {meaning}"


def as_yaml(listed: Iterable[Any]) -> str:
    """Settings as a file that `--config` reads. What is required, and what belongs to a group that is off unless it is
    given, is in comments."""
    lines: list[str] = []
    off: list[str] = []
    for one in listed:
        *above, key = one.name.split(".")
        indent = "  " * len(above)
        is_off = any(one.name.startswith(f"{group}.") for group in off)
        is_group = one.is_group and one.default is not None
        if one.is_group and one.default is None:
            off.append(one.name)
        value = "" if is_group else f" {_value(one.default)}"
        lines += textwrap.wrap(
            f"{one.meaning} ({one.type}{RESUMED[one.kind]})",
            WIDTH - len(indent),
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
        )
        lines.append(f"{'# ' if is_off or one.default == REQUIRED else ''}{indent}{key}:{value}")
    return "\n".join(lines)


def _value(default: Any) -> str:
    return str(yaml.safe_dump(default, default_flow_style=True, width=10**6)).removesuffix("\n").removesuffix("\n...")


def records() -> dict[str, type[msgspec.Struct]]:
    """Command -> the record that its `--set` and `--config` read."""
    from srft.env.practice import PracticeConfig
    from srft.harness.config.config import CollectConfig
    from srft.harness.doctor.diagnosis import DoctorConfig
    from srft.harness.loop.loop_config import LoopConfig
    from srft.harness.serve.server import ServeCommandConfig
    from srft.harness.stages.critic_rows import CriticRowsConfig
    from srft.harness.stages.critique import CritiqueConfig
    from srft.harness.stages.export import ExportConfig
    from srft.harness.stages.rows import RowsConfig
    from srft.train.fit.recipe import Recipe

    return {
        "collect": CollectConfig,
        "critique": CritiqueConfig,
        "doctor": DoctorConfig,
        "export": ExportConfig,
        "loop": LoopConfig,
        "practice": PracticeConfig,
        "rows": RowsConfig,
        "critic-rows": CriticRowsConfig,
        "serve": ServeCommandConfig,
        "train": Recipe,
    }
