"""A set of small whole numbers kept in the bits of one integer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class BitSet:
    """A changeable set of numbers from 0 up to, but not including, `size`."""

    def __init__(self, size: int = 64, members: Iterable[int] = ()) -> None:
        if size < 1:
            raise ValueError("a bit set has room for at least one number")
        self.size = size
        self.bits = 0
        for member in members:
            self.add(member)

    def __contains__(self, number: int) -> bool:
        return 0 <= number < self.size and self.bits >> number & 1 == 1

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __iter__(self) -> Iterator[int]:
        """The members in rising order."""
        rest = self.bits
        while rest:
            lowest = rest & -rest
            yield lowest.bit_length() - 1
            rest ^= lowest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BitSet):
            return NotImplemented
        return self.size == other.size and self.bits == other.bits

    __hash__ = None  # changeable, like a list

    def __or__(self, other: BitSet) -> BitSet:
        return self._with(self.bits | self._bits_of(other))

    def __and__(self, other: BitSet) -> BitSet:
        return self._with(self.bits & self._bits_of(other))

    def __sub__(self, other: BitSet) -> BitSet:
        return self._with(self.bits & ~self._bits_of(other))

    def __xor__(self, other: BitSet) -> BitSet:
        return self._with(self.bits ^ self._bits_of(other))

    def __invert__(self) -> BitSet:
        """All numbers below the size that are not in the set."""
        return self._with((1 << self.size) - 1 - self.bits)

    def __le__(self, other: BitSet) -> bool:
        """Whether every member is in the other set too."""
        return self.bits & ~self._bits_of(other) == 0

    def add(self, number: int) -> bool:
        """Put a number in; False where it was there already."""
        self._check(number)
        fresh = number not in self
        self.bits |= 1 << number
        return fresh

    def discard(self, number: int) -> bool:
        """Take a number out; False where it was not there."""
        if number not in self:
            return False
        self.bits &= ~(1 << number)
        return True

    def flip(self, start: int, stop: int | None = None) -> None:
        """Turn membership around for numbers from `start` up to `stop`, or for `start` alone."""
        if stop is None:
            stop = start + 1
        if start > stop:
            raise ValueError(f"{start} comes after {stop}")
        for number in range(start, stop):
            self._check(number)
        mask = (1 << stop) - (1 << start)
        self.bits ^= mask

    def rank(self, number: int) -> int:
        """How many members are smaller than `number`."""
        return (self.bits & ((1 << number) - 1)).bit_count()

    def select(self, index: int) -> int:
        """The member at `index` in rising order, counted from 0."""
        for position, member in enumerate(self):
            if position == index:
                return member
        raise IndexError(f"no member at {index}")

    def copy(self) -> BitSet:
        return self._with(self.bits)

    def runs(self) -> list[tuple[int, int]]:
        """The first and last number of each unbroken row of members."""
        rows: list[tuple[int, int]] = []
        for member in self:
            if rows and rows[-1][1] == member - 1:
                rows[-1] = (rows[-1][0], member)
            else:
                rows.append((member, member))
        return rows

    def _check(self, number: int) -> None:
        if not 0 <= number < self.size:
            raise IndexError(f"{number} is not between 0 and {self.size - 1}")

    def _bits_of(self, other: BitSet) -> int:
        if self.size != other.size:
            raise ValueError(f"the sizes differ: {self.size} and {other.size}")
        return other.bits

    def _with(self, bits: int) -> BitSet:
        result = BitSet(self.size)
        result.bits = bits
        return result


def primes(limit: int) -> list[int]:
    """The primes below `limit`, by the sieve of Eratosthenes."""
    if limit < 3:
        return []
    candidates = BitSet(limit, range(2, limit))
    for number in range(2, limit):
        if number in candidates:
            for multiple in range(number * number, limit, number):
                candidates.discard(multiple)
    return list(candidates)
