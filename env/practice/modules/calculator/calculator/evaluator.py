"""Evaluates arithmetic by recursive descent, straight from the tokens."""

from collections.abc import Mapping

from calculator.tokens import Token, tokenize

FUNCTIONS = {"abs": (abs, 1), "max": (max, 2), "min": (min, 2)}


def evaluate(text: str, names: Mapping[str, float] | None = None) -> float:
    """The value of the text: + - * / % ^ with the usual precedence, brackets, names, functions."""
    parser = _Parser(tokenize(text), names or {})
    value = parser.sum()
    if parser.text() is not None:
        raise SyntaxError(f"unexpected {parser.text()!r} after the end")
    return value


class _Parser:
    def __init__(self, tokens: list[Token], names: Mapping[str, float]) -> None:
        self.tokens = tokens
        self.names = names
        self.position = 0

    def text(self) -> str | None:
        """The text of the next token, None at the end."""
        if self.position == len(self.tokens):
            return None
        return self.tokens[self.position].text

    def take(self) -> Token:
        if self.position == len(self.tokens):
            raise SyntaxError("the text ends too early")
        self.position += 1
        return self.tokens[self.position - 1]

    def expect(self, text: str) -> None:
        token = self.take()
        if token.text != text:
            raise SyntaxError(f"expected {text!r}, got {token.text!r}")

    def sum(self) -> float:
        value = self.product()
        while self.text() in ("+", "-"):
            if self.take().text == "+":
                value = value + self.product()
            else:
                value = value - self.product()
        return value

    def product(self) -> float:
        value = self.sign()
        while self.text() in ("*", "/", "%"):
            operator, right = self.take().text, self.sign()
            if operator == "*":
                value = value * right
            elif operator == "/":
                value = value / right
            else:
                value = value % right
        return value

    def sign(self) -> float:
        if self.text() == "-":
            self.take()
            return -self.sign()
        return self.power()

    def power(self) -> float:
        """Powers bind to the right, and tighter than a sign before them."""
        base = self.atom()
        if self.text() != "^":
            return base
        self.take()
        return base ** self.sign()

    def atom(self) -> float:
        token = self.take()
        if token.kind == "number":
            return float(token.text)
        if token.kind == "name":
            return self.call(token) if self.text() == "(" else self.lookup(token)
        if token.text != "(":
            raise SyntaxError(f"unexpected {token.text!r} in column {token.column}")
        value = self.sum()
        self.expect(")")
        return value

    def lookup(self, token: Token) -> float:
        if token.text not in self.names:
            raise NameError(f"no value for {token.text!r}")
        return self.names[token.text]

    def call(self, token: Token) -> float:
        if token.text not in FUNCTIONS:
            raise NameError(f"no function {token.text!r}")
        function, count = FUNCTIONS[token.text]
        self.expect("(")
        arguments = [self.sum()]
        while self.text() == ",":
            self.take()
            arguments.append(self.sum())
        self.expect(")")
        if len(arguments) != count:
            raise TypeError(f"{token.text} takes {count} arguments, got {len(arguments)}")
        return function(*arguments)
