"""Describes a model: a GGUF by its header, a checkpoint by config.json and its shards' headers.

Both are described by GGUF metadata and a table of tensors. For a checkpoint these are the metadata
and tensors of the GGUF that it would be converted to, but with the types and sizes as stored now.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.checkpoint.checkpoint import DTYPE_BYTES
from convert.checkpoint.hparams import Hparams
from convert.checkpoint.tensors import OutputTensor, View
from convert.doctor.gguf import diagnose_gguf
from convert.errors import ConvertError
from convert.gguf.array import GGUFArray
from convert.gguf.kind import no_model, other_purpose
from convert.gguf.model import GGUFModel, read_model
from convert.gguf.tensor_groups import DescribedTensor, TensorGroup, group_tensors
from convert.gguf.vetting import vet_loading
from convert.recipe.recognition import Recognized, recognize
from convert.types import Finding

_SAMPLING = "general.sampling."
_SPECIAL = ("bos", "eos", "eot", "eom", "unknown", "padding")


@dataclass(frozen=True)
class DescribedTokenizer:
    """A tokenizer. `special` maps bos, eos ... to the token's id and text."""

    model: str
    pre: str | None
    n_tokens: int
    n_merges: int
    special: Mapping[str, tuple[int, str]]
    template: str | None

    @property
    def template_digest(self) -> str | None:
        """Identifies the chat template; equal to `PromptEncoder.template_digest`."""
        if self.template is None:
            return None
        return hashlib.sha256(self.template.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Description:
    """The facts of a model. Sizes are in bytes; None means that the model does not state it.

    n_bytes: of all `files` together.
    n_params_active: how many weights one token passes through.
    shape, rope: hyperparameters by name; see `_shape` and `_rope` for the names.
    sampling: the sampling parameters that the model's authors recommend.
    recognized: the recipe by which the tensors' types were chosen; None for a checkpoint.
    groups: sums over `tensors` by purpose.
    metadata: the GGUF metadata without arrays.
    """

    path: Path
    files: tuple[Path, ...]
    is_checkpoint: bool
    n_bytes: int
    architecture: str
    name: str | None
    n_params: int
    n_params_active: int
    shape: Mapping[str, Any]
    rope: Mapping[str, Any]
    tokenizer: DescribedTokenizer | None
    sampling: Mapping[str, float]
    recognized: Recognized | None
    groups: tuple[TensorGroup, ...]
    findings: tuple[Finding, ...]
    tensors: tuple[DescribedTensor, ...] = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)

    @property
    def bits_per_weight(self) -> float:
        return 8 * sum(group.n_bytes for group in self.groups) / self.n_params


def describe_model(path: Path) -> Description:
    """Describe the GGUF `path`, or the checkpoint in the directory `path`. Raises ConvertError."""
    return _describe_checkpoint(path) if path.is_dir() else _describe_gguf(path)


def _describe_gguf(path: Path) -> Description:
    model = read_model(path)
    if not model.tensors:
        raise ConvertError(f"{path}: has no tensors, so it is not a model")
    tensors = [
        DescribedTensor(name, tensor.shape, tensor.qtype, tensor.n_bytes, tensor.path.name)
        for name, tensor in model.tensors.items()
    ]
    return _describe(
        path,
        model.files,
        model.n_bytes,
        model.fields,
        tensors,
        recognized=recognize(model),
        findings=_findings(path, model),
    )


def _findings(path: Path, model: GGUFModel) -> tuple[Finding, ...]:
    if (purpose := no_model(model.fields, model.tensors)) is not None:
        return (Finding("error", f"it is {purpose}"),)
    if (purpose := other_purpose(model.fields, model.tensors)) is not None:
        return (Finding("warning", f"it is {purpose}"), *_deadly(path, model))
    return (*_deadly(path, model), *diagnose_gguf(model))


def _deadly(path: Path, model: GGUFModel) -> list[Finding]:
    """The first problem that would make llama.cpp end the process; empty if there is none."""
    try:
        vet_loading(path, model, embedders=True)
    except ConvertError as error:
        return [Finding("error", str(error).removeprefix(f"{path}: "))]
    return []


def _describe_checkpoint(path: Path) -> Description:
    from convert.checkpoint_survey import take_survey

    found = take_survey(path, None, force=True)
    tensors = [
        _stored_as(output, [matrix for matrix in output.matrices if isinstance(matrix, View)])
        for output in found.outputs
        if isinstance(output.matrices[0], View)
    ]
    files = tuple(sorted(path / name for name in {tensor.file for tensor in tensors}))
    files = tuple(file for file in files if file.is_file())
    return _describe(
        path,
        files,
        sum(file.stat().st_size for file in files),
        {key: each.value for key, each in found.fields.items()},
        tensors,
        recognized=None,
        findings=found.findings,
        rope=_stated_scaling(found.hparams),
    )


def _stated_scaling(hparams: Hparams) -> dict[str, Any]:
    """Llama 3's RoPE scaling as config.json states it; a GGUF only holds the resulting factors."""
    scaling = hparams.rope_scaling
    return {"scaling": "llama3", "factor": scaling.factor} if scaling else {}


