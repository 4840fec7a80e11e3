"""Temperatures and what they mean."""


def to_fahrenheit(celsius):
    """Celsius in Fahrenheit: nine fifths of it and 32."""
    return celsius * 9 / 5 + 32


def to_celsius(fahrenheit):
    """Fahrenheit in Celsius: 32 less, then five ninths."""
    return (fahrenheit - 32) * 5 / 9


def to_kelvin(celsius):
    """Celsius in Kelvin: 273 more."""
    return celsius + 273


def is_frost(celsius):
    """Whether it is colder than 0."""
    return celsius < 0


def is_hot(celsius, limit=30):
    """Whether it is limit or warmer."""
    return celsius >= limit


def spread(readings):
    """The difference of the highest and the lowest reading."""
    return max(readings) - min(readings)


def mean(readings):
    """The mean of readings, 0 where there are none."""
    return sum(readings) / len(readings) if readings else 0
