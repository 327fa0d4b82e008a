"""What identifies a model file's content, without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from convert.gguf.model import GGUFModel

_SPAN = 1 << 20
_PIECE = 4096


def fingerprint_of(path: Path) -> str:
    """Return a file's size and a digest of its first and last MiB, as "SIZE:HEX"."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_SPAN))
        file.seek(max(0, size - _SPAN))
        digest.update(file.read(_SPAN))
    return f"{size}:{digest.hexdigest()[:16]}"


def samples_digest(model: GGUFModel) -> str:
    """Return a digest of the middle of every tensor, a page of each.

    It tells apart files that differ only in the middle, which have the same fingerprint. Raises
    OSError.
    """
    digest = hashlib.sha256()
    files = {path: path.open("rb", buffering=0) for path in model.files}
    try:
        for tensor in sorted(model.tensors.values(), key=lambda one: (one.path, one.offset)):
            file = files[tensor.path]
            file.seek(tensor.offset + max(0, tensor.n_bytes - _PIECE) // 2)
            digest.update(file.read(min(_PIECE, tensor.n_bytes)))
    finally:
        for file in files.values():
            file.close()
    return digest.hexdigest()[:16]
