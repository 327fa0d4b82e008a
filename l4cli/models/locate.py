"""Finds the GGUF file or the checkpoint on this machine that a name or a path stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from convert.names import is_path_inside
from l4cli.engine.types import SamplingParams
from l4cli.errors import ModelNotFoundError, NotFetchedError, RequestError
from l4cli.models.addresses import read_address
from l4cli.models.folders import ggufs_in, is_checkpoint, some_names
from l4cli.models.installed import HUB_PREFIX, gguf_quants, repo_dir, repo_of, snapshots
from l4cli.models.quants import pick
from l4cli.models.registry import ModelSpec, Registry, load_registry
from l4cli.models.splits import missing_files, split_files, split_name
from l4cli.paths import expanded

# GGUF's general.sampling keys that have the same meaning in SamplingParams. The penalties have not:
# llama.cpp applies them to the last tokens only.
_SAMPLING_KEYS = {
    "temp": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
}  # fmt: skip

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_NAME = re.compile(
    r"(?:https?://)?(?:hf\.co|huggingface\.co)/(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<quant>[^/:]+))?/?"
)


@dataclass(frozen=True, slots=True)
class Located:
    """A GGUF file (or checkpoint), the name to show for it, and its entry in models.toml if any."""

    path: Path
    name: str
    spec: ModelSpec | None = None

    def sampling(self, metadata: Callable[[str], str | None]) -> dict[str, float]:
        """Return defaults for SamplingParams: from models.toml, else from the GGUF's `metadata`.

        A default in neither of them is left to SamplingParams, which has Meta's for Llama 4.
        """
        stated = {}
        for key, name in _SAMPLING_KEYS.items():
            value = _sampling_value(name, metadata(f"general.sampling.{key}"))
            if value is not None:
                stated[name] = value
        return {**stated, **(self.spec.sampling if self.spec else {})}


def locate(
    model: str | None,
    *,
    registry: Registry | None = None,
    on_convert: Callable[[Path], None] | None = None,
) -> Located:
    """Find a GGUF file.

    model: a path, a name or an alias from models.toml, NAME:QUANT or hf.co/ORG/NAME:QUANT; None is
        the default model.
    registry: the known models; None loads models.toml.
    on_convert: called with the output path before the demo model is converted, which happens when
        it is first used.

    Raises ModelNotFoundError, which says what is missing and how to get it.
    """
    registry = registry or load_registry()
    model = registry.default if model is None else model
    if not model.strip():
        raise ModelNotFoundError("the name of the model is empty: give a name or a .gguf file")
    if not expanded(model).is_file() and (meant := registry.meant(model)) != model:
        return _from_alias(model, meant, registry, on_convert)
    if (found := hub_model(model)) is not None:
        return _from_hub(*found)
    if (address := read_address(model)) is not None:
        raise ModelNotFoundError(f"{model}: {address.for_model()}")
    path = expanded(model)
    name, _, quant = model.partition(":")
    # A name means the model, even if there is a folder of the same name.
    is_name = name in registry.models and not path.is_file()
    if not is_name and (path.exists() or model.endswith(".gguf") or os.sep in model):
        return _from_path(path)
    if name not in registry.models and (file := Path(f"{model}.gguf")).is_file():
        raise ModelNotFoundError(f"no file and no model named {model!r}; did you mean {file}?")
    spec = registry.find(name)
    if spec.path is not None:
        return _from_entry(spec, spec.path, quant)
    quant = quant or spec.quant
    if not spec.released:
        raise ModelNotFoundError(f"{name} was never released: it is known for planning only")
    if spec.checkpoint == "demo":
        from l4cli.demo import demo_gguf

        return Located(demo_gguf(quant, on_convert), f"{name}:{quant}", spec)
    if spec.gguf is None:
        raise ModelNotFoundError(f"models.toml names no GGUF files for {name}")
    for here, files in gguf_quants(spec.gguf.repo, spec.gguf.files).items():
        if here.upper() == quant.upper():
            return Located(files[0], f"{name}:{here}", spec)
    raise NotFetchedError(
        f"{name}:{quant} is not on this machine; get it with: l4 pull {name}:{quant}",
        f"{name}:{quant}",
    )


def _from_alias(
    alias: str, meant: str, registry: Registry, on_convert: Callable[[Path], None] | None
) -> Located:
    """Find what an alias stands for. A file is shown under the user's name for it."""
    without = replace(registry, aliases={})  # a file or a model may have the name of an alias
    try:
        found = locate(meant, registry=without, on_convert=on_convert)
    except NotFetchedError:
        raise  # it names what `l4 pull` takes
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{alias} stands for {meant}: {error}") from None
    is_file = found.spec is None and hub_model(meant) is None
    return replace(found, name=alias) if is_file else found


