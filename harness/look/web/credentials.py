"""Credentials in texts: found by their form, and left out of what is shared.

    without("curl -H 'Authorization: Bearer abc.def' https://me:pw@host/", Secrets.here())
    # ("curl -H 'Authorization: [credential removed]' https://[credential removed]@host/", 2)
    without_in_html(page, secrets)                      # also where markup or entities stand within one

Keys of the known services, authorisation headers, passwords in addresses, private keys, webhooks' addresses, values of
variables that are named as secrets, and every value of such a variable of this process's own environment. A secret of
no known form, in a text that does not call it one, is not found.
"""

import html
import os
import re
from collections.abc import Mapping
from typing import NamedTuple, Self

REMOVED = "[credential removed]"
LEAST_CHARS = 8
"""A value of the environment that is shorter may be any word."""

_QUOTE = r"""(?:\\?["'])?"""
_VALUE = r"(?=[^\s\"']*\d)[\w./+=-]"
"""A value that could be a key: of these letters, a digit among them."""

_FORMS: dict[str, tuple[str, ...]] = {
    # what must stand in a text in small letters -> forms; what is in group 1 stays
    "@": (r"(?<=[a-z])(://)(?!git@)[^\s/@\"'<>`]{1,500}(?=@[\w.\[-])",),
    "authorization": (
        rf"(authorization{_QUOTE}\s*[:=,]\s*{_QUOTE})(?:(?:bearer|basic|token|apikey)\s+)?[^\s\"'<>\\]{{6,}}",
    ),
    "api": (rf"((?:api|goog-api)[_-](?:key|token){_QUOTE}\s*[:=,]\s*{_QUOTE}){_VALUE}{{16,}}",),
    "auth": (rf"(auth[_-](?:key|token){_QUOTE}\s*[:=,]\s*{_QUOTE}){_VALUE}{{16,}}",),
    **{
        name: (rf"({name}{_QUOTE}\s*[:=]\s*{_QUOTE}){_VALUE}{{12,}}",)
        for name in ("key", "token", "secret", "password", "passwd")
    },
    "bearer": (rf"(\bbearer\s+){_VALUE}{{16,}}",),
    "sk-": (r"()\bsk-[\w-]{16,}",),
    "_": (
        r"()\b(?:hf|npm|r8)_[A-Za-z0-9]{16,}",
        r"()\bgh[pousr]_[A-Za-z0-9]{20,}",
        r"()\bgithub_pat_\w{20,}",
    ),
    "glpat-": (r"()\bglpat-[\w-]{16,}",),
    "pypi-": (r"()\bpypi-[\w-]{32,}",),
    "xox": (r"()\bxox[abeprs]-[\w-]{10,}",),
    "akia": (r"()\bAKIA[0-9A-Z]{16}\b",),
    "asia": (r"()\bASIA[0-9A-Z]{16}\b",),
    "aiza": (r"()\bAIza[\w-]{30,}",),
    "eyj": (r"()\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*",),
    "hooks.slack.com": (r"(\bhooks\.slack\.com/services/)[\w/]+",),
    "api/webhooks": (r"(\bdiscord(?:app)?\.com/api/webhooks/)[\w/-]+",),
    "private key-----": (r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)[\s\S]*?(?=-----END|\Z)",),
}
_NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")
_TAGS = re.compile(r"(<[^>]*>)")
_LETTERS = re.compile(r"&(?:#\w+|\w+);|[\s\S]")


class Secrets(NamedTuple):
    """What credentials look like. forms: (what a text with one holds in small letters, its form)."""

    forms: tuple[tuple[str, re.Pattern[str]], ...]

    @classmethod
    def here(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Those of every machine, and the values of this process's environment."""
        variables = os.environ if environment is None else environment
        own = {value for name, value in variables.items() if _NAMES.search(name.upper()) and len(value) >= LEAST_CHARS}
        known = [(needle, re.compile(form, re.IGNORECASE)) for needle, forms in _FORMS.items() for form in forms]
        return cls((*known, *((value.lower(), re.compile(f"(){re.escape(value)}")) for value in sorted(own))))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where they stand, without what leads to them, in their order."""
        small = text.lower()
        found = sorted(
            (match.end(1), match.end())
            for needle, form in self.forms
            if needle in small
            for match in form.finditer(text)
        )
        apart: list[tuple[int, int]] = []
        for begin, end in found:
            if apart and begin < apart[-1][1]:
                apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
            else:
                apart.append((begin, end))
        return apart


def without(text: str, secrets: Secrets) -> tuple[str, int]:
    """The text without credentials, and how many there were."""
    kept, done, count = [], 0, 0
    for begin, end in secrets.spans(text):
        kept += [text[done:begin], REMOVED]
        done, count = end, count + 1
    return ("".join([*kept, text[done:]]), count) if count else (text, 0)


def without_in_html(page: str, secrets: Secrets) -> tuple[str, int]:
    """A page without credentials: in its text, whatever markup is within, and in its attributes."""
    parts = _TAGS.split(page)
    count = 0
    for place in range(1, len(parts), 2):
        parts[place], found = without(parts[place], secrets)
        count += found
    spans = secrets.spans(html.unescape("".join(parts[::2])))
    if spans:
        _cut(parts, spans)
    return "".join(parts), count + len(spans)


def _cut(parts: list[str], spans: list[tuple[int, int]]) -> None:
    """Take stretches of a page's text, counted in letters as they are read, out of its parts."""
    begins = {begin for begin, _ in spans}
    inside = set().union(*(range(begin, end) for begin, end in spans))
    at = 0
    for place in range(0, len(parts), 2):
        kept = []
        for letter in _LETTERS.finditer(parts[place]):
            if at in begins:
                kept.append(REMOVED)
            if at not in inside:
                kept.append(letter[0])
            at += len(html.unescape(letter[0]))
        parts[place] = "".join(kept)
