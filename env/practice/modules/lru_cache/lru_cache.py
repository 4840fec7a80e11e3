"""A cache of bounded size that forgets what was used longest ago."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class LRUCache:
    """Keeps the `capacity` most recently used values; reading or writing a key uses it."""

    def __init__(self, capacity: int = 4) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        """Looking whether a key is there does not count as using it."""
        return key in self._values

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The value of `key`, or `default`; counts a hit or a miss."""
        if key not in self._values:
            self.misses += 1
            return default
        self.hits += 1
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: Hashable, value: Any) -> list[Hashable]:
        """Store a value and return the keys that had to go for it, oldest first."""
        self._values[key] = value
        self._values.move_to_end(key)
        return self._shrink()

    def pop(self, key: Hashable) -> Any:
        """Take a value out; KeyError where there is none."""
        if key not in self._values:
            raise KeyError(key)
        return self._values.pop(key)

    def resize(self, capacity: int) -> list[Hashable]:
        """Change the capacity and return the keys that no longer fit, oldest first."""
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        return self._shrink()

    def keys(self) -> list[Hashable]:
        """The keys, least recently used first."""
        return list(self._values)

    def hit_rate(self) -> float:
        """The share of `get` calls that found a value; 0.0 before the first call."""
        calls = self.hits + self.misses
        if calls == 0:
            return 0.0
        return self.hits / calls

    def _shrink(self) -> list[Hashable]:
        evicted = []
        while len(self._values) > self.capacity:
            key, _ = self._values.popitem(last=False)
            evicted.append(key)
        return evicted


def memoize(capacity: int = 4) -> Callable:
    """A decorator that keeps the results of the last `capacity` different argument tuples."""
    missing = object()

    def decorate(function: Callable) -> Callable:
        cache = LRUCache(capacity)

        def call(*arguments: Hashable) -> Any:
            found = cache.get(arguments, missing)
            if found is missing:
                found = function(*arguments)
                cache.put(arguments, found)
            return found

        call.cache = cache
        return call

    return decorate
