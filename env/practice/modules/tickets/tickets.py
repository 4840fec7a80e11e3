"""Tickets of a small theatre, prices in euros."""


def ticket_price(age):
    """Children under 12 pay 5, all others 10."""
    return 5 if age < 12 else 10


def group_price(people, price=10):
    """The price for all; one in a group of six or more goes free."""
    return price * (people - 1) if people >= 6 else price * people


def may_enter(age, has_ticket):
    """Whether one has a ticket and is 6 or older."""
    return has_ticket and age >= 6


def refund(price, days):
    """The whole price 7 or more days before, else half of it."""
    return price if days >= 7 else price / 2


def is_sold_out(sold, places):
    """Whether no place is left."""
    return sold >= places


def change(paid, price):
    """What is given back."""
    return paid - price


def ticket_code(row, number):
    """The row, a dash and the number, as in A-7."""
    return row + "-" + str(number)
