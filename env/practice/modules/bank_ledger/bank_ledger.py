"""A ledger of accounts in whole cents, with overdrafts, transfers and statements."""

from dataclasses import dataclass


class LedgerError(Exception):
    """What every error of the ledger is."""


class UnknownAccount(LedgerError):
    """The account was never opened."""


class InsufficientFunds(LedgerError):
    """The account may not go that far below zero."""

    def __init__(self, account: str, missing: int) -> None:
        super().__init__(f"{account} lacks {missing} cents")
        self.account = account
        self.missing = missing


@dataclass(frozen=True)
class Entry:
    """One booking; `amount` is negative where money left the account."""

    account: str
    amount: int
    note: str = ""


class Ledger:
    """Accounts by name. A booking that is refused leaves every balance as it was."""

    def __init__(self) -> None:
        self._balances: dict[str, int] = {}
        self._overdrafts: dict[str, int] = {}
        self._entries: list[Entry] = []

    def open(self, account: str, overdraft: int = 0) -> None:
        """Open an account at zero that may go down to minus `overdraft`."""
        if account in self._balances:
            raise LedgerError(f"{account} is open already")
        if overdraft < 0:
            raise ValueError("an overdraft is not negative")
        self._balances[account] = 0
        self._overdrafts[account] = overdraft

    def balance(self, account: str) -> int:
        if account not in self._balances:
            raise UnknownAccount(account)
        return self._balances[account]

    def deposit(self, account: str, amount: int, note: str = "deposit") -> int:
        """Add money and return the new balance."""
        _check_amount(amount)
        return self._book(account, amount, note)

    def withdraw(self, account: str, amount: int, note: str = "withdrawal") -> int:
        """Take money out and return the new balance."""
        _check_amount(amount)
        available = self.balance(account) + self._overdrafts[account]
        if amount > available:
            raise InsufficientFunds(account, amount - available)
        return self._book(account, -amount, note)

    def transfer(self, source: str, target: str, amount: int, fee: int = 0) -> None:
        """Move `amount` from source to target; the source also pays the fee."""
        if source == target:
            raise LedgerError("source and target are the same account")
        self.balance(target)
        _check_amount(amount)
        self.withdraw(source, amount + fee, f"to {target}")
        self.deposit(target, amount, f"from {source}")

    def entries(self, account: str) -> list[Entry]:
        """The account's bookings, oldest first."""
        return [entry for entry in self._entries if entry.account == account]

    def statement(self, account: str, last: int = 3) -> list[str]:
        """The `last` newest bookings as "+1.50 deposit", newest first."""
        newest = self.entries(account)[-last:]
        return [f"{format_cents(entry.amount)} {entry.note}" for entry in reversed(newest)]

    def balances(self) -> dict[str, int]:
        """Every account's balance; a copy."""
        return dict(self._balances)

    def total(self) -> int:
        """The money in all accounts together."""
        return sum(self._balances.values())

    def _book(self, account: str, amount: int, note: str) -> int:
        balance = self.balance(account) + amount
        self._balances[account] = balance
        self._entries.append(Entry(account, amount, note))
        return balance


def _check_amount(amount: int) -> None:
    if amount <= 0:
        raise ValueError(f"an amount must be positive, got {amount}")


def format_cents(amount: int) -> str:
    """Cents with a sign and two decimals: 150 is "+1.50"."""
    sign = "-" if amount < 0 else "+"
    whole, cents = divmod(abs(amount), 100)
    return f"{sign}{whole}.{cents:02d}"
