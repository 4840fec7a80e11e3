"""The identity of a configuration: the part that decides the result. Each field says by itself whether it does.

    class Settings(msgspec.Struct, frozen=True):
        steps: int = 100                                             # decides, as does every field without a mark
        timeout_s: Annotated[float, MAY_CHANGE] = 600.0              # another value may be given on resume
        attempts: Annotated[int, ADDS] = 1                           # more of it adds to what is there
        prompt: Annotated[str, decides_by(prompt_id)] = "default"    # counts by what the name refers to

    identity(Settings(steps=30), base=Path())                        # {"prompt": "3f2a0c9d...", "steps": 30}
    additions(Settings(attempts=2), base=Path())                     # {"attempts": 2}
    key("train", identity(recipe, base=Path()))                      # 'a 16-digit hash'

Reads the files that a configuration names; writes nothing. A setting at its default is left out, so that a new setting
leaves the identity of older runs as it was. A file counts by its content, never by its path.
"""

from __future__ import annotations

import hashlib
import os
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from srft.env.errors import InputError

Kind = Literal["decides", "may change", "adds"]

INSIDE_RUN = "run:"
"""Begins a path that is relative to the run's folder, wherever that lies: `run:practice/train`."""

WHOLE_BYTES = 256 << 20
"""A larger file is told by its size and by samples: every command looks at the files that it is given."""

SAMPLES = 64
SAMPLE_BYTES = 1 << 20


class Read(typing.Protocol):
    """Gives what a field's value refers to: a file's content, say. record: the record that the field is in."""

    def __call__(self, value: Any, *, base: Path, record: Any) -> Any: ...


class Mark(NamedTuple):
    """What a field is to the result. read: for a value that is a name of something else."""

    kind: Kind
    read: Read | None = None


MAY_CHANGE = Mark("may change")
"""How, where or how fast something is done: endpoints, time limits, workers, prices."""

ADDS = Mark("adds")
"""How much there is: attempts, rounds, seeds, arms. What is there already stays right."""


def decides_by(read: Read) -> Mark:
    """The mark of a field that decides by what its value refers to."""
    return Mark("decides", read)


def adds_by(read: Read) -> Mark:
    """The mark of a field that adds what its value refers to."""
    return Mark("adds", read)


def identity(config: msgspec.Struct, *, base: Path) -> dict[str, Any]:
    """Setting -> value, of all that decides the result; nested settings by dotted names. Raises InputError.

    base: the run's folder, where paths begin that are written as `run:practice/train`; all others are as they are
    for whoever gave them, absolute or from the working directory.
    """
    return dict(sorted(_settings(config, "decides", base)))


def additions(config: msgspec.Struct, *, base: Path) -> dict[str, Any]:
    """Setting -> value, of all that adds to a result. Raises InputError."""
    return dict(sorted(_settings(config, "adds", base)))


def marks(kind: type[msgspec.Struct]) -> dict[str, Mark]:
    """Field -> its mark."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: _mark(hints[name]) for name in kind.__struct_fields__}


def _mark(annotation: Any) -> Mark:
    """The mark that an annotation bears, also one of a union's members."""
    found = [one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Mark)]
    for member in typing.get_args(annotation):
        if not isinstance(member, str) and (mark := _mark(member)) != _DECIDES:
            found.append(mark)
    return found[0] if found else _DECIDES


_DECIDES = Mark("decides")


def _settings(record: msgspec.Struct, kind: Kind, base: Path, above: str = "") -> Iterator[tuple[str, Any]]:
    marked = marks(type(record))
    for field in msgspec.structs.fields(record):
        mark, value = marked[field.name], getattr(record, field.name)
        name = above + field.encode_name
        if isinstance(value, msgspec.Struct) and mark.read is None:
            yield from _group(name, value, mark, kind, base, is_optional=field.default is None)
        elif mark.kind == kind:
            yield from _setting(name, value, field, mark, base, record)


def _group(
    name: str, value: msgspec.Struct, mark: Mark, kind: Kind, base: Path, *, is_optional: bool
) -> Iterator[tuple[str, Any]]:
    """The settings of a nested record, which counts as what its field is marked."""
    if mark.kind == "decides":
        if is_optional and kind == "decides":
            yield name, True  # it is there, if only with its defaults
        yield from _settings(value, kind, base, name + ".")
    elif mark.kind == kind:
        yield name, True
        yield from _settings(value, "decides", base, name + ".")
        yield from _settings(value, "adds", base, name + ".")


def _setting(
    name: str, value: Any, field: msgspec.structs.FieldInfo, mark: Mark, base: Path, record: msgspec.Struct
) -> Iterator[tuple[str, Any]]:
    if mark.read is not None and value is not None and value != ():
        content = mark.read(value, base=base, record=record)
        if mark.kind == "decides" and isinstance(content, Mapping):
            yield from ((f"{name}.{inner}", it) for inner, it in content.items())
        else:
            yield name, content
    elif value != _default(field):
        yield name, msgspec.to_builtins(value)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def key(*parts: Any) -> str:
    """A hash of whatever JSON can hold.

    >>> key("train", {"a": 1, "b": 2}) == key("train", {"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


def resolved_path(value: str, base: Path) -> Path:
    """Where a configured path leads. base: the run's folder.

    >>> resolved_path("run:practice/train", Path("runs/demo")), resolved_path("/tasks.jsonl", Path("runs/demo"))
    (PosixPath('runs/demo/practice/train'), PosixPath('/tasks.jsonl'))
    """
    return base / value.removeprefix(INSIDE_RUN) if value.startswith(INSIDE_RUN) else Path(value)


def file_id(path: Path, *, whole_bytes: int = WHOLE_BYTES) -> str:
    """A hash of a file's content; of a folder's files with their names. Raises InputError."""
    if path.is_dir():
        below = sorted(file for file in path.rglob("*") if file.is_file())
        return key([(str(file.relative_to(path)), file_id(file, whole_bytes=whole_bytes)) for file in below])
    try:
        digest = hashlib.sha256(str(path.stat().st_size).encode())
        for part in content_parts(path, whole_bytes=whole_bytes):
            digest.update(part)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from None
    return digest.hexdigest()[:16]


def content_parts(path: Path, *, whole_bytes: int) -> Iterator[bytes]:
    """The file's bytes, or evenly spread samples of a larger one's. Raises OSError."""
    size = path.stat().st_size
    stride = SAMPLE_BYTES if size <= whole_bytes else size // SAMPLES
    with path.open("rb") as file:
        for offset in range(0, size, stride):
            file.seek(offset, os.SEEK_SET)
            yield file.read(SAMPLE_BYTES)


def tokenizer_id(name: str, *, base: Path, record: Any) -> str:
    """A folder's tokenizer and chat template by their contents."""
    folder = resolved_path(name, base)
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.json", "merges.txt")
    found = [folder / file for file in names if (folder / file).is_file()]
    return key([(path.name, file_id(path)) for path in found]) if found else f"hub {name}"
