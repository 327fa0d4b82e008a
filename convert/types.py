"""What the public functions take and return."""

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
    """Something the doctor noticed: it runs all the same (warning), or it runs wrong (error)."""

    level: Literal["warning", "error"]
    message: str


@dataclass(frozen=True)
class TypeOptions:
    """What bears on the tensors' types beside the file's; the meanings are llama-quantize's.

    `imatrix`: an importance matrix file, GGUF or legacy. `tensor_types`: (pattern, qtype) pairs; of
    the patterns found in a tensor's name the first one decides. `output_tensor_type` and
    `token_embedding_type` decide before those. `pure`: no recipe, the same type for all.
    `cold_experts`: the type for tensors with experts that the imatrix hardly saw, where the recipe
    gives them a lesser one.
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

    `importance`: what the imatrix has on it, where that bears on the type.
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

    `shards`: where the weights come from, if not from the directory `source`.
    """

    source: Path
    ftype: str
    architecture: str
    tensors: tuple[PlannedTensor, ...] = field(repr=False)
    n_bytes: int  # of the whole output file
    n_params: int
    n_params_active: int  # weights one token passes through
    bits_per_weight: float
    findings: tuple[Finding, ...]
    fields: Mapping[str, Field] = field(repr=False)  # the GGUF metadata
    shards: ShardStore | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TypeSize:
    """What one ftype would make of a checkpoint: bytes of the file, bits a weight.

    `lacks_imatrix`: an importance matrix is needed first, and the size is that with one. `refusal`:
    why there is no such file, nor a size, in a line.
    """

    ftype: str
    n_bytes: int | None
    bits_per_weight: float | None
    lacks_imatrix: bool
    refusal: str | None


@dataclass(frozen=True)
class Split:
    """Into which files to cut an output: of so many bytes of tensor data, or tensors, at most."""

    max_bytes: int | None = None
    max_tensors: int | None = None


@dataclass(frozen=True)
class Leftover:
    """What an unfinished conversion left: its files, and how much of the tensor data is done."""

    files: tuple[Path, ...]
    n_done: int  # bytes
    n_bytes: int  # of tensor data in all


@dataclass(frozen=True)
class Estimate:
    """What a conversion takes. Bytes, to the byte on disk and about so in memory; rough seconds."""

    n_bytes: tuple[int, ...]  # of each output
    seconds: float
    ram: int
    disk: int
    disk_free: int


@dataclass(frozen=True)
class Progress:
    """How far a conversion is: bytes of tensor data written, and the tensor last worked on."""

    bytes_done: int
    bytes_total: int
    tensor: str


@dataclass(frozen=True)
class TensorCheck:
    """How far a written tensor is from its source: relative RMSE of its worst matrix.

    `matrix` is its index (an expert, or 0); `bound` is what the type may cost.
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
    """What `verify` found: differences of metadata and layout, and every tensor's error."""

    differences: tuple[str, ...]
    tensors: tuple[TensorCheck, ...]

    @property
    def is_fine(self) -> bool:
        return not self.differences and all(tensor.is_fine for tensor in self.tensors)


@dataclass(frozen=True)
class Report:
    """A finished output. `peak_rss`: the process's highest resident size so far, bytes.

    `path` is the file, or the first of the split `files`; `n_bytes` is of all of them, and
    `n_resumed` of the tensor data that was there already.
    """

    path: Path
    files: tuple[Path, ...]
    n_bytes: int
    n_resumed: int
    seconds: float
    peak_rss: int
