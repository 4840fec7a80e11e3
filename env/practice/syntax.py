"""Python's syntax trees, made by one thread at a time.

Before Python 3.11.8 two threads that parse at once get a SystemError (python/cpython#106905).

    tree = parse("a = 1")
"""

import ast
import threading
from typing import Any

_parsing = threading.Lock()


def parse(source: str | bytes, *, filename: str = "<unknown>") -> ast.Module:
    """As `ast.parse`."""
    with _parsing:
        return ast.parse(source, filename)


def literal(source: str) -> Any:
    """As `ast.literal_eval`."""
    with _parsing:
        return ast.literal_eval(source)
