"""What of the web server is reachable, and by whom: stands before Gradio and before our own routes.

Gradio brings many routes that nothing here needs: its files, its queue whose messages anybody may listen to who knows a
session, its proxy, its recordings. What is not in the list below does not exist. People are told apart by a cookie that
no script can read and no other site makes the browser send; where names and passwords are asked for, by the name too.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie

COOKIE = "mmjax"
_TOKEN = re.compile(r"[\w-]{32}")
_GET = (  # what the page is made of
    r"/|/config/?|/theme\.css|/gradio_api/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?|"
    r"/(static|assets|svelte)/[\w./@-]+|/gradio_api/(startup-events|info/?|app_id/?|login_check/?|heartbeat/\w{1,40})|"
    r"/mine/pictures/[\w-]{1,40}|/mine/jobs/[\w-]{1,40}/(preview|\d{1,2}/[\w.]{1,20})"
)
_POST = {  # pattern: bytes that a body may have at most; None: our own routes hold it against their limits
    r"/gradio_api/(run|api)/predict/?": 2**16,
    r"/gradio_api/reset/?": 2**12,
    r"/mine/pictures/\w{1,10}|/mine/settings": None,
}
_OPEN_TO_ALL = "/gradio_api/startup-events"  # which Gradio asks of itself when it starts
_LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_POLICY = (  # nothing is fetched from elsewhere, nor is the page shown inside of another
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


def owner_of(headers: Mapping[str, str]) -> str | None:
    """Who sends a request with these headers (names in lower case), as a text that tells people apart; None: nobody."""
    cookies = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", ""))
    except CookieError:
        return None
    token = cookies[COOKIE].value if COOKIE in cookies else ""
    if not _TOKEN.fullmatch(token):
        return None
    return hashlib.sha256(f"{token} {headers.get('authorization', '')}".encode()).hexdigest()


class Guard:
    """ASGI middleware; see above.

    Args:
      auth: passwords by name; None lets everybody in.
      is_local: whether the server is for this machine alone, and is asked for under its names alone.
    """

    def __init__(self, app, auth: Mapping[str, str] | None = None, is_local: bool = True):
        self._app, self._auth, self._is_local = app, auth, is_local

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})  # which nothing here has
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope["method"], scope["path"], headers)
        if refused:
            await _answer(send, *refused)
            return
        limit = _body_limit(scope["path"]) if scope["method"] == "POST" else 0
        fresh = secrets.token_urlsafe(24) if scope["path"] == "/" and owner_of(headers) is None else None
        await self._app(scope, receive if limit is None else _limited(receive, limit), _with_headers(send, fresh))

    def _refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple | None:
        """(status, line, more headers) of what is not let in."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._is_local and not _LOCAL.fullmatch(host):
            return 421, f"this server answers on this machine alone, not as {host[:80]!a}"
        if self._auth is not None and path != _OPEN_TO_ALL and not self._is_known(headers.get("authorization", "")):
            return 401, "name and password, please", {"www-authenticate": 'Basic realm="mmjax", charset="UTF-8"'}
        if method in ("GET", "HEAD"):
            return None if re.fullmatch(_GET, path) else (404, "there is nothing here")
        if method != "POST" or not any(re.fullmatch(pattern, path) for pattern in _POST):
            return 404, "there is nothing here"
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "another site's page may not send anything here"
        if owner_of(headers) is None:
            return 403, "open the page first: it gives the cookie by which people are told apart"
        length, limit = headers.get("content-length", "0"), _body_limit(path)
        if not length.isdecimal() or (limit is not None and int(length) > limit):
            return 413, f"expected at most {limit} bytes, found {length[:20]}"
        return None

    def _is_known(self, authorization: str) -> bool:
        kind, _, value = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return False
        wanted = self._auth.get(name, secrets.token_hex(16))  # an unknown name takes as long as a known one
        return kind.lower() == "basic" and hmac.compare_digest(wanted.encode(), password.encode())


def _body_limit(path: str) -> int | None:
    return next((limit for pattern, limit in _POST.items() if re.fullmatch(pattern, path)), 0)


def _limited(receive: Callable[[], Awaitable[dict]], limit: int):
    """A body that ends where it grows beyond the limit, whatever its headers say."""
    seen = 0

    async def limited():
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= limit else {"type": "http.disconnect"}

    return limited


def _with_headers(send: Callable[[dict], Awaitable[None]], token: str | None):
    """Answers with the headers that all have, and with a cookie for who has none."""

    async def sent(message):
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            if token:
                cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
                added.append((b"set-cookie", cookie.encode()))
            message = message | {"headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sent


async def _answer(send, status: int, line: str, more: Mapping[str, str] | None = None) -> None:
    headers = {"content-type": "text/plain; charset=utf-8"} | _HEADERS | (more or {})
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": f"{line}\n".encode()})
