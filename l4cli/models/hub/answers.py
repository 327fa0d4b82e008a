"""Reads the Hub's answers with suspicion: within bounds of time and memory, types checked.

Whatever answers may not be the Hub: a wrong HF_ENDPOINT, a proxy, or a login page of the network.
"""

from __future__ import annotations

import json
import reprlib
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from convert.names import is_commit
from l4cli.errors import HubError

_MOST_BYTES = 64 << 20  # a repository of 100,000 files takes 30 MiB
_SECONDS = 120.0  # for a whole answer
_TIMEOUT = 30.0  # seconds without a byte
# Given up, huggingface_hub would read the body of an error status, without a bound.
NO_RETRIES: dict[str, Any] = {"max_retries": 0, "retry_on_status_codes": ()}


@dataclass(frozen=True, slots=True)
class LargeFile:
    """Size and checksum of a file that the Hub stores by its checksum."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file of a repository.

    rfilename: its path in the repository, as in huggingface_hub.
    lfs: its size and checksum if it is stored by its checksum.
    size: its bytes, if they are stated.
    blob_id: the SHA-1 by which git names its content, if that is stated.
    """

    rfilename: str
    lfs: LargeFile | None
    size: int | None = None
    blob_id: str | None = None


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """A commit of a repository and its files."""

    sha: str
    siblings: tuple[RepoFile, ...]


def repo_info(repo: str, revision: str | None) -> RepoInfo:
    """Ask the Hub for a commit, tag or branch of a repository, with the sizes of its files.

    Raises HubError for an answer that makes no sense, and huggingface_hub's exceptions.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo)
    at = f"/revision/{quote(revision, safe='')}" if revision else ""
    raw = fetch(f"{constants.ENDPOINT}/api/models/{repo}{at}", params={"blobs": True})
    try:
        return _repo_info(json.loads(raw))
    except RecursionError:
        raise HubError(f"{repo}: the Hub's answer is nested too deep to read") from None
    except (KeyError, TypeError, ValueError) as error:
        is_page = raw.lstrip()[:1] == b"<"
        what = "a web page" if is_page else f"not what it should be ({reprlib.repr(str(error))})"
        raise HubError(
            f"{repo}: the Hub's answer is {what}: does the network ask for a login, and is "
            "HF_ENDPOINT right?"
        ) from None


def fetch(url: str, *, params: dict[str, Any] | None = None, most: int = _MOST_BYTES) -> bytes:
    """Return the body that `url` answers with.

    Raises HubError if it has more than `most` bytes, unpacked, or takes too long, and
    huggingface_hub's exceptions.
    """
    from huggingface_hub.utils import build_hf_headers, http_stream_backoff

    body, began = bytearray(), time.monotonic()
    headers = build_hf_headers()
    with http_stream_backoff(
        "GET", url, headers=headers, params=params, timeout=_TIMEOUT, **NO_RETRIES
    ) as response:
        raise_for_status(response)
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > most:
                raise HubError(f"{url}: the answer has more than {most >> 20} MiB: it is no Hub's")
            if time.monotonic() - began > _SECONDS:
                raise HubError(f"{url}: no whole answer within {_SECONDS:.0f} s; try again later")
    return bytes(body)


def raise_for_status(response: Any) -> None:
    """Raise huggingface_hub's exception for an error status, without reading the body.

    huggingface_hub would read it, and the body of an error is as unbounded as any other.
    """
    from huggingface_hub.utils import hf_raise_for_status

    if response.status_code < 400:
        return
    kept = {
        name: value
        for name, value in response.headers.items()
        if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    }
    hf_raise_for_status(
        type(response)(response.status_code, headers=kept, request=response.request)
    )


def _repo_info(value: Any) -> RepoInfo:
    files = value.get("siblings") if isinstance(value, dict) else None
    if not isinstance(files, (list, type(None))):
        raise TypeError("siblings is no list")
    return RepoInfo(_text(value, "sha"), tuple(map(_repo_file, files or ())))


def _repo_file(value: Any) -> RepoFile:
    name, lfs = _text(value, "rfilename"), value.get("lfs")
    if lfs is None:
        size, blob_id = value.get("size"), value.get("blobId")
        return RepoFile(
            name,
            None,
            size if type(size) is int else None,
            blob_id if isinstance(blob_id, str) and is_commit(blob_id) else None,
        )
    sha256 = _text(lfs, "sha256")
    size = lfs.get("size")
    if type(size) is not int or not 0 <= size < 1 << 60:
        raise TypeError(f"the size of {name} is {reprlib.repr(size)}")
    return RepoFile(name, LargeFile(size, sha256))


def _text(value: Any, key: str) -> str:
    text = value.get(key) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise TypeError(f"{key} is {reprlib.repr(text)}, no text")
    text.encode("utf-8")
    return text
