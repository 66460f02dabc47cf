"""What of the web server is reachable, and by whom: stands before Gradio and before our own routes.

Gradio brings many routes that nothing here needs: its files, its queue whose messages anybody may listen to who knows a
session, its proxy, its recordings. What is not in the list below does not exist. People are told apart by a cookie that
no script can read and no other site makes the browser send; where names and passwords are asked for, by the name too.
"""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie

COOKIE = "mmjax"
_LOG = logging.getLogger("mmjax.serving")
_TOKEN = re.compile(r"[\w-]{32}")
_GET = (  # what the page is made of
    r"/|/config/?|/theme\.css|/gradio_api/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?|"
    r"/(static|assets|svelte)(/[\w@-][\w.@-]*)+|"
    r"/gradio_api/(startup-events|info/?|app_id/?|login_check/?|heartbeat/\w{1,40})|"
    r"/mine/pictures/[\w-]{1,40}|/mine/jobs/[\w-]{1,40}/(preview|\d{1,2}/[\w.]{1,20})"
)
_EVENTS = "/gradio_api/run/predict"  # where the page's events go
_EVENT_BYTES, _VALUES = 2**16, 64  # that one may have
_POST = rf"{_EVENTS}/?|/mine/pictures/\w{{1,10}}|/mine/settings"  # our own routes hold bodies against their limits
_OPEN_TO_ALL = "/gradio_api/startup-events"  # which Gradio asks of itself when it starts
_LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_POLICY = (  # nothing is fetched from elsewhere, nor is the page shown inside of another
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_FAILED = "the request was not understood, or the server failed at it; its log has more"
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
        if scope["method"] == "POST" and scope["path"].startswith(_EVENTS):
            event = _event(await _whole(receive))
            if event is None:
                await _answer(send, 400, "expected what the page sends, texts and numbers; found something else")
                return
            receive = _again(json.dumps(event).encode(), receive)
            scope = scope | {"headers": [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"]}
        fresh = secrets.token_urlsafe(24) if scope["path"] == "/" and owner_of(headers) is None else None
        sending = _Sending(send, fresh, hides_failure=scope["path"].startswith(_EVENTS))
        try:
            await self._app(scope, receive, sending)
        except Exception:
            _LOG.exception("%s %s failed", scope["method"], scope["path"][:80])
            if not sending.has_begun:
                await _answer(send, 400, _FAILED)

    def _refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple | None:
        """(status, line, more headers) of what is not let in."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._is_local and not _LOCAL.fullmatch(host):
            return 421, f"this server answers on this machine alone, not as {host[:80]!a}"
        if self._auth is not None and path != _OPEN_TO_ALL and not self._is_known(headers.get("authorization", "")):
            return 401, "name and password, please", {"www-authenticate": 'Basic realm="mmjax", charset="UTF-8"'}
        if method in ("GET", "HEAD"):
            return None if re.fullmatch(_GET, path) else (404, "there is nothing here")
        if method != "POST" or not re.fullmatch(_POST, path):
            return 404, "there is nothing here"
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "another site's page may not send anything here"
        if owner_of(headers) is None:
            return 403, "open the page first: it gives the cookie by which people are told apart"
        return None

    def _is_known(self, authorization: str) -> bool:
        kind, _, value = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return False
        wanted = self._auth.get(name, secrets.token_hex(16))
        return kind.lower() == "basic" and hmac.compare_digest(wanted.encode(), password.encode())


async def _whole(receive: Callable[[], Awaitable[dict]]) -> bytes:
    """The body of an event; empty where it is cut off, or larger than any is."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if message["type"] == "http.disconnect" or len(body) > _EVENT_BYTES:
            return b""
    return body


def _event(body: bytes) -> dict | None:
    """An event of the page, plain values alone: of others Gradio opens paths and addresses. None for anything else."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    plain = (str, int, float, bool, type(None))
    if not isinstance(event, dict) or not isinstance(event.get("data"), list):
        return None
    values = event["data"] + list(event["event_data"].values() if isinstance(event.get("event_data"), dict) else ())
    return event if len(values) <= _VALUES and all(isinstance(each, plain) for each in values) else None


def _again(body: bytes, receive: Callable[[], Awaitable[dict]]):
    """The body once more, for who comes behind us; then whatever the browser sends."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def received():
        return messages.pop() if messages else await receive()

    return received


class _Sending:
    """Answers with the headers that all have, and with a cookie for who has none.

    hides_failure: in place of an answer that says that the server failed comes a line of ours.
    """

    def __init__(self, send: Callable[[dict], Awaitable[None]], token: str | None, hides_failure: bool):
        self._send, self._token, self._hides_failure = send, token, hides_failure
        self.has_begun = self._hidden = False

    async def __call__(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            if self._hides_failure and message["status"] >= 500:
                self._hidden = True
                await _answer(self._send, 400, _FAILED)
            added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            if self._token:
                cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
                added.append((b"set-cookie", cookie.encode()))
            message = message | {"headers": [*message.get("headers", ()), *added]}
        if not self._hidden:
            await self._send(message)


async def _answer(send, status: int, line: str, more: Mapping[str, str] | None = None) -> None:
    headers = {"content-type": "text/plain; charset=utf-8"} | _HEADERS | (more or {})
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": f"{line}\n".encode()})
