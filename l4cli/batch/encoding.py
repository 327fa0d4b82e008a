"""Turns the bytes of an input into lines of UTF-8, whichever program wrote it.

UTF-8 with or without a byte order mark, UTF-16 (PowerShell's `>`, Excel's "Unicode text") and files
whose lines end with a carriage return alone (old Macs) are read. Everything is read lazily.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Iterator

from l4cli.errors import InputError

_UTF8_BOM = b"\xef\xbb\xbf"
TO_UTF8 = "convert the input to UTF-8, as with `iconv -f latin1 -t utf-8`"
_WHITE = b"\t\n\v\f\r"
_MANY_CONTROLS = 5
_UTF32_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def is_binary(start: bytes) -> bool:
    """Whether an input that begins so is no text in any encoding: many control characters."""
    has_mark = start.startswith((*_UTF32_BOMS, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if has_mark or (_utf16(start) and start.count(0) * 8 > len(start)):
        return False
    num_control = sum(byte < 32 and byte not in _WHITE for byte in start)
    return num_control >= _MANY_CONTROLS and num_control > len(start) / 50


def utf8_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of an input as UTF-8 without a byte order mark.

    lines: the input, split after bytes 0x0A or anywhere else, as `lines_of` yields it.

    Raises InputError if the input is UTF-32, or UTF-16 that breaks off within a character.
    """
    iterator = iter(lines)
    first = next(iterator, b"")
    whole = itertools.chain([first], iterator)
    if first.startswith(_UTF32_BOMS):
        raise InputError("the input is UTF-32: convert it to UTF-8 (iconv -f utf-32 -t utf-8)")
    if encoding := _utf16(first):
        return _transcoded(whole, encoding)
    first = first.removeprefix(_UTF8_BOM)
    if not first.endswith(b"\n") and b"\r" in first.rstrip(b"\r"):
        return iter([line + b"\n" for line in first.split(b"\r")])
    return itertools.chain([first], iterator)


def is_utf16_le(first: bytes) -> bool:
    """Whether a first line shows that the input is UTF-16, low bytes first."""
    is_utf32 = first.startswith(_UTF32_BOMS)
    has_mark = first.startswith(codecs.BOM_UTF16_LE) and not is_utf32
    return has_mark or _utf16(first) == "utf-16-le"


def _utf16(first: bytes) -> str | None:
    """The name of the UTF-16 encoding that a first line shows; None for any other."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if first[:1] and first[1:2] == b"\0":  # no mark, but text in ASCII begins so
        return "utf-16-le"
    return "utf-16-be" if first[:1] == b"\0" and first[1:2] else None


def _transcoded(lines: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Lines of UTF-8 from UTF-16 that was split after bytes 0x0A, be they line ends or not."""
    decoder = codecs.getincrementaldecoder(encoding)()
    rest = ""
    try:
        for piece in itertools.chain(lines, [None]):
            rest += decoder.decode(b"", final=True) if piece is None else decoder.decode(piece)
            *whole, rest = rest.split("\n")
            for line in whole:
                yield line.encode() + b"\n"
    except UnicodeError as error:
        raise InputError(f"the input is UTF-16, and is damaged: {error.args[-1]}") from None
    if rest:
        yield rest.encode()
