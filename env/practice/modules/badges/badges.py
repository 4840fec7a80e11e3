"""Badges for the number of days that one has taken part."""


def level(days):
    """One level for every 7 whole days."""
    return days // 7


def days_to_next(days):
    """The days that are missing until the next level."""
    return 7 - days % 7


def colour(days):
    """Gold from 100 days on, silver before."""
    return "gold" if days >= 100 else "silver"


def has_streak(days):
    """Whether the last three days are all true."""
    return all(days[-3:]) and len(days) >= 3


def stars(count):
    """As many stars as count, at most 5."""
    return "*" * min(count, 5)


def badge_name(kind, number):
    """The kind as a title, a space and the number."""
    return kind.title() + " " + str(number)


def bonus(days, factor=2):
    """Days times factor, and 10 for a full month of 30 days."""
    return days * factor + days // 30 * 10
