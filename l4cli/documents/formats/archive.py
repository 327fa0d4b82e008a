"""Reads the zip archives that some document formats are, with a limit on the unpacked size."""

from __future__ import annotations

import io
import lzma
import posixpath
import struct
import unicodedata
import zipfile
import zlib
from types import TracebackType
from urllib.parse import unquote

from l4cli.documents.text import check_size, printable
from l4cli.errors import InputError

MAX_UNPACKED = 1 << 30  # bytes
MAX_MEMBERS = 20_000
# Exceptions that zipfile and its decompressors raise for damaged archives.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
_MAX_REASON = 120  # characters


class Archive:
    """The zip archive of a document named `name`; raises only InputError.

    It refuses archives that unpack to more than MAX_UNPACKED bytes in total, because a few
    kilobytes can unpack to terabytes.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        check_size(data, name)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except BROKEN as error:
            raise self.broken(error) from None
        infos = self._zip.infolist()
        size = sum(info.file_size for info in infos)
        if len(infos) > MAX_MEMBERS or size > MAX_UNPACKED:
            raise InputError(
                f"{name}: unpacks to {size:,} bytes in {len(infos):,} files, more than l4 reads"
            )
        self._members = frozenset(info.filename for info in infos)
        # Names as writers with their own ideas of case, slashes and escapes may mean them.
        self._meant = {_meant(member): member for member in sorted(self._members, reverse=True)}

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    @property
    def members(self) -> frozenset[str]:
        return self._members

    def __contains__(self, member: str) -> bool:
        return member in self._members

    def find(self, name: str) -> str | None:
        """Return the member that a document means by `name`; None if there is none.

        The exact name comes first, then one that differs in case, slashes or percent signs.
        """
        return name if name in self else self._meant.get(_meant(name))

    def read(self, member: str) -> bytes:
        """Return a member's bytes.

        zipfile returns at most the declared size, and `__init__` has checked the sum of these.
        """
        if member not in self:
            raise InputError(f"{self.name}: incomplete: {member} is missing")
        try:
            return self._zip.read(member)
        except BROKEN as error:
            raise self.broken(error) from None
        except RuntimeError:  # zipfile raises this if a password is needed
            raise InputError(
                f"{self.name}: {member} is encrypted; save it without a password"
            ) from None

    def broken(self, why: object) -> InputError:
        """Return the error for a document that violates its format; `why` is the reason."""
        reason = printable(str(why)) or type(why).__name__
        if len(reason) > _MAX_REASON:
            reason = f"{reason[:_MAX_REASON]}…"  # zipfile quotes headers, which may be very long
        return InputError(f"{self.name}: a broken or cut off document: {reason}")


def _meant(name: str) -> str:
    """Return a name without what writers do differently."""
    path = posixpath.normpath("/" + unquote(name).replace("\\", "/"))
    return unicodedata.normalize("NFC", path.lstrip("/")).casefold()
