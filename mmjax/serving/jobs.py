"""What is to be made and what was made: a queue for all, and for each owner the jobs that are theirs.

    store = JobStore(folder, Limits())
    job = store.add(owner, videos)          # DataError where too many are waiting
    job = store.next(timeout=1.0)           # the worker's
    store.of(owner), store.find(owner, id)  # nobody sees another's

Jobs belong to the server, not to a browser: they go on when the page is closed, and are there when it is opened again.
An owner is any text that the web server knows somebody by.
"""

import collections
import dataclasses
import enum
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.errors import DataError
from mmjax.serving.form import AskedVideo, Form
from mmjax.serving.limits import Limits


class State(enum.Enum):
    WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"

    @property
    def is_open(self) -> bool:
        return self in (State.WAITING, State.RUNNING)


class Cancelled(Exception):
    """The owner does not want the job any more."""


@dataclasses.dataclass(frozen=True)
class MadeVideo:
    """A finished video. folder: holds `FILES`. settings: as they travel in it. seconds: that it took."""

    label: str
    folder: Path
    settings: Mapping[str, Any]
    notes: Sequence[str]
    seconds: float


FILES = {"video.mp4": "video/mp4", "video.png": "image/png", "video.json": "application/json"}  # of a made video


@dataclasses.dataclass(eq=False)
class Job:
    """The videos that one press of the button asks for; changed by the store and by the worker alone.

    step, steps: of denoising, over all videos. preview: a JPEG of what is emerging. said: why it failed.
    """

    id: str
    owner: str
    form: Form
    videos: Sequence[AskedVideo]
    folder: Path
    given: float
    state: State = State.WAITING
    made: list[MadeVideo] = dataclasses.field(default_factory=list)
    begun: float = 0.0
    ended: float = 0.0
    doing: str = ""
    step: int = 0
    steps: int = 0
    step_seconds: float = 0.0  # of the last ones, on average
    preview: bytes = b""
    previews: int = 0
    said: str = ""
    unwanted: bool = False

    @property
    def seconds_left(self) -> float | None:
        """Of denoising; None before two steps are known."""
        return self.step_seconds * (self.steps - self.step) if self.step_seconds else None


