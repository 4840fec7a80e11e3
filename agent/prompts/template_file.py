"""A file of templates: YAML whose texts are strict Jinja templates. Prompts are such files.

Reads `<folder>/<name>.yaml` or a file of the user's. Writes nothing. An unknown key, a missing key, a key that is there
there twice and a variable that will not be there are errors that name file and key, and the line where there is one.

    class Greeting(TemplateFile[GreetingText]): ...        # GreetingText: a msgspec record with the texts
    may_use = {"hello": frozenset({"name"})}
    greeting = Greeting.read("polite", GreetingText, folder=FOLDER, variables=may_use, noun="greeting")
    greeting.templates["hello"].render(name="Ada")
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

import jinja2
import jinja2.meta
import msgspec
import yaml

from srft.env.errors import InputError

T = TypeVar("T", bound=msgspec.Struct)

_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


@dataclass(frozen=True)
class TemplateFile(Generic[T]):
    """A loaded file. text: its contents as a record; templates: those of its keys that are templates."""

    name: str
    text: T
    templates: dict[str, jinja2.Template]

    @classmethod
    def read(
        cls, name: str | Path, kind: type[T], *, folder: Path, variables: Mapping[str, frozenset[str]], noun: str
    ) -> Self:
        """One of the folder's files by name, or any by its path. Raises InputError.

        kind: the record of the file's keys. variables: template -> what it may use. noun: what messages call it.
        """
        path = Path(name)
        if path.suffix not in {".yaml", ".yml"}:
            path = folder / f"{name}.yaml"
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
            raise InputError(
                f"{noun} {name}: cannot be read ({error}); expected a .yaml file, or one of {known}"
            ) from None
        text = _parse(source, path, kind)
        templates = {key: _compile(getattr(text, key), key, path, allowed) for key, allowed in variables.items()}
        return cls(path.stem, text, templates)

    def fingerprint_without(self, **unseen: object) -> str:
        """A hash of the texts, where those that a model never sees are set to these values."""
        seen = msgspec.structs.replace(self.text, **unseen)
        return hashlib.sha256(msgspec.json.encode(seen)).hexdigest()[:12]


def _parse(source: str, path: Path, kind: type[T]) -> T:
    """The keys of a file: none unknown, missing or given twice."""
    try:
        node, content = yaml.compose(source, yaml.SafeLoader), yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    known, seen = kind.__struct_fields__, set()
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}: expected keys with texts, like '{known[0]}: ...'")
    for key_node, _ in node.value:
        where, key = f"{path}:{key_node.start_mark.line + 1}", key_node.value
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1) or [", ".join(known)]
            raise InputError(f"{where}: unknown key {key!r}; did you mean {nearest[0]}?")
        if key in seen:
            raise InputError(f"{where}: key {key!r} is there twice; keep one")
        seen.add(key)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from None


def _compile(source: str, key: str, path: Path, allowed: frozenset[str]) -> jinja2.Template:
    try:
        used = jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(source))
        template = _ENVIRONMENT.from_string(source)
    except jinja2.TemplateError as error:
        raise InputError(f"{path}: {key}: not a Jinja template ({error})") from None
    if unknown := sorted(used - allowed):
        raise InputError(
            f"{path}: {key}: unknown variable {', '.join(unknown)}; this template may use {', '.join(sorted(allowed))}"
        )
    return template
