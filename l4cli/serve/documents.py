"""POST /documents: reads a file that a client sends, and returns its text and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import PurePath
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from l4cli.documents.document import Document
from l4cli.documents.ingest import document_of
from l4cli.printable import harmless
from l4cli.serve.errors import ApiError
from l4cli.serve.handling import Api
from l4cli.serve.streams import JsonResponse

NAME_HEADER, MODEL_HEADER = "x-file-name", "x-model"
_MOST_SECONDS = 60.0  # of computing that one file may take
_MOST_WAITING = 8  # files that wait to be read
_MOST_NAME, _MOST_SUFFIX = 200, 20  # characters


async def documents(request: Request) -> Response:
    """Return the text of the file that is the body, as `l4 ask` reads it.

    The header X-File-Name has the file's name, percent-encoded; it is shown, and its ending may
    tell the format. X-Model names the model whose tokens are counted.
    """
    api = Api.of(request)
    served = api.models.of({"model": request.headers.get(MODEL_HEADER)})
    name = _name(request.headers.get(NAME_HEADER, ""))
    notes: list[str] = []
    document = await _readers().read(await request.body(), name, notes.append)
    tokens = await served.asking.encode(partial(served.llm.vocabulary.tokenize, document.text))
    return JsonResponse(
        {
            "object": "document",
            "name": name,
            "text": document.text,
            "tokens": len(tokens),
            "notes": [_without_name(note, name) for note in notes],
        }
    )


def _name(given: str) -> str:
    """Return the last part of a name from outside, fit to be shown. It never becomes a path."""
    whole = harmless(unquote(given)).replace("\\", "/").replace("\n", " ")
    name = whole.rpartition("/")[2].strip()
    if len(name) > _MOST_NAME:
        suffix = PurePath(name).suffix[:_MOST_SUFFIX]
        name = name[: _MOST_NAME - len(suffix)] + suffix
    return name if name.strip(".") else "document"


class _Readers:
    """The thread that reads documents: the child process behind it takes one at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="l4-documents")
        self._num_waiting = 0

    async def read(self, data: bytes, name: str, on_note: Callable[[str], None]) -> Document:
        """Convert a file's bytes to a document. InputError if it cannot be read."""
        if self._num_waiting >= _MOST_WAITING:
            raise ApiError(
                503,
                f"{_MOST_WAITING} files wait to be read already: try again later",
                code="queue_full",
                headers={"Retry-After": "5"},
            )
        work = partial(document_of, data, name, on_note, most_seconds=_MOST_SECONDS)
        self._num_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._num_waiting -= 1


_readers = cache(_Readers)


def _without_name(note: str, name: str) -> str:
    return note.removeprefix(f"{name}: ")
