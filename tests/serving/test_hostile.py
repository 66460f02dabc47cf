"""Hostile uploads and requests over HTTP: nothing crashes, nothing leaks, the queue lives."""

import json
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.helpers.hostile_files import encoded, make_hostile
from tests.serving.fakes import VALUES
from tests.serving.test_uploads import HOSTILE

_FIELDS = ("prompt", "class_word", "compare", "second_prompt", "likeness", "frames", "size", "steps", "guidance")
_FIELDS += ("seed", "negative_prompt", "consent")


_JSON = {"content-type": "application/json"}


class Visitor:
    """Somebody at the page, without a browser."""

    def __init__(self, server):
        self.http = httpx.Client(base_url=server.url, timeout=60)
        self.http.get("/").raise_for_status()
        found = self.http.get("/config").json()["dependencies"]
        self.events = {each["api_name"]: each["id"] for each in found}

    def event(self, name, values=(), **more):
        body = {"fn_index": self.events[name], "data": list(values), "session_hash": secrets.token_hex(5)} | more
        return self.http.post("/gradio_api/run/predict", content=json.dumps(body), headers=_JSON)

    def make(self, **changes):
        values = VALUES | {"frames": 9, "size": "16 x 16", "steps": 2} | changes
        return self.event("make", [values[name] for name in _FIELDS])

    def give(self, content, where="pictures/a"):
        return self.http.post(f"/mine/{where}", content=content)

    def lists(self):
        return self.event("lists", [None]).text

    def videos(self):
        return sorted(set(re.findall(r"mine/jobs/[\w-]+/\d+/video\.mp4", self.lists())))


@pytest.fixture
def visitor(server):
    found = Visitor(server)
    yield found
    found.http.close()


def until_made(visitor, seconds=60):
    """The paths of the visitor's videos, as soon as there is one."""
    ends = time.monotonic() + seconds
    while not (found := visitor.videos()):
        assert time.monotonic() < ends, visitor.lists()
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_uploads_that_mean_no_good(server, visitor, tmp_path):
    hostile = {name: content() if callable(content) else content for name, content in HOSTILE.items()}
    make_hostile(tmp_path)
    files = [each for each in sorted(tmp_path.iterdir()) if each.is_file() and not each.is_symlink()]
    hostile |= {each.name: each.read_bytes() for each in files if each.stat().st_size < 2**20}
    assert len(hostile) > 80
    for where in ("pictures/a", "settings"):
        for name, content in hostile.items():
            answer = visitor.give(content, where)
            said = answer.json().get("refused", "")
            assert answer.status_code in (200, 422) and "\n" not in said and len(said) < 500, name
            assert str(server.folder) not in said and "/tmp" not in said, (name, said)
            if where != "settings" and answer.status_code == 200:
                shown = visitor.event("pictures").text
                assert str(server.folder) not in shown
                for identifier in re.findall(r"mine/pictures/([\w-]+)", shown):
                    assert visitor.http.get(f"/mine/pictures/{identifier}").content.startswith(b"\xff\xd8")
                    visitor.event("answer_1", event_data={"action": "remove-picture", "id": identifier})
    assert not list((server.folder / "uploads").iterdir())
    visitor.make()
    assert until_made(visitor)


@pytest.mark.slow
def test_nobody_reaches_what_is_anothers(server, faces):
    ann, bob = Visitor(server), Visitor(server)
    assert ann.give(faces[0].read_bytes()).status_code == 200
    ann.make(prompt="A man with a secret")
    [video] = until_made(ann)
    picture = re.search(r"mine/pictures/[\w-]+", ann.event("pictures").text)[0]
    sheet, record = video.replace("mp4", "png"), video.replace("mp4", "json")
    for path in (video, sheet, record, picture):
        assert ann.http.get(f"/{path}").status_code == 200
        for stranger in (bob.http, httpx.Client(base_url=server.url)):
            assert stranger.get(f"/{path}").status_code == 404
    job = video.split("/")[2]
    for name in ("cancel", "use_or_remove"):
        for action in ("use", "remove", "cancel"):
            answer = bob.event(name, event_data={"action": action, "id": job})
            assert "secret" not in answer.text and job not in answer.text
    bob.event("answer_1", event_data={"action": "remove-picture", "id": picture.split("/")[2]})
    for answer in (bob.event("pictures"), bob.event("lists", [None]), bob.http.get("/config"), bob.http.get("/")):
        assert "secret" not in answer.text and job not in answer.text and picture not in answer.text
    assert ann.http.get(f"/{video}").status_code == 200 and ann.http.get(f"/{picture}").status_code == 200
    ranged = ann.http.get(f"/{video}", headers={"range": "bytes=4-7", "accept-encoding": "br, gzip"})
    assert ranged.status_code == 206 and ranged.content == b"ftyp" and "no-store" in ranged.headers["cache-control"]
    for path in (server.folder / "jobs", "/etc/passwd"):
        for form in ("/gradio_api/file={}", "/file={}", "/mine/jobs/{}/0/video.mp4", "/static/{}", "/assets/..{}"):
            assert bob.http.get(form.format(path)).status_code == 404


@pytest.mark.slow
def test_requests_of_wrong_types_and_forty_at_once(server, visitor):
    for name in visitor.events:
        for values in ([], [None] * 12, [1] * 12, ["a" * 5000] * 12, [[]], [{"path": "/etc/passwd"}], ["\udce9"] * 12):
            answer = visitor.event(name, values, event_data={"action": 7, "id": None, "refused": 3})
            assert (
                answer.status_code in (200, 400)
                and "Traceback" not in answer.text
                and "/site-packages" not in answer.text
            )
    assert "is not ticked" in visitor.make(consent=False).text
    assert "steps = 1000: expected a whole number of 1 to 100" in visitor.make(steps=1000).text
    visitors = [Visitor(server) for _ in range(8)]
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda number: visitors[number % 8].make(prompt=f"a man {number}"), range(40)))
        pictures = list(pool.map(lambda number: visitors[number % 8].give(encoded("JPEG")), range(40)))
    assert all(answer.status_code == 200 for answer in answers)
    limits = server.store._limits
    refused = sum("of your jobs are waiting" in each.text or "the queue is full" in each.text for each in answers)
    assert 40 - refused >= limits.waiting_of_one * 6  # the worker took some meanwhile
    assert {each.status_code for each in pictures} <= {200, 422, 503}
    for each in visitors:
        assert "a man" in each.lists()
    for each in visitors:
        until_made(each)
        own = {int(number) for number in re.findall(r"a man (\d+)", each.lists())}
        assert own and {number % 8 for number in own} == {visitors.index(each)}