def check_known(model: str) -> None:
    """Raise ModelNotFoundError, with near names, unless this is a file or a model known by name.

    Nothing is converted for this: the demo model need not be on this machine.
    """
    registry = load_registry()
    name = registry.meant(model).partition(":")[0]
    if name not in registry.models or registry.models[name].checkpoint != "demo":
        locate(model, registry=registry)


def names_a_model(word: str) -> bool:
    """Whether a word is the name of a model (NAME, NAME:QUANT, hf.co/…) or of a GGUF file."""
    if word.endswith(".gguf") or _HUB_NAME.fullmatch(word):
        return True
    registry = load_registry()
    return word.partition(":")[0] in {*registry.models, *registry.aliases}


def _sampling_value(name: str, text: str | None) -> float | None:
    """Return a sampling value from its text in llama.cpp's metadata; None if it is not valid."""
    try:
        value = int(text or "") if name == "top_k" else float(text or "")
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    except (ValueError, RequestError):
        return None
    return round(value, 6)  # of a float32


def hub_model(model: str) -> tuple[str, str | None] | None:
    """Return the repository and the quantization (None if missing) of hf.co/ORG/NAME[:QUANT].

    Returns None if `model` has another form. Raises ModelNotFoundError if it begins with hf.co/ but
    names no repository.
    """
    match, address = _HUB_NAME.fullmatch(model), read_address(model)
    is_page = address is not None and address.repo is not None
    if match is not None and not is_path_inside(match["repo"]):
        match = None
    if match is None and model.startswith(HUB_PREFIX) and not is_page:
        raise ModelNotFoundError(f"{model} names no repository: give {HUB_PREFIX}ORG/NAME[:QUANT]")
    return (match["repo"], match["quant"]) if match else None


def _from_hub(repo: str, quant: str | None) -> Located:
    """Find a model of any repository in the Hub's cache."""
    quants = gguf_quants(repo)
    name = f"{HUB_PREFIX}{repo}"
    if not quants or (quant and quant.upper() not in map(str.upper, quants)):
        wanted = f"{name}:{quant}" if quant else name
        here = f" (there are {', '.join(quants)})" if quants else ""
        raise NotFetchedError(
            f"{wanted} is not on this machine{here}; get it with: l4 pull {wanted}", wanted
        )
    quant = pick(quants, quant, name)
    return Located(quants[quant][0], f"{name}:{quant}")


def _from_entry(spec: ModelSpec, path: Path, quant: str) -> Located:
    """Find the file that models.toml names for a model."""
    if quant:
        raise ModelNotFoundError(
            f"{spec.name} is one file, {path}: it has no quantizations to choose from; "
            f"say {spec.name}"
        )
    try:
        return replace(_from_path(path), name=spec.name, spec=spec)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"models.toml: models.{spec.name}.path: {error}") from None


def file_of(model: str, registry: Registry) -> Path | None:
    """Return the file that a path, an alias or an entry in models.toml names; None for others."""
    if (path := expanded(model)).is_file():
        return path
    meant = registry.meant(model)
    spec = registry.models.get(meant)
    path = spec.path if spec is not None and spec.path is not None else expanded(meant)
    return path if path.is_file() else None


def file_here(spec: ModelSpec, quant: str) -> Path | None:
    """Return the (first) file of a model's quantization if it is complete on this machine."""
    if spec.path is not None:
        return spec.path if spec.path.exists() else None
    if spec.checkpoint == "demo":
        from l4cli.demo import demo_path

        path = demo_path(quant)
        return path if path.exists() else None
    here = {name.upper(): files for name, files in cached_quants(spec).items()}
    return here[quant.upper()][0] if quant.upper() in here else None


def cached_quants(spec: ModelSpec) -> dict[str, list[Path]]:
    """Return a model's quantizations that are complete in the Hub's cache, with their files."""
    return {} if spec.gguf is None else gguf_quants(spec.gguf.repo, spec.gguf.files)


