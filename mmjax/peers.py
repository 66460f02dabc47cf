"""The processes of one training run as they see each other: what they agree on, and that all end when one fails.

    with peers.together() as all_:               # does nothing where one process runs
        verdict = all_.agree("settings", mine, judge)

They speak through the key-value store that `jax.distributed` keeps in process 0, never through the devices: the main
thread may hang in a collective whose other side is gone. A thread in each process gives a sign of life every `BEAT`
seconds and hears whether another one has failed; then it says so in one line and ends its process with status 2.
Process 0 looks who is silent, the others look whether process 0 is. JAX's own watch would end them natively, with
status 134: after 50 to 100 s without a sign of life of one process, at once where process 0 is gone
(`_saying_before_an_abort`).
"""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from mmjax.errors import MMJaxError, error_text, leave

BEAT = 1.0  # seconds between two signs of life
LOST = 45.0  # seconds of silence after which a process is lost; JAX's own watch ends all after 50 to 100 by default
SOON_LOST = 15.0  # the same where a collective has failed already, so that somebody must be gone
_FAREWELL = 10.0  # seconds that process 0, which keeps the store, waits for the others to have read why it ends
_DYING = 10.0  # seconds in which a process that is being killed may still seem to listen
_TURN = 10_000  # milliseconds that one question to the store waits for its answer
_STATUS = 2
_NOTICE = "RECEIVED_PREEMPTION_NOTICE"  # JAX's own name for it in the store

_ending = threading.Event()  # a thread beside the main one has said why, and ends this process
_current: "Peers | None" = None
_kept: list[Any] = []  # what the system calls
_runs = 0  # of this process, which have names of their own in the store


