"""Amounts of money in whole cents: exact sums, fair splits, text, and shared bills."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class CurrencyMismatch(TypeError):
    """Amounts of different currencies cannot be combined."""


@dataclass(frozen=True)
class Money:
    """An amount in cents; negative for a debt."""

    cents: int
    currency: str = "EUR"

    def __add__(self, other: Money) -> Money:
        return Money(self.cents + self._cents_of(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.cents - self._cents_of(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.cents, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.cents < self._cents_of(other)

    def __str__(self) -> str:
        """As "-1,234.50 EUR"."""
        sign = "-" if self.cents < 0 else ""
        whole, rest = divmod(abs(self.cents), 100)
        return f"{sign}{whole:,}.{rest:02d} {self.currency}"

    def percent(self, rate: int) -> Money:
        """That many percent; half a cent is rounded away from zero."""
        product = abs(self.cents) * abs(rate)
        rounded = (product + 50) // 100
        negative = (self.cents < 0) != (rate < 0)
        return Money(-rounded if negative else rounded, self.currency)

    def split(self, parts: int) -> list[Money]:
        """Shares that differ by a cent at most, the larger ones first, with the whole as their sum."""
        if parts < 1:
            raise ValueError("money is split into at least one part")
        return self.allocate([1] * parts)

    def allocate(self, weights: list[int]) -> list[Money]:
        """Shares in the ratio of the weights; spare cents go one by one from the first share on."""
        total = sum(weights)
        if total <= 0 or min(weights) < 0:
            raise ValueError(f"weights {weights} cannot share")
        sign = -1 if self.cents < 0 else 1
        shares = [abs(self.cents) * weight // total for weight in weights]
        spare = abs(self.cents) - sum(shares)
        for index, weight in enumerate(weights):
            if spare > 0 and weight > 0:
                shares[index] += 1
                spare -= 1
        return [Money(sign * share, self.currency) for share in shares]

    def _cents_of(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency}")
        return other.cents


def parse(text: str, currency: str = "EUR") -> Money:
    """Read "12", "-3.5", "1,234.50" or "7.00 USD"; at most two decimals."""
    number, _, named = text.strip().partition(" ")
    negative = number.startswith("-")
    whole, point, decimals = number.removeprefix("-").replace(",", "").partition(".")
    if not whole.isdigit() or (point and not decimals.isdigit()):
        raise ValueError(f"{text!r} is no amount")
    if len(decimals) > 2:
        raise ValueError(f"{text!r} has more than two decimals")
    cents = int(whole) * 100 + int(decimals.ljust(2, "0"))
    return Money(-cents if negative else cents, named or currency)


def total(amounts: Iterable[Money], currency: str = "EUR") -> Money:
    """The sum; zero of the currency where there are none."""
    result = Money(0, currency)
    for amount in amounts:
        result += amount
    return result


class Bill:
    """Friends pay for each other; at the end few payments make it even."""

    def __init__(self, friends: list[str]) -> None:
        if len(set(friends)) < len(friends):
            raise ValueError("a name comes twice")
        self._balances = dict.fromkeys(friends, 0)

    def pay(self, payer: str, cents: int, among: list[str] | None = None) -> None:
        """Someone pays for all, or only for those in `among`."""
        if payer not in self._balances:
            raise KeyError(payer)
        sharers = list(self._balances) if among is None else among
        for name, share in zip(sharers, Money(cents).split(len(sharers))):
            self._balances[name] -= share.cents
        self._balances[payer] += cents

    def balances(self) -> dict[str, int]:
        """What each is owed in cents, negative where one owes; a copy."""
        return self._balances.copy()

    def settle(self) -> list[tuple[str, str, int]]:
        """Payments (from, to, cents): the one who owes most pays the one who is owed most, and so on."""
        open_balances = self.balances()
        payments = []
        while any(open_balances.values()):
            debtor = min(open_balances, key=open_balances.get)
            creditor = max(open_balances, key=open_balances.get)
            amount = min(-open_balances[debtor], open_balances[creditor])
            open_balances[debtor] += amount
            open_balances[creditor] -= amount
            payments.append((debtor, creditor, amount))
        return payments
