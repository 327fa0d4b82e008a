"""Makes the `general.*` metadata, which say where a model comes from.

gguf's own heuristics read the model card, generation_config.json and the directory's name. So the
names, licence and size label are those that llama.cpp's converter would write. `l4.version` is
added, to help when a file misbehaves.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import gguf

from convert.checkpoint.card import check_card
from convert.checkpoint.tensors import OutputTensor
from convert.errors import ConvertError
from convert.gguf.fields import Field, can_be_stored, string
from convert.reading import check_file, is_there
from convert.versions import version_of

# What gguf raises for values of types that it does not expect.
_MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError,
    ValueError,
)  # fmt: skip
gguf.metadata.logger.disabled = True  # it writes parts of the model card to stderr as they are


def general_fields(src: Path, architecture: str, tensors: list[OutputTensor]) -> dict[str, Field]:
    """`general.architecture`, type, name, licence, base models, sampling defaults ..."""
    total, shared, expert, n_experts = count_params(tensors)
    found = _load_metadata(src, total)
    found.name = found.name or src.resolve().name
    found.size_label = found.size_label or gguf.size_label(total, shared, expert, n_experts)
    fields = {"general.architecture": string(architecture), "general.type": string("model")}
    fields |= _as_fields(src, architecture, found)
    fields["l4.version"] = string(version_of("l4"))
    return fields


def _as_fields(src: Path, architecture: str, found: Any) -> dict[str, Field]:
    """gguf's metadata as fields. Raises ConvertError if a value is of a wrong type."""
    collected, fields = gguf.GGUFWriter(None, architecture), {}
    try:
        found.set_gguf_meta_model(collected)
    except _MALFORMED as error:
        raise _malformed(src, error) from None
    for key, item in collected.kv_data[0].items():
        is_array = item.type == gguf.GGUFValueType.ARRAY
        kind = gguf.GGUFValueType.get_type(item.value[0]) if is_array else item.type
        field = Field(_utf8(item.value), int(kind))
        if not can_be_stored(field):
            raise ConvertError(
                f"{src}: {key} would be {reprlib.repr(item.value)}, which is of a wrong type; "
                "correct generation_config.json, or the front matter of README.md"
            )
        fields[key] = field
    return fields


def _utf8(value: Any) -> Any:
    """Texts without lone surrogates, which UTF-8 cannot encode.

    They stand for bytes of a directory's name that are not UTF-8, or come from escapes in JSON.
    """
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return [_utf8(item) for item in value] if isinstance(value, list) else value


def _load_metadata(src: Path, total: int) -> Any:
    """What gguf reads from the model card and config.json. Raises ConvertError."""
    check_card(src)
    for name in ("config.json", "generation_config.json"):
        if is_there(src / name):  # gguf reads them without bounds
            check_file(src / name)
    try:
        return _read_metadata(src, total)
    except gguf.metadata.yaml.YAMLError:
        card = src / "README.md"
        raise ConvertError(f"{card}: its front matter is not valid YAML; correct it") from None
    except _MALFORMED as error:
        raise _malformed(src, error) from None


def _malformed(src: Path, error: Exception) -> ConvertError:
    why = reprlib.repr(f"{type(error).__name__}: {error}")
    return ConvertError(
        f"{src / 'README.md'}: its front matter is malformed ({why}); correct it, or delete it"
    )


def _read_metadata(src: Path, total: int) -> Any:
    found = gguf.Metadata.load(None, src, None, total)
    repo = src.parent.parent.name
    if src.parent.name == "snapshots" and repo.startswith("models--"):
        # In the Hub's cache the directory is named after a commit; the repository's name is above.
        card, config = gguf.Metadata.load_model_card(src), gguf.Metadata.load_hf_parameters(src)
        named = Path(repo.rpartition("--")[2])
        named = gguf.Metadata.apply_metadata_heuristic(gguf.Metadata(), card, config, named, total)
        for key in ("name", "organization", "basename", "finetune", "version", "size_label"):
            setattr(found, key, getattr(named, key))
    return found


def count_params(tensors: list[OutputTensor]) -> tuple[int, int, int, int]:
    """Count all weights, those that every token passes, those of one expert, and the experts."""
    total = sum(tensor.n_params for tensor in tensors)
    stacks = [tensor for tensor in tensors if "_exps." in tensor.name]
    expert = sum(tensor.n_params // tensor.shape[2] for tensor in stacks)
    shared = total - sum(tensor.n_params for tensor in stacks)
    return total, shared, expert, stacks[0].shape[2] if stacks else 0