class Peers:
    """All processes of a run, this one among them; with one process there is nobody to ask and nothing runs beside.

    Attributes:
      step: the last step that this process began, for the message.
      remains: says what of the run is safe and how to go on, such as "the checkpoint of step 8 is whole ...".
    """

    def __init__(self, client: Any, index: int, count: int, address: str, prefix: str):
        self.index, self.count = index, count
        self.step, self.remains = 0, lambda: "nothing was trained yet"
        self._client, self._address, self._prefix = client, address, prefix
        self._patience = LOST
        self._heard = time.monotonic()  # when the store answered last
        self._beats: dict[int, tuple[str, float]] = {}  # of each process: its last sign of life, and when it came
        self._told = False
        self._leaving = threading.Lock()
        self._over = threading.Event()
        self._agreements = 0

    def agree(self, what: str, mine: str, judge: Callable[[list[str]], str]) -> str:
        """The same text at every process: what `judge`, at process 0, makes of what each of them says. All must ask."""
        if self.count == 1:
            return judge([mine])
        self._agreements += 1
        key = self._key(f"agreement/{self._agreements}/{what}")
        if self.index:
            self._client.key_value_set(f"{key}/{self.index}", mine)
        else:
            said = [self._ask(f"{key}/{number}") for number in range(1, self.count)]
            self._client.key_value_set(f"{key}/verdict", judge([mine, *said]))
        return self._ask(f"{key}/verdict")

    def tell(self, line: str) -> None:
        """Tells the others, who then end, that this process failed and why; waits a while for them to know."""
        if self.count == 1 or self._told:
            return
        self._told = True
        said = f"process {self.index} on {socket.gethostname()} failed: {line}"
        _briefly(lambda: self._client.key_value_set(self._key(f"failed/{self.index}"), said))
        if self.index == 0:
            self._see_off()

    def notice(self) -> str:
        """When JAX was given its preemption notice, SIGTERM, at any process; empty where it was not."""
        try:
            return self._client.key_value_try_get(_NOTICE)
        except Exception as error:
            if "NOT_FOUND" not in str(error):
                raise
            return ""

    def _failed(self, error: BaseException) -> None:
        """This process's main thread ends with an error: the others are told, or were the cause of it."""
        if self.count == 1:
            return
        if _is_of_collective(error):
            _briefly(lambda: self._client.key_value_set(self._key(f"troubled/{self.index}"), ""))
            self._patience = SOON_LOST
            time.sleep(SOON_LOST + 4 * BEAT + 2.0)  # the other thread ends this process meanwhile, if another is gone
        self.tell(_line_of(error))
        atexit.register(leave, _STATUS)  # before JAX's own farewell, which would wait for the others and then abort

    def _begin(self) -> None:
        if self.count > 1:
            for work in (self._talk, self._listen):
                threading.Thread(target=work, name=f"mmjax peers {work.__name__}", daemon=True).start()

    def _end(self) -> None:
        """Waits until all have ended well, so that none ends while another one may still fail."""
        self.agree("end", "", lambda said: "")
        self._over.set()

    def _talk(self) -> None:
        """In a thread of its own: gives signs of life, and hears of others' failures."""
        beat = 0
        while not self._over.wait(BEAT):
            beat += 1
            try:
                self._client.key_value_set(self._key(f"alive/{self.index}"), str(beat), allow_overwrite=True)
                failed = self._client.key_value_dir_get(self._key("failed/"))
                lost = self._lost() if self.index == 0 else ""
            except Exception:  # the store is gone, or slow: `_listen` judges by the time
                continue
            self._heard = time.monotonic()
            if self._told or self._over.is_set():
                continue
            if failed:
                self._leave(failed[0][1])
            elif lost:
                _briefly(lambda said=lost: self._client.key_value_set(self._key("failed/of_others"), said))
                self._leave(lost)

    def _listen(self) -> None:
        """In a thread of its own: ends this process where process 0, and the store with it, is silent."""
        while not self._over.wait(BEAT):
            if self.index and time.monotonic() - self._heard > self._patience:
                self._leave(self._silent([0]))

    def _lost(self) -> str:
        """At process 0: what is to be said of processes that are silent; empty where none is."""
        now = time.monotonic()
        if self._client.key_value_dir_get(self._key("troubled/")):
            self._patience = SOON_LOST
        said = {int(key.rpartition("/")[2]): beat for key, beat in self._client.key_value_dir_get(self._key("alive/"))}
        for number in range(1, self.count):
            beat = said.get(number, "")
            if number not in self._beats or self._beats[number][0] != beat:
                self._beats[number] = (beat, now)
        silent = [number for number, (_, since) in self._beats.items() if now - since > self._patience]
        return self._silent(silent) if silent else ""

    def _silent(self, numbers: list[int]) -> str:
        named = ", ".join(map(str, numbers))
        return f"process {named} is lost: no sign of life for {self._patience:.0f} s, killed or its machine gone"

    def _leave(self, line: str) -> None:
        """Ends this process with one line, from whatever thread; nothing of it would come to an end by itself."""
        self._leaving.acquire()  # for good: one line, whoever comes first
        _ending.set()
        where = f"at step {self.step}: " if self.step else ""
        _say(f"error: {where}{line}; {self._safe()}")
        _briefly(lambda: self._client.key_value_set(self._key(f"left/{self.index}"), ""))
        if self.index == 0:
            self._see_off()
        leave(_STATUS)

    def _safe(self) -> str:
        try:
            return self.remains()
        except Exception as error:  # of a disk that is gone as well
            return error_text(error)

    def _see_off(self) -> None:
        """Process 0 waits until the others have left, who would lose the store with it, but for those that are lost."""
        until = time.monotonic() + _FAREWELL
        while time.monotonic() < until:
            try:
                gone = self._client.key_value_dir_get(self._key("left/"))
                failed = self._client.key_value_dir_get(self._key("failed/"))
            except Exception:
                return
            gone = {key.rpartition("/")[2] for key, _ in (*gone, *failed)}
            if len(gone - {str(self.index)}) >= self.count - 1:
                return
            time.sleep(0.1)

    def _ask(self, key: str) -> str:
        """The value of a key, as soon as there is one; the other threads end the process where none will come."""
        while True:
            try:
                return self._client.blocking_key_value_get(key, _TURN)
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


