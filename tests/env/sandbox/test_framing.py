"""The marker reader against a reference that keeps everything in memory."""

import math
import re
import time
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srft.env.sandbox.channel import ChannelClosed
from srft.env.sandbox.framing import LONGEST_MARKER_BYTES, MarkerReader

NONCE = "0123456789abcdef"


class Chunks:
    """A channel from which given chunks come, then its end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def receive(self, timeout_s: float) -> bytes:
        for chunk in self._chunks:
            if chunk:
                return chunk
            raise TimeoutError
        raise ChannelClosed

    def send(self, content: bytes, timeout_s: float) -> None:
        raise NotImplementedError

    def exit_code(self) -> int | None:
        return None

    def close(self) -> None:
        pass


def split(content: bytes, cuts: list[int]) -> list[bytes]:
    """Content in pieces; two equal cuts make an empty piece, which the channel gives as a timeout."""
    at = sorted(cut % (len(content) + 1) for cut in cuts)
    return [content[start:end] for start, end in zip([0, *at], [*at, len(content)], strict=True)]


def read_all(chunks: Iterable[bytes]) -> list[object]:
    """Output (bytes, joined) and markers (kind, fields) of a stream, in their order."""
    reader = MarkerReader(Chunks(chunks), NONCE)
    seen: list[object] = []

    def sink(chunk: bytes) -> None:
        if seen and isinstance(seen[-1], bytes):
            seen[-1] += chunk
        elif chunk:
            seen.append(chunk)

    try:
        while marker := reader.read(math.inf, sink, lambda: None):
            seen.append(tuple(marker))
    except ChannelClosed:
        return seen
    raise AssertionError("no deadline, so only the end of the channel ends it")


MARKER = re.compile(rb"\x1e%s ([BES]) ([0-9]{1,10}) ([^\x1e]*)\x1e" % NONCE.encode())


def reference(content: bytes) -> list[object]:
    seen: list[object] = []
    at = 0
    for match in MARKER.finditer(content):
        if match.start() > at:
            seen.append(content[at : match.start()])
        kind, number, rest = (field.decode(errors="surrogateescape") for field in match.groups())
        seen.append((kind, int(number), rest))
        at = match.end()
    return seen + ([content[at:]] if at < len(content) else [])


pieces = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"\x1e",
            b"\x1e" * 3,
            b"\x1e" + NONCE.encode(),
            b"\x1e" + NONCE.encode() + b" ",
            b"\x1e" + NONCE[:7].encode(),
            b"\x1efedcba9876543210 E 0 /\x1e",
            b"\x1e%s E 0 /a b/$'\\303'\xff\x1e" % NONCE.encode(),
            b"\x1e%s B 17 \x1e" % NONCE.encode(),
            b"\x1e%s E\x1e" % NONCE.encode(),
            b"\x1e%s E x /\x1e" % NONCE.encode(),
            b"\x1e%s E 99999999999 /\x1e" % NONCE.encode(),
            b"\x1e%s X 1 /\x1e" % NONCE.encode(),
            b"\x1e%s E -1 /\x1e" % NONCE.encode(),
        ]
    ),
)


@given(st.lists(pieces, max_size=12).map(b"".join), st.lists(st.integers(0, 10_000), max_size=12))
@example(b"\x1e%s E \x1e%s E 3 /\x1e" % (NONCE.encode(), NONCE.encode()), [])
def test_marker_reader_gives_the_same_for_any_chunking(content: bytes, cuts: list[int]) -> None:
    assert read_all(split(content, cuts)) == reference(content)


@given(st.binary(max_size=200))
def test_markers_of_another_nonce_are_output(noise: bytes) -> None:
    forged = b"\x1e%032x E 0 /\x1e" % int.from_bytes(noise[:16])
    content = noise.replace(b"\x1e", b"") + forged
    assert read_all([content[n : n + 1] for n in range(len(content))]) == [content]


def test_a_marker_that_never_ends_becomes_output_and_hides_none() -> None:
    forged = b"\x1e%s E 0 " % NONCE.encode() + b"x" * (3 * LONGEST_MARKER_BYTES)
    genuine = b"\x1e%s E 7 /\x1e" % NONCE.encode()
    content = forged + genuine + b"after"
    for size in (997, 4096, 1 << 20):
        stream = (content[n : n + size] for n in range(0, len(content), size))
        assert read_all(stream) == [forged, ("E", 7, "/"), b"after"]


def test_a_deadline_gives_none_and_loses_no_output() -> None:
    reader = MarkerReader(Chunks([b"ab", b"", b"c\x1e0123", b"", b"456789abcdef E 0 /\x1e"]), NONCE)
    output = bytearray()
    assert reader.read(time.monotonic() - 1, output.extend, lambda: None) is None
    assert reader.read(math.inf, output.extend, lambda: None) == ("E", 0, "/")
    assert output == b"abc"


def test_idle_may_end_the_reading() -> None:
    def idle() -> None:
        raise KeyError

    def trickle() -> Iterable[bytes]:
        while True:
            time.sleep(0.1)
            yield b""

    with pytest.raises(KeyError):
        MarkerReader(Chunks(trickle()), NONCE).read(math.inf, lambda chunk: None, idle)
