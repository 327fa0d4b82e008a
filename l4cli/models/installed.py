"""Lists the models on this machine: in the Hub's cache, which other tools use, too, and in l4's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from l4cli.models.quants import by_label, by_pattern
from l4cli.models.registry import ModelSpec, Registry
from l4cli.models.splits import missing_files
from l4cli.paths import cache_dir

HUB_PREFIX = "hf.co/"
CHECKPOINT = "safetensors"  # shown as a checkpoint's quantization
UNFINISHED = "unfinished"  # shown as the quantization of a download that was stopped
_REPO_PREFIX = "models--"


@dataclass(frozen=True)
class CachedModel:
    """A model in a cache.

    name: its name in commands.
    files: paths that link to its blobs (in the Hub's cache) or are the files themselves.
    blobs: the files with the data.
    root: the directory that contains all of them.
    last_used: seconds since the epoch.
    is_whole: False if files are missing.
    """

    name: str
    quant: str
    files: tuple[Path, ...]
    blobs: tuple[Path, ...]
    root: Path
    n_bytes: int
    last_used: float
    is_whole: bool

    @property
    def full_name(self) -> str:
        return f"{self.name}:{self.quant}"


def hub_cache() -> Path:
    """Return the folder of huggingface_hub's cache, by the library's own rules.

    They are repeated here because importing the library takes long.
    """
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if cache := os.environ.get(name):
            return Path(os.path.expandvars(cache)).expanduser()
    home = os.environ.get("HF_HOME")
    if home is None:
        home = f"{os.environ.get('XDG_CACHE_HOME', '~/.cache')}/huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def repo_dir(repo: str) -> Path:
    """Return a repository's folder in the Hub's cache."""
    return hub_cache() / f"{_REPO_PREFIX}{repo.replace('/', '--')}"


def repo_of(snapshot: Path) -> str | None:
    """Return the repository, ORG/NAME, of a snapshot in a Hub's cache; None for another folder."""
    if snapshot.parent.name != "snapshots":
        return None
    folder = snapshot.parent.parent
    return _repo_id(folder) if folder.name.startswith(_REPO_PREFIX) else None


def _repo_id(folder: Path) -> str:
    return folder.name.removeprefix(_REPO_PREFIX).replace("--", "/")


def snapshots(repo: Path) -> list[Path]:
    """Return the snapshots (one per commit) in a repository's folder: `main`, then newest first."""
    ref = repo / "refs" / "main"
    main = ref.read_text().strip() if ref.is_file() else ""
    found = [path for path in repo.glob("snapshots/*") if path.is_dir()]
    return sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime, path.name))


def gguf_quants(repo: str, pattern: str | None = None) -> dict[str, list[Path]]:
    """Return a repository's quantizations that are complete in the cache, with their files.

    pattern: the pattern of file names in models.toml; None finds the type in the names.
    """
    quants: dict[str, list[Path]] = {}
    for snapshot in snapshots(repo_dir(repo)):
        names = [
            path.relative_to(snapshot).as_posix()
            for path in snapshot.rglob("*.gguf")
            if path.exists()  # not a link to a removed blob
        ]
        found = by_label(names) if pattern is None else by_pattern(names, pattern)
        for quant, files in found.items():
            if not missing_files(files):
                quants.setdefault(quant, [snapshot / file for file in files])
    return dict(sorted(quants.items()))


def cached_models(registry: Registry) -> list[CachedModel]:
    """Return all models in the caches, sorted by name; those without the prefix hf.co/ first."""
    found = [*_demo_models(registry)]
    for repo in sorted(hub_cache().glob(f"{_REPO_PREFIX}*")):
        found += _hub_models(repo, registry)
    return sorted(found, key=lambda model: (model.name.startswith(HUB_PREFIX), model.full_name))


def mark_used(file: Path) -> None:
    """Make now the time when a file of these caches was last read.

    File systems record that once a day at most, or never. Files elsewhere are left as they are.
    """
    with suppress(OSError):  # another user's cache
        path = file.resolve()
        if any(path.is_relative_to(cache.resolve()) for cache in (cache_dir(), hub_cache())):
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _demo_models(registry: Registry) -> Iterator[CachedModel]:
    """Yield the converted demo models, including those of earlier versions of l4."""
    root = cache_dir() / "demo"
    quants: dict[str, list[Path]] = {}
    for path in sorted(root.glob("demo-*.gguf")):
        quants.setdefault(path.stem.rpartition("-")[2], []).append(path)
    name = next((spec.name for spec in registry.models.values() if spec.checkpoint == "demo"), "")
    for quant, files in quants.items():
        yield _model(name or "demo", quant, files, root)


def _hub_models(repo: Path, registry: Registry) -> Iterator[CachedModel]:
    repo_id = _repo_id(repo)
    spec = next((s for s in registry.models.values() if s.gguf and s.gguf.repo == repo_id), None)
    groups: dict[tuple[str, str], list[Path]] = {}
    whole: set[tuple[str, str]] = set()
    for snapshot in snapshots(repo):
        names = [
            path.relative_to(snapshot).as_posix()
            for path in snapshot.rglob("*")
            if path.is_file()  # not a link to a removed blob
        ]
        for key, named in _named(repo_id, spec, names).items():
            groups.setdefault(key, []).extend(snapshot / name for name in named)
            if not missing_files(named):
                whole.add(key)
    for key, files in groups.items():
        yield _model(*key, files, repo, is_whole=key in whole)
    if begun := list(repo.glob("blobs/*.incomplete")):
        name = spec.name if spec else f"{HUB_PREFIX}{repo_id}"
        yield _model(name, UNFINISHED, begun, repo, is_whole=False)


def _named(
    repo_id: str, spec: ModelSpec | None, names: list[str]
) -> dict[tuple[str, str], list[str]]:
    """Group a snapshot's files by the model's name and quantization."""
    known: dict[str, list[str]] = {}
    if spec is not None and spec.gguf is not None:
        known = by_pattern(names, spec.gguf.files)
    taken = {file for files in known.values() for file in files}
    others = by_label(name for name in names if name not in taken)
    if any(name.endswith(".safetensors") for name in names):
        others[CHECKPOINT] = [name for name in names if not name.endswith(".gguf")]
    return {
        **{(spec.name if spec else "", quant): files for quant, files in known.items()},
        **{(f"{HUB_PREFIX}{repo_id}", quant): files for quant, files in others.items()},
    }


def _model(
    name: str, quant: str, files: Iterable[Path], root: Path, *, is_whole: bool = True
) -> CachedModel:
    paths = tuple(files)
    blobs = tuple(sorted({path.resolve() for path in paths if path.exists()}))
    stats = [blob.stat() for blob in blobs]
    return CachedModel(
        name,
        quant,
        paths,
        blobs,
        root,
        n_bytes=sum(stat.st_size for stat in stats),
        last_used=max((max(stat.st_atime, stat.st_mtime) for stat in stats), default=0.0),
        is_whole=is_whole,
    )
