"""What each setting of a configuration means and what it is unless given, read off the record itself.

    for setting in settings(CollectConfig):
        setting.name, setting.default, setting.meaning      # ("episode.steps", 100, "replies of the model at most ...")

A field is documented by the text behind its name in the record's docstring, or by the string below the field.
"""

import ast
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union

import msgspec

from srft.env.identity import Kind, marks


class Setting(NamedTuple):
    """name: with dots, as `--set` takes it. type: in words. default: `REQUIRED` where there is none. kind: what another
    value does to a run that is resumed. is_group: whether settings of its own follow; one whose default is `None` is
    off unless something of it is given. choices: the values it takes, where they can be listed."""

    name: str
    type: str
    default: Any
    meaning: str
    kind: Kind
    is_group: bool = False
    choices: tuple[str, ...] = ()


REQUIRED = "(required)"


def settings(kind: type[msgspec.Struct], above: str = "") -> Iterator[Setting]:
    """Every setting of a record and of the records in it, in their order."""
    told, marked = meanings(kind), marks(kind)
    hints = typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        name, mark = above + field.encode_name, marked[field.name]
        default = field.default if field.default is not msgspec.NODEFAULT else _made(field)
        nested = struct_in(field.type)
        meaning = told.get(field.name) or _first_sentence(nested)
        words, plain = _words(hints[field.name]), msgspec.to_builtins(default, builtin_types=())
        plain = list(plain) if isinstance(plain, tuple) else plain
        choices = tuple(dict.fromkeys(_choices(hints[field.name])))
        yield Setting(name, words, plain, meaning, mark.kind, is_group=nested is not None, choices=choices)
        if nested is not None:
            yield from settings(nested, f"{name}.")


def _first_sentence(record: type | None) -> str:
    """What a record is about."""
    text = " ".join((record.__doc__ or "").split()) if record else ""
    return re.split(r"(?<=[.;:])(?:\s|$)", text, maxsplit=1)[0].rstrip(".;:")


def _made(field: msgspec.structs.FieldInfo) -> Any:
    return REQUIRED if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    """The record type that an annotation names, alone, in a union or with marks."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    if not isinstance(annotation, types.UnionType) and typing.get_origin(annotation) not in (Annotated, Union):
        return None
    return next((found for one in typing.get_args(annotation) if (found := struct_in(one))), None)


_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "anything"}


def _words(annotation: Any) -> str:
    """A type in words: `whole number or null`, `one of a, b`."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _words(inner[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(one) for one in inner))
    if origin in (tuple, list):
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return "group of keys"
    return _WORDS.get(annotation, "group of keys")


def _choices(annotation: Any) -> Iterator[str]:
    """The values that an annotation lists, as YAML has them."""
    if typing.get_origin(annotation) is Literal:
        yield from map(str, typing.get_args(annotation))
    elif annotation is bool:
        yield from ("true", "false")
    elif typing.get_origin(annotation) in (Annotated, Union, types.UnionType):
        for one in typing.get_args(annotation):
            yield from _choices(one)


@functools.cache
def meanings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Field -> what it means, of those that are documented; a record's own words before those of what it extends."""
    told: dict[str, str] = {}
    for record in reversed(kind.__mro__):
        if isinstance(record, type) and issubclass(record, msgspec.Struct) and record is not msgspec.Struct:
            told |= _of_docstring(record, kind.__struct_fields__) | _below_fields(record)
    return told


def _of_docstring(record: type, fields: tuple[str, ...]) -> dict[str, str]:
    """What stands behind `name:` or `one, other:` in the docstring, up to the next such name."""
    text = " ".join((record.__dict__.get("__doc__") or "").split())
    encoded = {field.encode_name: field.name for field in msgspec.structs.fields(record)}
    name = "|".join(sorted(map(re.escape, {*fields, *encoded}), key=len, reverse=True))
    heads = list(re.finditer(rf"(?:^|(?<=[.);] ))((?:{name})(?:, (?:{name}))*): ", text))
    told = {}
    for head, end in zip(heads, [*(after.start() for after in heads[1:]), len(text)], strict=False):
        meaning = text[head.end() : end].strip().rstrip(".;")
        for one in head[1].split(", "):
            told[encoded.get(one, one)] = meaning
    return told


def _below_fields(record: type) -> dict[str, str]:
    """The strings that stand below fields."""
    try:
        source = textwrap.dedent(inspect.getsource(record))
    except OSError:  # no source on this machine
        return {}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    told = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            told[field.target.id] = " ".join(str(below.value.value).split()).rstrip(".")  # type: ignore[attr-defined]
    return told
