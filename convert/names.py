"""Names that come from outside: from the Hub, an index, a journal, a command line. Pure.

Every such name that becomes part of a path is checked here first, so that no answer of a server and
no content of a file can point outside the folder that it belongs to.
"""

from __future__ import annotations

import re
from pathlib import Path

_DEVICE_FOLDERS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
_MOST_SHOWN = 40  # characters of a name in a message
_MOST_BYTES = 255  # of a name, in every usual file system


def is_file_name(name: object) -> bool:
    """Whether `name` is the name of a file or folder: one step down, and nothing else."""
    if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[/\\\0-\x1f\x7f]", name):
        return False
    try:
        return len(name.encode()) <= _MOST_BYTES
    except UnicodeEncodeError:  # lone surrogates
        return False


def is_path_inside(path: object) -> bool:
    """Whether `path` leads down from a folder: file names with "/" between them."""
    return isinstance(path, str) and all(map(is_file_name, path.split("/")))


def is_tensor_name(name: str) -> bool:
    """Whether `name` can be a tensor's: at most 255 printable characters of UTF-8, no spaces."""
    return 0 < len(name) <= _MOST_BYTES and name.isprintable() and " " not in name


def is_device(path: Path) -> bool:
    """Whether `path` lies where the system keeps devices and open files."""
    return path.parent in _DEVICE_FOLDERS


def in_short(path: Path) -> Path:
    """The path with its name cut to what fits into a message."""
    is_short = len(path.name) <= _MOST_SHOWN
    return path if is_short else path.parent / f"{path.name[:_MOST_SHOWN]}…"


def is_commit(text: object) -> bool:
    """Whether `text` is a commit of git, as the Hub states it."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{40}", text) is not None


def is_etag(text: str) -> bool:
    """Whether an ETag of HTTP can name a file. The Hub's are digests, those of mirrors look alike.

    Leaves room for what huggingface_hub puts after it in names.
    """
    tag = text.removeprefix("W/").strip('"')
    return re.fullmatch(r"[0-9A-Za-z._:+=~-]{1,128}", tag) is not None and tag.strip(".") != ""


def is_sha256(text: object) -> bool:
    """Whether `text` is a SHA-256, in hexadecimal digits."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text) is not None
