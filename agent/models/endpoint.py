"""Where an OpenAI-compatible model is, and which key it is sent: from its name, the configuration or the environment.

    read_endpoint("http://127.0.0.1:8000/v1#qwen")       # Endpoint("http://127.0.0.1:8000/v1", "qwen")
    read_endpoint("openai:gpt-4.1")                      # Endpoint("", "gpt-4.1"): at OPENAI_BASE_URL, else at OpenAI
    read_key("TEACHER_KEY", model="qwen", url=url)       # Key("sk-...", "TEACHER_KEY")

Neither the key nor the password of an address is written anywhere: messages name the variable, and what a server says
is told without them.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from srft.env.errors import InputError

URL_VARIABLE, KEY_VARIABLE = "OPENAI_BASE_URL", "OPENAI_API_KEY"
LEAST_SECRET = 8
"""Characters of a key; a shorter one ("x", "none") is made up, and to hide it would garble a message."""

NO_KEY = "none"
"""What is sent in the place of a key: the header is never empty."""


class Endpoint(NamedTuple):
    """url: where the server is, "" where the environment says so. name: the model's name there, "" where the
    configuration says so."""

    url: str
    name: str


def read_endpoint(model: str) -> Endpoint | None:
    """What `http://HOST/v1#NAME` or `openai:NAME` names; `None` for any other kind of model."""
    kind, _, rest = model.partition(":")
    if kind == "openai" and rest:
        return Endpoint("", rest)
    if kind in {"http", "https"}:
        url, _, name = model.partition("#")
        return Endpoint(url, name)
    return None


class Key(NamedTuple):
    """variable: where it came from; `None`: there is none."""

    value: str
    variable: str | None

    def hidden(self, text: str) -> str:
        """A text without the key: some servers quote the one that they refuse."""
        if self.variable is None or len(self.value) < LEAST_SECRET:
            return text
        return text.replace(self.value, f"(the key in {self.variable})")


def read_key(variable: str | None, *, model: str, url: str, must_be_set: bool = True) -> Key:
    """The key in that variable; in OPENAI_API_KEY where none is named and it is set; none where "" is named.

    Raises InputError where the named one is not set and must be.
    """
    name = KEY_VARIABLE if variable is None else variable
    # A line break at the end, as `$(cat file)` in a service's settings may leave it, is no part of a key.
    value = os.environ.get(name, "").strip() if name else ""
    if not value and variable and must_be_set:
        raise InputError(
            f"model {model}: the environment variable {variable} is not set; put the key of {url} there, or leave "
            "api_key_env out if it wants none"
        )
    return Key(value, name) if value else Key(NO_KEY, None)


def without_password(url: str) -> str:
    """The address as it may be shown.

    >>> without_password("https://me:secret@host:8000/v1")
    'https://host:8000/v1'
    """
    return re.sub(r"(?<=://)[^/?#]*@", "", url)
