"""A calculator for arithmetic in text: tokens, then a value."""

from calculator.evaluator import evaluate
from calculator.tokens import tokenize

__all__ = ["evaluate", "tokenize"]
