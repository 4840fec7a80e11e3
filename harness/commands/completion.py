"""What a shell offers behind an option: the values it takes, read where the command reads them.

    for option in VALUES: ...                         # "--preset" -> a function of what is typed so far
    set_keys("collect", "episode.st")                 # ["episode.steps="]

Nothing is imported before Tab is pressed, and nothing slow then: no model, no dataset of the Hub, no file above
LARGEST_BYTES. What cannot be read offers nothing, as a shell has no place for messages.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec

from srft.env.errors import SrftError

LARGEST_BYTES = 64 << 20

Values = Callable[[Any], Iterable[str]]
"""The values of an option, given the options before it (typer's context)."""


def completion(option: str) -> Callable[[Any, str], list[str]] | None:
    """What typer calls for an option; `None` for one whose values nobody can list."""
    if option == "--set":
        return lambda ctx, incomplete: set_keys(_command(ctx), incomplete)
    values = VALUES.get(option)
    if values is None:
        return None

    def offered(ctx: Any, incomplete: str) -> list[str]:  # typer goes by these names
        try:
            return _beginning(values(ctx), incomplete, several=option in SEVERAL)
        except (OSError, SrftError):
            return []

    return offered


def _beginning(values: Iterable[str], typed: str, *, several: bool) -> list[str]:
    """The values that begin as typed. several: only the one behind the last comma is completed."""
    before, comma, last = typed.rpartition(",") if several else ("", "", typed)
    given = set(before.split(","))
    return [before + comma + value for value in values if value.startswith(last) and value not in given]


def _command(context: Any) -> str:
    is_critic = context.info_name == "rows" and context.params.get("made_for") == "critic"
    return "critic-rows" if is_critic else str(context.info_name)


# ---- values ----


def _presets(_: Any) -> Iterable[str]:
    from srft.harness.loop.loop_config import presets

    return presets()


def _recipes(_: Any) -> Iterable[str]:
    from srft.train.fit.recipe import RECIPES

    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def _arms(_: Any) -> Iterable[str]:
    from srft.train.rows.mask import ARMS

    return ARMS


def _critics(_: Any) -> Iterable[str]:
    return ("tool_error", "edits", "milestones", "exploit", "oracle", "human")


def _prompts(_: Any) -> Iterable[str]:
    from srft.agent.prompts.prompt import PROMPTS

    return sorted(file.stem for file in PROMPTS.glob("*.yaml"))


def _formats(context: Any) -> Iterable[str]:
    if context.info_name == "export":
        from srft.harness.stages.export import FormatName

        return get_args(FormatName)
    if context.info_name == "import":
        from srft.agent.importing.importers import FORMATS

        return ("auto", *FORMATS)
    from srft.agent.formats import FORMATS as written

    return tuple(written)


def _outcomes(context: Any) -> Iterable[str]:
    if context.info_name == "critique":
        return ("all", "unresolved")
    from srft.harness.stages.import_runs import Outcome

    return get_args(Outcome)


def _modes(_: Any) -> Iterable[str]:
    from srft.env.sandbox.contract import Mode

    return get_args(Mode)


def _overlong(_: Any) -> Iterable[str]:
    from srft.train.rows.overlong import Overlong

    return get_args(Overlong)


def _commands(_: Any) -> Iterable[str]:
    from srft.harness.commands.config import records

    return records()


class _Row(msgspec.Struct):
    """Of a task's row, what is offered."""

    instance_id: str


def task_ids(context: Any) -> Iterable[str]:
    """The ids of the tasks that --tasks names, where they lie on this machine and are few."""
    name = context.params.get("tasks")
    path = Path(name) if name else None
    if path is None:
        return []
    if (path / "tasks").is_dir():
        return sorted(folder.name for folder in (path / "tasks").iterdir() if folder.is_dir())
    if path.suffix != ".jsonl" or path.stat().st_size > LARGEST_BYTES:
        return []
    return list(_ids_in(path))


def _ids_in(path: Path) -> Iterable[str]:
    decoder = msgspec.json.Decoder(_Row)
    for line in path.read_bytes().split(b"\n"):
        try:
            yield decoder.decode(line).instance_id
        except msgspec.DecodeError:
            continue


SEVERAL = {"--arm", "--arms", "--critic", "--only"}
"""Options of several values with commas between."""

VALUES: dict[str, Values] = {
    "--preset": _presets,
    "--recipe": _recipes,
    "--arm": _arms,
    "--arms": _arms,
    "--critic": _critics,
    "--prompt": _prompts,
    "--format": _formats,
    "--outcome": _outcomes,
    "--mode": _modes,
    "--overlong": _overlong,
    "--sandbox": lambda _: ("auto", "docker", "local"),
    "--kind": lambda _: ("auto", "vllm", "transformers"),
    "--for": lambda _: ("critic",),
    "--split": lambda _: ("family", "mutant"),
    "--only": task_ids,
    "TASK": task_ids,
    "COMMAND": _commands,
}
"""Option, or an argument's metavar -> what it takes."""


def set_keys(command: str, typed: str) -> list[str]:
    """The settings of a command that begin as typed, with `=`; behind it, the values of one that lists them."""
    from srft.harness.commands.config import records
    from srft.harness.config.explain import settings

    key, equals, value = typed.partition("=")
    listed = [one for one in settings(records()[command]) if not one.is_group]
    if not equals:
        return [f"{one.name}=" for one in listed if one.name.startswith(key)]
    choices = next((one.choices for one in listed if one.name == key), ())
    return [f"{key}={choice}" for choice in choices if choice.startswith(value)]
