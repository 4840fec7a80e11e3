"""Figures and keys as text: how pages, report and terminal write shares, counts, intervals, times, names and verdicts.

percent(0.349), interval_text(Interval(0.957, 1.0)), seconds_text(3725)      # '34.9 %', '95.7 to 100 %', '1 h 02 min'
"""

from __future__ import annotations

import math

from srft.critic.intervals import Interval

SPACE = "\u00a0"
"""Does not break: a figure stays with its unit."""
DASH = "–"
KEPT = f"\n{SPACE}"
"""Not printable by Unicode, and meant."""

OUTCOMES = {True: "resolved", False: "unresolved", None: "not graded"}
"""Of a run, as `Outcome.resolved` has it -> in words."""
VERDICTS = {"good": "g", "recover": "r", "unnecessary": "u", "mistake": "m", "abstained": "-"}
"""Verdict in words -> its letter, in the order of charts and tables."""


def words(key: str) -> str:
    """A key of a file in words.

    >>> words("step_limit"), words("unknown")
    ('step limit', 'not graded')
    """
    return {"unknown": "not graded"}.get(key, key.replace("_", " "))


def percent(share: float | None, *, digits: int = 1, signed: bool = False) -> str:
    """
    >>> percent(0.349), percent(1.0), percent(-0.02, signed=True), percent(None)
    ('34.9\\xa0%', '100\\xa0%', '−2.0\\xa0%', '–')
    """
    return DASH if share is None else f"{_points(share, digits, signed)}{SPACE}%"


def points(difference: float) -> str:
    """A difference of shares, in points.

    >>> points(0.125), points(0.0)
    ('+12.5\\xa0points', '0.0\\xa0points')
    """
    return f"{_points(difference, 1, signed=True)}{SPACE}points"


def _points(share: float, digits: int, signed: bool) -> str:
    text = f"{100 * share:+.{digits}f}" if signed else f"{100 * share:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    if text.lstrip("+-") == f"{100:.{digits}f}":
        text = text.replace(f"{100:.{digits}f}", "100")
    return text.replace("-", "−")


def interval_text(interval: Interval | None, *, signed: bool = False) -> str:
    """Of a share in per cent; signed: of a difference in points.

    >>> interval_text(Interval(0.1, 0.25)), interval_text(Interval(-0.1, 0.25), signed=True), interval_text(None)
    ('10.0–25.0\xa0%', '−10.0 to +25.0', '–')
    """
    if interval is None:
        return DASH
    low, high = (_points(end, 1, signed) for end in interval)
    return f"{low} to {high}" if signed else f"{low}{DASH}{high}{SPACE}%"


def share_with_interval(share: float | None, interval: Interval | None) -> str:
    """
    >>> share_with_interval(0.5, Interval(0.2366, 0.7634))
    '50.0\xa0% (23.7–76.3)'
    """
    if share is None or interval is None:
        return percent(share)
    return f"{percent(share)} ({DASH.join(_points(end, 1, signed=False) for end in interval)})"


def change_with_interval(difference: float, interval: Interval | None) -> str:
    """
    >>> change_with_interval(0.25, Interval(0.0, 0.5)), change_with_interval(0.25, None)
    ('+25.0 (0.0 to +50.0)', '+25.0')
    """
    if interval is None:
        return _points(difference, 1, signed=True)
    return f"{_points(difference, 1, signed=True)} ({interval_text(interval, signed=True)})"


def count(value: float | int | None) -> str:
    """
    >>> count(1234567), count(None), count(12.5)
    ('1,234,567', '–', '12.5')
    """
    if value is None:
        return DASH
    return f"{value:,}" if isinstance(value, int) or not float(value).is_integer() else f"{int(value):,}"


def share_of(number: int, whole: int) -> str:
    """
    >>> share_of(1, 8), share_of(0, 8), share_of(0, 0)
    ('12.5\xa0%', '0', '–')
    """
    return DASH if not whole else percent(number / whole) if number else "0"


def short_count(value: int) -> str:
    """
    >>> short_count(950), short_count(12_345), short_count(6_572_540)
    ('950', '12.3k', '6.57M')
    """
    for limit, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if value >= limit:
            scaled = value / (1000 if unit == "k" else limit)
            return f"{scaled:.3g}{unit}" if scaled < 1000 else f"{scaled:.0f}{unit}"
    return f"{value:,}"


def decimal(value: float | None, digits: int = 3) -> str:
    """
    >>> decimal(0.7371), decimal(None)
    ('0.737', '–')
    >>> decimal(-0.25), decimal(-0.0001)
    ('−0.250', '0.000')
    """
    if value is None:
        return DASH
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def decimal_with_interval(value: float | None, interval: Interval | None) -> str:
    """
    >>> decimal_with_interval(0.637, Interval(0.586, 0.684))
    '0.637 (0.59–0.68)'
    """
    if value is None or interval is None:
        return decimal(value)
    low, high = (decimal(end, 2) for end in interval)
    return f"{decimal(value)} ({low}{DASH}{high})" if interval.low >= 0 else f"{decimal(value)} ({low} to {high})"


def p_text(p_value: float | None) -> str:
    """
    >>> p_text(0.0214), p_text(1.0), p_text(3e-9), p_text(None)
    ('0.021', '1', '< 0.0001', '–')
    """
    if p_value is None:
        return DASH
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}"


def p_equals(p_value: float | None) -> str:
    """
    >>> p_equals(0.0214), p_equals(3e-9), p_equals(None)
    ('p = 0.021', 'p < 0.0001', 'no p-value')
    """
    if p_value is None:
        return "no p-value"
    text = p_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def seconds_text(seconds: float | None) -> str:
    """
    >>> seconds_text(0.42), seconds_text(75), seconds_text(3725), seconds_text(None)
    ('0.4\\xa0s', '1\\xa0min\\xa015\\xa0s', '1\\xa0h\\xa002\\xa0min', '–')
    >>> seconds_text(0.0123)
    '12\\xa0ms'
    """
    if seconds is None:
        return DASH
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.0f}{SPACE}ms"
    if seconds < 10:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min{SPACE}{whole % 60:02d}{SPACE}s"
    return f"{whole // 3600}{SPACE}h{SPACE}{whole % 3600 // 60:02d}{SPACE}min"


def dollars(value: float | None) -> str:
    """
    >>> dollars(118.57), dollars(0.0042), dollars(None)
    ('$118.57', '$0.0042', '–')
    """
    if value is None:
        return DASH
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"


def printable(value: object) -> object:
    """What a template prints: text without control characters, which a terminal or a browser would act on.

    >>> printable("a\\x1b[31mb\\n")
    'a\ufffd[31mb\\n'
    """
    if type(value) is not str:  # the templates' own markup is a subclass
        return value
    return "".join(letter if letter.isprintable() or letter in KEPT else "\ufffd" for letter in value)


def plain(text: object, *, most: int = 60) -> str:
    """A name from a run as one line of printable text, cut in the middle where it is long.

    >>> plain("a\\x1b[31mb\\n"), plain("x" * 9, most=5), plain("5\\xa0%")
    ('a\ufffd[31mb\ufffd', 'xx…xx', '5\\xa0%')
    """
    shown = "".join(letter if letter.isprintable() or letter == SPACE else "\ufffd" for letter in str(text))
    if len(shown) <= most:
        return shown
    kept = most - 1
    return f"{shown[: math.ceil(kept / 2)]}…{shown[len(shown) - kept // 2 :]}"


def plural(number: int, noun: str) -> str:
    """
    >>> plural(1, "task"), plural(2, "task")
    ('1 task', '2 tasks')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
