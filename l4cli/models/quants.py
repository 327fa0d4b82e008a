"""Groups the files of a repository by quantization, from their names alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from l4cli.errors import ModelNotFoundError
from l4cli.models.splits import split_name

_LABEL = re.compile(
    r"(?<![a-z0-9])((?:ud-)?(?:i?q\d(?:_[a-z0-9]+)*|tq\d_\d|mxfp4(?:_moe)?|nvfp4|bf16|fp?16|fp?32))"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_NAMED = "(?P<quant>[^/]+?)"
_NO_MODELS = ("mmproj", "imatrix")  # name prefixes of GGUFs that are not language models
_PREFERRED = "Q4_K_M"


def by_pattern(files: Iterable[str], pattern: str) -> dict[str, list[str]]:
    """Group the files that match a pattern of models.toml by the text that {quant} matches."""
    first, *others = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("{quant}"))
    regex = re.compile("(?P=quant)".join([first, *others]).replace("(?P=quant)", _NAMED, 1))
    quants: dict[str, list[str]] = {}
    for file in sorted(files):
        if file.endswith(".gguf") and (match := regex.fullmatch(file)):
            quants.setdefault(match.groupdict().get("quant") or "default", []).append(file)
    return quants


def by_label(files: Iterable[str]) -> dict[str, list[str]]:
    """Group GGUF files by the type in their names, such as Q4_K_M.

    If several models have the same type, their names are used instead. A model's split files are in
    one group.
    """
    models: dict[str, list[str]] = {}
    for file in sorted(files):
        path = PurePosixPath(file)
        if path.suffix == ".gguf" and not path.name.lower().startswith(_NO_MODELS):
            named = split_name(file)
            models.setdefault(named.stem if named else str(path.with_suffix("")), []).append(file)
    labels = {model: _label(model) for model in models}
    shared = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    return {
        PurePosixPath(model).name if label in shared else label: models[model]
        for model, label in labels.items()
    }


def _label(model: str) -> str:
    """Return the last type in a file's name, else in its directory's name, else the file's name."""
    path = PurePosixPath(model)
    for name in (path.name, path.parent.name):
        if found := _LABEL.findall(name):
            return str(found[-1]).upper()
    return path.name


def pick(quants: Collection[str], quant: str | None, where: str) -> str:
    """Return the quantization named `quant`; if that is None, Q4_K_M or the only one.

    Raises ModelNotFoundError, which lists the available ones; `where` begins the message.
    """
    if not quants:
        raise ModelNotFoundError(f"{where}: holds no GGUF files")
    names = {name.upper(): name for name in quants}
    if quant is not None and quant.upper() in names:
        return names[quant.upper()]
    there_are = f"there are {', '.join(sorted(quants))}"
    if quant is not None:
        raise ModelNotFoundError(f"{where}: has no quantization {quant}; {there_are}")
    if len(quants) == 1 or _PREFERRED in names:
        return names.get(_PREFERRED, next(iter(quants)))
    raise ModelNotFoundError(f"{where}: which quantization? {there_are}")
