"""The queue and its worker: order, limits, cancelling, failing, expiry; and that nobody reaches what is another's."""

import os
import subprocess
import tempfile
import time

import pytest

from mmjax.errors import DataError
from mmjax.serving.form import asked_videos
from mmjax.serving.jobs import JobStore, State
from mmjax.serving.server import remove_left
from mmjax.serving.worker import Worker
from tests.serving.fakes import LIMITS, FakeModel, form


@pytest.fixture
def clock():
    now = [100.0]
    tell = lambda: now[0]  # noqa: E731
    tell.now = now
    return tell


@pytest.fixture
def store(tmp_path, clock):
    return JobStore(tmp_path, LIMITS, clock)


@pytest.fixture
def working(store):
    model = FakeModel()
    worker = Worker(store, model).start()
    yield model
    model.going.set()
    worker.stop()


def add(store, owner="ann", pictures=(), **changes):
    asked = form(**changes)
    return store.add(owner, asked, asked_videos(asked, {"a": pictures, "b": pictures}))


def until(what, seconds=30.0):
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "that did not happen"
        time.sleep(0.005)


def test_jobs_are_made_in_their_order_whoever_gave_them(store, working):
    working.going.clear()
    jobs = [add(store, owner, prompt=f"a man {n}") for n, owner in enumerate(("ann", "bob", "ann"))]
    until(lambda: jobs[0].state is State.RUNNING)
    assert [store.place(job) for job in jobs[1:]] == [1, 2]
    working.going.set()
    until(lambda: all(job.state is State.DONE for job in jobs))
    assert working.made == ["a man 0", "a man 1", "a man 2"]
    assert store.of("ann") == [jobs[0], jobs[2]] and store.of("bob") == [jobs[1]]


def test_nobody_sees_another_ones(store, working):
    job = add(store)
    until(lambda: job.state is State.DONE)
    assert store.file("ann", job.id, 0, "video.mp4").read_text() == "A man is smiling"
    assert store.find("bob", job.id) is None and store.file("bob", job.id, 0, "video.mp4") is None
    store.remove("bob", job.id)
    assert store.of("ann") == [job]
    for number, name in ((1, "video.mp4"), (-1, "video.mp4"), (0, "../0/video.mp4"), (0, "0.picture"), (0, "")):
        assert store.file("ann", job.id, number, name) is None


def test_a_waiting_job_and_a_running_one_can_be_cancelled_by_their_owner(store, working):
    working.going.clear()
    first, second = add(store), add(store)
    until(working.reached.is_set)
    store.cancel("bob", first.id)
    store.cancel("bob", second.id)
    assert not first.unwanted and second.state is State.WAITING
    store.cancel("ann", second.id)
    assert second.state is State.CANCELLED
    store.cancel("ann", first.id)
    working.going.set()
    until(lambda: first.state is State.CANCELLED)
    assert not working.made
    third = add(store)
    until(lambda: third.state is State.DONE)  # the queue lives


def test_limits_of_the_queue(store):
    add(store), add(store)
    with pytest.raises(DataError, match="2 of your jobs are waiting"):
        add(store)
    add(store, "bob"), add(store, "cy")
    with pytest.raises(DataError, match="the queue is full, 4 jobs are waiting"):
        add(store, "dan")


@pytest.mark.parametrize(
    "error, said",
    [
        (DataError("a: expected b, found c"), "a: expected b, found c"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GiB"), "ran out of memory"),
        (MemoryError(), "ran out of memory"),
        (ValueError("/secret/path"), "something broke at the server"),
    ],
)
def test_what_fails_is_said_and_the_queue_lives(store, working, error, said, caplog):
    working.error = error
    job = add(store)
    until(lambda: job.state is State.FAILED)
    assert said in job.said and "secret" not in job.said
    assert ("secret" in caplog.text) == isinstance(error, ValueError)
    working.error = None
    job = add(store)
    until(lambda: job.state is State.DONE)


def test_a_job_keeps_its_pictures_while_it_needs_them(store, working, tmp_path):
    picture = tmp_path / "upload"
    picture.write_bytes(b"a face")
    working.going.clear()
    job = add(store, pictures=[picture], compare="people")
    picture.unlink()
    working.going.set()
    until(lambda: job.state is State.DONE)
    assert len(job.made) == 2 and not list(job.folder.glob("*.picture"))
    with pytest.raises(DataError, match="a picture is not there any more"):
        add(store, pictures=[picture])


def test_progress_and_speed_are_known(store, working):
    asked = form(compare="likeness", likeness=0.5)
    assert store.seconds_of_one(asked) is None
    job = store.add("ann", asked, asked_videos(asked, {"a": ["/dev/null"]}))
    until(lambda: job.state is State.DONE)
    assert (job.step, job.steps, len(job.made)) == (12, 12, 3) and job.preview == b"" and job.previews == 12
    assert store.seconds_of_one(asked) == pytest.approx(1.0, abs=0.2)  # which the fake says of each


def test_files_are_removed_when_their_time_has_come(store, working, clock):
    job = add(store)
    until(lambda: job.state is State.DONE)
    before, folder = store.version("ann"), job.folder
    clock.now[0] += LIMITS.keep_seconds - 1
    store.expire()
    assert store.of("ann")
    clock.now[0] += 2
    store.expire()
    assert not store.of("ann") and not folder.exists() and store.version("ann") != before
    assert LIMITS.kept_for == "60 minutes"


def test_only_so_many_are_kept_of_one(store, working):
    jobs = []
    for _ in range(LIMITS.kept_of_one + 3):
        jobs.append(add(store, frames=1, steps=1))
        until(lambda: jobs[-1].state is State.DONE)
    assert len(store.of("ann")) == LIMITS.kept_of_one and not jobs[0].folder.exists()


def test_what_a_killed_server_left_goes_with_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = {name: tmp_path / f"mmjax-demo-{name}" for name in (f"{ended.pid}-a", f"{os.getpid()}-b", "other-c")}
    for folder in names.values():
        (folder / "uploads").mkdir(parents=True)
    remove_left()
    assert [folder.exists() for folder in names.values()] == [False, True, True]
