"""Zip archives by seed, of documents: written in ways that writers have, and in ways that none has.

name, data = member(seed)

The archive is made byte by byte, since zipfile writes none of this: local and central headers that
disagree, descriptors, zip64, encrypted entries, other methods, links, names outside the archive ...
"""

from __future__ import annotations

import bz2
import io
import lzma
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import odd_documents
import papers

_NUMBERS = (0, 1, 7, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_NAMES: tuple[bytes, ...] = (
    b"", b"/", b".", b"..", b"../x", b"../../etc/passwd", b"/etc/passwd", b"C:\\x", b"..\\..\\x",
    b"word/../word/document.xml", b"a\0b", b"\xff\xfe.xml", b"\x81\x40.xml", b"\xc3\xa9.xml",
    b"e\xcc\x81.xml", b"\x1b[31m.xml", b"\xe2\x80\xae.xml", b"x" * 65_535, b"a/" * 30_000,
    b"%2e%2e/x",
    b"word\\document.xml", b"WORD/DOCUMENT.XML", b"word/", b"word", b"[Content_Types].xml",
    b"mimetype",
    b"content.xml", b"xl/workbook.xml", b"META-INF/container.xml", b"aux", b"\xed\xa0\x80.xml",
)  # fmt: skip
_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_OTHER_METHODS = (1, 6, 9, 93, 95, 98, 99, 2**16 - 1)  # deflate64, zstd, xz, ppmd, AES …
_ENCRYPTED, _DESCRIPTOR, _STRONG, _UTF8 = 1, 8, 64, 0x800


@dataclass
class _Entry:
    """A member, and what its headers say of it where that is not the truth."""

    name: bytes
    data: bytes
    method: int = _DEFLATED
    flags: int = _UTF8
    attributes: int = 0  # Unix's mode, in the upper half
    extra: bytes = b""
    zip64: bool = False
    said: dict[str, int] = field(default_factory=dict)  # in the central directory
    locally: dict[str, int] = field(default_factory=dict)  # in the local header
    local_name: bytes | None = None


@dataclass
class _Archive:
    entries: list[_Entry]
    before: bytes = b""
    after: bytes = b""
    comment: bytes = b""
    said: dict[str, int] = field(default_factory=dict)  # in the end record
    zip64: bool = False


def member(seed: int) -> tuple[str, bytes]:
    """The name and the bytes of the archive with this seed."""
    dice = random.Random(seed)
    kind, base = dice.choice(_BASES)
    if dice.random() < 0.3:
        made = odd_documents.MAKERS[kind](dice) if kind in odd_documents.MAKERS else base
        base = made if made.startswith(b"PK") else base
    with zipfile.ZipFile(io.BytesIO(base)) as file:
        entries = [_Entry(name.encode(), file.read(name)) for name in file.namelist()]
    archive = _Archive(entries)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        dice.choice(_CHANGES)(archive, dice)
    data = _written(archive)
    if dice.random() < 0.1:
        data = odd_documents.damaged(dice, data)
    return f"{seed}.{kind}", data


def far_away() -> tuple[str, bytes]:
    """A document whose parts lie beyond 2**63 bytes, as it says."""
    with zipfile.ZipFile(io.BytesIO(_BASES[0][1])) as file:
        entries = [_Entry(name.encode(), file.read(name)) for name in file.namelist()]
    for entry in entries:
        wide = struct.pack("<HHQ", 1, 8, 2**63 + 2**32)
        entry.extra, entry.said["offset"] = wide, 2**32 - 1
    return "far.docx", _written(_Archive(entries))


_OPEN_DOCUMENT = papers.archive(
    {
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": "<office:document-content><text:p>10</text:p></office:document-content>",
        "META-INF/manifest.xml": "<manifest/>",
    }
)
_BASES: tuple[tuple[str, bytes], ...] = (
    ("docx", papers.docx([("", "The pump has 10 valves."), ("Heading 1", "Pump")])),
    ("docx", papers.word("<w:p><w:r><w:t>10 valves</w:t></w:r></w:p>", {"styles": "<w:styles/>"})),
    ("epub", papers.epub({"a.xhtml": "<p>10 valves</p>", "b.xhtml": "<h1>Pump</h1>"})),
    ("odt", _OPEN_DOCUMENT),
)


# ------------------------------------------------------------------------------- writing


def _written(archive: _Archive) -> bytes:
    body, directory = bytearray(archive.before), bytearray()
    for entry in archive.entries:
        offset = len(body)
        local, central = _headers(entry, offset)
        body += local
        directory += central
    count, start = len(archive.entries), len(body)
    numbers = {"disk": 0, "count": count, "size": len(directory), "offset": start, **archive.said}
    end = b""
    if archive.zip64:
        record = struct.pack(
            "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, len(directory), start
        )
        end = record + struct.pack("<IIQI", 0x07064B50, 0, start + len(directory), 1)
        numbers |= {"count": 2**16 - 1, "size": 2**32 - 1, "offset": 2**32 - 1}
    end += struct.pack(
        "<IHHHHIIH",
        0x06054B50,
        _short(numbers["disk"]),
        0,
        _short(numbers["count"]),
        _short(numbers["count"]),
        _word(numbers["size"]),
        _word(numbers["offset"]),
        len(archive.comment),
    )
    return bytes(body + directory) + end + archive.comment + archive.after


def _headers(entry: _Entry, offset: int) -> tuple[bytes, bytes]:
    """The local header with the data, and the central header."""
    packed = _packed(entry.method, entry.data)
    true = {
        "crc": zlib.crc32(entry.data),
        "packed": len(packed),
        "size": len(entry.data),
        "offset": offset,
        "method": entry.method,
        "flags": entry.flags,
    }
    here, there = {**true, **entry.locally}, {**true, **entry.said}
    has_descriptor = entry.flags & _DESCRIPTOR
    if has_descriptor:
        here |= dict.fromkeys(("crc", "packed", "size"), 0)
    extra = entry.extra
    if entry.zip64:
        wide = struct.pack("<QQ", there["size"] % 2**64, there["packed"] % 2**64)
        extra += struct.pack("<HH", 1, len(wide)) + wide
        there |= {"size": 2**32 - 1, "packed": 2**32 - 1}
    name = entry.name if entry.local_name is None else entry.local_name
    local = struct.pack(
        "<IHHHHHIIIHH", 0x04034B50, 20, _short(here["flags"]), _short(here["method"]), 0, 33,
        _word(here["crc"]), _word(here["packed"]), _word(here["size"]), len(name), 0,
    )  # fmt: skip
    central = struct.pack(
        "<IHHHHHHIIIHHHHHII", 0x02014B50, 0x0314, 20, _short(there["flags"]),
        _short(there["method"]), 0, 33, _word(there["crc"]), _word(there["packed"]),
        _word(there["size"]), len(entry.name), len(extra), 0, 0, 0, entry.attributes,
        _word(there["offset"]),
    )  # fmt: skip
    end = b""
    if has_descriptor:
        end = b"PK\x07\x08" + struct.pack("<III", true["crc"], len(packed), len(entry.data))
    return local + name + packed + end, central + entry.name + extra


def _short(number: int) -> int:
    return number % 2**16


def _word(number: int) -> int:
    return number % 2**32


def _packed(method: int, data: bytes) -> bytes:
    if method == _STORED:
        return data
    if method == _BZIP2:
        return bz2.compress(data)
    if method == _LZMA:
        filters = [{"id": lzma.FILTER_LZMA1, "preset": 1}]
        raw = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
        return struct.pack("<BBH", 9, 4, 5) + b"]\0\0\x10\0" + raw
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


# ------------------------------------------------------------------------------- the changes


def _method(archive: _Archive, dice: random.Random) -> None:
    methods = (_STORED, _BZIP2, _LZMA, *_OTHER_METHODS)
    for entry in _some(archive, dice):
        entry.method = dice.choice(methods)


def _claim(archive: _Archive, dice: random.Random) -> None:
    """A header that says another checksum, size, place or method than the truth."""
    entry = dice.choice(archive.entries)
    what = dice.choice(("crc", "packed", "size", "size", "offset", "method", "flags"))
    number = dice.choice((*_NUMBERS, len(entry.data) + 1, max(0, len(entry.data) - 1)))
    dice.choice((entry.said, entry.said, entry.locally))[what] = number


def _name(archive: _Archive, dice: random.Random) -> None:
    """A name that is odd, in one of the headers or in both, or an entry more with that name."""
    name = dice.choice(_NAMES)
    entry = dice.choice(archive.entries)
    how = dice.random()
    if how < 0.4:
        archive.entries.insert(0 if how < 0.2 else len(archive.entries), _Entry(name, b"<a/>"))
    elif how < 0.6:
        entry.local_name = name
    elif how < 0.8:
        entry.name = name
    else:
        entry.name = dice.choice(
            (entry.name.upper(), entry.name.replace(b"/", b"\\"), b"/" + entry.name[:999])
        )
    if dice.random() < 0.5:
        entry.flags &= ~_UTF8


def _twice(archive: _Archive, dice: random.Random) -> None:
    """A name twice, with another content or another case."""
    entry = dice.choice(archive.entries)
    other = _Entry(
        dice.choice((entry.name, entry.name.swapcase())), dice.choice((b"", b"<a>1</a>"))
    )
    archive.entries.insert(dice.randrange(len(archive.entries) + 1), other)


def _link(archive: _Archive, dice: random.Random) -> None:
    """Entries that are links, folders, pipes or devices."""
    for entry in _some(archive, dice):
        entry.attributes = dice.choice((0o120777, 0o040755, 0o010644, 0o020644, 0o104755)) << 16
        if dice.random() < 0.5:
            entry.data = dice.choice((b"/etc/passwd", b"../document.xml", entry.name))


def _flags(archive: _Archive, dice: random.Random) -> None:
    flags = (_ENCRYPTED, _STRONG | _ENCRYPTED, _DESCRIPTOR, 0x20, 0x2000, 0xFFFF)
    flag = dice.choice(flags)
    for entry in _some(archive, dice):
        entry.flags |= flag


def _extra(archive: _Archive, dice: random.Random) -> None:
    """Extra fields, whole and cut off, among them zip64's and that of a Unicode name."""
    odd = (
        b"\x01\0", b"\x01\0\xff\xff", b"\x01\0\0\0", b"\x01\0\x10\0" + b"\xff" * 16,
        b"up\x05\0\x01abcd",
        struct.pack("<HHBI", 0x7075, 9, 1, zlib.crc32(b"a")) + b"/etc", b"\0" * 65_000,
        b"\x99\x01\x07\0AE",
        struct.pack("<HHQ", 1, 8, 2**63),
    )  # fmt: skip
    for entry in _some(archive, dice):
        entry.extra = dice.choice(odd)


def _wide(archive: _Archive, dice: random.Random) -> None:
    """zip64, for entries, for the end record, or for both."""
    archive.zip64 = dice.random() < 0.6
    for entry in archive.entries if dice.random() < 0.6 else ():
        entry.zip64 = True
        if dice.random() < 0.2:
            entry.said["size"] = dice.choice((2**40, 2**63, 2**64 - 1))


def _ends(archive: _Archive, dice: random.Random) -> None:
    """Something before or behind the archive, or an end record that says other numbers."""
    how = dice.choice(("before", "after", "comment", "said", "said", "twice"))
    junk = dice.choice(
        (b"\0", b"#!/bin/sh\n", b"PK\3\4", b"PK\5\6" * 9, b"MZ" + b"\0" * 400, b"\n" * 70_000)
    )
    if how == "before":
        archive.before = b"PK\3\4" + junk if dice.random() < 0.5 else junk
    elif how == "after":
        archive.after = junk
    elif how == "comment":
        archive.comment = junk[:65_535]
    elif how == "twice":
        archive.before = _written(_Archive(archive.entries[:1]))
    else:
        what = dice.choice(("disk", "count", "size", "offset"))
        archive.said[what] = dice.choice((*_NUMBERS, len(archive.entries) + 1))


def _nested(archive: _Archive, dice: random.Random) -> None:
    """An archive in place of a member, or a member that unpacks to very much."""
    entry = dice.choice(archive.entries)
    if dice.random() < 0.5:
        entry.data = _written(_Archive([_Entry(each.name, each.data) for each in archive.entries]))
    else:
        entry.data = dice.choice((b" " * (4 << 20), entry.data[:9999] * 200, b"<a>" * 90_000))


def _many(archive: _Archive, dice: random.Random) -> None:
    """Thousands of entries, that overlap in a part of the members."""
    names = (f"a{n}.xml".encode() for n in range(dice.choice((300, 3000, 25_000))))
    said = {"offset": 0} if dice.random() < 0.5 else {}
    archive.entries += [_Entry(name, b"", _STORED, said=dict(said)) for name in names]


def _gone(archive: _Archive, dice: random.Random) -> None:
    if len(archive.entries) > 1:
        archive.entries.remove(dice.choice(archive.entries))
    if dice.random() < 0.3:
        dice.shuffle(archive.entries)


def _some(archive: _Archive, dice: random.Random) -> list[_Entry]:
    """One entry, or all of them."""
    return list(archive.entries) if dice.random() < 0.4 else [dice.choice(archive.entries)]


_CHANGES: tuple[Callable[[_Archive, random.Random], None], ...] = (
    _method, _method, _claim, _claim, _claim, _name, _name, _twice, _link, _flags, _flags, _extra,
    _wide, _ends, _ends, _nested, _gone, _many,
)  # fmt: skip
