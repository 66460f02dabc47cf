"""Files in and out: pictures, files whose settings are to be read, and what was made. Each for its owner alone.

    POST mine/pictures/PERSON     the bytes of a picture; {"refused": line} or {}
    POST mine/settings            the bytes of a file that mmjax made; {"refused": line} or {}
    GET  mine/pictures/ID         the small JPEG of a picture
    GET  mine/jobs/ID/preview     the emerging frame
    GET  mine/jobs/ID/N/NAME      a file of the Nth video

Nothing that a request names is opened: identifiers are looked up among the owner's own.
"""

import asyncio
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mmjax.errors import DataError, MMJaxError
from mmjax.outputs import size_text
from mmjax.serving.form import Offer, values_of_settings
from mmjax.serving.guard import owner_of
from mmjax.serving.jobs import FILES, JobStore
from mmjax.serving.limits import Limits
from mmjax.serving.uploads import Uploads

FormValues = tuple[dict[str, Any], list[str]]  # and what is to be said of them
ReadSettings = Callable[[Path], dict[str, Any] | None]
_PRIVATE = {"cache-control": "private, no-store", "content-encoding": "identity"}  # and not compressed once more
_NOTHING = PlainTextResponse("there is nothing here\n", 404)


class ReadFiles:
    """A form's values that were read from files that people dropped, by owner, until the form takes them."""

    def __init__(self, read: ReadSettings, offer: Offer):
        self._read, self._offer, self._lock = read, offer, threading.Lock()
        self._found: dict[str, FormValues] = {}

    def add(self, owner: str, content: bytes) -> None:
        """Reads a file's settings. Raises `MMJaxError` where it has none."""
        with tempfile.NamedTemporaryFile(prefix="mmjax-") as file:
            file.write(content)
            file.flush()
            try:
                settings = self._read(Path(file.name))
            except MMJaxError as error:
                raise DataError(str(error).replace(file.name, "the file")) from None
        if settings is None:
            raise DataError("the file: expected an mp4, sheet or record that mmjax made, found no settings in it")
        with self._lock:
            self._found[owner] = values_of_settings(settings, self._offer)
            if len(self._found) > self._offer.limits.owners:
                del self._found[next(iter(self._found))]

    def take(self, owner: str) -> FormValues | None:
        """The owner's, once."""
        with self._lock:
            return self._found.pop(owner, None)


def file_routes(uploads: Uploads, store: JobStore, read_files: ReadFiles, limits: Limits) -> list[Route]:
    """The routes of the module's head."""
    inside, looking = asyncio.Semaphore(limits.uploads_inside), asyncio.Semaphore(limits.at_once)
    waiting = 0

    async def in_turn(request: Request, limit: int, take: Callable[[str, bytes], None]) -> Response:
        """Has a body taken when its turn comes; what it is refused for is the answer."""
        nonlocal waiting
        owner = owner_of(request.headers)
        if owner is None or waiting >= limits.uploads_waiting:
            return PlainTextResponse("too many are sending files just now; try again in a moment\n", 503)
        waiting += 1
        try:
            async with inside:
                content = await asyncio.wait_for(_body(request, limit), limits.upload_seconds)
                async with looking:
                    await run_in_threadpool(take, owner, content)
        except TimeoutError:
            return PlainTextResponse(f"expected the whole file within {limits.upload_seconds:g} s\n", 408)
        except MMJaxError as error:
            return JSONResponse({"refused": str(error)}, 422)
        except ClientDisconnect:
            return PlainTextResponse("cut off\n", 400)
        finally:
            waiting -= 1
        return JSONResponse({})

    async def add_picture(request: Request) -> Response:
        person = request.path_params["person"]
        return await in_turn(request, limits.picture_bytes, lambda owner, body: uploads.add(owner, person, body))

    async def read_settings(request: Request) -> Response:
        return await in_turn(request, limits.made_bytes, read_files.add)

    async def picture(request: Request) -> Response:
        found = uploads.find(owner_of(request.headers) or "", request.path_params["id"])
        return Response(found.shown, media_type="image/jpeg", headers=_PRIVATE) if found else _NOTHING

    async def preview(request: Request) -> Response:
        job = store.find(owner_of(request.headers) or "", request.path_params["id"])
        return Response(job.preview, media_type="image/jpeg", headers=_PRIVATE) if job and job.preview else _NOTHING

    async def file(request: Request) -> Response:
        owner, (identifier, number, name) = owner_of(request.headers) or "", request.path_params.values()
        path = store.file(owner, identifier, number, name)
        return FileResponse(path, media_type=FILES[name], headers=_PRIVATE) if path else _NOTHING

    return [
        Route("/mine/pictures/{person}", add_picture, methods=["POST"]),
        Route("/mine/settings", read_settings, methods=["POST"]),
        Route("/mine/pictures/{id}", picture),
        Route("/mine/jobs/{id}/preview", preview),
        Route("/mine/jobs/{id}/{number:int}/{name}", file),
    ]


async def _body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises `DataError` where it is empty or grows beyond the limit."""
    parts, size = [], 0
    too_large = f"file: expected at most {size_text(limit)}, found more; save it smaller"
    if int(request.headers.get("content-length", 0)) > limit:
        raise DataError(too_large)
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise DataError(too_large)
        parts.append(part)
    if not size:
        raise DataError("file: expected one, found nothing")
    return b"".join(parts)
