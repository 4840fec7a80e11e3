"""What is wrong with a configuration, in the words of who gave the value: a file, `--set`, or an option.

Reads msgspec's error, gives ours; writes nothing.

    raise wrong_value(LoopConfig, error, file="demo.yaml", given=[Given(("arms",), "--arms nope")]) from None
    # --arms nope: choose all, resolved, srft, ...
"""

import re
from typing import Any, NamedTuple

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


EXAMPLES = {
    "--run": "runs/first",
    "--tasks": "tasks.jsonl",
    "--model": "http://localhost:8000/v1#NAME",
    "--critic": "http://localhost:8000/v1#NAME",
    "--tokenizer": "models/base",
    "--labels": "human",
    "--predictions": "predictions.jsonl",
    "--format": "axolotl",
    "--out": "practice",
    "--train": "100",
    "--test": "40",
}


def missing(option: str) -> str:
    """What is said of an option that was not given.

    >>> missing("--run (or --rows)")
    '--run (or --rows) is missing, for example --run runs/first'
    """
    name = option.split(" ")[0]
    example = f", for example {name} {EXAMPLES[name]}" if name in EXAMPLES else "; see --help for an example"
    return f"{option} is missing{example}"


def wrong_value(
    kind: type[msgspec.Struct], error: msgspec.ValidationError, *, file: str | None, given: list[Given]
) -> InputError:
    """The error in the words of who gave the value."""
    said, place, steps = _taken_apart(error)
    keys = tuple(step for step in steps if not step.startswith("["))
    lacks = re.fullmatch(r"Object missing required field `(\w+)`", said)
    if lacks and not keys:
        option = f"--{lacks[1].replace('_', '-')}"
        neither = f", and {file} has no {lacks[1]}" if file else ""
        return MissingKey(missing(option).replace(" is missing", f" is missing{neither}", 1), lacks[1])
    where = _blamed(keys, said, file=file, given=given)
    of_key = "" if _names(where, keys) else f"{place}: "
    return InputError(f"{where}: {of_key}{in_words(said, _values(kind, steps))}")


def in_place(kind: Any, error: msgspec.ValidationError) -> str:
    """The key and what is wrong with it, of a value that stands alone."""
    said, place, steps = _taken_apart(error)
    return f"{place}: {in_words(said, _values(kind, steps))}".removeprefix(": ")


def _taken_apart(error: msgspec.ValidationError) -> tuple[str, str, list[str]]:
    """(what is said, the place with dots, its steps)."""
    said, at, place = str(error).rpartition(" - at `$")
    said, place = (said, place.removesuffix("`").removeprefix(".")) if at else (str(error), "")
    return said, place, re.findall(r"\w+|\[[^\]]*\]", place)


def _names(where: str, keys: tuple[str, ...]) -> bool:
    """Whether who is blamed names the key already."""
    given = where.partition("=")[0].split()
    return not keys or (where.startswith("--") and " with " not in where and _ends(given, keys[-1]))


def _ends(given: list[str], key: str) -> bool:
    """Whether an option, or a key of --set, is that key. An option may have another name, but has no other meaning."""
    return given[0] != "--set" or key in given[-1].split(".")


_NOUNS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a group of keys",
}
_BOUNDS = {">=": "{} or more", ">": "more than {}", "<=": "{} or less", "<": "less than {}"}


def in_words(said: str, values: list[str] | None = None) -> str:
    """What msgspec says, in English. values: those of an enumeration.

    >>> in_words("Expected `int | null`, got `str`"), in_words("Expected `int` >= 1")
    ('expected a whole number or null, got text', 'expected a whole number, 1 or more')
    >>> in_words("Invalid enum value 'x'", ["a", "b", "c"]), in_words("Object missing required field `test`")
    ('choose a, b or c', 'test is missing')
    """
    if found := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", said):
        return f"expected {_noun(found[1])}, got {_noun(found[2])}"
    if found := re.fullmatch(r"Expected `(\w+)`( of length)? (>=|>|<=|<) (\S+)", said):
        bound = _BOUNDS[found[3]].format(found[4].removesuffix(".0"))
        return f"expected {_noun(found[1])}{' of' if found[2] else ','} {bound}"
    if said.startswith("Invalid enum value") and values:
        return f"choose {_listed(values)}"
    if found := re.fullmatch(r"Object missing required field `(\w+)`", said):
        return f"{found[1]} is missing"
    return said


def _noun(types_: str) -> str:
    return " or ".join(_NOUNS.get(name, name) for name in types_.split(" | "))


def _listed(values: list[str]) -> str:
    return ", ".join(values[:-1]) + f" or {values[-1]}" if len(values) > 1 else values[0]


def _blamed(keys: tuple[str, ...], said: str, *, file: str | None, given: list[Given]) -> str:
    """Where the value came from. The last who gave a key wins; a group's error is of those of its keys that it names,
    or, where it lacks one, of all that were given."""
    for path, how in reversed(given):
        is_below = path[: len(keys)] == keys and said.endswith("got `object`")  # a key of what is no group
        if path == keys[: len(path)] or is_below:
            return how
    words = set(re.findall(r"\w+", said))
    lacks_one = bool(keys) and said.startswith("Object missing required field")
    hows = {path: how for path, how in given if path[: len(keys)] == keys and (lacks_one or path[-1] in words)}
    return " with ".join([*([file] if file else []), *hows.values()]) or "configuration"


def _values(kind: type[msgspec.Struct], steps: list[str]) -> list[str]:
    """What an enumeration's values are; msgspec does not say."""
    types_: list[inspect.Type] = [inspect.type_info(kind)]
    for step in steps:
        types_ = [below for type_ in types_ for below in _below(type_, step)]
    values = [
        value for type_ in types_ for alone in _alone(type_) for value in getattr(alone, "values", [_name(alone)])
    ]
    return [str(value) for value in values]


def _name(type_: inspect.Type) -> str:
    """
    >>> _name(inspect.IntType()), _name(inspect.NoneType())
    ('a whole number', 'null')
    """
    name = type(type_).__name__.removesuffix("Type").lower()
    return _NOUNS.get("null" if name == "none" else name, name)


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