def _stored_as(output: OutputTensor, views: Sequence[View]) -> DescribedTensor:
    """A tensor of the GGUF that the checkpoint converts to, with its stored dtypes and size."""
    n_bytes = 0
    for view in views:
        packed = view.scale.bits if view.scale else 0
        bits = packed or 8 * DTYPE_BYTES.get(view.stored.dtype, 0)
        n_bytes += view.n_rows * view.n_cols * bits // 8
    types = sorted({view.stored.dtype or "absent" for view in views})
    file = views[0].stored.path.name
    return DescribedTensor(output.name, output.shape, "+".join(types), n_bytes, file)


def _describe(
    path: Path,
    files: tuple[Path, ...],
    n_bytes: int,
    fields: Mapping[str, Any],
    tensors: Sequence[DescribedTensor],
    *,
    recognized: Recognized | None,
    findings: Iterable[Finding],
    rope: Mapping[str, Any] | None = None,
) -> Description:
    architecture = str(fields.get("general.architecture", "unknown"))
    shape = _shape(fields, architecture, tensors)
    routed = sum(tensor.n_params for tensor in tensors if "_exps." in tensor.name)
    n_params = sum(tensor.n_params for tensor in tensors)
    idle = 0
    if routed and shape["n_experts"]:
        n_used = shape["n_experts_used"] or 0
        idle = routed - routed * min(n_used, shape["n_experts"]) // shape["n_experts"]
    return Description(
        path=path,
        files=files,
        is_checkpoint=recognized is None,
        n_bytes=n_bytes,
        architecture=architecture,
        name=_string(fields, "general.name"),
        n_params=n_params,
        n_params_active=n_params - idle,
        shape=shape,
        rope={**_rope(fields, architecture, tensors), **(rope or {})},
        tokenizer=_tokenizer(fields),
        sampling={
            key.removeprefix(_SAMPLING): round(value, 6)
            for key, value in fields.items()
            if key.startswith(_SAMPLING)
            and isinstance(value, (int, float))
            and math.isfinite(value)
        },
        recognized=recognized,
        groups=group_tensors(tensors),
        findings=tuple(findings),
        tensors=tuple(tensors),
        metadata={key: value for key, value in fields.items() if _is_scalar(value)},
    )


def _shape(
    fields: Mapping[str, Any], architecture: str, tensors: Iterable[DescribedTensor]
) -> dict[str, Any]:
    """Layers, widths, heads, experts and context; the largest value where layers differ."""

    def count(key: str) -> int | None:
        value = fields.get(f"{architecture}.{key}")
        if isinstance(value, GGUFArray):
            value = max(value, default=None)
        return value if type(value) is int else None

    hidden, n_heads = count("embedding_length"), count("attention.head_count")
    moe_layers = {name.name.split(".")[1] for name in tensors if "_exps." in name.name}
    return {
        "n_layers": count("block_count"),
        "hidden_size": hidden,
        "n_heads": n_heads,
        "n_kv_heads": count("attention.head_count_kv") or n_heads,
        "head_dim": count("attention.key_length") or (hidden or 0) // (n_heads or 1) or None,
        "dense_size": count("feed_forward_length"),
        "n_experts": count("expert_count") or 0,
        "n_experts_used": count("expert_used_count") or 0,
        "expert_size": count("expert_feed_forward_length"),
        "n_moe_layers": len(moe_layers),
        "n_ctx_train": count("context_length"),
        "sliding_window": count("attention.sliding_window"),
    }


def _rope(
    fields: Mapping[str, Any], architecture: str, tensors: Iterable[DescribedTensor]
) -> dict[str, Any]:
    stated = {
        "base": fields.get(f"{architecture}.rope.freq_base"),
        "n_dims": fields.get(f"{architecture}.rope.dimension_count"),
        "scaling": fields.get(f"{architecture}.rope.scaling.type"),
        "factor": fields.get(f"{architecture}.rope.scaling.factor"),
    }
    if any(tensor.name.startswith("rope_freqs") for tensor in tensors):
        stated["scaling"] = "llama3"  # a GGUF stores this scaling as a tensor of factors
    return {key: value for key, value in stated.items() if _is_scalar(value) and value is not None}


def _tokenizer(fields: Mapping[str, Any]) -> DescribedTokenizer | None:
    model = _string(fields, "tokenizer.ggml.model")
    if model is None:
        return None
    tokens = _texts(_items(fields, "tokenizer.ggml.tokens"))
    special = {}
    for kind in _SPECIAL:
        id_ = fields.get(f"tokenizer.ggml.{kind}_token_id")
        if type(id_) is int and 0 <= id_ < len(tokens):
            special[kind] = (id_, tokens[id_])
    return DescribedTokenizer(
        model=model,
        pre=_string(fields, "tokenizer.ggml.pre"),
        n_tokens=len(tokens),
        n_merges=len(_items(fields, "tokenizer.ggml.merges")),
        special=special,
        template=_string(fields, "tokenizer.chat_template"),
    )


def _texts(tokens: Sequence[Any]) -> list[str]:
    """Tokens as text. Invalid UTF-8 is replaced here; the doctor reports it."""
    if isinstance(tokens, GGUFArray) and tokens.kind == "string":
        return [raw.decode("utf-8", errors="replace") for raw in tokens.byte_strings()]
    return list(map(str, tokens))


def _items(fields: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = fields.get(key, ())
    return () if _is_scalar(value) else value


def _string(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    return value if isinstance(value, str) else None


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (GGUFArray, list, tuple))
