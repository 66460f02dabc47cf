"""All parts of a server put together: folder, uploads, queue, worker, guard and page."""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mmjax.serving.address import Address
from mmjax.serving.form import AskedVideo, Offer
from mmjax.serving.jobs import JobStore
from mmjax.serving.routes import ReadFiles, ReadSettings, file_routes
from mmjax.serving.uploads import Look, Uploads
from mmjax.serving.worker import Maker, Worker

_PREFIX = "mmjax-demo-"  # of a server's folder; its process's number follows


class Asked(Maker, Protocol):
    """What a server asks of a model; `mmjax.serving.engine.Engine`."""

    def look(self, paths: Sequence[Path]) -> list[Look]: ...

    def check(self, videos: Sequence[AskedVideo]) -> list[str]: ...


class Server:
    """A running server; `close` ends it and removes what people left in it.

    Args:
      texts: `responsible_use`, `model` and `about`, as `mmjax.serving.page.Served` has them.
    """

    def __init__(
        self,
        asked: Asked,
        offer: Offer,
        read_settings: ReadSettings,
        address: Address,
        texts: Mapping[str, str],
        open_browser: bool = False,
    ):
        limits = offer.limits
        remove_left()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))  # which nobody else may read
        (self.folder / "uploads").mkdir()
        (self.folder / "jobs").mkdir()
        self.uploads = Uploads(self.folder / "uploads", asked.look, limits)
        self.store = JobStore(self.folder / "jobs", limits)
        read_files = ReadFiles(read_settings, offer)
        self._worker = Worker(self.store, asked, self._tidy)
        routes = file_routes(self.uploads, self.store, read_files, limits)
        try:
            from mmjax.serving import page  # Gradio takes seconds to import, and is an extra

            served = page.Served(offer, self.uploads, self.store, read_files, asked.check, **texts)
            self._page, self.url, self.shared_url = page.launched(served, routes, address, open_browser)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._worker.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def wait(self) -> None:
        """Until the process is interrupted."""
        threading.Event().wait()

    def close(self) -> None:
        self._worker.stop()
        self._page.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tidy(self) -> None:
        self.uploads.expire()
        self.store.expire()


def remove_left() -> None:
    """Removes what servers of ours left that were killed: the folders of processes that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(PermissionError):  # of somebody else's process
            try:
                os.kill(int(number) if number.isdecimal() else os.getpid(), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
