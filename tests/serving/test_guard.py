"""What of the web server is reachable, and by whom; asked of the middleware alone, round an application of one line."""

import asyncio
import base64
import socket

import httpx
import pytest

from mmjax.errors import ConfigError
from mmjax.serving.address import Address
from mmjax.serving.guard import COOKIE, Guard, owner_of

MINE = {"cookie": f"{COOKIE}={'a' * 32}"}


async def echo(scope, receive, send):
    """Answers with how much of the body came."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        if message["type"] == "http.disconnect":
            size = -1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(method, path, guard=None, **given):
    async def asked():
        transport = httpx.ASGITransport(guard or Guard(echo))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
            return await client.request(method, path, **given)

    return asyncio.run(asked())


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index-1.js", "/mine/jobs/abc/0/video.mp4", "/theme.css"])
def test_what_the_page_is_made_of_is_there(path):
    answer = ask("GET", path)
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


GONE = ["/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/file=/etc/passwd", "/gradio_api/queue/data"]
GONE += ["/gradio_api/proxy=http://example.org", "/monitoring", "/runs", "/gradio_api/runs", "/docs", "/openapi.json"]
GONE += ["/gradio_api/queue/status", "/gradio_api/deep_link", "/gradio_api/vibe-code", "/mine/jobs", "/mine/jobs/a/0"]
GONE += ["/gradio_api/upload_progress", "/gradio_api/token", "/mine/jobs/a/0/..%2f..%2fx", "/assets/%2e%2e/%00"]
GONE += ["/gradio_api/stream/a/1/2/playlist.m3u8", "/gradio_api/openapi.json", "/mine/pictures/../jobs", "//etc/passwd"]


@pytest.mark.parametrize("path", GONE)
def test_what_nothing_needs_is_not_there(path):
    assert ask("GET", path).status_code == 404


@pytest.mark.parametrize(
    "path", ["upload", "queue/join", "process_recording", "vibe-edit", "component_server", "cancel"]
)
def test_what_nobody_needs_to_send_is_not_taken(path):
    assert ask("POST", f"/gradio_api/{path}", headers=MINE, content=b"{}").status_code == 404
    assert ask("PUT", "/mine/settings", headers=MINE).status_code == 404


def test_people_are_told_apart_by_a_cookie_that_the_page_gives():
    given = ask("GET", "/").headers["set-cookie"]
    assert "HttpOnly" in given and "SameSite=Strict" in given
    token = given.partition("=")[2].partition(";")[0]
    mine = {"cookie": f"{COOKIE}={token}"}
    assert "set-cookie" not in ask("GET", "/", headers=mine).headers
    owner = owner_of(mine)
    assert owner != owner_of(MINE) and token not in owner
    assert owner != owner_of(mine | {"authorization": "Basic YTpi"})  # another name in the same browser
    for wrong in ("", "mmjax=", "mmjax=short", f"mmjax={'a' * 31}/", "mmjax=;;;=", "\x00"):
        assert owner_of({"cookie": wrong}) is None
    answer = ask("POST", "/mine/settings", content=b"x")
    assert answer.status_code == 403 and answer.text.startswith("open the page first")


EVENTS = "/gradio_api/run/predict"
GOOD = b'{"data": ["a", 1, 0.5, true, null], "fn_index": 3, "session_hash": "x", "event_data": {"id": "y"}}'


def test_events_of_the_page_pass():
    assert ask("POST", EVENTS, headers=MINE, content=GOOD).text == str(len(GOOD))  # written as we would


WRONG = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no values": b"{}",
    "values by name": b'{"data": {"a": 1}}',
    "a file of the server": b'{"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]}',
    "a file elsewhere": b'{"data": [{"path": "http://127.0.0.1/", "meta": {"_type": "gradio.\\u0046ileData"}}]}',
    "a file in an event": b'{"data": [], "event_data": {"a": {"path": "/etc/passwd"}}}',
    "lists in lists": b'{"data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "many values": b'{"data": [' + b"1," * 100 + b"1]}",
    "no letters": b"\xff\xfe\x00",
    "a large one": b'{"data": ["' + b"a" * 70_000 + b'"]}',
}


@pytest.mark.parametrize("case", WRONG)
def test_other_events_are_answered_in_one_line(case):
    answer = ask("POST", EVENTS, headers=MINE, content=WRONG[case])
    assert answer.status_code == 400 and answer.text.startswith("expected what the page sends")


def test_a_body_that_does_not_end_is_not_waited_for():
    async def parts():
        for _ in range(100_000):
            yield b"a" * 1024

    assert ask("POST", EVENTS, headers=MINE, content=parts()).status_code == 400


@pytest.mark.parametrize("begun", [False, True])
def test_what_breaks_behind_is_a_line(begun, caplog):
    async def breaks(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"a traceback"})
        else:
            raise KeyError("/secret/path")

    answer = ask("POST", EVENTS, Guard(breaks), headers=MINE, content=GOOD)
    assert answer.status_code == 400 and answer.text.startswith("the request was not understood")
    assert ("secret" in caplog.text) is not begun


def test_other_sites_and_other_names_are_refused():
    said = ask("POST", "/mine/settings", headers=MINE | {"origin": "https://example.org"}, content=b"a")
    assert said.status_code == 403 and "another site" in said.text
    assert ask("POST", "/mine/settings", headers=MINE | {"origin": "http://127.0.0.1:7860"}, content=b"a").text == "1"
    rebound = {"host": "evil.example.org"}
    assert ask("GET", "/", headers=rebound).status_code == 421
    assert ask("GET", "/", Guard(echo, is_local=False), headers=rebound).status_code == 200


def test_names_and_passwords():
    guard = Guard(echo, {"me": "sec:ret"}, is_local=False)
    basic = lambda text: {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}  # noqa: E731
    answer = ask("GET", "/", guard)
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic")
    assert ask("GET", "/", guard, headers=basic("me:sec:ret")).status_code == 200
    for wrong in (
        basic("me:secret"),
        basic("you:sec:ret"),
        basic("me"),
        basic(""),
        {"authorization": "Basic ü".encode()},
    ):
        assert ask("GET", "/mine/jobs/a/0/video.mp4", guard, headers=wrong).status_code == 401
    assert ask("GET", "/gradio_api/startup-events", guard).status_code == 200  # Gradio asks this of itself


@pytest.mark.parametrize("given", [{"share": True}, {"host": "0.0.0.0"}, {"host": "192.168.0.2", "auth": {}}])
def test_others_are_let_in_with_a_password_alone(given):
    with pytest.raises(ConfigError, match="expected --auth NAME:PASSWORD"):
        Address(**given)
    assert not Address(**given | {"auth": {"me": "secret"}}).is_local and Address().is_local


def test_a_port_that_is_taken_is_told_before_a_model_is_read():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="a port that is free"):
        Address(port=taken.getsockname()[1]).check()
    with pytest.raises(ConfigError, match="an address of this machine"):
        Address("192.0.2.1", 7860, auth={"me": "secret"}).check()
