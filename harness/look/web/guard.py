"""Who may ask the viewer, and what its pages may do: an ASGI layer around the server.

Only requests that name this machine are answered (a page elsewhere whose name was bound to 127.0.0.1 is not one of
them), labels are taken only from our own pages, and no page may load or run anything but our own style and script.

    app.add_middleware(Guard, token="...")
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")
TOKEN_HEADER = "x-srft-token"

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


class Guard:
    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], *, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if reason := self._refusal(scope["method"], headers):
            headers_sent = _encoded({"content-type": "text/plain; charset=utf-8", "content-security-policy": POLICY})
            await send({"type": "http.response.start", "status": 403, "headers": headers_sent})
            await send({"type": "http.response.body", "body": f"refused: {reason}\n".encode()})
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                added = {**HEADERS, "content-security-policy": POLICY}
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in _encoded(added) if pair[0] not in given),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: dict[str, str]) -> str | None:
        host = headers.get("host", "")
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if name.lower() not in NAMES:
            return f"the viewer answers to {', '.join(NAMES)} alone"
        if method in ("GET", "HEAD"):
            return None
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return "another page sent this"
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "another page sent this"
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token.encode()):
            return "the page is of an earlier start of the viewer; load it again"
        return None


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
