"""Processes that watch one another, here as threads around one store: all agree, and none outlives a failed one."""

import contextlib
import threading
import time
import types

import jax
import pytest

from mmjax import peers
from mmjax.errors import DataError
from mmjax.peers import Peers
from tests.helpers.store import Store


@pytest.fixture
def ended(monkeypatch):
    """Processes that have ended, by their number, as (what they said, when); quick ones."""
    found, said = {}, threading.local()
    monkeypatch.setattr(peers, "BEAT", 0.02)
    monkeypatch.setattr(peers, "LOST", 0.6)
    monkeypatch.setattr(peers, "SOON_LOST", 0.3)
    monkeypatch.setattr(peers, "_TURN", 50)
    monkeypatch.setattr(peers, "_FAREWELL", 0.3)
    monkeypatch.setattr(peers, "_ending", threading.Event())
    monkeypatch.setattr(peers, "atexit", types.SimpleNamespace(register=lambda leave, status: None))
    monkeypatch.setattr(peers, "_say", lambda line: setattr(said, "line", line))

    def leave(status):
        found[threading.current_thread().peers.index] = (status, said.line)
        raise SystemExit

    monkeypatch.setattr(peers, "leave", leave)
    real = threading.Thread.start

    def start(thread):
        thread.peers = getattr(thread._target, "__self__", None)  # whose thread it is
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(threading, "excepthook", lambda error: None)
    return found


@contextlib.contextmanager
def running(count, store=None):
    store = store or Store()
    made = [Peers(store, number, count, "127.0.0.1:9", "run") for number in range(count)]
    for each in made:
        each._begin()
    try:
        yield made
    finally:
        for each in made:
            each._over.set()


def wait_for(ended, *numbers):
    until = time.monotonic() + 10
    while not set(numbers) <= set(ended) and time.monotonic() < until:
        time.sleep(0.01)
    assert set(ended) == set(numbers)
    return [ended[number] for number in numbers]


def test_one_process_agrees_with_itself():
    with peers.together() as alone, peers.together() as within:
        assert alone is within and alone.count == 1
        assert alone.agree("settings", "mine", "".join) == "mine"
        alone.tell("nobody hears it")


def test_all_get_what_process_0_makes_of_what_all_say(ended):
    with running(3) as made:
        told = {}

        def one(each):
            told[each.index] = [each.agree(what, f"{what}{each.index}", " ".join) for what in "ab"]
            each._end()

        threads = [threading.Thread(target=one, args=(each,)) for each in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert told == dict.fromkeys(range(3), ["a0 a1 a2", "b0 b1 b2"]) and not ended


def test_a_failure_ends_the_others_with_its_line_and_what_is_safe(ended):
    with running(3) as made:
        made[0].step, made[0].remains = 7, lambda: "step 4 is whole"
        made[1]._failed(DataError("record 3: damaged"))
        (status, line), (_, other) = wait_for(ended, 0, 2)
    assert status == 2 and line.startswith("error: at step 7: process 1 on ")
    assert line.endswith(" failed: record 3: damaged; step 4 is whole") and "nothing was trained yet" in other


def test_a_silent_process_is_lost_and_all_others_hear_of_it(ended):
    with running(3) as made:
        time.sleep(0.1)
        made[2]._over.set()  # as killed
        lines = [line for _, line in wait_for(ended, 0, 1)]
    assert all("error: process 2 is lost: no sign of life for 1 s" in line for line in lines)


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])  # Gloo's may come as the latter
def test_a_collective_that_failed_makes_all_look_sooner(ended, monkeypatch, kind):
    monkeypatch.setattr(peers, "LOST", 100.0)
    with running(3) as made:
        time.sleep(0.1)
        made[2]._over.set()
        began = time.monotonic()
        made[1]._failed(kind("UNKNOWN: Gloo all-reduce failed: connection closed by peer"))
        lines = [line for _, line in wait_for(ended, 0, 1)]
    assert time.monotonic() - began < 9 and all("process 2 is lost" in line for line in lines)


def test_a_store_that_does_not_answer_is_a_lost_process_0(ended):
    store = Store()
    with running(3, store) as made:
        time.sleep(0.1)
        made[0]._over.set()
        store.gone = True
        lines = [line for _, line in wait_for(ended, 1, 2)]
    assert all("error: process 0 is lost: no sign of life for 1 s" in line for line in lines)