class JobStore:
    """All jobs of a server. Every method may be called from any thread."""

    def __init__(self, folder: Path, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self._folder, self._limits, self._clock = folder, limits, clock
        self._changed = threading.Condition(threading.RLock())
        self._waiting: collections.deque[Job] = collections.deque()
        self._jobs: dict[str, list[Job]] = {}
        self._versions: dict[str, int] = {}
        self._changes = 0
        self._speeds: dict[tuple, tuple[float, float]] = {}  # seconds of a step, and of all that is not steps

    def add(self, owner: str, form: Form, videos: Sequence[AskedVideo]) -> Job:
        """Puts a job at the end of the queue. Its pictures are kept with it, whatever becomes of the uploads.

        Raises:
          DataError: too many jobs wait, of all or of this owner, or a picture is gone.
        """
        with self._changed:
            waiting_of_one = sum(job.owner == owner for job in self._waiting)
            if waiting_of_one >= self._limits.waiting_of_one:
                raise DataError(
                    f"{waiting_of_one} of your jobs are waiting, which is as many as may; wait for one, or cancel one"
                )
            if len(self._waiting) >= self._limits.waiting:
                raise DataError(f"the queue is full, {len(self._waiting)} jobs are waiting; try again later")
            if owner not in self._jobs and len(self._jobs) >= self._limits.owners:
                raise DataError(f"the server keeps videos of {len(self._jobs)} people already; come back later")
            identifier = secrets.token_urlsafe(16)
            folder = self._folder / identifier
            folder.mkdir()
            job = Job(identifier, owner, form, _with_own_pictures(videos, folder), folder, self._clock())
            job.steps = form.steps * len(videos)
            self._waiting.append(job)
            there = self._jobs.setdefault(owner, [])
            there.append(job)
            closed = [each for each in there if not each.state.is_open]
            for each in closed[: max(0, len(there) - self._limits.kept_of_one)]:
                self._drop(each)
            self._tell(owner)
            return job

    def next(self, timeout: float | None = None) -> Job | None:
        """The job that has waited longest, now running; None where there is none within so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, timeout):
                return None
            job = self._waiting.popleft()
            job.state, job.begun = State.RUNNING, self._clock()
            self._tell(job.owner)
            return job

    def finish(self, job: Job, state: State, said: str = "") -> None:
        """Ends a running job; pictures of the person go at once."""
        with self._changed:
            job.state, job.said, job.ended, job.preview = state, said, self._clock(), b""
            _remove_pictures(job)
            self._tell(job.owner)

    def add_made(self, job: Job, made: MadeVideo) -> None:
        """Shows a finished video of a running job, and learns from it how long such videos take."""
        with self._changed:
            job.made.append(made)
            if job.step_seconds:
                rest = max(made.seconds - job.form.steps * job.step_seconds, 0.0)
                before = self._speeds.get(_shape(job.form), (0.0, rest))[1]
                self._speeds[_shape(job.form)] = job.step_seconds, min(rest, before)  # compiling is done once
            self._tell(job.owner)

    def cancel(self, owner: str, identifier: str) -> None:
        """Ends a waiting job of this owner, or has a running one end after its step."""
        with self._changed:
            job = self.find(owner, identifier)
            if job and job.state is State.WAITING:
                self._waiting.remove(job)
                self.finish(job, State.CANCELLED)
            elif job and job.state is State.RUNNING:
                job.unwanted = True

    def remove(self, owner: str, identifier: str) -> None:
        """Removes an ended job of this owner with its files."""
        with self._changed:
            job = self.find(owner, identifier)
            if job and not job.state.is_open:
                self._drop(job)

    def of(self, owner: str) -> list[Job]:
        """The owner's jobs, in the order in which they were given."""
        with self._changed:
            return list(self._jobs.get(owner, ()))

    def find(self, owner: str, identifier: str) -> Job | None:
        """A job of this owner; None for others', and for none."""
        found = (job for job in self.of(owner) if secrets.compare_digest(job.id.encode(), identifier.encode()))
        return next(found, None)

    def file(self, owner: str, identifier: str, number: int, name: str) -> Path | None:
        """A file of a video of this owner: the `number`th of a job, one of `FILES`."""
        job = self.find(owner, identifier)
        if job is None or name not in FILES or not 0 <= number < len(job.made):
            return None
        path = job.made[number].folder / name
        return path if path.is_file() else None

    def place(self, job: Job) -> int:
        """How many jobs come before a waiting one, the running one included."""
        with self._changed:
            running = any(each.state is State.RUNNING for there in self._jobs.values() for each in there)
            return (self._waiting.index(job) if job in self._waiting else 0) + running

    def seconds_of_one(self, form: Form) -> float | None:
        """That one video of this form will take, going by those of its size that were made here; None without any."""
        step, rest = self._speeds.get(_shape(form), (None, 0.0))
        return None if step is None else step * form.steps + rest

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def version(self, owner: str) -> int:
        """Another number whenever a job of this owner came, ended or went; 0 where there are none."""
        return self._versions.get(owner, 0)

    def expire(self) -> None:
        """Removes ended jobs that are older than files are kept."""
        oldest = self._clock() - self._limits.keep_seconds
        with self._changed:
            jobs = [job for there in self._jobs.values() for job in there if not job.state.is_open]
            for job in jobs:
                if job.ended < oldest:
                    self._drop(job)

    def _drop(self, job: Job) -> None:
        self._jobs[job.owner].remove(job)
        if not self._jobs[job.owner]:
            del self._jobs[job.owner]
        shutil.rmtree(job.folder, ignore_errors=True)
        self._tell(job.owner)

    def _tell(self, owner: str) -> None:
        self._changes += 1
        self._versions[owner] = self._changes
        if owner not in self._jobs:
            del self._versions[owner]
        self._changed.notify_all()


def _with_own_pictures(videos: Sequence[AskedVideo], folder: Path) -> list[AskedVideo]:
    """The videos with copies of their pictures in the job's folder. Raises `DataError` where one is gone."""
    given = dict.fromkeys(path for video in videos for path in video.request.references)
    copies = {path: folder / f"{number}.picture" for number, path in enumerate(given)}
    try:
        for path, copy in copies.items():
            shutil.copyfile(path, copy)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError("a picture is not there any more; give it again") from None
    requests = [
        dataclasses.replace(video.request, references=tuple(copies[path] for path in video.request.references))
        for video in videos
    ]
    return [dataclasses.replace(video, request=request) for video, request in zip(videos, requests, strict=True)]


def _shape(form: Form) -> tuple:
    """What a step's seconds depend on."""
    return form.frames, form.size, form.guidance == 1


def _remove_pictures(job: Job) -> None:
    for path in job.folder.glob("*.picture"):
        path.unlink(missing_ok=True)
