"""Finds and loads the models that a running chat switches to, with the chat's own options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from l4cli.chat.models import Installed
from l4cli.commands.open_model import find_here, load_shown
from l4cli.errors import EXITS_THAT_LEAVE
from l4cli.loading.file import ModelFile
from l4cli.loading.llm import LLM
from l4cli.loading.load import load_vocabulary
from l4cli.loading.options import LoadOptions
from l4cli.models.installed import CHECKPOINT, cached_models
from l4cli.models.registry import load_registry
from l4cli.models.splits import split_files


@dataclass(frozen=True, slots=True)
class ModelsHere:
    """The models on this machine; `options` are those that the chat was started with."""

    options: LoadOptions

    def installed(self) -> Iterable[Installed]:
        registry = load_registry()
        here: dict[str, int | None] = {
            model.full_name: model.n_bytes
            for model in cached_models(registry)
            if model.is_whole and model.quant != CHECKPOINT
        }
        for spec in registry.models.values():
            if spec.path is not None and spec.path.exists():
                here[spec.name] = _size(spec.path)
            elif spec.checkpoint == "demo":
                here.setdefault(f"{spec.name}:{spec.quant}", None)
        return [Installed(name, here[name]) for name in sorted(here)]

    def find(self, name: str) -> ModelFile:
        return find_here(name)

    def vocabulary(self, file: ModelFile) -> LLM:
        return load_vocabulary(file, self.options)

    def open(self, file: ModelFile, *, is_needed: bool = False) -> LLM:
        return load_shown(file, self.options, ends_by=EXITS_THAT_LEAVE if is_needed else None)


def _size(path: Path) -> int | None:
    """The bytes of a model's files; None if one cannot be read."""
    try:
        return sum(file.stat().st_size for file in split_files(path))
    except OSError:
        return None
