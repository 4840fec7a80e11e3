"""Gymnasium's space of texts in any characters, for actions and observations.

Reads and writes nothing, but for the shared memory in which Gymnasium's `AsyncVectorEnv` carries observations between
processes. (Gymnasium's own `Text` wants its alphabet listed, and its texts do not arrive through that memory.)

    space = UnicodeText(20, examples=("pwd", "ls"))
    space.contains("cat é.txt"), space.contains("x" * 21)      # (True, False)
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import shared_memory

LENGTH_BYTES = 8
"""How many bytes hold the length of a text in shared memory."""

CHARACTER_BYTES = 4
"""The most bytes that a character takes in UTF-8."""


class UnicodeText(gymnasium.Space[str]):
    """Any text up to a length in characters.

    examples: what `sample` draws from.
    """

    def __init__(self, max_length: int, *, examples: Sequence[str], seed: int | None = None) -> None:
        super().__init__(dtype=str, seed=seed)
        self.max_length = max_length
        self.examples = tuple(examples)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText takes neither a mask nor a probability")
        return str(self.np_random.choice(np.array(self.examples)))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and other.max_length == self.max_length

    def __hash__(self) -> int:
        return hash(self.max_length)

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length})"


# -- shared memory: one slot an environment, of the text's length in bytes and its UTF-8 ------------------------------


def _slot_bytes(space: UnicodeText) -> int:
    return LENGTH_BYTES + CHARACTER_BYTES * space.max_length


class _SharedTexts(Sequence[str]):
    """The texts that lie in shared memory now: a view, as Gymnasium's arrays are. A deep copy is a tuple of them."""

    def __init__(self, space: UnicodeText, memory: Any, count: int) -> None:
        self._slot_bytes, self._memory, self._count = _slot_bytes(space), memory, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        begin = range(self._count)[index] * self._slot_bytes + LENGTH_BYTES
        content = memoryview(self._memory.get_obj()).cast("B")
        size = int.from_bytes(content[begin - LENGTH_BYTES : begin], "little")
        return bytes(content[begin : begin + size]).decode("utf-8", "surrogatepass")

    def __deepcopy__(self, _memo: Any) -> tuple[str, ...]:
        return tuple(self)


@shared_memory.create_shared_memory.register(UnicodeText)
def _create_shared_texts(space: UnicodeText, n: int = 1, ctx: Any = None) -> Any:
    return ctx.Array("B", n * _slot_bytes(space))


@shared_memory.read_from_shared_memory.register(UnicodeText)
def _read_shared_texts(space: UnicodeText, shared_memory: Any, n: int = 1) -> Any:
    return _SharedTexts(space, shared_memory, n)


@shared_memory.write_to_shared_memory.register(UnicodeText)
def _write_shared_text(space: UnicodeText, index: int, value: str, shared_memory: Any) -> None:
    if len(value) > space.max_length:
        raise ValueError(f"a text of {len(value)} characters; {space} has room for {space.max_length}")
    encoded = value.encode("utf-8", "surrogatepass")
    begin = index * _slot_bytes(space) + LENGTH_BYTES
    content = memoryview(shared_memory.get_obj()).cast("B")
    content[begin - LENGTH_BYTES : begin] = len(encoded).to_bytes(LENGTH_BYTES, "little")
    content[begin : begin + len(encoded)] = encoded
