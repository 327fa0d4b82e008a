"""The files of the templates: NAME.toml in the folder `templates` beside config.toml."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.names import is_file_name
from l4cli.engine.types import SamplingParams
from l4cli.errors import InputError, OutputError, RequestError, UsageError
from l4cli.paths import config_dir, expanded
from l4cli.templates.template import INPUT, Template, variables_in
from l4cli.toml_files import Place, change_toml, read_toml

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_SUFFIX = ".toml"
_TEXTS = ("system", "prompt", "model", "schema", "tools")
SAMPLING: Mapping[str, type] = {
    "max_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "seed": int,
}
_DEFAULTS = "defaults"
_KEYS = (*_TEXTS, *SAMPLING, _DEFAULTS)
BEGINNING = """\
# A template of l4: `l4 chat -t NAME` asks with it. Lines with # are examples.

# system = "You translate into $lang, word for word."
# prompt = "Translate: $input"     # $input is what is piped in or typed; $$ is a dollar
# model = "demo"
# temperature = 0.2                # also max-tokens, top-p, top-k, min-p, seed
# schema = "text, lang"            # as --schema takes it
# tools = "tools.py"               # a path relative to this file

# [defaults]                       # values of variables without -P
# lang = "French"
"""


def templates_dir() -> Path:
    """Return the folder of the templates."""
    return config_dir() / "templates"


def template_path(name: str) -> Path:
    """Return the path of a template. UsageError if a template cannot have this name."""
    if not re.fullmatch(r"[^\W\d_][\w.@+-]{0,99}", name) or not is_file_name(f"{name}{_SUFFIX}"):
        raise UsageError(
            f"{reprlib.repr(name)} cannot be a template's name: use letters, digits and . _ - + @, "
            "and begin with a letter"
        )
    return templates_dir() / f"{name}{_SUFFIX}"


def template_names() -> list[str]:
    """Return the names of all templates, sorted."""
    folder = templates_dir()
    try:
        found = sorted(folder.glob(f"*{_SUFFIX}"))
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    return [path.name.removesuffix(_SUFFIX) for path in found if not path.name.startswith(".")]


def require_template(name: str, listing: str = "`l4 templates`") -> Path:
    """Return the path of an existing template. UsageError, with near matches, if there is none.

    listing: what lists the templates, for the message.
    """
    path = template_path(name)
    if not path.exists():
        names = template_names()
        near = difflib.get_close_matches(name.removesuffix(_SUFFIX), names, n=2, cutoff=0.5)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif names:
            hint = f"{listing} lists them"
        else:
            hint = f"`l4 templates edit {name}` begins one"
        raise UsageError(f"there is no template {name}; {hint}")
    return path


def load_template(name: str) -> Template:
    """Read a template.

    UsageError if there is none of this name, InputError with file and line if something in the file
    is wrong.
    """
    path = require_template(name)
    return _template(name, read_toml(path), Place(path))


def save_template(name: str, values: Mapping[str, Any]) -> Path:
    """Set keys in a template's file, or make one; its other keys and its comments stay.

    values: by the keys of the file; the defaults of variables are a mapping.

    Raises InputError if the template would be wrong; the file is then as it was.
    """
    path = template_path(name)

    def change(document: TOMLDocument) -> None:
        for key in filter(values.__contains__, _KEYS):
            value = values[key]
            if key == _DEFAULTS:
                document.setdefault(key, {}).update(value)
                continue
            stated = next((old for old in document if _meant(old) == key), key.replace("_", "-"))
            document[stated] = _as_toml(value)

    change_toml(path, change, lambda content: _template(name, content, Place(path)))
    return path


def remove_templates(names: Iterable[str]) -> None:
    """Remove templates: all, or none if one of them does not exist."""
    paths = [require_template(name) for name in dict.fromkeys(names)]
    for path in paths:
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror}") from error


def absolute_if_file(text: str) -> str:
    """Return the absolute path of a file; a text that names none as it is."""
    path = expanded(text)
    return str(path.absolute()) if os.path.isfile(path) else text  # noqa: PTH113 - never raises


def _template(name: str, content: Mapping[str, Any], top: Place) -> Template:
    texts: dict[str, str] = {}
    sampling: dict[str, float] = {}
    for stated, value in content.items():
        key, place = _meant(stated), top.at(stated)
        if key in _TEXTS:
            texts[key] = _text(value, place)
        elif key in SAMPLING:
            sampling[key] = _number(key, value, place)
        elif key != _DEFAULTS:
            raise InputError(f"{place.line}: a template has no key {stated!r}{_near(key)}")
    for key in ("system", "prompt"):
        _check_variables(key, texts, top)
    folder = top.file.parent
    template = Template(
        name,
        prompt=texts.get("prompt"),
        system=texts.get("system"),
        model=_file_beside(folder, texts.get("model")),
        schema=_file_beside(folder, texts.get("schema")),
        tools=folder / expanded(texts["tools"]) if "tools" in texts else None,
        sampling=sampling,
        defaults=_defaults(content.get(_DEFAULTS, {}), top.at(_DEFAULTS)),
    )
    for variable in template.defaults:
        if variable not in template.variables:
            near = difflib.get_close_matches(variable, template.variables, n=1)
            hint = f"did you mean {near[0]}?" if near else f"no text has ${variable}"
            place = top.at(_DEFAULTS, variable)
            raise InputError(f"{place.line}: there is no variable {variable!r}; {hint}")
    return template


def _meant(key: str) -> str:
    """The key's name with _ for -, which both may be written."""
    return key.replace("-", "_")