def locate_checkpoint(source: str, *, registry: Registry | None = None) -> Located:
    """Find the Hugging Face checkpoint `source`: a directory, a name from models.toml or a Hub id.

    A Hub id is looked up in the local cache only. Raises ModelNotFoundError, which says what is
    missing and how to get it.
    """
    registry = registry or load_registry()
    path = expanded(source)
    if not path.exists():
        source = registry.meant(source)
    _refuse_address(source)
    # A name means the model, even if there is a folder of the same name, unless that folder is a
    # checkpoint.
    is_name = source in registry.models and not (path / "config.json").exists()
    if path.exists() and not is_name:
        folder = path.resolve()
        return Located(path, _last_word(repo_of(folder) or folder.name))  # not named by a commit
    if not is_name and not _is_repo(source):
        raise ModelNotFoundError(
            f"{source}: no such checkpoint directory, no model of that name "
            f"({', '.join(registry.models)}), and no Hub id"
        )
    spec = registry.models[source] if is_name else None
    if spec is not None and spec.checkpoint == "demo":
        from l4cli.demo import checkpoint_dir

        return Located(checkpoint_dir(), source, spec)
    repo = spec.hf if spec is not None else source
    if repo is None:
        raise ModelNotFoundError(f"models.toml names no checkpoint for {source}")
    snapshot = cached_snapshot(repo)
    if snapshot is None:
        what = source if is_name else f"{source}: no such directory, and the Hub's checkpoint"
        raise ModelNotFoundError(
            f"{what} is not on this machine; get it with: hf download {repo} "
            "(or, to convert it without keeping it, give --hub)"
        )
    return Located(snapshot, _last_word(repo), spec)


def _last_word(repo: str) -> str:
    """The name of a repository without its organization."""
    return repo.rpartition("/")[2]


def is_hub_id(source: str) -> bool:
    """Whether `source` looks like a repository's name on the Hub, ORG/NAME."""
    return _is_repo(source) and not source.endswith(".gguf")


def _is_repo(source: str) -> bool:
    return _HUB_ID.fullmatch(source) is not None and is_path_inside(source)


def hub_repo(source: str, *, registry: Registry | None = None) -> str:
    """Return the Hub id in the models.toml entry named `source`, or `source` if it is a Hub id.

    Raises ModelNotFoundError if there is none.
    """
    registry = registry or load_registry()
    source = registry.meant(source)
    if source in registry.models:
        repo = registry.models[source].hf
        if repo is None:
            raise ModelNotFoundError(f"models.toml names no checkpoint on the Hub for {source}")
        return repo
    _refuse_address(source)
    if not _is_repo(source):
        raise ModelNotFoundError(
            f"{source}: no Hub id (org/name) and no model of that name "
            f"({', '.join(registry.models)})"
        )
    return source


def _refuse_address(source: str) -> None:
    """Raise ModelNotFoundError, with the command that works, if `source` is a web address."""
    if (address := read_address(source)) is not None:
        raise ModelNotFoundError(f"{source}: {address.for_checkpoint()}")


def cached_snapshot(repo: str) -> Path | None:
    """Return a repository's checkpoint in the Hub's cache: `main`, or else the newest commit."""
    found = (each for each in snapshots(repo_dir(repo)) if (each / "config.json").is_file())
    return next(found, None)


def _from_path(path: Path) -> Located:
    if path.is_symlink() and not path.exists():
        raise ModelNotFoundError(f"{path}: is a link to a file that does not exist")
    if not path.exists():
        hint = _near_file(path)
        if is_hub_id(str(path)):
            hint = f"; for a repository on the Hub say {HUB_PREFIX}{path}"
        raise ModelNotFoundError(f"{path}: no such file{hint}")
    if path.is_dir() and not is_checkpoint(path) and (inside := ggufs_in(path)):
        if len(inside) > 1:
            raise ModelNotFoundError(
                f"{path}: has several models, {some_names(path, inside)}: give one, as {inside[0]}"
            )
        return _from_path(inside[0])
    named = split_name(path.name)
    if named and named.number != 1:
        first = named.other(1)
        raise ModelNotFoundError(f"{path} is file {named.number} of a split model: give {first}")
    if missing := missing_files(file.name for file in split_files(path)):
        raise ModelNotFoundError(f"{path}: {len(missing)} split files are missing: {missing[0]} …")
    return Located(path, path.name.removesuffix(".gguf"))


def _near_file(path: Path) -> str:
    import difflib

    if not path.parent.is_dir():
        return ""
    # All end in .gguf, which would make any two names alike.
    names = {p.stem.lower(): p for p in path.parent.glob("*.gguf")}
    near = difflib.get_close_matches(path.name.removesuffix(".gguf").lower(), names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ""
