"""What is wrong with a configuration, in the words of who gave the value: a file, `--set`, or an option.

Reads msgspec's error, gives ours; writes nothing.

    raise wrong_value(LoopConfig, error, file="demo.yaml", given=[Given(("arms",), "--arms nope")]) from None
    # --arms nope: Invalid enum value 'nope' - at `$.arms[0]`; expected one of all, resolved, srft, ...
"""

import re
from typing import NamedTuple

import msgspec
from msgspec import inspect

from srft.env.errors import InputError


class MissingKey(InputError):
    """A configuration lacks a key that has no default."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class Given(NamedTuple):
    """A key that the command line gave, and how."""

    path: tuple[str, ...]
    how: str


def wrong_value(
    kind: type[msgspec.Struct], error: msgspec.ValidationError, *, file: str | None, given: list[Given]
) -> InputError:
    """The error in the words of who gave the value."""
    said, _, place = str(error).rpartition(" - at `$")
    said = said or str(error)
    steps = re.findall(r"\w+|\[[^\]]*\]", place.removesuffix("`")) if place != str(error) else []
    keys = tuple(step for step in steps if not step.startswith("["))
    where = _blamed(keys, said, file=file, given=given)
    message = f"{where}: {error}{_expected(kind, steps, said)}; see the command's --help"
    missing = re.fullmatch(r"Object missing required field `(\w+)`", str(error))
    return MissingKey(message, missing[1]) if missing else InputError(message)


def _blamed(keys: tuple[str, ...], said: str, *, file: str | None, given: list[Given]) -> str:
    """Where the value came from. The last who gave a key wins; a group's error is of those of its keys that it names,
    or, where it lacks one, of all that were given."""
    for path, how in reversed(given):
        if path == keys[: len(path)]:
            return how
    words = set(re.findall(r"\w+", said))
    lacks_one = bool(keys) and said.startswith("Object missing required field")
    hows = {path: how for path, how in given if path[: len(keys)] == keys and (lacks_one or path[-1] in words)}
    return " with ".join([*([file] if file else []), *hows.values()]) or "configuration"


def _expected(kind: type[msgspec.Struct], steps: list[str], said: str) -> str:
    """What an enumeration's values are; msgspec does not say."""
    if not said.startswith("Invalid enum value"):
        return ""
    types_: list[inspect.Type] = [inspect.type_info(kind)]
    for step in steps:
        types_ = [below for type_ in types_ for below in _below(type_, step)]
    values = [
        value for type_ in types_ for alone in _alone(type_) for value in getattr(alone, "values", [_name(alone)])
    ]
    return f"; expected one of {', '.join(map(str, values))}" if values else ""


def _name(type_: inspect.Type) -> str:
    """
    >>> _name(inspect.IntType()), _name(inspect.NoneType())
    ('a value of type int', 'null')
    """
    name = type(type_).__name__.removesuffix("Type").lower()
    return "null" if name == "none" else f"a value of type {name}"


def _below(type_: inspect.Type, step: str) -> list[inspect.Type]:
    """The types of a field of that name, or of the items."""
    found: list[inspect.Type] = []
    for alone in _alone(type_):
        if isinstance(alone, inspect.StructType):
            found += [field.type for field in alone.fields if field.encode_name == step]
        elif isinstance(alone, inspect.TupleType):
            found += alone.item_types
        elif isinstance(alone, inspect.DictType):
            found.append(alone.value_type)
        elif hasattr(alone, "item_type"):
            found.append(alone.item_type)
    return found


def _alone(type_: inspect.Type) -> list[inspect.Type]:
    """A union's types, or the type itself."""
    types_ = type_.types if isinstance(type_, inspect.UnionType) else (type_,)
    return [it.type if isinstance(it, inspect.Metadata) else it for it in types_]
