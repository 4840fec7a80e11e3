"""Reads, writes and rounds lengths of time such as "1h 30m"."""

import re

SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}

_PART = re.compile(r"(\d+)([a-z]+)")


class DurationError(ValueError):
    """The text is no duration; `position` is where reading stopped."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(f"{message} at {position}")
        self.position = position


def parse(text: str, unit: str = "s") -> int:
    """Seconds in "2d 3h"; units go from large to small and come once; a bare number is in `unit`."""
    text = text.strip()
    if text.isdigit():
        return int(text) * SECONDS[unit]
    total = 0
    position = 0
    smallest = None
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            raise DurationError("expected a number and a unit", position)
        count, name = int(match[1]), match[2]
        if name not in SECONDS:
            raise DurationError(f"unknown unit {name!r}", match.start(2))
        if smallest is not None and SECONDS[name] >= smallest:
            raise DurationError(f"unit {name!r} comes too late", position)
        total += count * SECONDS[name]
        smallest = SECONDS[name]
        position = _skip_blanks(text, match.end())
    if smallest is None:
        raise DurationError("the duration is empty")
    return total


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] == " ":
        position += 1
    return position


def split(seconds: int) -> list[tuple[int, str]]:
    """Counts and units, largest first, without the zeros."""
    if seconds < 0:
        raise ValueError("a duration is not negative")
    parts = []
    for unit, size in SECONDS.items():
        count, seconds = divmod(seconds, size)
        if count > 0:
            parts.append((count, unit))
    return parts


def write(seconds: int, most: int = 2, separator: str = " ") -> str:
    """The `most` largest units of a duration, "0s" where there is none."""
    parts = split(seconds)[:most]
    if not parts:
        return "0s"
    return separator.join(f"{count}{unit}" for count, unit in parts)


def clock(seconds: int, hours: bool = True) -> str:
    """As on a clock: "1:02:03", or with all in minutes "62:03"."""
    minutes, rest = divmod(seconds, 60)
    if not hours:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def round_up(seconds: int, unit: str = "m") -> int:
    """The next whole number of units, in seconds."""
    size = SECONDS[unit]
    return -(-seconds // size) * size


def longest(*texts: str) -> str:
    """The text of the longest duration; the first among equals."""
    if not texts:
        raise TypeError("longest needs at least one duration")
    best = texts[0]
    for text in texts[1:]:
        if parse(text) > parse(best):
            best = text
    return best


def shares(parts: dict[str, int], digits: int = 1) -> dict[str, float]:
    """Each part's percentage of the whole; a whole of zero has shares of zero."""
    whole = sum(parts.values())
    if whole == 0:
        return dict.fromkeys(parts, 0.0)
    return {name: round(100 * seconds / whole, digits) for name, seconds in parts.items()}
