"""Reads models.toml, which defines the models that l4 knows by name. Unknown keys are errors.

There are two such files: the one that comes with l4, and the user's own, which adds models, names
for them (aliases), and other values for keys of known models.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from l4cli.errors import InputError, ModelNotFoundError
from l4cli.paths import config_dir, expanded
from l4cli.toml_files import Place, read_toml

_TEXT, _NUMBER = (str, "a text"), (int, "a whole number")
_KINDS: dict[str, tuple[type, str]] = {
    "description": _TEXT,
    "checkpoint": _TEXT,
    "hf": _TEXT,
    "path": _TEXT,
    "quant": _TEXT,
    "licence": _TEXT,
    "size": _TEXT,
    "like": _TEXT,
    "n_ctx_train": _NUMBER,
    "n_params": _NUMBER,
    "n_params_active": _NUMBER,
    "released": (bool, "true or false"),
}
_SOURCES = {"checkpoint", "gguf", "path"}  # a model is taken from one of them


@dataclass(frozen=True, slots=True)
class GgufSource:
    """GGUF files on the Hub: a repository, and a pattern of file names with {quant} in it.

    `{quant}` stands for the name of the quantization.
    """

    repo: str
    files: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One entry of models.toml.

    checkpoint: "demo" for the bundled checkpoint, else None.
    gguf: where its GGUF files are on the Hub.
    path: its GGUF file on this machine.
    hf: the repository of its checkpoint on the Hub.
    quant: the quantization to use if the user names none.
    size: of the files of that quantization, for people: "368 MiB".
    n_ctx_train: tokens of context that it was trained for.
    released: whether its weights were published.
    n_params, n_params_active: parameters in total, and those that one token passes.
    config: the values of its config.json that define its shape.
    like: for a model without a published config, the name of a model whose experts and other
        weights take the same bits per parameter.
    sampling: defaults for SamplingParams.
    questions: what to ask it, for someone who does not know it.
    """

    name: str
    description: str = ""
    checkpoint: str | None = None
    gguf: GgufSource | None = None
    path: Path | None = None
    hf: str | None = None
    quant: str = "Q4_K_M"
    size: str = ""
    n_ctx_train: int | None = None
    licence: str = ""
    released: bool = True
    n_params: int | None = None
    n_params_active: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    like: str | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Registry:
    """Models by name, the default model, and other names for models."""

    default: str
    models: Mapping[str, ModelSpec]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> ModelSpec:
        """Return the model of that name.

        Raises ModelNotFoundError, which suggests similar names.
        """
        if name in self.models:
            return self.models[name]
        names = [*self.models, *self.aliases]
        near = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
        if re.search(r"llama\W*4", name.lower()):
            near = [one for one in ("scout", "maverick") if one in names and one in name.lower()]
            near = near or ["scout", "maverick"]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
        raise ModelNotFoundError(f"no file and no model named {name!r}; {hint}")

    def meant(self, model: str) -> str:
        """Return what an alias stands for; `model` itself if it is none.

        A quantization after the alias replaces the one that the alias has.
        """
        name, _, quant = model.partition(":")
        passed: set[str] = set()
        while name in self.aliases and name not in passed:
            passed.add(name)
            target = self.aliases[name]
            name, _, stated = target.partition(":")
            quant = quant or stated
        return f"{name}:{quant}" if quant else name


def load_registry() -> Registry:
    """Return the models that come with l4, with what the user's own models.toml says."""
    own = own_path()
    return read_registry(_bundled(), own) if own.exists() else read_registry(_bundled())


def own_path() -> Path:
    """The path of the user's models.toml, existing or not."""
    return config_dir() / "models.toml"


def is_alias(name: str) -> bool:
    """Whether a model can be given this name."""
    return re.fullmatch(r"\w[\w.-]*", name) is not None and not name.endswith(".gguf")


def read_registry(*paths: Path) -> Registry:
    """Parse models.toml files, of which later ones override keys of earlier ones.

    Raises InputError, which names the file and the wrong key.
    """
    return _merged([_Stated.of(read_toml(path), path) for path in paths])


def check_own(content: Mapping[str, Any]) -> None:
    """Raise InputError if the user's models.toml would be wrong with this content."""
    bundled, own = _bundled(), own_path()
    _merged([_Stated.of(read_toml(bundled), bundled), _Stated.of(content, own)])


def _bundled() -> Path:
    here = Path(__file__).resolve().parent.parent
    bundled = here / "models.toml"  # in a wheel; in a checkout it is in the top folder
    return bundled if bundled.exists() else here.parent / "models.toml"


@dataclass(frozen=True, slots=True)
class _Stated:
    """What one file says; its keys are known and their values have the right types."""

    file: Path
    default: str
    models: Mapping[str, Mapping[str, Any]]
    aliases: Mapping[str, str]

    @classmethod
    def of(cls, content: Mapping[str, Any], file: Path) -> _Stated:
        top = Place(file)
        _refuse_unknown(content, {"default", "models", "aliases"}, top)
        models, aliases = content.get("models", {}), content.get("aliases", {})
        default = content.get("default", "")
        if not isinstance(models, dict):
            raise InputError(f"{top.at('models')} must be a table")
        if not isinstance(aliases, dict):
            raise InputError(f"{top.at('aliases')} must be a table")
        if not isinstance(default, str):
            where = top.at("default")
            raise InputError(f"{where} is {reprlib.repr(default)}, not a model's name")
        for name, target in aliases.items():
            where = top.at("aliases", name)
            if not is_alias(name):
                raise InputError(f"{where}: {name!r} cannot be a name of a model")
            if not isinstance(target, str) or not target.strip():
                raise InputError(f"{where} is {reprlib.repr(target)}, not a model")
        return cls(
            file,
            _beside(default, file),
            {name: _checked(entry, top.at("models", name)) for name, entry in models.items()},
            {name: _beside(target, file) for name, target in aliases.items()},
        )


