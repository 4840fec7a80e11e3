"""A state machine with guards, actions and a history, and a turnstile and an order built on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class TransitionError(Exception):
    """The event is not allowed in this state."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"{event!r} is not allowed in state {state!r}")
        self.state = state
        self.event = event


class Transition:
    """From a state by an event to a state, if the guard agrees; then the action is done."""

    def __init__(
        self,
        source: str,
        event: str,
        target: str,
        guard: Callable[[dict], bool] | None = None,
        action: Callable[[dict], None] | None = None,
    ) -> None:
        self.source = source
        self.event = event
        self.target = target
        self.guard = guard
        self.action = action

    def matches(self, state: str, event: str, context: dict) -> bool:
        """A source of "*" stands for every state."""
        if self.source not in (state, "*") or self.event != event:
            return False
        return self.guard is None or self.guard(context)


class Machine:
    """Holds a state and a context; the first transition that matches an event is taken."""

    def __init__(self, initial: str, transitions: list[Transition], context: dict | None = None) -> None:
        self.initial = initial
        self.state = initial
        self.transitions = list(transitions)
        self.start_context = dict(context or {})
        self.context = dict(self.start_context)
        self.history: list[tuple[str, str, str]] = []

    def can(self, event: str) -> bool:
        return self._find(event) is not None

    def send(self, event: str, **changes: Any) -> str:
        """Put the changes into the context, take a transition, and return the new state.

        Where none is allowed, the context stays as it was.
        """
        before = self.context
        self.context = {**before, **changes}
        transition = self._find(event)
        if transition is None:
            self.context = before
            raise TransitionError(self.state, event)
        if transition.action is not None:
            transition.action(self.context)
        self.history.append((self.state, event, transition.target))
        self.state = transition.target
        return self.state

    def send_all(self, *events: str) -> list[str]:
        """The states after each of the events."""
        return [self.send(event) for event in events]

    def events(self) -> list[str]:
        """The events that are allowed now, each once, in alphabetical order."""
        return sorted({transition.event for transition in self.transitions if self.can(transition.event)})

    def last(self, count: int = 1) -> list[tuple[str, str, str]]:
        """The newest `count` steps (from, event, to), oldest first."""
        return self.history[max(0, len(self.history) - count) :]

    def reset(self) -> None:
        """Go back to the initial state and context, and forget the history."""
        self.state = self.initial
        self.context = dict(self.start_context)
        self.history = []

    def _find(self, event: str) -> Transition | None:
        for transition in self.transitions:
            if transition.matches(self.state, event, self.context):
                return transition
        return None


def _count_coin(context: dict) -> None:
    context["coins"] += 1


def turnstile() -> Machine:
    """A coin unlocks it, a push locks it again; coins are counted."""
    transitions = [
        Transition("locked", "coin", "unlocked", action=_count_coin),
        Transition("unlocked", "coin", "unlocked", action=_count_coin),
        Transition("unlocked", "push", "locked"),
    ]
    return Machine("locked", transitions, {"coins": 0})


def order(total: int) -> Machine:
    """An order is paid with at least its total, then shipped; until then it can be cancelled."""
    transitions = [
        Transition("new", "pay", "paid", guard=lambda context: context["amount"] >= context["total"]),
        Transition("paid", "ship", "shipped"),
        Transition("new", "cancel", "cancelled"),
        Transition("paid", "cancel", "refunded"),
        Transition("*", "lose", "lost"),
    ]
    return Machine("new", transitions, {"total": total, "amount": 0})
