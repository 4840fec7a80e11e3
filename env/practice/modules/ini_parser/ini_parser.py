"""Reads and writes INI text: sections, continued lines, references and typed values."""

import re

Sections = dict[str, dict[str, str]]

_REFERENCE = re.compile(r"\$\{([^}]*)\}")

TRUE = ("1", "yes", "true", "on")
FALSE = ("0", "no", "false", "off")


class IniError(ValueError):
    """The text cannot be read; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


def parse(text: str, default: str = "DEFAULT") -> Sections:
    """Sections by name; keys before the first header belong to the `default` section.

    Empty lines and lines that begin with # or ; are skipped. An indented line goes on with
    the value above it. Keys are in small letters.
    """
    sections: Sections = {}
    section = default
    key = None
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if line[0] == " " and key is not None:
            sections[section][key] += "\n" + stripped
        elif stripped[0] == "[":
            section, key = _read_header(stripped, number), None
            if section in sections:
                raise IniError(number, f"section {section!r} comes twice")
            sections[section] = {}
        else:
            key, value = _read_pair(stripped, number)
            keys = sections.setdefault(section, {})
            if key in keys:
                raise IniError(number, f"key {key!r} comes twice")
            keys[key] = value
    return sections


def _read_header(line: str, number: int) -> str:
    if line[-1] != "]":
        raise IniError(number, "the header is not closed")
    return line[1:-1].strip()


def _read_pair(line: str, number: int) -> tuple[str, str]:
    key, found, value = line.partition("=")
    if not found:
        raise IniError(number, f"no = in {line!r}")
    if not key.strip():
        raise IniError(number, "the key is empty")
    return key.strip().lower(), value.strip()


def get(sections: Sections, section: str, key: str, fallback: str | None = None) -> str:
    """A value with its ${key} and ${section:key} references filled in; KeyError where it is missing."""
    return _get(sections, section, key, fallback, depth=0)


def _get(sections: Sections, section: str, key: str, fallback: str | None, depth: int) -> str:
    if depth > 5:
        raise RecursionError(f"{section}:{key} refers to itself")
    value = sections.get(section, {}).get(key.lower(), fallback)
    if value is None:
        raise KeyError(f"{section}:{key}")

    def fill(match: re.Match) -> str:
        where, found, name = match[1].rpartition(":")
        return _get(sections, where if found else section, name, None, depth + 1)

    return _REFERENCE.sub(fill, value)


def get_bool(sections: Sections, section: str, key: str, fallback: str = "no") -> bool:
    """Whether the value is one of 1, yes, true, on; anything but those and their opposites is an error."""
    value = get(sections, section, key, fallback).lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


def get_list(sections: Sections, section: str, key: str, separator: str = ",") -> list[str]:
    """The parts of a value without the blanks around them; empty parts are dropped."""
    parts = [part.strip() for part in get(sections, section, key, "").split(separator)]
    return [part for part in parts if part]


def merge(base: Sections, changes: Sections) -> Sections:
    """The base with the changes on top; neither is touched."""
    merged = {name: dict(keys) for name, keys in base.items()}
    for name, keys in changes.items():
        merged.setdefault(name, {}).update(keys)
    return merged


def write(sections: Sections) -> str:
    """Text that `parse` reads back."""
    blocks = []
    for name, keys in sections.items():
        lines = [f"[{name}]"]
        for key, value in keys.items():
            lines.append(f"{key} = " + value.replace("\n", "\n  "))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)
