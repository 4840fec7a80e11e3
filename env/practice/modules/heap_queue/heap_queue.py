"""A priority queue on a binary heap: stable, with changeable priorities."""

from collections.abc import Iterable, Iterator
from typing import Any


class Empty(LookupError):
    """There is nothing to take."""


class HeapQueue:
    """Gives out the entry with the lowest priority number; equals in order of their arrival."""

    def __init__(self, entries: Iterable[tuple[int, Any]] = ()) -> None:
        self._heap: list[tuple[int, int, Any]] = []
        self._arrivals = 0
        for priority, value in entries:
            self.push(value, priority)

    def __len__(self) -> int:
        return len(self._heap)

    def __bool__(self) -> bool:
        return len(self._heap) > 0

    def push(self, value: Any, priority: int = 0) -> None:
        self._heap.append((priority, self._arrivals, value))
        self._arrivals += 1
        self._rise(len(self._heap) - 1)

    def peek(self) -> Any:
        """The next value, left where it is."""
        if not self._heap:
            raise Empty("peek at an empty queue")
        return self._heap[0][2]

    def pop(self) -> Any:
        """Take the next value out."""
        if not self._heap:
            raise Empty("pop from an empty queue")
        last = self._heap.pop()
        if not self._heap:
            return last[2]
        first = self._heap[0]
        self._heap[0] = last
        self._sink(0)
        return first[2]

    def push_pop(self, value: Any, priority: int = 0) -> Any:
        """Put a value in, then take the next one out."""
        self.push(value, priority)
        return self.pop()

    def reprioritize(self, value: Any, priority: int) -> int:
        """Change the priority of a value and return its old one; it keeps its place among equals."""
        for index, (old, arrival, held) in enumerate(self._heap):
            if held == value:
                self._heap[index] = (priority, arrival, held)
                if priority < old:
                    self._rise(index)
                else:
                    self._sink(index)
                return old
        raise KeyError(value)

    def drain(self, limit: int | None = None) -> Iterator[Any]:
        """Take values out in order until the queue is empty or `limit` are taken."""
        taken = 0
        while self._heap and (limit is None or taken < limit):
            yield self.pop()
            taken += 1

    def copy(self) -> "HeapQueue":
        """A queue with the same entries that changes on its own."""
        other = HeapQueue()
        other._heap = list(self._heap)
        other._arrivals = self._arrivals
        return other

    def _rise(self, index: int) -> None:
        while index > 0:
            parent = (index - 1) // 2
            if not self._comes_first(index, parent):
                return
            self._swap(index, parent)
            index = parent

    def _sink(self, index: int) -> None:
        while True:
            first = index
            for child in (2 * index + 1, 2 * index + 2):
                if child < len(self._heap) and self._comes_first(child, first):
                    first = child
            if first == index:
                return
            self._swap(index, first)
            index = first

    def _comes_first(self, left: int, right: int) -> bool:
        return self._heap[left][:2] < self._heap[right][:2]

    def _swap(self, left: int, right: int) -> None:
        heap = self._heap
        heap[left], heap[right] = heap[right], heap[left]


def smallest(numbers: Iterable[int], count: int = 1) -> list[int]:
    """The `count` smallest numbers in rising order."""
    queue = HeapQueue((number, number) for number in numbers)
    return list(queue.drain(count))


def merge_sorted(*rows: list[int]) -> list[int]:
    """One sorted list of all numbers in sorted lists."""
    queue = HeapQueue((row[0], (row, 0)) for row in rows if row)
    merged = []
    while queue:
        row, index = queue.pop()
        merged.append(row[index])
        if index + 1 < len(row):
            queue.push((row, index + 1), row[index + 1])
    return merged
