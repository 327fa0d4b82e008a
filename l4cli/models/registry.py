"""Reads models.toml, which defines the models that l4 knows by name. Unknown keys are errors."""

from __future__ import annotations

import difflib
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from convert import reading
from convert.errors import ConvertError
from l4cli.errors import InputError, ModelNotFoundError
from l4cli.paths import config_dir

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_TEXT, _NUMBER = (str, "a text"), (int, "a whole number")
_KINDS: dict[str, tuple[type, str]] = {
    "description": _TEXT,
    "checkpoint": _TEXT,
    "hf": _TEXT,
    "quant": _TEXT,
    "licence": _TEXT,
    "like": _TEXT,
    "n_ctx_train": _NUMBER,
    "n_params": _NUMBER,
    "n_params_active": _NUMBER,
    "released": (bool, "true or false"),
}


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
    hf: the repository of its checkpoint on the Hub.
    quant: the quantization to use if the user names none.
    n_ctx_train: tokens of context that it was trained for.
    released: whether its weights were published.
    n_params, n_params_active: parameters in total, and those that one token passes.
    config: the values of its config.json that define its shape.
    like: for a model without a published config, the name of a model whose experts and other
        weights take the same bits per parameter.
    sampling: defaults for SamplingParams.
    """

    name: str
    description: str = ""
    checkpoint: str | None = None
    gguf: GgufSource | None = None
    hf: str | None = None
    quant: str = "Q4_K_M"
    n_ctx_train: int | None = None
    licence: str = ""
    released: bool = True
    n_params: int | None = None
    n_params_active: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    like: str | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registry:
    """Models by name, and the name of the default model."""

    default: str
    models: Mapping[str, ModelSpec]

    def find(self, name: str) -> ModelSpec:
        """Return the model of that name.

        Raises ModelNotFoundError, which suggests similar names.
        """
        if name in self.models:
            return self.models[name]
        near = difflib.get_close_matches(name.lower(), self.models, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(self.models)}"
        raise ModelNotFoundError(f"no file and no model named {name!r}; {hint}")


def load_registry() -> Registry:
    """Return the registry that comes with l4, with the models of the user's own models.toml.

    A model of the user's replaces one of the same name.
    """
    here = Path(__file__).resolve().parent.parent
    bundled = here / "models.toml"  # in a wheel; in a checkout it is in the top folder
    registry = read_registry(bundled if bundled.exists() else here.parent / "models.toml")
    own = config_dir() / "models.toml"
    if not own.exists():
        return registry
    extra = read_registry(own)
    return Registry(extra.default or registry.default, {**registry.models, **extra.models})


def read_registry(path: Path) -> Registry:
    """Parse one models.toml. Raises InputError, which names the file and the wrong key."""
    content = read_toml(path)
    _refuse_unknown(content, {"default", "models"}, f"{path}")
    stated = content.get("models", {})
    if not isinstance(stated, dict):
        raise InputError(f"{path}: models must be a table")
    models = {name: _spec(name, entry, f"{path}: models.{name}") for name, entry in stated.items()}
    default = content.get("default", "")
    if not isinstance(default, str) or (default and default not in models):
        raise InputError(f"{path}: default is {default!r}, which this file does not define")
    return Registry(default, models)


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content. Raises InputError, with the line, if it cannot be parsed."""
    try:
        content: dict[str, Any] = tomllib.loads(reading.read_text(path))
        return content
    except ConvertError as error:
        raise InputError(str(error)) from error
    except RecursionError:
        raise InputError(f"{path}: nested too deep to read") from None
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def _spec(name: str, entry: Any, where: str) -> ModelSpec:
    known = {f.name for f in fields(ModelSpec)} - {"name"}
    _refuse_unknown(entry, known, where)
    values = dict(entry)
    if "gguf" in values:
        _refuse_unknown(values["gguf"], {"repo", "files"}, f"{where}.gguf")
    sampling_keys = {"temperature", "top_p", "top_k", "min_p"}
    _refuse_unknown(values.get("sampling", {}), sampling_keys, f"{where}.sampling")
    if not isinstance(values.get("config", {}), dict):
        raise InputError(f"{where}.config must be a table")
    if (strange := _strange(values.get("config"))) is not None:
        raise InputError(f"{where}.config has the value {strange}, which no config.json can have")
    for key, value in values.items():
        kinds = _KINDS.get(key)
        if kinds is not None and type(value) is not kinds[0]:
            raise InputError(f"{where}.{key} is {reprlib.repr(value)}, not {kinds[1]}")
    for key, value in values.get("gguf", {}).items():
        if not isinstance(value, str):
            raise InputError(f"{where}.gguf.{key} is {reprlib.repr(value)}, not a text")
    for key, value in values.get("sampling", {}).items():
        if type(value) not in (int, float):
            raise InputError(f"{where}.sampling.{key} is {reprlib.repr(value)}, not a number")
    if "gguf" in values:
        try:
            values["gguf"] = GgufSource(**values["gguf"])
        except TypeError:
            raise InputError(f"{where}.gguf needs both repo and files") from None
    return ModelSpec(name=name, **values)


def _strange(value: Any) -> Any:
    """A value within `value` that TOML has and JSON has not, such as a date; None if none."""
    if isinstance(value, (dict, list)):
        inside = value.values() if isinstance(value, dict) else value
        return next((found for each in inside if (found := _strange(each)) is not None), None)
    return None if value is None or isinstance(value, (str, int, float)) else value


def _refuse_unknown(entry: Any, known: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where} must be a table")
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            )
            raise InputError(f"{where}: unknown key {key!r}{hint}")
