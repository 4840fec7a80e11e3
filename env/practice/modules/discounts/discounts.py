"""Prices in cents and what is taken off them."""


def percent_off(price, percent):
    """The price less percent of it, in whole cents."""
    return price - price * percent // 100


def amount_off(price, amount):
    """The price less amount, never less than 0."""
    return max(price - amount, 0)


def bulk_price(price, count):
    """The price of count pieces; every tenth piece is free."""
    return price * (count - count // 10)


def free_delivery(total, minimum=5000):
    """Whether total reaches minimum."""
    return total >= minimum


def member_price(price, member):
    """The price, 10 percent less for a member."""
    return price * 9 // 10 if member else price


def cheaper(first, second):
    """The lower of two prices."""
    return min(first, second)


def with_tax(price, rate=20):
    """The price with rate percent added, in whole cents."""
    return price + price * rate // 100
