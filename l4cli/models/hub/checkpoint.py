"""A checkpoint on the Hugging Face Hub whose shards need not be on this machine.

Config, tokenizer and index go to the Hub's own cache; of the shards the headers are read, and each
is fetched whole when it is its turn, checked, and dropped. Token, endpoint, cache and retries are
huggingface_hub's.
"""

from __future__ import annotations

import hashlib
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
from l4cli.errors import HubError
from l4cli.models.hub.errors import RESUME, told
from l4cli.models.hub.repository import OnBytes, look_up

if TYPE_CHECKING:
    from huggingface_hub.utils import tqdm

_BESIDE_WEIGHTS = (".json", ".jinja", ".model", ".txt", ".md")
_FIRST_READ = 100_000  # bytes; most headers are in them
_N_CONNECTIONS = 8
_CHUNK = 4 << 20
_N_TRIES = 4
_SECONDS_BETWEEN_TRIES = 1.0


@dataclass(frozen=True)
class Shard:
    """A safetensors file on the Hub: its JSON header and what it must weigh and hash to."""

    header: bytes
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class HubCheckpoint:
    """The directory with all but the weights, and where those come from."""

    path: Path
    shards: HubShards


def open_checkpoint(repo: str, revision: str | None = None) -> HubCheckpoint:
    """Fetch what planning a conversion of `repo` takes, of a commit, tag or branch of it.

    Raises HubError, and ConvertError if it is no checkpoint.
    """
    where = f"{repo} at {revision}" if revision else repo
    info = look_up(repo, revision, RESUME)
    commit = str(info.sha)
    files = {file.rfilename: file for file in info.siblings or ()}
    names = [name for name in files if name.endswith(_BESIDE_WEIGHTS) and "/" not in name]
    if "config.json" not in names:
        raise HubError(f"{where}: has no config.json on the Hub; it is no checkpoint to convert")
    folder = Path()
    for name in names:
        with told(f"{repo}: {name}"):
            folder = Path(_download(repo, commit, name)).parent
    wanted = {SINGLE_NAME}
    if INDEX_NAME in names:
        wanted = set(read_index(folder / INDEX_NAME).values())

    def read(name: str) -> Shard:
        lfs = files[name].lfs
        if lfs is None:
            raise HubError(f"{repo}: {name}: the Hub has no checksum of it; fetch it by hand")
        with told(f"{repo}: {name}"):
            return Shard(_read_header(repo, commit, name, lfs.size), lfs.size, lfs.sha256)

    present = sorted(wanted & files.keys())
    with ThreadPoolExecutor(_N_CONNECTIONS) as pool:
        shards = dict(zip(present, pool.map(read, present), strict=True))
    return HubCheckpoint(folder, HubShards(repo, commit, shards))


class HubShards:
    """The shards of one commit, as `convert.ShardStore` has it.

    Those of the Hub's own cache are used, and stay; others live within `kept_in` a directory.
    `on_bytes` is called from the thread that fetches.
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
        """Fetch into `folder` meanwhile; removed at the end, or left if there is an error."""
        self._folder = folder
        self._stopped.clear()
        yield
        shutil.rmtree(folder, ignore_errors=True)

    def header(self, name: str) -> tuple[bytes, int] | None:
        shard = self._shards.get(name)
        return None if shard is None else (shard.header, shard.n_bytes)

    def begin(self, names: Sequence[str], n_bytes: int) -> None:
        folder = self._directory()
        with told(f"{folder}"):
            folder.mkdir(exist_ok=True)
            for path in (*folder.glob("*.safetensors"), *folder.rglob("*.incomplete")):
                if path.name not in names:
                    path.unlink()
            here = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
            free = shutil.disk_usage(folder).free
        absent = [name for name in names if self._cached(name) is None]
        if absent and n_bytes - here > free:
            raise HubError(
                f"{folder}: the disk is too small: beside the output, shards take "
                f"{n_bytes / 1e9:.2f} GB at a time, {free / 1e9:.2f} GB are free; "
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
        """Raise HubError, and remove the file, unless it is what the Hub says it is."""
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
                f"{self._repo}: {name}: its checksum is not the one that the Hub states; "
                "try again with --resume"
            )

    def _cached(self, name: str) -> Path | None:
        """The shard in the Hub's own cache, if it is there."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self._repo, name, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _directory(self) -> Path:
        if self._folder is None:
            raise RuntimeError("shards are fetched within `kept_in` only")
        return self._folder


def _download(
    repo: str,
    commit: str,
    name: str,
    folder: Path | None = None,
    on_bytes: Callable[[int], None] = lambda n: None,
) -> str:
    """The path of a file of the commit, fetched into the cache or into `folder`."""
    from huggingface_hub import errors, hf_hub_download

    bar = _silent_bar(on_bytes)
    for _ in range(_N_TRIES - 1):
        try:
            path: str = hf_hub_download(
                repo, name, revision=commit, local_dir=folder, tqdm_class=bar
            )
            return path
        except errors.HTTPError as error:  # older versions give up where a connection is cut
            if isinstance(error, errors.HfHubHTTPError):
                raise
            time.sleep(_SECONDS_BETWEEN_TRIES)
    return str(hf_hub_download(repo, name, revision=commit, local_dir=folder, tqdm_class=bar))


def _silent_bar(on_bytes: Callable[[int], None]) -> type[tqdm[Any]]:
    """A progress bar that only tells `on_bytes`, and so lets it end the download."""
    from huggingface_hub.utils import tqdm

    class SilentBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            on_bytes(int(n or 0))
            return None

    return SilentBar


def _read_header(repo: str, commit: str, name: str, n_bytes: int) -> bytes:
    """The JSON header of a safetensors file, by HTTP range."""
    start = _read_range(repo, commit, name, 0, _FIRST_READ)
    length = header_length(Path(f"{repo}/{name}"), start[:8], n_bytes)
    raw = start[8 : 8 + length]
    if len(raw) < length:
        raw += _read_range(repo, commit, name, 8 + len(raw), 8 + length)
    return raw


def _read_range(repo: str, commit: str, name: str, start: int, end: int) -> bytes:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

    headers = {**build_hf_headers(), "range": f"bytes={start}-{end - 1}"}
    url = hf_hub_url(repo, name, revision=commit)
    response = http_backoff("GET", url, headers=headers, timeout=30.0)
    hf_raise_for_status(response)
    content: bytes = response.content
    return content[: end - start]
