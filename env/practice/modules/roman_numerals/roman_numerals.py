"""Roman numerals: numbers to text and back, with their strict spelling."""

VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}

PIECES = [
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
]

LARGEST = 3999


class RomanError(ValueError):
    """The text is no Roman numeral, or not in its one proper spelling."""


def to_roman(number: int, lower: bool = False) -> str:
    """The numeral of a number from 1 to 3999."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"expected a whole number, got {number!r}")
    if number < 1 or number > LARGEST:
        raise OverflowError(f"{number} is not between 1 and {LARGEST}")
    text = ""
    for value, piece in PIECES:
        while number >= value:
            text += piece
            number -= value
    return text.lower() if lower else text


def value_of(text: str) -> int:
    """The sum of the letters, each counted negative where a larger one follows it.

    Reads odd spellings too: "IIII" is 4 and "IC" is 99.
    """
    total = 0
    following = 0
    for letter in reversed(text.upper()):
        if letter not in VALUES:
            raise RomanError(f"{letter!r} is no Roman digit")
        value = VALUES[letter]
        if value < following:
            total -= value
        else:
            total += value
        following = value
    return total


def from_roman(text: str, strict: bool = True) -> int:
    """The number a numeral stands for; a strict reading takes only its proper spelling."""
    if not text:
        raise RomanError("the numeral is empty")
    number = value_of(text)
    if strict and to_roman(number) != text.upper():
        raise RomanError(f"{text!r} is not how {number} is spelled")
    return number


def is_roman(text: str) -> bool:
    """Whether the text is a numeral in its proper spelling."""
    try:
        from_roman(text)
    except (RomanError, OverflowError):
        return False
    return True


def add(*numerals: str) -> str:
    """The sum of numerals, as a numeral."""
    return to_roman(sum(from_roman(numeral) for numeral in numerals))


def number_chapters(titles: list[str], first: int = 1) -> list[str]:
    """The titles with "I. ", "II. " and so on before them, aligned at the points."""
    labels = [to_roman(first + index) for index in range(len(titles))]
    width = max((len(label) for label in labels), default=0)
    return [f"{label.rjust(width)}. {title}" for label, title in zip(labels, titles)]
