"""The identity of a vocabulary: a hash of a tokenizer's entries.

Reads a tokenizer; writes nothing.

    vocabulary_of("Qwen/Qwen2.5-Coder-7B-Instruct")     # '5e0b...': in a trajectory beside its sampled ids
"""

from __future__ import annotations

import hashlib
from functools import cache

from tokenizers import Tokenizer

from srft.env.errors import InputError


def vocabulary_hash(tokenizer: Tokenizer) -> str:
    """Tokenizers with the same hash give every id the same text, whatever else differs between them."""
    entries = sorted(tokenizer.get_vocab(with_added_tokens=True).items())
    return hashlib.sha256("\0".join(f"{text}\1{number}" for text, number in entries).encode()).hexdigest()[:16]


@cache
def vocabulary_of(name: str) -> str:
    """The hash of a tokenizer in a folder or on the hub. Raises InputError."""
    from transformers import AutoTokenizer  # takes seconds, and few runs have token ids

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        return vocabulary_hash(tokenizer.backend_tokenizer)  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"openai.tokenizer: {name}: cannot be loaded ({' '.join(str(error).split())[:300]}); expected a folder "
            "with tokenizer.json, or a name on the hub"
        ) from None
