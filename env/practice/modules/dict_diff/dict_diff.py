"""Differences of nested dictionaries: found, applied, turned around and told."""

import copy
from typing import Any, NamedTuple

MISSING = object()


class Change(NamedTuple):
    """At a path of keys: what was there and what is there now; None for "add" and "remove"."""

    kind: str
    path: tuple
    old: Any = None
    new: Any = None


class Conflict(ValueError):
    """The dictionary does not hold what the change expects to find."""


def diff(old: dict, new: dict, path: tuple = ()) -> list[Change]:
    """What to do to `old` so that it equals `new`, in the order of the keys of `old`, then of `new`."""
    changes = []
    for key, value in old.items():
        place = (*path, key)
        if key not in new:
            changes.append(Change("remove", place, old=copy.deepcopy(value)))
        elif isinstance(value, dict) and isinstance(new[key], dict):
            changes.extend(diff(value, new[key], place))
        elif value != new[key]:
            changes.append(Change("replace", place, copy.deepcopy(value), copy.deepcopy(new[key])))
    for key, value in new.items():
        if key not in old:
            changes.append(Change("add", (*path, key), new=copy.deepcopy(value)))
    return changes


def apply(data: dict, changes: list[Change]) -> dict:
    """A changed copy of the data; Conflict where it does not fit."""
    result = copy.deepcopy(data)
    for change in changes:
        _apply_one(result, change)
    return result


def _apply_one(data: dict, change: Change) -> None:
    holder = get(data, change.path[:-1])
    key = change.path[-1]
    if not isinstance(holder, dict):
        raise Conflict(f"nothing to change at {write_path(change.path)}")
    if change.kind == "add":
        if key in holder:
            raise Conflict(f"{write_path(change.path)} is there already")
        holder[key] = copy.deepcopy(change.new)
        return
    if holder.get(key, MISSING) != change.old:
        raise Conflict(f"{write_path(change.path)} is not {change.old!r}")
    if change.kind == "remove":
        del holder[key]
    else:
        holder[key] = copy.deepcopy(change.new)


def invert(changes: list[Change]) -> list[Change]:
    """The changes that undo these, last one first."""
    kinds = {"add": "remove", "remove": "add", "replace": "replace"}
    return [Change(kinds[each.kind], each.path, each.new, each.old) for each in reversed(changes)]


def get(data: dict, path: tuple, default: Any = None) -> Any:
    """What is at a path, or the default."""
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return default
        data = data[key]
    return data


def write_path(path: tuple, separator: str = ".") -> str:
    return separator.join(str(key) for key in path)


def describe(changes: list[Change]) -> list[str]:
    """A line for each change: "+ a.b = 1", "- a.b = 1" or "~ a.b: 1 -> 2"."""
    lines = []
    for kind, path, old, new in changes:
        name = write_path(path)
        if kind == "add":
            lines.append(f"+ {name} = {new!r}")
        elif kind == "remove":
            lines.append(f"- {name} = {old!r}")
        else:
            lines.append(f"~ {name}: {old!r} -> {new!r}")
    return lines


def flatten(data: dict, path: tuple = ()) -> dict[tuple, Any]:
    """Values by their paths; an empty dictionary is a value."""
    flat = {}
    for key, value in data.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, (*path, key)))
        else:
            flat[(*path, key)] = value
    return flat
