"""GGUF files from the Hub into its own cache: planned, fetched, gone on with, and checked.

They lie where huggingface_hub puts them, blobs by their checksums and snapshots that point to them,
so that every tool finds them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from l4cli.errors import HubError
from l4cli.models.hub.errors import told
from l4cli.models.hub.pieces import Pieces
from l4cli.models.hub.repository import OnBytes, look_up
from l4cli.models.quants import by_label, by_pattern, pick
from l4cli.models.splits import missing_files

_CHUNK = 4 << 20
GO_ON = "the same command goes on"
_AGAIN = "give the same command again, which goes on"


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub; `n_here` of its bytes are in the cache, checked or not."""

    name: str
    n_bytes: int
    sha256: str
    n_here: int


@dataclass(frozen=True)
class Pull:
    """What is to be fetched of one commit, and what disk it takes. Sizes in bytes."""

    repo: str
    revision: str
    commit: str
    quant: str
    files: tuple[RemoteFile, ...]
    disk_free: int
    folder: Path  # of the repository in the cache

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)

    @property
    def n_here(self) -> int:
        return sum(file.n_here for file in self.files)

    @property
    def path(self) -> Path:
        """The file that llama.cpp is given, when all are here."""
        return self.folder / "snapshots" / self.commit / self.files[0].name


def plan_pull(
    repo: str, folder: Path, *, pattern: str | None, quant: str | None, revision: str | None
) -> Pull:
    """Find a quantization of `repo` on the Hub, to be kept in `folder` of the cache.

    `pattern` is that of models.toml, if the repository is named there. Raises HubError, and
    ModelNotFoundError if there is no such quantization.
    """
    info = look_up(repo, revision)
    files = {file.rfilename: file for file in info.siblings or ()}
    quants = by_label(files) if pattern is None else by_pattern(files, pattern)
    where = f"{repo} at {revision}" if revision else repo
    if not quants and any(name.endswith(".safetensors") for name in files):
        raise HubError(
            f"{where}: is a checkpoint without GGUF files; make one with: l4 convert {repo} --hub"
        )
    quant = pick(quants, quant, where)
    if missing := missing_files(quants[quant]):
        raise HubError(f"{where}: {missing[0]} is not on the Hub; is the upload complete?")
    for name in quants[quant]:
        if ".." in Path(name).parts or name.startswith("/"):
            raise HubError(f"{where}: names a file outside its directory: {name!r}")
    wanted = tuple(_remote(repo, folder, files[name]) for name in quants[quant])
    return Pull(
        repo=repo,
        revision=revision or "main",
        commit=str(info.sha),
        quant=quant,
        files=wanted,
        disk_free=shutil.disk_usage(_existing(folder)).free,
        folder=folder,
    )


def refuse_unless_it_fits(pull: Pull) -> None:
    """Raise HubError if the disk is too small for what is to come."""
    n_more = pull.n_bytes - pull.n_here
    if n_more > pull.disk_free:
        raise HubError(
            f"{pull.folder}: the disk is too small: {n_more / 1e9:.2f} GB are to come, "
            f"{pull.disk_free / 1e9:.2f} GB are free; free some space, or name another HF_HOME"
        )


def carry_out(pull: Pull, on_bytes: OnBytes) -> Path:
    """Fetch what is not here, check all of it, and return the (first) file.

    What has come stays, whatever is raised: the next time goes on with it. Raises HubError.
    """
    with told(str(pull.folder), _AGAIN):
        for name in ("blobs", "refs", f"snapshots/{pull.commit}"):
            (pull.folder / name).mkdir(parents=True, exist_ok=True)
    for file in pull.files:
        with told(f"{pull.repo}: {file.name}", _AGAIN):
            _fetch(pull, file, on_bytes)
            _point(pull, file)
    with told(str(pull.folder), _AGAIN):
        if pull.revision != pull.commit:
            _write_ref(pull)
    return pull.path


