"""Downloads GGUF files into the Hub's cache: plans, fetches, continues, and checks a download.

The files are stored like huggingface_hub's: blobs named by their checksums, and snapshots with
links to them. So other tools find them, too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from convert.names import is_path_inside, is_sha256
from l4cli.amounts import human_size
from l4cli.errors import HubError
from l4cli.models.hub.errors import told
from l4cli.models.hub.pieces import Pieces
from l4cli.models.hub.repository import OnBytes, look_up
from l4cli.models.quants import by_label, by_pattern, pick
from l4cli.models.splits import missing_files

_CHUNK = 4 << 20
GO_ON = "the same command goes on"
_AGAIN = "run the same command again, which goes on where it stopped"


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub; `n_here` of its bytes are in the cache, but may not be checked yet."""

    name: str
    n_bytes: int
    sha256: str
    n_here: int


@dataclass(frozen=True)
class Pull:
    """The files of one commit to download, and the free disk space. Sizes in bytes."""

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
        """The (first) file, with which llama.cpp loads the model once all files are here."""
        return self.folder / "snapshots" / self.commit / self.files[0].name


def plan_pull(
    repo: str, folder: Path, *, pattern: str | None, quant: str | None, revision: str | None
) -> Pull:
    """Plan the download of one quantization of `repo`.

    folder: the repository's folder in the cache.
    pattern: the pattern of file names in models.toml; None finds the type in the names.
    quant: the quantization; None is Q4_K_M, or the only one.
    revision: a commit, tag or branch; None is `main`.

    Raises HubError, and ModelNotFoundError if there is no such quantization.
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
        if not is_path_inside(name):
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
    """Raise HubError if the disk has no room for the bytes still to be fetched."""
    n_more = pull.n_bytes - pull.n_here
    if n_more > pull.disk_free:
        raise HubError(
            f"{pull.folder}: the disk is too small: {human_size(n_more)} are still to be fetched, "
            f"{human_size(pull.disk_free)} are free; free some space, or set another HF_HOME"
        )


def carry_out(pull: Pull, on_bytes: OnBytes) -> Path:
    """Fetch the missing bytes, check all files, and return the (first) file. Raises HubError.

    After any exception the bytes that have arrived stay, and the next call continues with them.
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
    """Return the number of bytes of the files that are in the cache now."""
    return sum(_n_here(pull.folder / "blobs" / file.sha256) for file in pull.files)


def _remote(repo: str, folder: Path, file: Any) -> RemoteFile:
    if file.lfs is None:
        raise HubError(
            f"{repo}: {file.rfilename}: the Hub has no checksum for it; download it by hand"
        )
    sha256, n_bytes = str(file.lfs.sha256), int(file.lfs.size)
    if not is_sha256(sha256):
        raise HubError(
            f"{repo}: {file.rfilename}: the Hub's checksum is {sha256!r}, which is not a SHA-256"
        )
    n_here = _n_here(folder / "blobs" / sha256)
    return RemoteFile(file.rfilename, n_bytes, sha256, min(n_here, n_bytes))


def _n_here(blob: Path) -> int:
    here = (path.stat().st_size for path in (blob, _incomplete(blob)) if path.exists())
    return max(here, default=0)


def _fetch(pull: Pull, file: RemoteFile, on_bytes: OnBytes) -> None:
    """Fetch the rest of a file's blob, and check its checksum."""
    blob = pull.folder / "blobs" / file.sha256
    part = _incomplete(blob)
    if blob.exists():  # from an earlier download, or from another tool: check it, too
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
                f"{pull.repo}: {file.name}: its checksum differs from the Hub's, so it was "
                "deleted; the same command fetches it again"
            )
        os.fsync(data.fileno())
        part.replace(blob)


def _append(pull: Pull, file: RemoteFile, data: BinaryIO, digest: Any, on_bytes: OnBytes) -> None:
    """Append the missing bytes. After an exception, the bytes that have arrived are in the file."""
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
    """Open the file to read and append. Raises HubError if another process is fetching it."""
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
    """Link to the blob from the commit's snapshot, as huggingface_hub does."""
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
    """Return `path`, or its nearest parent directory that exists."""
    return next(each for each in (path, *path.parents) if each.exists())
