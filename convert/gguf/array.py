"""Arrays in a GGUF's metadata, kept as raw bytes and decoded only when needed.

A vocabulary is most of a header. Code that only needs a model's shape does not pay for decoding it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, overload

from convert.errors import ConvertError

# The names of GGUF's metadata types by number, and struct's codes of those with a fixed size.
KINDS = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "string",
    9: "array", 10: "u64", 11: "i64", 12: "f64",
}  # fmt: skip
CODES = {
    "u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?",
    "u64": "Q", "i64": "q", "f64": "d",
}  # fmt: skip

_LENGTH = struct.Struct("<Q")


class GGUFArray(Sequence[Any]):
    """The items of an array field, decoded on first use.

    Decoding raises ConvertError if a string is not UTF-8. `byte_strings` never does.
    """

    __slots__ = ("_items", "_n", "_raw", "_where", "kind")

    def __init__(self, where: str, kind: str, n: int, raw: bytes) -> None:
        self.kind = kind
        self._where = where
        self._n = n
        self._raw = raw
        self._items: list[Any] | None = None

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._decoded()[index]

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Any]:
        return iter(self._decoded())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GGUFArray):
            return (self.kind, self._n, self._raw) == (other.kind, other._n, other._raw)
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def raw(self) -> bytes:
        """The items as the file stores them."""
        return self._raw

    def __repr__(self) -> str:
        return f"<{self._n} x {self.kind}>"

    def byte_strings(self) -> list[bytes]:
        """The items of an array of strings, as raw bytes."""
        raw, at, found = self._raw, 0, []
        length_at = _LENGTH.unpack_from
        for _ in range(self._n):
            end = at + 8 + length_at(raw, at)[0]
            found.append(raw[at + 8 : end])
            at = end
        return found

    def _decoded(self) -> list[Any]:
        if self._items is None:
            if self.kind == "string":
                self._items = [
                    decode_text(raw, f"{self._where}[{index}]")
                    for index, raw in enumerate(self.byte_strings())
                ]
            else:
                self._items = list(struct.unpack(f"<{self._n}{CODES[self.kind]}", self._raw))
        return self._items


def decode_text(raw: bytes, what: str) -> str:
    """Decode UTF-8. Raises ConvertError, which names `what`, if `raw` is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConvertError(f"{what} is not UTF-8: the file is damaged") from None
