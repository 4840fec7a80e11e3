"""What is kept of a stream, against the whole of it."""

import doctest

from hypothesis import given
from hypothesis import strategies as st

from srft.env.sandbox import truncation
from srft.env.sandbox.truncation import HeadTail
from tests.env.sandbox.test_framing import split


def test_the_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(truncation).failed == 0


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(0, 40))
def test_head_and_tail_are_those_of_the_whole(chunks: list[bytes], limit_bytes: int) -> None:
    kept = HeadTail(limit_bytes=limit_bytes)
    for chunk in chunks:
        kept.append(chunk)
    whole = b"".join(chunks)
    if len(whole) <= limit_bytes:
        assert kept.head() + kept.tail() == whole
        assert kept.elided_bytes == 0
    else:
        half = limit_bytes // 2
        assert kept.head() == whole[:half]
        assert kept.tail() == whole[len(whole) - (limit_bytes - half) :]
        assert kept.elided_bytes == len(whole) - limit_bytes


@given(st.text(alphabet="aé€😀\x00\n", max_size=60), st.lists(st.integers(0, 10_000), max_size=6), st.integers(0, 60))
def test_kept_text_cuts_no_character_and_counts_every_byte(whole: str, cuts: list[int], limit_bytes: int) -> None:
    kept = HeadTail(limit_bytes=limit_bytes)
    for chunk in split(whole.encode(), cuts):
        kept.append(chunk)
    text, elided_at, elided_bytes = kept.text()
    assert len(text.encode()) + elided_bytes == len(whole.encode())
    assert whole.startswith(text[:elided_at])
    assert whole.endswith(text[elided_at:])
    # Of the limit only what is needed to cut between characters is not used: at most 3 bytes on each side.
    assert len(text.encode()) >= min(limit_bytes, len(whole.encode())) - 6


@given(st.binary(max_size=60), st.integers(0, 40))
def test_any_bytes_decode(whole: bytes, limit_bytes: int) -> None:
    kept = HeadTail(limit_bytes=limit_bytes)
    kept.append(whole)
    text, elided_at, elided_bytes = kept.text()
    assert 0 <= elided_at <= len(text)
    assert 0 <= elided_bytes <= len(whole)
    if len(whole) <= limit_bytes:
        assert (text, elided_at, elided_bytes) == (whole.decode(errors="replace"), len(text), 0)


def test_memory_is_bounded() -> None:
    kept = HeadTail(limit_bytes=1000)
    for _ in range(10_000):
        kept.append(b"x" * 1000)
        assert len(kept._head) + len(kept._tail) <= 2000
    assert kept.elided_bytes == 10_000_000 - 1000