def n_bytes_here(pull: Pull) -> int:
    """How much of it is in the cache now."""
    return sum(_n_here(pull.folder / "blobs" / file.sha256) for file in pull.files)


def _remote(repo: str, folder: Path, file: Any) -> RemoteFile:
    if file.lfs is None:
        raise HubError(f"{repo}: {file.rfilename}: the Hub has no checksum of it; fetch it by hand")
    sha256, n_bytes = str(file.lfs.sha256), int(file.lfs.size)
    if not sha256.isalnum():
        raise HubError(f"{repo}: {file.rfilename}: the Hub's checksum is {sha256!r}, which is none")
    n_here = _n_here(folder / "blobs" / sha256)
    return RemoteFile(file.rfilename, n_bytes, sha256, min(n_here, n_bytes))


def _n_here(blob: Path) -> int:
    here = (path.stat().st_size for path in (blob, _incomplete(blob)) if path.exists())
    return max(here, default=0)


def _fetch(pull: Pull, file: RemoteFile, on_bytes: OnBytes) -> None:
    """Have the blob of a file, whole and of the right checksum."""
    blob = pull.folder / "blobs" / file.sha256
    part = _incomplete(blob)
    if blob.exists():  # from an earlier time, or another tool: it is checked all the same
        with blob.open("rb") as data:
            if _digest(data).hexdigest() == file.sha256:
                return
        blob.replace(part)
    with _locked(part) as data:
        if data.seek(0, os.SEEK_END) > file.n_bytes:
            data.truncate(0)
        data.seek(0)
        digest = _digest(data)
        _append(pull, file, data, digest, on_bytes)
        if digest.hexdigest() != file.sha256:
            part.unlink()
            raise HubError(
                f"{pull.repo}: {file.name}: its checksum is not the one that the Hub states, so "
                "that it was dropped; the same command fetches it again"
            )
        os.fsync(data.fileno())
        part.replace(blob)


def _append(pull: Pull, file: RemoteFile, data: BinaryIO, digest: Any, on_bytes: OnBytes) -> None:
    """Fetch the bytes that are lacking; what has come is in the file, whatever is raised."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(pull.repo, file.name, revision=pull.commit)
    start = data.seek(0, os.SEEK_END)
    pieces = Pieces(url, start, file.n_bytes, lambda n: on_bytes(file.name, n))
    with closing(pieces):
        try:
            for piece in pieces:
                data.write(piece)
                digest.update(piece)
        except BaseException:
            data.write(pieces.rest())
            raise
        finally:
            data.flush()


def _digest(data: BinaryIO) -> Any:
    digest = hashlib.sha256()
    while chunk := data.read(_CHUNK):
        digest.update(chunk)
    return digest


def _locked(path: Path) -> BinaryIO:
    """The file, opened to be read and appended to; HubError if another process is at it."""
    data = path.open("rb+" if path.exists() else "wb+")
    try:
        import fcntl

        fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        pass
    except BlockingIOError:
        data.close()
        raise HubError(f"{path}: another process is fetching it; wait for it, or end it") from None
    return data


def _point(pull: Pull, file: RemoteFile) -> None:
    """Put the blob into the commit's snapshot, as huggingface_hub does."""
    pointer = pull.folder / "snapshots" / pull.commit / file.name
    blob = pull.folder / "blobs" / file.sha256
    if pointer.exists() and pointer.samefile(blob):
        return
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:  # a file system without symbolic links
        os.link(blob, pointer)


def _write_ref(pull: Pull) -> None:
    ref = pull.folder / "refs" / pull.revision
    if ref.is_file() and ref.read_text() == pull.commit:
        return
    ref.parent.mkdir(parents=True, exist_ok=True)
    part = ref.with_name(f"{ref.name}.part")
    part.write_text(pull.commit)
    part.replace(ref)


def _incomplete(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


def _existing(path: Path) -> Path:
    """The nearest directory above `path` that there is."""
    return next(each for each in (path, *path.parents) if each.exists())
