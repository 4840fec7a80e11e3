"""`srft config`: every setting of a command, with its default and its meaning."""

import textwrap
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import typer
import yaml

from srft.env.errors import InputError
from srft.harness.commands.options import JsonOption, print_json
from srft.harness.config.explain import REQUIRED

WIDTH = 110
RESUMED = {"decides": "", "may change": "; may change on resume", "adds": "; may grow on resume"}

Command = Annotated[
    str | None, typer.Argument(metavar="COMMAND", help="collect, loop, train and the like; all of them unless given.")
]


def config(command: Command = None, json: JsonOption = False) -> None:
    """Print every setting of a command as YAML: its default, and in a comment what it means. It is what `--config FILE`
    reads, and the names, with dots, are those of `--set`.

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
            print(f"srft config {name:<10} {len(list(settings(kind)))} settings")
    else:
        print(as_yaml(settings(known[command])))


def as_yaml(listed: Iterable[Any]) -> str:
    """Settings as a file that `--config` reads. What is required, and what belongs to a group that is off unless it is
    given, stands in comments."""
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