def _text(value: Any, place: Place) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place} is {reprlib.repr(value)}, not a text")
    return value


def _number(key: str, value: Any, place: Place) -> float:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole and (SAMPLING[key] is int or not isinstance(value, float)):
        kind = "a whole number" if SAMPLING[key] is int else "a number"
        raise InputError(f"{place} is {reprlib.repr(value)}, not {kind}")
    try:
        SamplingParams(**{key: value})
    except RequestError as error:
        named = str(error).replace(key, place.keys[-1])
        raise InputError(f"{place.line}: {named}") from None
    return float(value) if SAMPLING[key] is float else value


def _check_variables(key: str, texts: Mapping[str, str], top: Place) -> None:
    try:
        names = variables_in(texts.get(key, ""))
    except ValueError as error:
        raise InputError(f"{top.at(key)}: {error}") from None
    if key == "system" and INPUT in names:
        raise InputError(f"{top.at(key)} cannot have $input: it belongs in the prompt")
    if key == "system" and texts.get(key, "").startswith("@"):
        raise InputError(f"{top.at(key)} names a file: write the text itself, in triple quotes")


def _defaults(table: Any, place: Place) -> dict[str, str]:
    if not isinstance(table, dict):
        raise InputError(f"{place} is {reprlib.repr(table)}, not a table")
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InputError(f"{place.at(name)} is {reprlib.repr(value)}, not a text or a number")
    return {name: str(value) for name, value in table.items()}


def _file_beside(folder: Path, text: str | None) -> str | None:
    """The path of a file that is named relative to the template; other texts as they are."""
    if text is None:
        return None
    path = folder / expanded(text)
    return str(path) if os.path.isfile(path) else text  # noqa: PTH113 - never raises


def _near(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, n=1)
    known = ", ".join(each.replace("_", "-") for each in _KEYS)
    return f"; did you mean {near[0].replace('_', '-')}?" if near else f"; the keys are {known}"


def _as_toml(value: Any) -> Any:
    import tomlkit

    # TOML reads the \r of lines in triple quotes as an end of a line like any other.
    is_long = isinstance(value, str) and "\n" in value and "\r" not in value
    return tomlkit.string(value, multiline=True) if is_long else value