@contextlib.contextmanager
def together() -> Iterator[Peers]:
    """All processes of a run for the block, which ends at all of them, or with one line where one fails; see `Peers`.

    Within another one it is the same. Where the block raises, the others are told first; they end at once, and this
    process, whatever its program does with the error, ends with status 2 as well.
    """
    global _current
    if _current is not None:
        yield _current
        return
    _current = peers = _found()
    peers._begin()
    with _saying_before_an_abort(peers):
        try:
            yield peers
            peers._end()
        except BaseException as error:
            peers._failed(error)
            raise
        finally:
            peers._over.set()
            _current = None


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """For a command: where several processes ran and this one fails, it ends with its own status and waits for nothing.

    Threads of libraries may wait for the others, for minutes. What `errors.exits_cleanly` has said stands; another
    exception's traceback is printed here, unless another thread is ending the process already.
    """
    try:
        yield
    except SystemExit as stop:
        if _runs and stop.code:
            _give_way()
            leave(stop.code if isinstance(stop.code, int) else 1)
        raise
    except BaseException:
        if _runs:
            _give_way()
            traceback.print_exc()
            leave(1)
        raise


def _give_way() -> None:
    """Waits for the end where another thread brings it; its line and its status stand."""
    if _ending.is_set():
        threading.Event().wait()


def tell(line: str) -> None:
    """`Peers.tell` of the run that is under way, if there is one: for what ends the process past all exceptions."""
    if _current is not None:
        _current.tell(line)


def _found() -> Peers:
    """The processes that `jax.distributed` knows of, which shows its store and numbers nowhere else."""
    from jax._src.distributed import global_state

    global _runs
    if global_state.client is None or global_state.num_processes == 1:
        return Peers(None, 0, 1, "", "")
    _runs += 1
    address = global_state.coordinator_address
    return Peers(global_state.client, global_state.process_id, global_state.num_processes, address, f"mmjax/{_runs}")


@contextlib.contextmanager
def _saying_before_an_abort(peers: Peers) -> Iterator[None]:
    """Where JAX's client is about to abort since process 0 is gone, the line comes first, and the status is 2.

    The client does so in native code, 0.1 s after process 0's end, and its callback that would be told before cannot be
    used (std::bad_cast in jaxlib 0.10.2 and 0.11.2). Any other abort, where process 0 still answers after a while, goes
    on when the others are told.
    """
    if peers.count == 1:
        yield
        return

    def handle(number: int) -> None:
        if peers._told:  # of its own failure
            leave(_STATUS)
        until = time.monotonic() + _DYING
        while time.monotonic() < until:
            if not _answers(peers._address):
                peers._leave("process 0 is lost: it was killed, or its machine is gone")
            time.sleep(0.1)
        peers.tell("it aborted in native code; its own log says more")

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    install = ctypes.CDLL(None).signal
    install.argtypes, install.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    _kept.append(handler)
    before = install(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    yield  # an error leaves it in place: JAX's client may abort as long as this process lives
    install(signal.SIGABRT, before)


def _answers(address: str) -> bool:
    """Whether somebody still listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _is_of_collective(error: BaseException) -> bool:
    """Whether JAX's runtime failed, as a collective does whose other side is gone; Gloo's may be a ValueError."""
    import jax

    seen: BaseException | None = error
    while seen is not None:
        of_runtime = isinstance(seen, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(seen)
        if of_runtime or "Gloo " in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _line_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "it was stopped by Ctrl-C"
    return str(error) if isinstance(error, MMJaxError) else f"{type(error).__name__}: {error_text(error)}"


def _briefly(call: Callable[[], Any]) -> None:
    """Does it if the store answers within two seconds; a store that is gone is no reason to wait."""

    def attempt():
        with contextlib.suppress(Exception):
            call()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(2.0)


def _say(text: str) -> None:
    """A line on stderr, past Python's buffers and a bar of progress."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode(errors="backslashreplace"))
