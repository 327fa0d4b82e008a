"""Reads an upload, a body of multipart/form-data, and writes its file to disk as it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from l4cli.errors import InputError, L4Error
from l4cli.serve.batches.files import FileStore, Incoming
from l4cli.serve.openai.keeping import kept_error, on_disk
from l4cli.serve.streams import GoneError

_MOST_FIELD = 4096  # bytes of a field that is no file
_MOST_FIELDS = 16


@dataclass(slots=True)
class Upload:
    """What an upload has: its fields by name, and the name of its file; None if it has no file."""

    incoming: Incoming
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


async def receive(request: Request, files: FileStore) -> Upload:
    """Read an upload. The caller closes its `incoming`. ApiError if it is not what it should be.

    The body is read to its end even if it is wrong, so that the client reads the answer.
    """
    boundary = _boundary(request.headers)
    incoming = await on_disk(files.incoming)
    form = _Form(incoming)
    parser = MultipartParser(boundary, form.callbacks)  # type: ignore[arg-type]
    try:
        failure: L4Error | None = None
        async for part in request.stream():
            if part and failure is None:
                failure = await on_disk(partial(_fed, parser, part))
        if failure is None and not form.is_whole:
            failure = InputError("the body ends before its last boundary")
        if failure is not None:
            raise kept_error(failure)
    except ClientDisconnect:
        await on_disk(incoming.close)
        raise GoneError from None
    except BaseException:
        await on_disk(incoming.close)
        raise
    return form.upload


def _boundary(headers: Mapping[str, str]) -> bytes:
    kind, options = parse_options_header(headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise kept_error(InputError("the content type must be multipart/form-data with a boundary"))
    return boundary


def _fed(parser: MultipartParser, part: bytes) -> L4Error | None:
    """Give a part of the body to the parser; return what is wrong with it, if anything is."""
    try:
        parser.write(part)
    except FormParserError as error:
        return InputError(f"the body is not multipart/form-data: {error}")
    except L4Error as error:
        return error
    return None


class _Form:
    """The callbacks of the parser, which is given an upload piece by piece."""

    def __init__(self, incoming: Incoming) -> None:
        self.upload = Upload(incoming)
        self.is_whole = False
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._name = ""  # of the field that is being read
        self._value = bytearray()
        self._is_file = False

    @property
    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._end_form,
        }

    def _begin(self) -> None:
        self._disposition = b""
        self._value.clear()

    def _end_header(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        name.clear()
        value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if self._is_file and self._name != "file":
            raise InputError(f"{self._name} must not be a file: the file belongs into `file`")
        if self._name in self.upload.fields or (self._is_file and self.upload.filename is not None):
            raise InputError(f"{self._name} is given more than once")
        if len(self.upload.fields) >= _MOST_FIELDS:
            raise InputError(f"there are more than {_MOST_FIELDS} fields")
        if self._is_file:
            self.upload.filename = options[b"filename"].decode("utf-8", "replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.upload.incoming.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MOST_FIELD:
            raise InputError(f"{self._name} has more than {_MOST_FIELD} bytes")

    def _end(self) -> None:
        if not self._is_file:
            self.upload.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end_form(self) -> None:
        self.is_whole = True
