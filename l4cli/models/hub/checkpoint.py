"""Converts a checkpoint on the Hugging Face Hub without storing all its shards on this machine.

Config, tokenizer and index are fetched into the Hub's cache. Planning needs only the header of each
shard. When a shard's turn comes, it is fetched, checked, converted and deleted. The token, the
endpoint, the cache and the retries are huggingface_hub's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from convert.checkpoint.checkpoint import INDEX_NAME, SINGLE_NAME, header_length, read_index
from convert.names import is_file_name
from convert.reading import MOST_TOKENIZER_BYTES
from l4cli.amounts import human_size
from l4cli.errors import HubError
from l4cli.models.hub.answers import raise_for_status
from l4cli.models.hub.contents import check_content
from l4cli.models.hub.errors import RESUME, told
from l4cli.models.hub.repository import OnBytes, look_up

if TYPE_CHECKING:
    from huggingface_hub.utils import tqdm

_OTHER_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".md")
_FIRST_READ = 100_000  # bytes; most headers are shorter
_N_CONNECTIONS = 8
_CHUNK = 4 << 20
_MARK = ".made-by-l4"  # a file in each folder that shards are fetched to
_N_TRIES = 4
_SECONDS_BETWEEN_TRIES = 1.0


@dataclass(frozen=True)
class Shard:
    """A safetensors file on the Hub: its JSON header, its size and its checksum."""

    header: bytes
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class HubCheckpoint:
    """The directory with all files but the shards, and the source of the shards."""

    path: Path
    shards: HubShards


def open_checkpoint(repo: str, revision: str | None = None) -> HubCheckpoint:
    """Fetch everything that planning a conversion of `repo` needs.

    revision: a commit, tag or branch; None is `main`.

    Raises HubError, and ConvertError if the repository is not a valid checkpoint.
    """
    where = f"{repo} at {revision}" if revision else repo
    info = look_up(repo, revision, RESUME)
    commit = str(info.sha)
    files = {file.rfilename: file for file in info.siblings or ()}
    names = [name for name in files if name.endswith(_OTHER_SUFFIXES) and is_file_name(name)]
    if "config.json" not in names:
        raise HubError(f"{where}: has no config.json on the Hub; it is no checkpoint to convert")
    folder = Path()
    for name in names:
        with told(f"{repo}: {name}"):
            folder = Path(_download(repo, commit, name, on_bytes=_bounded(repo, name))).parent
            check_content(repo, files[name], folder / name)
    wanted = {SINGLE_NAME}
    if INDEX_NAME in names:
        wanted = set(read_index(folder / INDEX_NAME).values())

    def read(name: str) -> Shard:
        lfs = files[name].lfs
        if lfs is None:
            raise HubError(f"{repo}: {name}: the Hub has no checksum for it; download it by hand")
        with told(f"{repo}: {name}"):
            return Shard(_read_header(repo, commit, name, lfs.size), lfs.size, lfs.sha256)

    present = sorted(wanted & files.keys())
    with ThreadPoolExecutor(_N_CONNECTIONS) as pool:
        shards = dict(zip(present, pool.map(read, present), strict=True))
    return HubCheckpoint(folder, HubShards(repo, commit, shards))


def _bounded(repo: str, name: str) -> Callable[[int], None]:
    """Return an `on_bytes` that raises HubError when a small file turns out to be endless."""
    n_left = MOST_TOKENIZER_BYTES

    def on_bytes(n: int) -> None:
        nonlocal n_left
        n_left -= n
        if n_left < 0:
            raise HubError(
                f"{repo}: {name}: has more than {MOST_TOKENIZER_BYTES >> 20} MiB: no file of this "
                "name is so large"
            )

    return on_bytes


class HubShards:
    """The shards of one commit; implements `convert.ShardStore`.

    Shards in the Hub's cache are used and stay there. Others are fetched into the folder of
    `kept_in`, while that is entered. `on_bytes` is called from the thread that fetches.
    """

    def __init__(self, repo: str, commit: str, shards: Mapping[str, Shard]) -> None:
        self.revision = commit
        self.on_bytes: OnBytes = lambda name, n: None
        self._repo = repo
        self._shards = shards
        self._folder: Path | None = None
        self._stopped = Event()

    @contextmanager
    def kept_in(self, folder: Path) -> Iterator[None]:
        """Context manager: fetch into `folder`. Remove it at the end, but keep it on an error."""
        self._folder = folder
        self._stopped.clear()
        yield
        shutil.rmtree(folder, ignore_errors=True)

    def refuse_foreign(self, folder: Path) -> None:
        """Raise HubError if `folder`, for `kept_in`, is there already and was not made by l4.

        Files are deleted from it, so it must not be a folder of the user's.
        """
        is_free = not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))
        if not is_free and not (folder / _MARK).is_file():
            raise HubError(
                f"{folder}: exists, and was not made by l4: move it away, or write elsewhere with "
                "-o"
            )

    def header(self, name: str) -> tuple[bytes, int] | None:
        shard = self._shards.get(name)
        return None if shard is None else (shard.header, shard.n_bytes)

    def begin(self, names: Sequence[str], n_bytes: int) -> None:
        folder = self._directory()
        with told(f"{folder}"):
            folder.mkdir(exist_ok=True)
            (folder / _MARK).touch()
            for path in (*folder.glob("*.safetensors"), *folder.rglob("*.incomplete")):
                if path.name not in names:
                    path.unlink()
            here = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
            free = shutil.disk_usage(folder).free
        absent = [name for name in names if self._cached(name) is None]
        if absent and n_bytes - here > free:
            raise HubError(
                f"{folder}: the disk is too small: in addition to the output, shards take "
                f"{human_size(n_bytes)} at a time, {human_size(free)} are free; "
                "free some space or write elsewhere with -o"
            )

    def fetch(self, name: str) -> Path:
        if cached := self._cached(name):
            return cached
        with told(f"{self._repo}: {name}"):
            stopped = self._stopped

            def on_bytes(n: int) -> None:
                if stopped.is_set():
                    raise InterruptedError("given up")
                self.on_bytes(name, n)

            path = Path(_download(self._repo, self.revision, name, self._directory(), on_bytes))
            self._check(name, path)
        return path

    def drop(self, name: str) -> None:
        (self._directory() / name).unlink(missing_ok=True)

    def stop(self) -> None:
        self._stopped.set()

    def _check(self, name: str, path: Path) -> None:
        """Raise HubError and remove the file if its header or checksum differs from the Hub's."""
        shard, digest = self._shards[name], hashlib.sha256()
        with path.open("rb") as file:
            is_same = file.read(8 + len(shard.header))[8:] == shard.header
            file.seek(0)
            while (chunk := file.read(_CHUNK)) and not self._stopped.is_set():
                digest.update(chunk)
        if self._stopped.is_set():
            raise InterruptedError("given up")
        if not is_same or digest.hexdigest() != shard.sha256:
            path.unlink()
            raise HubError(
                f"{self._repo}: {name}: its checksum differs from the Hub's; "
                "try again with --resume"
            )

    def _cached(self, name: str) -> Path | None:
        """Return the shard's path in the Hub's cache; None if it is not there."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self._repo, name, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _directory(self) -> Path:
        if self._folder is None:
            raise RuntimeError("shards can be fetched only within `kept_in`")
        return self._folder


def _download(
    repo: str,
    commit: str,
    name: str,
    folder: Path | None = None,
    on_bytes: Callable[[int], None] = lambda n: None,
) -> str:
    """Fetch a file of the commit into the cache, or into `folder`, and return its path."""
    from huggingface_hub import errors, hf_hub_download

    bar = _silent_bar(on_bytes)
    for _ in range(_N_TRIES - 1):
        try:
            path: str = hf_hub_download(
                repo, name, revision=commit, local_dir=folder, tqdm_class=bar
            )
            return path
        except errors.HTTPError as error:  # older versions do not retry if the connection is cut
            if isinstance(error, errors.HfHubHTTPError):
                raise
            time.sleep(_SECONDS_BETWEEN_TRIES)
    return str(hf_hub_download(repo, name, revision=commit, local_dir=folder, tqdm_class=bar))


def _silent_bar(on_bytes: Callable[[int], None]) -> type[tqdm[Any]]:
    """Return a progress bar class that calls `on_bytes`, which may raise to stop the download."""
    from huggingface_hub.utils import tqdm

    class SilentBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            on_bytes(int(n or 0))
            return None

    return SilentBar


def _read_header(repo: str, commit: str, name: str, n_bytes: int) -> bytes:
    """Return the JSON header of a safetensors file, fetched with HTTP range requests."""
    start = _read_range(repo, commit, name, 0, _FIRST_READ)
    length = header_length(Path(f"{repo}/{name}"), start[:8], n_bytes)
    raw = start[8 : 8 + length]
    if len(raw) < length:
        raw += _read_range(repo, commit, name, 8 + len(raw), 8 + length)
    return raw


def _read_range(repo: str, commit: str, name: str, start: int, end: int) -> bytes:
    from huggingface_hub import errors

    for _ in range(_N_TRIES - 1):
        try:
            return _read_range_once(repo, commit, name, start, end)
        except errors.HfHubHTTPError as error:
            if error.response.status_code < 500 and error.response.status_code != 429:
                raise
            time.sleep(_SECONDS_BETWEEN_TRIES)
    return _read_range_once(repo, commit, name, start, end)


def _read_range_once(repo: str, commit: str, name: str, start: int, end: int) -> bytes:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, http_stream_backoff

    headers = {**build_hf_headers(), "range": f"bytes={start}-{end - 1}"}
    headers["accept-encoding"] = "identity"
    url, content = hf_hub_url(repo, name, revision=commit), bytearray()
    with http_stream_backoff(
        "GET", url, headers=headers, timeout=30.0, retry_on_status_codes=()
    ) as response:
        raise_for_status(response)
        for chunk in response.iter_bytes():  # of the whole file, from a server without ranges
            content += chunk
            if len(content) >= end - start:
                break
    return bytes(content[: end - start])
