"""Builds and reads URLs: percent encoding, repeated keys, and paths joined."""

from __future__ import annotations

from collections.abc import Iterable

SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"


def quote(text: str, safe: str = "", plus: bool = False) -> str:
    """Percent-encode all but letters, digits, "-._~" and `safe`; blanks become + if told."""
    pieces = []
    for byte in text.encode():
        character = chr(byte)
        if character in SAFE or character in safe:
            pieces.append(character)
        elif plus and character == " ":
            pieces.append("+")
        else:
            pieces.append(f"%{byte:02X}")
    return "".join(pieces)


def unquote(text: str, plus: bool = False) -> str:
    """Undo `quote`; ValueError where a % has no two hexadecimal digits after it."""
    data = bytearray()
    position = 0
    while position < len(text):
        character = text[position]
        if character == "%":
            digits = text[position + 1 : position + 3]
            if len(digits) < 2:
                raise ValueError(f"unfinished escape at {position}")
            data.append(int(digits, 16))
            position += 3
            continue
        data.extend(b" " if plus and character == "+" else character.encode())
        position += 1
    return data.decode()


class Query:
    """Pairs of names and values in order; a name may come several times.

    Changing methods return a new query and leave this one as it is.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read "a=1&b=2"; a leading ? is skipped, and a name without = has an empty value."""
        pairs = []
        for part in text.removeprefix("?").split("&"):
            if part:
                name, _, value = part.partition("=")
                pairs.append((unquote(name, plus=True), unquote(value, plus=True)))
        return cls(pairs)

    def __str__(self) -> str:
        return "&".join(f"{quote(name, plus=True)}={quote(value, plus=True)}" for name, value in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The last value of a name, or the default."""
        values = self.all(name)
        return values[-1] if values else default

    def all(self, name: str) -> list[str]:
        """Every value of a name, in order."""
        return [value for key, value in self._pairs if key == name]

    def number(self, name: str, default: int = 0, least: int | None = None) -> int:
        """A whole number, not below `least`; the default where the name is missing."""
        value = self.get(name)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            raise TypeError(f"{name} is no number: {value!r}") from None
        return number if least is None else max(least, number)

    def add(self, name: str, value: object) -> Query:
        """One more pair at the end."""
        return Query([*self._pairs, (name, str(value))])

    def set(self, name: str, value: object) -> Query:
        """Only this value for the name, in the place of its first one, else at the end."""
        if not self.all(name):
            return self.add(name, value)
        pairs = []
        done = False
        for key, old in self._pairs:
            if key != name:
                pairs.append((key, old))
            elif not done:
                pairs.append((name, str(value)))
                done = True
        return Query(pairs)

    def without(self, *names: str) -> Query:
        return Query((name, value) for name, value in self._pairs if name not in names)


def join(base: str, *parts: str) -> str:
    """Parts put behind the base with one slash between each; they are quoted, slashes kept."""
    pieces = [base.rstrip("/")]
    for part in parts:
        stripped = part.strip("/")
        if stripped:
            pieces.append(quote(stripped, safe="/"))
    return "/".join(pieces)


def url(base: str, *parts: str, query: Query | None = None, fragment: str = "") -> str:
    """A whole URL; an empty query or fragment leaves no mark."""
    text = join(base, *parts)
    if query is not None and len(query) > 0:
        text += f"?{query}"
    if fragment:
        text += "#" + quote(fragment)
    return text
