"""Splits arithmetic in text into numbers, names and operators."""

from typing import NamedTuple

OPERATORS = "+-*/%^(),"


class Token(NamedTuple):
    """A piece of the text: its kind ("number", "name" or "operator"), text and first column."""

    kind: str
    text: str
    column: int


def tokenize(text: str, start: int = 1) -> list[Token]:
    """The tokens of `text`, with columns counted from `start`; blanks only separate them."""
    tokens = []
    position = 0
    while position < len(text):
        character = text[position]
        if character.isspace():
            position += 1
            continue
        column = start + position
        if character in OPERATORS:
            tokens.append(Token("operator", character, column))
            position += 1
            continue
        if character.isdigit() or character == ".":
            kind, end = "number", _end_of_number(text, position)
        elif character.isalpha():
            kind, end = "name", _end_of_name(text, position)
        else:
            raise SyntaxError(f"unexpected {character!r} in column {column}")
        tokens.append(Token(kind, text[position:end], column))
        position = end
    return tokens


def _end_of_number(text: str, position: int) -> int:
    points = 0
    while position < len(text) and (text[position].isdigit() or text[position] == "."):
        points += text[position] == "."
        position += 1
    if points > 1:
        raise SyntaxError("a number has more than one decimal point")
    return position


def _end_of_name(text: str, position: int) -> int:
    while position < len(text) and (text[position].isalnum() or text[position] == "_"):
        position += 1
    return position
