"""The roll call of several processes, held by threads: who is missing, twice, or nobody of ours is told to all."""

import socket
import threading

import pytest

from mmjax import roll_call
from mmjax.errors import ConfigError
from mmjax.roll_call import Place, attend


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def called(*places: Place, patience=5.0) -> list[str]:
    """What each of the processes is told; empty where it goes on."""
    told = [""] * len(places)

    def one(index):
        try:
            attend(places[index], patience)
        except ConfigError as error:
            told[index] = str(error)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(places))]
    for thread in reversed(threads):  # process 0 comes last: the others wait for it
        thread.start()
    for thread in threads:
        thread.join(20)
    return told


def test_all_go_on_when_all_are_there_and_the_port_is_free_again():
    address = f"127.0.0.1:{free_port()}"
    for _ in range(2):
        assert called(*(Place(address, 4, number) for number in range(4))) == [""] * 4
    assert called(Place(address, 1, 0)) == [""]


def test_who_is_missing_is_told_to_all_that_are_there():
    address = f"127.0.0.1:{free_port()}"
    told = called(*(Place(address, 4, number) for number in (0, 2)), patience=1.5)
    assert told[0] == told[1]
    assert f"{address}: expected 4 processes within 2 s, found 2; missing: 1, 3." in told[0]


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([(3, 1), (3, 1)], "--process 1: expected a number of its own for each process, found two of it, on "),
        ([(2, 1)], "--processes: expected the same for all, found 3 at process 0, 2 at process 1 on "),
    ],
)
def test_numbers_that_do_not_fit_are_told_at_once(others, said):
    address = f"127.0.0.1:{free_port()}"
    places = [Place(address, 3, 0), *(Place(address, count, number) for count, number in others)]
    assert all(line.startswith(said) for line in called(*places, patience=30))


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        (told,) = called(Place(address, 2, 0))
    assert "expected a free port on" in told and "another program has it; give another port" in told


def test_another_program_and_nobody_at_all_are_told(monkeypatch):
    monkeypatch.setattr(roll_call, "_LATE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: other.accept()[0].sendall(b"HTTP/1.1 400\n"), daemon=True).start()
        (told,) = called(Place(f"127.0.0.1:{other.getsockname()[1]}", 2, 1))
    assert "expected process 0 of this run there, found another program" in told
    (told,) = called(Place(f"127.0.0.1:{free_port()}", 2, 1), patience=0.5)
    assert "expected process 0 there within 0 s, found: Connection refused" in told


def test_whoever_else_knocks_is_sent_away():
    address = f"127.0.0.1:{free_port()}"
    told = []
    thread = threading.Thread(target=lambda: told.append(called(Place(address, 2, 0), patience=20)))
    thread.start()
    for said in (b"GET / HTTP/1.1\n", b"[1]\n", b""):
        with _connected(address) as stray:
            stray.sendall(said)
    attend(Place(address, 2, 1), 20)
    thread.join(20)
    assert told == [[""]]


def test_a_process_that_ended_while_it_waited_is_missing_until_it_comes_again():
    address = f"127.0.0.1:{free_port()}"
    told = {}

    def one(number):
        told[number] = called(Place(address, 3, number), patience=20)

    threads = [threading.Thread(target=one, args=(number,)) for number in (0, 2)]
    threads[0].start()
    with _connected(address) as ended:
        ended.sendall(b'{"mmjax": 1, "process": 1, "processes": 3, "host": "vm"}\n')
    threads[1].start()
    assert called(Place(address, 3, 1), patience=20) == [""]
    for thread in threads:
        thread.join(20)
    assert told == {0: [""], 2: [""]}


def _connected(address: str) -> socket.socket:
    host, _, port = address.partition(":")
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=1)
        except OSError:
            pass