def _beside(model: str, file: Path) -> str:
    """Make a GGUF's path absolute: ~ is the home folder, others begin at the folder of `file`."""
    is_path = model.endswith(".gguf") and "://" not in model and not model.startswith("hf.co/")
    return str(file.parent / expanded(model)) if is_path else model


def _merged(stated: list[_Stated]) -> Registry:
    """One registry from several files; later ones override keys of earlier ones."""
    default, entries, aliases = "", dict[str, Mapping[str, Any]](), dict[str, str]()
    for each in stated:
        aliases |= each.aliases
        for name, entry in each.models.items():
            entries[name] = _over(entries.get(name, {}), entry)
            _refuse_half(entries[name], Place(each.file, ("models", name)))
        default = each.default or default
        name = default.partition(":")[0]
        is_elsewhere = default.endswith(".gguf") or default.startswith("hf.co/")
        if default and not is_elsewhere and name not in entries and name not in aliases:
            near = difflib.get_close_matches(name, [*entries, *aliases], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ", and no model has that name"
            raise InputError(f"{Place(each.file, ('default',))} is {default!r}{hint}")
    return Registry(default, {name: _spec(name, entry) for name, entry in entries.items()}, aliases)


def _over(known: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with the keys of `own` in place of those of `known`, within its tables, too.

    A source in `own` takes the place of all others.
    """
    replaced = _SOURCES - own.keys() if _SOURCES & own.keys() else set()
    merged = {key: value for key, value in known.items() if key not in replaced}
    for key, value in own.items():
        is_table = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if is_table else value
    return merged


def _checked(entry: Any, where: Place) -> dict[str, Any]:
    """An entry with known keys and values of the right types; its path is absolute."""
    known = {f.name for f in fields(ModelSpec)} - {"name"}
    _refuse_unknown(entry, known, where)
    values = dict(entry)
    if "gguf" in values:
        _refuse_unknown(values["gguf"], {"repo", "files"}, where.at("gguf"))
    sampling_keys = {"temperature", "top_p", "top_k", "min_p"}
    _refuse_unknown(values.get("sampling", {}), sampling_keys, where.at("sampling"))
    if not isinstance(values.get("config", {}), dict):
        raise InputError(f"{where.at('config')} must be a table")
    if (strange := _strange(values.get("config"))) is not None:
        raise InputError(
            f"{where.at('config')} has the value {strange}, which no config.json can have"
        )
    for key, value in values.items():
        kinds = _KINDS.get(key)
        if kinds is not None and type(value) is not kinds[0]:
            raise InputError(f"{where.at(key)} is {reprlib.repr(value)}, not {kinds[1]}")
    for key, value in values.get("gguf", {}).items():
        if not isinstance(value, str):
            place = where.at("gguf", key)
            raise InputError(f"{place} is {reprlib.repr(value)}, not a text")
    for key, value in values.get("sampling", {}).items():
        if type(value) not in (int, float):
            place = where.at("sampling", key)
            raise InputError(f"{place} is {reprlib.repr(value)}, not a number")
    if "questions" in values:
        values["questions"] = _texts(values["questions"], where.at("questions"))
    if "path" in values:
        values["path"] = str(where.file.parent / expanded(values["path"]))
    return values


def _texts(value: Any, where: Place) -> tuple[str, ...]:
    if not isinstance(value, list) or any(not isinstance(each, str) for each in value):
        raise InputError(f"{where} is {reprlib.repr(value)}, not a list of texts")
    return tuple(value)


def _refuse_half(entry: Mapping[str, Any], where: Place) -> None:
    if "gguf" in entry and entry["gguf"].keys() != {"repo", "files"}:
        raise InputError(f"{where.at('gguf')} needs both repo and files")
    if len(sources := sorted(_SOURCES & entry.keys())) > 1:
        raise InputError(f"{where} has {' and '.join(sources)}: give one of them")


def _spec(name: str, entry: Mapping[str, Any]) -> ModelSpec:
    values = dict(entry)
    if "gguf" in values:
        values["gguf"] = GgufSource(**values["gguf"])
    if "path" in values:
        values["path"] = Path(values["path"])
    return ModelSpec(name=name, **values)


def _strange(value: Any) -> Any:
    """A value within `value` that TOML has and JSON has not, such as a date; None if none."""
    if isinstance(value, (dict, list)):
        inside = value.values() if isinstance(value, dict) else value
        return next((found for each in inside if (found := _strange(each)) is not None), None)
    return None if value is None or isinstance(value, (str, int, float)) else value


def _refuse_unknown(entry: Any, known: set[str], where: Place) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where} must be a table")
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            )
            raise InputError(f"{where.at(key)}: unknown key {key!r}{hint}")
