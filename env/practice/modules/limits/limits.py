"""Whether a value lies within limits."""


def at_most(value, limit):
    """Whether value is limit or less."""
    return value <= limit


def at_least(value, limit):
    """Whether value is limit or more."""
    return value >= limit


def below(value, limit):
    """Whether value is less than limit."""
    return value < limit


def inside(value, low, high):
    """Whether value is between low and high, both included."""
    return low <= value <= high


def outside(value, low, high):
    """Whether value is less than low or more than high."""
    return value < low or value > high


def clamp(value, low, high):
    """The value, but not less than low and not more than high."""
    return max(low, min(value, high))


def headroom(value, limit):
    """How much is left up to limit, never less than 0."""
    return max(limit - value, 0)
