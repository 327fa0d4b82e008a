"""Zip archives that documents come in: read with a limit, whatever they say of themselves."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from types import TracebackType

from l4cli.documents.text import check_size, printable
from l4cli.errors import InputError

MAX_UNPACKED = 1 << 30
MAX_MEMBERS = 20_000
# What zipfile and the decompressors below it say of archives that are not whole.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    OSError,
    ValueError,
    NotImplementedError,
)
_MAX_REASON = 120  # characters


class Archive:
    """A zip archive of a document named `name`; every error of it is an InputError.

    Nothing is unpacked beyond MAX_UNPACKED bytes in all: a few kilobytes can claim terabytes.
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

    def read(self, member: str) -> bytes:
        """A member's bytes. zipfile gives no more of it than it declares, which was added up."""
        if member not in self:
            raise InputError(f"{self.name}: its part {member} is missing")
        try:
            return self._zip.read(member)
        except BROKEN as error:
            raise self.broken(error) from None
        except RuntimeError:  # zipfile's word for a password
            raise InputError(f"{self.name}: {member} is encrypted; save it without") from None

    def broken(self, why: object) -> InputError:
        """The error of a document that is not what its format asks for."""
        reason = printable(str(why)) or type(why).__name__
        if len(reason) > _MAX_REASON:
            reason = f"{reason[:_MAX_REASON]}…"  # zipfile quotes a header that may be endless
        return InputError(f"{self.name}: a broken or cut off document: {reason}")
