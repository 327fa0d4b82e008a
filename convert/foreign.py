"""Recognizes files that are something else than a model to run, by their first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

N_START = 512  # bytes that `recognize` needs

_FETCH = "fetch it again, with `l4 pull hf.co/ORG/NAME:QUANT`"
_CONVERT = "give its whole directory to `l4 convert`, which makes a GGUF"
_UNPACK = "unpack it, and give the .gguf file in it"
_PICKLED = (
    "l4 does not read it, since reading may run code in it: fetch the checkpoint's .safetensors "
    "files, and give their directory to `l4 convert`"
)
_OLD = "convert the model again: `l4 convert ORG/NAME --hub`"
_GIVE_GGUF = "give a .gguf file"


@dataclass(frozen=True)
class Foreign:
    """What a file is, with its article, and what to do instead."""

    what: str
    way_out: str

    @property
    def way_to_convert(self) -> str:
        """What to do if a checkpoint was asked for, not a GGUF."""
        if self.way_out == _UNPACK:
            return "unpack it, and give the checkpoint's directory in it"
        if ".gguf" in self.way_out:
            return "give the directory with config.json and the .safetensors files"
        return self.way_out


# By the first bytes; the first match counts.
_BINARY = (
    (b"PK\3\4", Foreign("a zip archive", _UNPACK)),
    (b"\x1f\x8b", Foreign("a gzip archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Foreign("a zstd archive", _UNPACK)),
    (b"\xfd7zXZ\0", Foreign("an xz archive", _UNPACK)),
    (b"BZh", Foreign("a bzip2 archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", _UNPACK)),
    (b"Rar!", Foreign("a RAR archive", _UNPACK)),
    (b"\x89HDF", Foreign("an HDF5 file with weights of Keras", _CONVERT)),
    (b"lmgg", Foreign("a model in the GGML format, which GGUF replaced in 2023", _OLD)),
    (b"fmgg", Foreign("a model in the GGML format, which GGUF replaced in 2023", _OLD)),
    (b"tjgg", Foreign("a model in the GGML format, which GGUF replaced in 2023", _OLD)),
    (b"algg", Foreign("a LoRA adapter in the GGML format of 2023", "give the .gguf of its model")),
    (b"MZqFpD", Foreign("a llamafile, a program with a model in it", "unpack its .gguf file")),
    (b"MZ", Foreign("a program for Windows", _GIVE_GGUF)),
    (b"\x7fELF", Foreign("a program", _GIVE_GGUF)),
    (b"%PDF-", Foreign("a PDF document", _GIVE_GGUF)),
    (b"\x89PNG", Foreign("a picture", _GIVE_GGUF)),
    (b"\xff\xd8\xff", Foreign("a picture", _GIVE_GGUF)),
)  # fmt: skip
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(rb"\s*(?:<!doctype\s+html|<html|<head|<body)", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml|\s*<Error>")
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x8a\x95}\]c(]")
# The answers in place of a file that a Hub gives to clients that do not look at the status.
_ANSWERS = (
    b"Entry not found",
    b"Repository not found",
    b"Invalid username or password",
    b"Access to model",
    b"Invalid credentials",
    b"Not Found",
    b"404:",
)


def recognize(start: bytes) -> Foreign | None:
    """What the file is that begins with `start`, its first N_START bytes; None if unknown."""
    if start.startswith(b"PK\3\4") and re.search(rb"data\.pkl|/version|/byteorder", start):
        return Foreign("a checkpoint pickled by PyTorch", _PICKLED)
    for magic, found in _BINARY:
        if start.startswith(magic):
            return found
    if _PICKLE.match(start):
        return Foreign("a pickle, as PyTorch writes checkpoints", _PICKLED)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        return Foreign("a safetensors file, a part of a checkpoint", _CONVERT)
    return _text(start.removeprefix(b"\xef\xbb\xbf"))


def in_place_of_a_file(start: bytes) -> Foreign | None:
    """What a download left that did not fetch the file: a pointer, or a server's page or answer."""
    found = _text(start.removeprefix(b"\xef\xbb\xbf"))
    return None if found is None or re.match(rb"\s*\{", start) else found


def _text(start: bytes) -> Foreign | None:
    if start.startswith(_LFS):
        return Foreign(
            "a Git LFS pointer, which only names the file",
            "`git lfs pull` in its folder fetches the file, or `l4 pull hf.co/ORG/NAME:QUANT`",
        )
    if _PAGE.match(start):
        return Foreign("a web page saved under its name", _FETCH)
    if _XML.match(start):
        return Foreign("an XML document, such as a server's error", _FETCH)
    if start.startswith(_ANSWERS) or re.match(rb'\s*\{\s*"error"', start):
        said = " ".join(start.split(b"\n")[0][:80].decode("utf-8", errors="replace").split())
        return Foreign(f"a server's answer ({said})", _FETCH)
    if re.match(rb"\s*\{", start):
        return Foreign("a JSON file", "for a checkpoint's config.json, " + _CONVERT)
    return None
