"""Zip archives that documents come in: read with a limit, whatever they say of themselves."""

from __future__ import annotations

import io
import zipfile
import zlib
from types import TracebackType

from l4cli.documents.text import check_size
from l4cli.errors import InputError

MAX_UNPACKED = 1 << 30
MAX_MEMBERS = 20_000


class Archive:
    """A zip archive of a document named `name`; every error of it is an InputError.

    Nothing is unpacked beyond MAX_UNPACKED bytes in all: a few kilobytes can claim terabytes.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        check_size(data, name)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
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

    def __contains__(self, member: str) -> bool:
        return member in self._members

    def read(self, member: str) -> bytes:
        """A member's bytes. zipfile gives no more of it than it declares, which was added up."""
        if member not in self:
            raise InputError(f"{self.name}: its part {member} is missing")
        try:
            return self._zip.read(member)
        except RuntimeError:  # zipfile's word for a password
            raise InputError(f"{self.name}: {member} is encrypted; save it without") from None
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
            raise self.broken(error) from None

    def broken(self, why: object) -> InputError:
        """The error of a document that is not what its format asks for."""
        return InputError(f"{self.name}: a broken or cut off document: {why}")
