"""Gives models names of the user's own, in their models.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convert.foreign import N_START, recognize
from l4cli.errors import ModelNotFoundError, UsageError
from l4cli.models.addresses import read_address
from l4cli.models.locate import hub_model
from l4cli.models.registry import check_own, is_alias, load_registry, own_path
from l4cli.paths import expanded
from l4cli.toml_files import change_toml

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


def add(name: str, target: str) -> str:
    """Let `name` stand for a model, and return that model as it is written to the file.

    Raises UsageError for a name that cannot be one, ModelNotFoundError if there is no such model.
    """
    if not is_alias(name):
        raise UsageError(f"{name!r} cannot be a name: use letters, digits, . - and _")
    if name in load_registry().models:
        raise UsageError(f"{name} is the name of a model that l4 knows: choose another name")
    model = _checked(name, target)

    def change(document: TOMLDocument) -> None:
        document.setdefault("aliases", {})[name] = model

    change_toml(own_path(), change, check_own)
    return model


def remove(name: str) -> Path:
    """Remove a name, and return the file that had it. Raises UsageError if there is none."""
    aliases = load_registry().aliases
    if name not in aliases:
        known = f"; your names are {', '.join(aliases)}" if aliases else ""
        raise UsageError(f"{name} is not a name that you gave{known}")

    def change(document: TOMLDocument) -> None:
        del document["aliases"][name]
        if not document["aliases"]:
            del document["aliases"]

    change_toml(own_path(), change, check_own)
    return own_path()


def _refuse_other_file(path: Path) -> None:
    """Raise ModelNotFoundError unless the file begins as a GGUF does."""
    try:
        with path.open("rb") as file:
            start = file.read(N_START)
    except OSError as error:
        raise ModelNotFoundError(f"{path}: {error.strerror}") from None
    if not start.startswith(b"GGUF"):
        found = recognize(start)
        what = f" but {found.what}" if found else ""
        raise ModelNotFoundError(f"{path}: is not a GGUF file{what}; give a .gguf file")


def _checked(name: str, target: str) -> str:
    """The model as the file states it: the path of a file is absolute."""
    if hub_model(target) is not None:
        return target
    if (address := read_address(target)) is not None:
        raise ModelNotFoundError(f"{target}: {address.for_model()}")
    path = expanded(target)
    if path.is_file():
        _refuse_other_file(path)
        return str(path.absolute())
    if target.endswith(".gguf") or "/" in target:
        raise ModelNotFoundError(f"{target}: no such file")
    registry = load_registry()
    known = registry.meant(target).partition(":")[0]
    if known == name or target.partition(":")[0] == name:
        raise UsageError(f"{name} cannot stand for itself")
    if target.partition(":")[0] not in registry.aliases:
        registry.find(known)
    return target
