"""A GGUF opened once: what its header says, and what tells it from other files."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import ConvertError
from convert.gguf.model import GGUFModel, read_model
from convert.gguf.vetting import vet_loading
from l4cli.engine.llamacpp import LlamaModel, VocabularyFacts
from l4cli.errors import ModelLoadError
from l4cli.models.locate import Located
from l4cli.models.splits import split_files

if TYPE_CHECKING:
    from l4cli.fit.shape import ModelShape


class ModelFile:
    """A model's GGUF with all the files it is split into. Nothing is read before it is asked for.

    `path` is the (first) file, `name` what to call the model.
    """

    def __init__(self, located: Located) -> None:
        self.located = located
        self.path, self.name = located.path, located.name

    @cached_property
    def header(self) -> GGUFModel:
        """Metadata and table of tensors. ModelLoadError where they cannot be read."""
        try:
            return read_model(self.path)
        except ConvertError as error:
            raise ModelLoadError(str(error)) from None

    @cached_property
    def shape(self) -> ModelShape:
        """What memory and speed depend on. InputError where the header does not tell."""
        from l4cli.fit.shape import shape_of

        return shape_of(self.header.fields.get, self.header.tensors, name=str(self.path))

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context that the model was trained for; 0 where the file does not say."""
        fields = self.header.fields
        value = fields.get(f"{fields.get('general.architecture')}.context_length")
        return value if type(value) is int else 0

    @cached_property
    def vocabulary(self) -> VocabularyFacts:
        """What models of this file find out of its vocabulary: the next one need not.

        ModelLoadError where llama.cpp would end the process over the file.
        """
        try:
            vet_loading(self.path, self.header)
        except ConvertError as error:
            raise ModelLoadError(str(error)) from None
        return VocabularyFacts(self.path)

    @property
    def n_bytes(self) -> int:
        """Bytes of all its files. OSError where one cannot be read."""
        return sum(file.stat().st_size for file in split_files(self.path))

    @cached_property
    def fingerprint(self) -> str:
        """Tells one model file from another without reading it whole."""
        return fingerprint_of(self.path)

    @property
    def weights_identity(self) -> str:
        """The fingerprint, and of every part of a split model its size and time.

        Of two files that differ only in the middle, one at least was written at another time.
        """
        stats = [file.stat() for file in split_files(self.path)]
        return " ".join([self.fingerprint, *(f"{s.st_size}:{s.st_mtime_ns}" for s in stats)])

    def sampling(self, model: LlamaModel) -> dict[str, float]:
        """Defaults for SamplingParams: of models.toml, over those that the GGUF states."""
        return self.located.sampling(model.metadata)


def fingerprint_of(path: Path) -> str:
    """Size and digest of both ends of a file."""
    size, span = path.stat().st_size, 1 << 20
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(span))
        file.seek(max(0, size - span))
        digest.update(file.read(span))
    return f"{size}:{digest.hexdigest()[:16]}"
