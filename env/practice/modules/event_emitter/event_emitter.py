"""Listeners by event name: with priorities, once only, wildcards and a pause."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Handler = Callable[..., Any]


class Stop(Exception):
    """Raised by a handler: the ones after it are not called."""


@dataclass(eq=False)
class Listener:
    """A handler with what it waits for."""

    event: str
    handler: Handler
    priority: int = 0
    once: bool = False

    def wants(self, event: str) -> bool:
        """Its own event; "user.*" wants all that begin with "user.", and "*" wants every one."""
        if self.event.endswith("*"):
            return event.startswith(self.event[:-1])
        return event == self.event


class Emitter:
    """Calls the listeners of an event, high priorities first, equals in order of arrival."""

    def __init__(self, most: int = 10) -> None:
        self.most = most
        self.counts: dict[str, int] = {}
        self._listeners: list[Listener] = []
        self._paused = 0
        self._held: list[tuple[str, tuple, dict]] = []

    def on(self, event: str, handler: Handler, *, priority: int = 0, once: bool = False) -> Callable[[], None]:
        """Add a handler and return a function that takes it away again."""
        if len(self._listeners) >= self.most:
            raise OverflowError(f"more than {self.most} listeners")
        if not callable(handler):
            raise TypeError("a handler must be callable")
        listener = Listener(event, handler, priority, once)
        self._listeners.append(listener)
        return lambda: self._drop(listener)

    def once(self, event: str, handler: Handler) -> Callable[[], None]:
        """Add a handler that is called a single time."""
        return self.on(event, handler, once=True)

    def handles(self, event: str, priority: int = 0) -> Callable[[Handler], Handler]:
        """A decorator that adds the function as a handler and leaves it as it is."""

        def decorate(handler: Handler) -> Handler:
            self.on(event, handler, priority=priority)
            return handler

        return decorate

    def listeners(self, event: str) -> list[Listener]:
        """Those that want the event, in the order of their calls."""
        wanted = [listener for listener in self._listeners if listener.wants(event)]
        return sorted(wanted, key=lambda listener: -listener.priority)

    def emit(self, event: str, *arguments: Any, **options: Any) -> list[Any]:
        """Call the listeners and return their results; nothing is called during a pause."""
        if self._paused:
            self._held.append((event, arguments, options))
            return []
        self.counts[event] = self.counts.get(event, 0) + 1
        results = []
        for listener in self.listeners(event):
            if listener.once:
                self._drop(listener)
            try:
                results.append(listener.handler(*arguments, **options))
            except Stop:
                break
        return results

    def clear(self, event: str | None = None) -> int:
        """Take away the listeners of an event, or all, and return how many went."""
        before = len(self._listeners)
        self._listeners = [each for each in self._listeners if event is not None and each.event != event]
        return before - len(self._listeners)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold events back, and emit them in order when the outermost pause ends."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
        if self._paused == 0:
            held, self._held = self._held, []
            for event, arguments, options in held:
                self.emit(event, *arguments, **options)

    def _drop(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
