"""What a phone call costs, in cents."""


def call_cost(minutes, rate=9):
    """The rate for each minute."""
    return minutes * rate


def billed_minutes(seconds):
    """Minutes that have begun: 60 seconds are one, 61 are two."""
    return (seconds + 59) // 60


def is_night(hour):
    """Whether the hour is 22 or later or before 6."""
    return hour >= 22 or hour < 6


def is_peak(hour):
    """Whether the hour is 8 to 17, 18 not included."""
    return 8 <= hour < 18


def rate_at(hour):
    """The rate is 12 from 8 o'clock on and 5 before."""
    return 12 if hour >= 8 else 5


def monthly_bill(calls, fee=500):
    """The fee and the cost of all calls."""
    return fee + sum(calls)


def left_over(credit, cost):
    """The credit after a call, never less than 0."""
    return max(credit - cost, 0)
