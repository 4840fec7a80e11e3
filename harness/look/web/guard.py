"""Who may ask the viewer, and what its pages may do: an ASGI layer around the server.

A request needs the secret of the address that was printed: in the address itself, which answers with a cookie, or in
that cookie. So nobody else on the machine or in the network can read or label. It must also name this machine (a page
elsewhere whose name was bound to 127.0.0.1 does not), labels are taken only from our own pages, and no page may load or
run anything but our own style and script.

    access = Access.here(port=8117)
    app.add_middleware(Guard, token="...", access=access)
    access.address("127.0.0.1")                         # http://127.0.0.1:8117/?key=...
"""

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from fnmatch import fnmatchcase
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")
TOKEN_HEADER = "x-srft-token"
KEY = "key"
"""The name of the secret in the address."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Access(NamedTuple):
    """Who is answered."""

    secret: str
    """What the printed address ends in."""
    port: int
    names: tuple[str, ...] = NAMES
    """The host names that a request may bear; `*` matches any part of a name."""
    any_number: bool = False
    """Whether it may bear any IP address: where the viewer listens on all of the machine's."""

    @classmethod
    def here(cls, port: int, *, host: str = "127.0.0.1", allowed: tuple[str, ...] = ()) -> "Access":
        """A new secret for a viewer that listens on that address."""
        everywhere = host in ("0.0.0.0", "::")
        own = () if everywhere else (f"[{host}]" if ":" in host else host,)
        names = tuple(name.lower() for name in (*NAMES, *own, *allowed))
        return cls(secrets.token_urlsafe(24), port, names, everywhere)

    @property
    def cookie(self) -> str:
        """Its name: browsers do not tell the ports of a machine apart."""
        return f"srft-{self.port}"

    def address(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/?{KEY}={self.secret}"

    def knows(self, host: str) -> bool:
        """Whether a request may bear this Host."""
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        name = name.lower()
        if name in self.names or any(fnmatchcase(name, it) for it in self.names if "*" in it):
            return True
        return self.any_number and _is_number(name.strip("[]"))

    def is_secret(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.secret.encode())


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    def __init__(self, app: Asgi, *, token: str, access: Access) -> None:
        self._app, self._token, self._access = app, token, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in asked if name == KEY), None)
        if reason := self._other_machine(headers):
            await _answer(send, 403, {}, f"refused: {reason}\n")
        elif given is not None and self._access.is_secret(given) and scope["method"] in ("GET", "HEAD"):
            rest = urlencode([(name, value) for name, value in asked if name != KEY])
            path = scope.get("raw_path", scope["path"].encode()).partition(b"?")[0].decode("latin-1")
            # A path of two slashes at its beginning would be read as the name of another machine.
            target = "/" + path.lstrip("/") + (f"?{rest}" if rest else "")
            cookie = f"{self._access.cookie}={self._access.secret}; Path=/; HttpOnly; SameSite=Lax"
            await _answer(send, 303, {"location": target, "set-cookie": cookie}, "")
        elif not self._is_known(headers):
            await _answer(send, 401, {}, NO_KEY)
        elif reason := self._refusal(scope["method"], headers):
            await _answer(send, 403, {}, f"refused: {reason}\n")
        else:
            await self._app(scope, receive, _with_headers(send))

    def _other_machine(self, headers: dict[str, str]) -> str | None:
        host = headers.get("host", "")
        if self._access.knows(host):
            return None
        shown = "".join(letter for letter in host[:100] if letter.isprintable())
        return (
            f"the viewer does not answer to the name {shown!r}. Start it again with --allow-host NAME to let a proxy "
            "or another name of this machine in"
        )

    def _is_known(self, headers: dict[str, str]) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self._access.cookie in cookies and self._access.is_secret(cookies[self._access.cookie].value)

    def _refusal(self, method: str, headers: dict[str, str]) -> str | None:
        if method in ("GET", "HEAD"):
            return None
        host = headers.get("host", "")
        if urlsplit(headers.get("origin", f"http://{host}")).netloc != host:
            return "another page sent this"
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "another page sent this"
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token.encode()):
            return "the page is of an earlier start of the viewer; load it again"
        return None


NO_KEY = (
    "refused: this page needs the key of the viewer. Open the whole address that `srft view` printed, which ends in "
    f"?{KEY}=...; each start of the viewer has a key of its own.\n"
)


async def _answer(send: Send, status: int, headers: dict[str, str], text: str) -> None:
    sent = {"content-type": "text/plain; charset=utf-8", "content-security-policy": POLICY, **HEADERS, **headers}
    await send({"type": "http.response.start", "status": status, "headers": _encoded(sent)})
    await send({"type": "http.response.body", "body": text.encode()})


def _with_headers(send: Send) -> Send:
    """Ours, where an answer does not have its own."""

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            added = _encoded({**HEADERS, "content-security-policy": POLICY})
            message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in given)]
        await send(message)

    return sent


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", errors="replace")) for name, value in headers.items()]
