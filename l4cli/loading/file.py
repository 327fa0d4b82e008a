"""A GGUF file, opened once: its header, and a fingerprint that identifies it."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

from convert.errors import ConvertError
from convert.gguf.kind import refuse_other_purposes
from convert.gguf.model import GGUFModel, read_model
from convert.gguf.vetting import vet_loading
from l4cli.engine.llamacpp import LlamaModel, VocabularyFacts
from l4cli.errors import ModelLoadError, UsageError
from l4cli.models.fingerprints import fingerprint_of
from l4cli.models.locate import Located
from l4cli.models.splits import split_files

if TYPE_CHECKING:
    from l4cli.fit.shape import ModelShape


class ModelFile:
    """A model's GGUF, including all its split files. Each property is read when it is first used.

    path: the file, or the first split file. name: the model's name in messages.
    embeds: whether it is to make embeddings; otherwise such models are refused.
    experts: routed experts per token, where they are not what the file says (`with_experts`).
    """

    def __init__(self, located: Located, *, embeds: bool = False) -> None:
        self.located, self.embeds = located, embeds
        self.path, self.name = located.path, located.name
        self.experts: int | None = None

    def with_experts(self, experts: int | None) -> ModelFile:
        """Return the same file as a model that sends each token to so many routed experts.

        It has another fingerprint, since it computes other numbers. None, or the number that the
        file says itself, gives the file as it is.

        Raises UsageError if the model has no experts, or not so many.
        """
        if experts is None:
            return self
        self.require_experts(f"--experts {experts}")
        n_experts = self.shape.n_experts
        if not 1 <= experts <= n_experts:
            raise UsageError(
                f"--experts {experts}: {self.name} sends each token to 1 to {n_experts} experts"
            )
        if experts == self.shape.n_experts_used:
            return self
        found = copy.copy(self)
        found.experts = experts
        each = self.shape.n_ff_experts // self.shape.n_experts_used
        found.shape = replace(self.shape, n_experts_used=experts, n_ff_experts=each * experts)
        found.__dict__.pop("fingerprint", None)
        return found

    def require_experts(self, option: str) -> None:
        """Raise UsageError, which names the option, if this model has no experts."""
        if not self.shape.n_experts or not self.shape.n_experts_used:
            raise UsageError(f"{option}: {self.name} has no experts: leave the option out")

    @property
    def overrides(self) -> dict[str, int]:
        """Values of the metadata that llama.cpp is told instead of the file's own."""
        if self.experts is None:
            return {}
        return {f"{self.header.fields['general.architecture']}.expert_used_count": self.experts}

    @property
    def questions(self) -> tuple[str, ...]:
        """What models.toml suggests to ask this model."""
        return self.located.spec.questions if self.located.spec else ()

    @cached_property
    def header(self) -> GGUFModel:
        """Metadata and table of tensors.

        Raises ModelLoadError if they cannot be read, or are those of a file for another purpose.
        """
        try:
            model = read_model(self.path)
            refuse_other_purposes(self.path, model.fields, model.tensors, embedders=self.embeds)
            return model
        except ConvertError as error:
            raise ModelLoadError(str(error)) from None

    @cached_property
    def shape(self) -> ModelShape:
        """What memory and speed depend on. Raises InputError if the header lacks it."""
        from l4cli.fit.shape import shape_of

        return shape_of(self.header.fields.get, self.header.tensors, name=str(self.path))

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context that the model was trained for; 0 if the file does not say."""
        fields = self.header.fields
        value = fields.get(f"{fields.get('general.architecture')}.context_length")
        return value if type(value) is int else 0

    @cached_property
    def vocabulary(self) -> VocabularyFacts:
        """Facts about the file's vocabulary, shared by all LlamaModels that are loaded from it.

        The first model computes them, later ones reuse them. Raises ModelLoadError if loading this
        file would make llama.cpp end the process.
        """
        try:
            vet_loading(self.path, self.header, embedders=self.embeds)
        except ConvertError as error:
            raise ModelLoadError(str(error)) from None
        return VocabularyFacts(self.path)

    @property
    def n_bytes(self) -> int:
        """Bytes of all its files. Raises OSError if one cannot be read."""
        return sum(file.stat().st_size for file in split_files(self.path))

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the file's content without reading all of it: see `fingerprint_of`.

        With another number of experts per token it is another model's.
        """
        own = fingerprint_of(self.path)
        return own if self.experts is None else f"{own}+experts={self.experts}"

    @property
    def weights_identity(self) -> str:
        """The fingerprint, with the size and modification time of every file.

        The fingerprint cannot tell apart two files that differ only in the middle, but their
        modification times differ.
        """
        stats = [file.stat() for file in split_files(self.path)]
        return " ".join([self.fingerprint, *(f"{s.st_size}:{s.st_mtime_ns}" for s in stats)])

    @property
    def written(self) -> list[str]:
        """When each of its files was last written, to the nanosecond, in UTC."""
        return [_time(file.stat().st_mtime_ns) for file in split_files(self.path)]

    def sampling(self, model: LlamaModel) -> dict[str, float]:
        """Return defaults for SamplingParams: those of models.toml, else those in the GGUF."""
        return self.located.sampling(model.metadata)


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}.{rest:09} UTC"
