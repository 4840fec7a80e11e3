"""Detects a judge that was shown the reference fix and repeats it where the run had not seen it.

Verdicts may rest on the reference fix; reasons are kept, read and exported, and must not carry it.

    guard = LeakGuard(gold_patch)
    guard.leaks("It should return `max(xs, default=0)`.", seen="def f(xs): return max(xs)")      # True

A reason leaks when it holds one of these, and `seen` (the run up to that step, the task included) does not:
- a line that the fix adds, of at least 4 tokens and 12 characters;
- 8 tokens in a row of what it adds;
- a name that it adds and that is no plain word (with an underscore, a digit or an inner capital, 5 characters or more);
- the path of a file that it touches.
Texts are compared as tokens, so that white space, quotes around them and line breaks do not matter.
"""

from __future__ import annotations

import re

LINE_TOKENS, LINE_CHARS = 4, 12
RUN_TOKENS = 8
NAME_CHARS = 5

_TOKEN = re.compile(r"\w+|[^\w\s]")
_FILE = re.compile(r"^(?:---|\+\+\+) [ab]/(.+?)\t?$")


class LeakGuard:
    """What is peculiar to one reference fix."""

    def __init__(self, gold_patch: str) -> None:
        runs, paths = _added(gold_patch)
        lines = [_TOKEN.findall(line) for run in runs for line in run]
        self._phrases = {_joined(line) for line in lines if len(line) >= LINE_TOKENS and _length(line) >= LINE_CHARS}
        self._phrases |= {_joined(_TOKEN.findall(path)) for path in paths if "/" in path}
        self._names = {token for line in lines for token in line if _is_name(token)}
        self._grams = {gram for run in runs for gram in _grams(_TOKEN.findall("\n".join(run)))}

    def leaks(self, reason: str, *, seen: str) -> bool:
        """Whether a reason repeats the fix beyond what was seen."""
        quoted = self._quoted(_TOKEN.findall(reason))
        if not quoted:
            return False
        seen_tokens = _joined(_TOKEN.findall(seen))
        return any(phrase not in seen_tokens for phrase in quoted)

    def _quoted(self, tokens: list[str]) -> set[str]:
        text = _joined(tokens)
        return (
            {phrase for phrase in self._phrases if phrase in text}
            | (self._grams & set(_grams(tokens)))
            | {_joined([token]) for token in tokens if token in self._names}
        )


def _added(patch: str) -> tuple[list[list[str]], set[str]]:
    """(the added lines, those that follow each other together; the paths). Hunk sizes tell headers from lines."""
    runs: list[list[str]] = [[]]
    paths: set[str] = set()
    old_left = new_left = 0
    for line in patch.split("\n"):
        if old_left <= 0 and new_left <= 0:
            runs.append([])
            if hunk := re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line):
                old_left, new_left = (int(count) if count is not None else 1 for count in hunk.groups())
            elif file := _FILE.match(line):
                paths.add(file[1])
        elif line.startswith("+"):
            runs[-1].append(line[1:])
            new_left -= 1
        elif not line.startswith("\\"):
            runs.append([])
            old_left -= 1
            new_left -= not line.startswith("-")
    return [run for run in runs if run], paths


def _joined(tokens: list[str]) -> str:
    """Tokens as a text in which one list of tokens is found only where another holds it whole."""
    return f" {' '.join(tokens)} "


def _length(tokens: list[str]) -> int:
    return sum(map(len, tokens))


def _grams(tokens: list[str]) -> list[str]:
    return [_joined(tokens[place : place + RUN_TOKENS]) for place in range(len(tokens) - RUN_TOKENS + 1)]


def _is_name(token: str) -> bool:
    if len(token) < NAME_CHARS or not re.match(r"[^\W\d]", token):
        return False
    return "_" in token.strip("_") or bool(re.search(r"\d|[a-z][A-Z]", token))
