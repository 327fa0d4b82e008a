"""Decodes text: the same rule for every file and pipe that l4 reads as text.

Text is UTF-8 with or without a BOM, or UTF-16 or UTF-32 with a BOM. Encodings are never guessed: a
wrong guess would show the model characters that nobody wrote.
"""

from __future__ import annotations

import codecs
import os
import select
import stat
import time
from pathlib import Path

from l4cli.background import readable
from l4cli.errors import InputError

MAX_BYTES = 1 << 30  # of one file; ten million tokens of text are about 45 MB
MAX_WAIT = 5.0  # seconds for a program to open a named pipe
NO_PATH = (ValueError, RuntimeError)  # pathlib raises them for a NUL, and for "~nobody"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16: it begins with UTF-16's BOM
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


class BinaryFileError(InputError):
    """A file that l4 does not read, because it is not text or a document."""


def read_text(path: Path) -> str:
    """Return a file's text. Raises InputError if it cannot be read, or is not text."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes. Raises InputError if it cannot be read, or changes meanwhile.

    A pipe is read to its end. One that nobody writes to is an error, as is a device.
    """
    try:
        path = path.expanduser()
        found = path.stat()
        if _is_endless(found):
            raise InputError(f"{path}: a device, not a file")
        if stat.S_ISFIFO(found.st_mode):
            data, before, after = _read_pipe(path), found, found
        else:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                data = file.read(MAX_BYTES + 1)
                after = os.fstat(file.fileno())
    except (OSError, *NO_PATH) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: {reason}") from None
    check_size(data, str(path))
    changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    if changed and stat.S_ISREG(before.st_mode):
        raise InputError(f"{path}: it changed while it was read; try again when it is finished")
    return data


def _is_endless(found: os.stat_result) -> bool:
    """Whether this is a device other than /dev/null: it may have no end, as /dev/zero."""
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return is_device and not os.path.samestat(found, os.stat(os.devnull))  # noqa: PTH116


def _read_pipe(path: Path) -> bytes:
    """Return what is written to a named pipe, up to its end.

    Raises InputError if no program opens it for writing within MAX_WAIT seconds.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as pipe:  # noqa: PTH123
        events = select.poll()
        events.register(fd, select.POLLIN)
        deadline = time.monotonic() + MAX_WAIT
        begun: bytes | None = b""  # None: there is a writer, which has written nothing yet
        while not events.poll(100) and not (begun := pipe.read(1)) and begun is not None:
            if time.monotonic() > deadline:
                raise InputError(f"{path}: a pipe that no program writes to")
        os.set_blocking(fd, True)
        parts, length = [begun or b""], 0
        while length <= MAX_BYTES:
            readable(fd)
            if not (part := pipe.read(1 << 20)):
                break
            parts.append(part)
            length += len(part)
        return b"".join(parts)


def check_size(data: bytes, name: str) -> None:
    """Raise InputError if `data` is longer than MAX_BYTES."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: larger than {MAX_BYTES >> 20} MiB; split the file")


def decode(data: bytes, name: str) -> str:
    """Decode `data` as text, without its BOM. Raises InputError, which begins with `name`."""
    bom, codec, encoding = next(
        (known for known in _BOMS if data.startswith(known[0])), (b"", "utf-8", "UTF-8")
    )
    if not bom and b"\0" in data:
        if codec := _unmarked_utf16(data):
            raise InputError(
                f"{name}: looks like UTF-16 without its byte order mark; "
                f"convert it to UTF-8 first (iconv -f {codec})"
            )
        raise BinaryFileError(f"{name}: {_binary(name)}")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: not {encoding} at byte {error.start + 1}; convert it to UTF-8 first (iconv)"
        ) from None
    if "\0" in text:
        raise BinaryFileError(f"{name}: {_binary(name)}")
    return text


def _binary(name: str) -> str:
    """Say what is wrong with a file that is no text, nor what its name promises."""
    ending = name.rpartition(".")[2].lower()
    if ending in ("pdf", "docx", "epub"):
        return f"not a valid {ending.upper()} file; it may be damaged: fetch or export it again"
    return "a binary file; give it as UTF-8 text"


def _unmarked_utf16(data: bytes) -> str:
    """Return the kind of UTF-16 that `data` seems to be, "" if none: every other byte is 0."""
    start = data[:4096]
    for codec, zeros, others in (
        ("UTF-16LE", start[1::2], start[::2]),
        ("UTF-16BE", start[::2], start[1::2]),
    ):
        is_text = all(byte >= 0x20 or byte in b"\t\n\f\r" for byte in others)
        if len(data) % 2 == 0 and is_text and zeros.count(0) * 2 > len(zeros):
            return codec
    return ""


def unix_lines(text: str) -> str:
    """Return the text with "\\n" as the end of every line."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def printable(text: str) -> str:
    """Return the text as one line that is safe to print: no control characters, single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
