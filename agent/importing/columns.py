"""The columns of a published dataset: a `Dataset`, read from a YAML file of a few lines in `datasets/`.

    dataset = described("nebius/SWE-rebench-openhands-trajectories")
    dataset.columns.messages, dataset.columns.outcome          # ("trajectory",), ("resolved",)
    described("chat", changes=["columns.messages=dialogue", "columns.outcome=passed"])

A column is a name, or a path into nested values (`test_result.git_patch`), also through JSON text. Where several are
given, the first that a row has counts. Any dataset without a file of its own is read as `chat.yaml` says, with what
`--set` changes of it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from srft.env.errors import InputError

_FOLDER = Path(__file__).parent / "datasets"
KNOWN_TOOLS = tuple(sorted(path.stem for path in (_FOLDER / "tools").glob("*.json")))
"""The scaffolds whose tools are known."""


Column = tuple[str, ...] | str
"""A column, a path, or several of them; empty: the rows do not tell."""


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a row has what."""

    messages: Column = ()
    """The conversation, a list or its JSON text."""
    task: Column = ()
    """The task's id; without it, file and row name the task."""
    outcome: Column = ()
    """Whether the run resolved its task: true or false, 1 or 0 as any number, -1 for unknown."""
    patch: Column = ()
    """The run's patch."""
    tools: Column = ()
    """The descriptions of the tools that were offered, also as JSON text."""
    system: Column = ()
    """A system prompt that is not among the messages."""
    exit_status: Column = ()
    """How the run ended, in its scaffold's words."""
    model: Column = ()
    """The model's name."""
    scaffold: Column = ()
    """The name of the program that made the run."""
    repo: Column = ()
    """The task's repository."""
    licence: Column = ()
    """The row's licence."""

    def paths(self, what: str) -> tuple[str, ...]:
        """The columns that may have this, in the order in which they count."""
        value = getattr(self, what)
        return (value,) if isinstance(value, str) else value


class Dataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published dataset."""

    name: str
    """Its name on the Hub, or `chat`."""
    also: tuple[str, ...] = ()
    """Other names with the same columns."""
    licence: str = ""
    """The licence of its rows, as its card says."""
    rows: str = ""
    """How many there are, in words."""
    remarks: str = ""
    """What its user should know."""
    marks: tuple[str, ...] = ()
    """The columns by which a file of its rows is recognised; none where other datasets look the same: such a file is
    read under its name alone."""
    columns: Columns = Columns()
    """Where its rows have what."""
    task_pattern: str | None = None
    """A regular expression whose one group is the task's id within the column."""
    all_resolved: bool = False
    """Whether every run resolved its task."""
    patches_of_other_rows: str | None = None
    """A column whose patch is not its row's; it is left out and counted."""
    scaffold: str = "chat"
    """The program that made the runs, where the rows do not name it."""
    actions: Literal["", "thought_action", "terminus"] = ""
    """How a reply in text says what to do, where it calls no tool: `thought_action` is its last fenced block,
    `terminus` a JSON object with commands."""
    known_tools: str | None = None
    """The file of tools (in `datasets/tools/`) that its scaffold offers, where the rows have none."""
    roles: dict[str, str] = {}
    """Names of its own for system, user, assistant and tool."""
    made_up_ending: str | None = None
    """How a last message begins that no model wrote."""


@functools.cache
def datasets() -> dict[str, Dataset]:
    """All that are described, by name and in its order, `chat` last. Other names of the same are not among them."""
    found = [_dataset(yaml.safe_load(path.read_text()), str(path)) for path in sorted(_FOLDER.glob("*.yaml"))]
    found.sort(key=lambda dataset: (dataset.name == "chat", dataset.name.lower()))
    return {dataset.name: dataset for dataset in found}


def named(name: str) -> Dataset | None:
    """The dataset of that name, in whatever case, also under its other names."""
    for dataset in datasets().values():
        if name.lower() in (known.lower() for known in (dataset.name, *dataset.also)):
            return dataset
    return None


def described(name: str, *, changes: Iterable[str] = ()) -> Dataset:
    """A dataset's description, changed as `--set KEY=VALUE` says. Raises InputError.

    A name without a file of its own is described as `chat`, under its own name.
    """
    dataset = named(name) or msgspec.structs.replace(datasets()["chat"], name=name)
    if not (changes := list(changes)):
        return dataset
    content = msgspec.to_builtins(dataset)
    keys = ", ".join(f"{name}=..." for name in Dataset.__struct_fields__ if name != "columns")
    for change in changes:
        key, equals, value = change.partition("=")
        holder, (*folders, last) = content, key.strip().split(".")
        for folder in folders:
            holder = holder.get(folder)
            if not isinstance(holder, dict):
                raise InputError(f"--set {change}: there is no {folder}; expected columns.NAME=COLUMN or {keys}")
        if not equals:
            raise InputError(f"--set {change}: expected KEY=VALUE, say columns.messages=dialogue")
        holder[last] = yaml.safe_load(value)
    return _dataset(content, "--set " + " --set ".join(changes))


def _dataset(content: Any, where: str) -> Dataset:
    try:
        dataset = msgspec.convert(content, Dataset)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}; the columns are {', '.join(Columns.__struct_fields__)}") from None
    if dataset.task_pattern is not None:
        try:
            groups = re.compile(dataset.task_pattern).groups
        except re.error as error:
            raise InputError(f"{where}: task_pattern: not a regular expression ({error})") from None
        if groups != 1:
            raise InputError(f"{where}: task_pattern: expected one group, the task's id, got {groups}")
    return dataset


@functools.cache
def known_tools(name: str) -> tuple[dict[str, Any], ...]:
    """The tools that a scaffold offers, from `datasets/tools/NAME.json`. Raises InputError."""
    if name not in KNOWN_TOOLS:
        raise InputError(f"known_tools: {name}: no tools of that name; there are {', '.join(KNOWN_TOOLS)}")
    return tuple(json.loads((_FOLDER / "tools" / f"{name}.json").read_text()))
