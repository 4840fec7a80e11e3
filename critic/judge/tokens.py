"""Counts a text's tokens: by the judge's tokenizer where it is known, else by an estimate.

    TokenCounter(None).of("def mean(xs):\\n    return 0\\n")      # about 11
    TokenCounter("Qwen/Qwen3-8B").of("def mean(xs): ...")       # to the token

The estimate counts words, digits, signs and line breaks. Its figures are fitted to Qwen3's tokenizer (152,000 entries)
on runs of coding agents, over which it is off by 7 % at most, and by less than 1 % in their sum; tokenizers of 50,000
entries take a sixth more.
"""

from __future__ import annotations

import re
from functools import cache, cached_property
from typing import Any

from srft.env.errors import InputError

_PIECE = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]+|\n+[ \t]*|[ \t]{2,}")
_WORD, _LETTER, _DIGIT, _SPACE, _SIGNS, _SIGN = 0.867, 0.101, 1.486, 0.584, 0.477, 0.418
# Letters of a word that cost nothing, and those behind which it is no word.
_WORD_LETTERS, _MOST_LETTERS = 7, 40


class TokenCounter:
    """Counts by one tokenizer, a folder or a name on the Hub; `None` estimates."""

    def __init__(self, tokenizer: str | None) -> None:
        self.tokenizer = tokenizer

    def of(self, text: str) -> int:
        """Raises InputError for a tokenizer that cannot be loaded."""
        if self.tokenizer is None:
            return estimate(text)
        return len(self._loaded.encode(text, add_special_tokens=False))

    @cached_property
    def _loaded(self) -> Any:
        return _load(str(self.tokenizer))


def estimate(text: str) -> int:
    """About how many tokens of a large vocabulary a text takes.

    >>> estimate(""), estimate("    return max(xs, default=0)")
    (0, 9)
    """
    tokens = 0.0
    for piece in _PIECE.finditer(text):
        part = piece[0]
        if part.isdigit():
            tokens += _DIGIT
        elif part.isascii() and part.isalpha():
            tokens += _WORD + _LETTER * max(0, min(len(part), _MOST_LETTERS) - _WORD_LETTERS)
        elif part.isspace():
            tokens += _SPACE
        else:
            # a row of the same sign is few tokens
            tokens += _SIGNS + _SIGN * min(len(part.encode(errors="replace")), 2 * len(set(part)))
    return round(tokens)


@cache
def _load(name: str) -> Any:
    from transformers import AutoTokenizer  # takes seconds

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"judge.openai.tokenizer: {name}: cannot be loaded ({' '.join(str(error).split())[:300]}); expected a "
            "folder with tokenizer.json, or a name on the hub; without it tokens are estimated"
        ) from None
