"""The bundled demo checkpoint, and its GGUF made from it on first use."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from l4cli.errors import InputError, OutputError
from l4cli.paths import cache_dir


def checkpoint_dir() -> Path:
    """The demo checkpoint in Hugging Face layout, as installed with l4."""
    return Path(str(resources.files(__package__).joinpath("checkpoint")))


def demo_path(ftype: str) -> Path:
    """Where the demo model of type `ftype` is, once it is converted.

    The name carries a digest of the checkpoint, so a newer l4 converts its own again.
    """
    return cache_dir() / "demo" / f"demo-{_digest(checkpoint_dir())}-{ftype.upper()}.gguf"


def demo_gguf(ftype: str, on_convert: Callable[[Path], None] | None = None) -> Path:
    """The demo model as GGUF of type `ftype`, converted into the cache where it is not yet.

    InputError for a type there is not, OutputError if the cache cannot be written.
    """
    import convert
    from convert.errors import unknown

    if ftype.upper() not in convert.FTYPES:
        raise InputError(str(unknown("type", ftype, convert.FTYPES)))
    path = demo_path(ftype)
    if not path.exists():
        if on_convert:
            on_convert(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path.parent}: {error.strerror}: set XDG_CACHE_HOME to a folder that can be "
                "written"
            ) from None
        convert.convert(convert.plan(checkpoint_dir(), ftype), path)
    return path


@functools.cache
def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(directory.iterdir()):
        if file.suffix in (".json", ".safetensors", ".jinja"):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]
