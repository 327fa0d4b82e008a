"""The types that the public functions take and return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from convert.checkpoint.shards import ShardStore
    from convert.checkpoint.tensors import OutputTensor
    from convert.gguf.fields import Field
    from convert.importance import Importance


@dataclass(frozen=True)
class Finding:
    """Something the doctor noticed.

    level: "error": the model would load, but give wrong results. "warning": it works, but the user
        should know.
    """

    level: Literal["warning", "error"]
    message: str


@dataclass(frozen=True)
class TypeOptions:
    """Options that change the tensors' qtypes. All but `cold_experts` are those of llama-quantize.

    imatrix: an importance matrix file, GGUF or legacy.
    tensor_types: (pattern, qtype) pairs. The first pattern that occurs in a tensor's name decides.
    output_tensor_type, token_embedding_type: qtypes that take precedence over `tensor_types`.
    pure: use the file's base type for all tensors instead of llama.cpp's recipe.
    cold_experts: the lowest qtype for tensors with cold experts, that is experts of which the
        imatrix has too few tokens.
    """

    imatrix: str | Path | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    pure: bool = False
    cold_experts: str | None = None


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the output: `shape` in ne order (row length first), sizes in bytes.

    importance: the imatrix's entry for the tensor; None if there is none or the type ignores it.
    """

    name: str
    shape: tuple[int, ...]
    qtype: str
    offset: int  # from the start of the tensor data
    n_bytes: int
    output: OutputTensor = field(repr=False)
    importance: Importance | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Plan:
    """A whole conversion, decided from headers alone; `convert` carries it out.

    shards: where the weights come from; None: from the directory `source`.
    """

    source: Path
    ftype: str
    architecture: str
    tensors: tuple[PlannedTensor, ...] = field(repr=False)
    n_bytes: int  # of the whole output file
    n_params: int
    n_params_active: int  # how many weights one token passes through
    bits_per_weight: float
    findings: tuple[Finding, ...]
    fields: Mapping[str, Field] = field(repr=False)  # the GGUF metadata
    shards: ShardStore | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TypeSize:
    """The file that one ftype would make of a checkpoint: its size in bytes, and bits per weight.

    lacks_imatrix: whether an importance matrix is needed but not given; the size is that with one.
    refusal: one line that says why there can be no such file; there is no size then.
    """

    ftype: str
    n_bytes: int | None
    bits_per_weight: float | None
    lacks_imatrix: bool
    refusal: str | None


@dataclass(frozen=True)
class Split:
    """How to split an output: the most bytes of tensor data, or tensors, per file (None: any)."""

    max_bytes: int | None = None
    max_tensors: int | None = None


@dataclass(frozen=True)
class Leftover:
    """An unfinished conversion: its files, and how much of the tensor data is done."""

    files: tuple[Path, ...]
    n_done: int  # bytes
    n_bytes: int  # of tensor data in all


@dataclass(frozen=True)
class Estimate:
    """What a conversion takes: exact bytes on disk, approximate bytes of memory, rough seconds."""

    n_bytes: tuple[int, ...]  # of each output
    seconds: float
    ram: int
    disk: int  # all outputs, and the shards that are fetched at once
    disk_free: int


@dataclass(frozen=True)
class Progress:
    """How far a conversion is: bytes of tensor data written, and the tensor of the last tile."""

    bytes_done: int
    bytes_total: int
    tensor: str


@dataclass(frozen=True)
class TensorCheck:
    """How far a written tensor is from its source.

    error: the relative RMSE of its worst matrix.
    matrix: the index of that matrix (an expert, or 0).
    bound: the largest error that the qtype may have.
    """

    name: str
    qtype: str
    error: float
    matrix: int
    bound: float

    @property
    def is_fine(self) -> bool:
        return self.error <= self.bound


@dataclass(frozen=True)
class Verification:
    """What `verify` found: differences of metadata and tensors, and every tensor's error."""

    differences: tuple[str, ...]
    tensors: tuple[TensorCheck, ...]

    @property
    def is_fine(self) -> bool:
        return not self.differences and all(tensor.is_fine for tensor in self.tensors)


@dataclass(frozen=True)
class Oddity:
    """In what a GGUF differs from another of the same model, beyond what their types explain.

    name: the tensor or the metadata field.
    layer: the tensor's layer; None for a field, and for a tensor that belongs to no layer.
    what: what is odd about it, as the end of a sentence.
    """

    name: str
    layer: int | None
    what: str


@dataclass(frozen=True)
class Report:
    """A finished output. Sizes are in bytes.

    path: the file, or the first of the split files.
    n_bytes: the size of all `files`.
    n_resumed: how much of the tensor data an earlier conversion had written.
    peak_rss: the highest resident size of this process so far.
    was_whole: whether an earlier conversion had finished it, so that nothing was left to do.
    """

    path: Path
    files: tuple[Path, ...]
    n_bytes: int
    n_resumed: int
    seconds: float
    peak_rss: int
    was_whole: bool = False
