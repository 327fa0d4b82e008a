"""Writes GGUF files without weights, and asks llama.cpp how much memory their models need.

With `no_alloc` llama.cpp reads a header, plans the KV cache and graphs as for the real file, and
logs how large they would be. It never reads the weights, so a sparse file is enough.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from convert.gguf.fields import Field, TensorInfo, align, encode_header, f32, string, u32
from convert.gguf.file import GGUFTensor
from convert.gguf.qtypes import QTYPES
from convert.outline import outline
from l4cli.engine.llamacpp import library
from l4cli.fit.memory import ContextSpec


def write_hollow(path: Path, config: Mapping[str, Any], ftype: str) -> Path:
    """Write the GGUF of a model with this config and ftype, without weights and vocabulary."""
    model = outline(config, "a test")
    fields = {"general.architecture": string(model.architecture), **model.fields}
    return write_header(path, fields, model.types(ftype))


def write_header(
    path: Path, fields: Mapping[str, Field], tensors: Mapping[str, GGUFTensor]
) -> Path:
    """Write a GGUF with these fields and tensors; its data is a hole in a sparse file.

    It has no vocabulary unless the fields contain one.
    """
    infos, offset = [], 0
    for name, tensor in tensors.items():
        infos.append(TensorInfo(name, tensor.shape, QTYPES[tensor.qtype].id, offset))
        offset += align(tensor.n_bytes)
    fields = dict(fields)
    # The later files of a split model have neither.
    if "general.architecture" in fields and "tokenizer.ggml.model" not in fields:
        key = f"{fields['general.architecture'].value}.vocab_size"
        fields["tokenizer.ggml.model"] = string("no_vocab")
        fields[key] = u32(tensors["token_embd.weight"].shape[1])
    header = encode_header(fields, infos)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + offset)
    return path


def gemma3(
    *, n_layers: int = 34, n_embd: int = 2560, n_ff: int = 10240, n_heads: int = 8, n_kv: int = 4
) -> tuple[dict[str, Field], dict[str, GGUFTensor]]:
    """Fields and tensors of a Gemma 3, by default 4B: five layers of six have a window of 1024."""
    head_dim, n_vocab = 256, 262_144
    fields = {
        "general.architecture": string("gemma3"),
        "gemma3.context_length": u32(131_072),
        "gemma3.embedding_length": u32(n_embd),
        "gemma3.block_count": u32(n_layers),
        "gemma3.feed_forward_length": u32(n_ff),
        "gemma3.attention.head_count": u32(n_heads),
        "gemma3.attention.head_count_kv": u32(n_kv),
        "gemma3.attention.key_length": u32(head_dim),
        "gemma3.attention.value_length": u32(head_dim),
        "gemma3.attention.sliding_window": u32(1024),
        "gemma3.attention.layer_norm_rms_epsilon": f32(1e-6),
    }
    matrices = {
        "attn_q": (n_embd, n_heads * head_dim),
        "attn_k": (n_embd, n_kv * head_dim),
        "attn_v": (n_embd, n_kv * head_dim),
        "attn_output": (n_heads * head_dim, n_embd),
        "ffn_gate": (n_embd, n_ff),
        "ffn_up": (n_embd, n_ff),
        "ffn_down": (n_ff, n_embd),
    }
    norms = {
        **dict.fromkeys(("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"), n_embd),
        **dict.fromkeys(("attn_q_norm", "attn_k_norm"), head_dim),
    }
    tensors = {
        "token_embd.weight": GGUFTensor((n_embd, n_vocab), "Q6_K", 0),
        "output_norm.weight": GGUFTensor((n_embd,), "F32", 0),
    }
    for layer in range(n_layers):
        for name, shape in matrices.items():
            tensors[f"blk.{layer}.{name}.weight"] = GGUFTensor(shape, "Q4_K", 0)
        for name, width in norms.items():
            tensors[f"blk.{layer}.{name}.weight"] = GGUFTensor((width,), "F32", 0)
    return fields, tensors


@contextmanager
def llama_log() -> Iterator[list[str]]:
    """Collect llama.cpp's log within the `with`, in pieces."""
    library.start()
    lines: list[str] = []

    @llama_cpp.llama_log_callback
    def listen(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        lines.append(text.decode())

    llama_cpp.llama_log_set(listen, ctypes.c_void_p(0))
    try:
        yield lines
    finally:
        llama_cpp.llama_log_set(library._on_log, ctypes.c_void_p(0))


@dataclass(frozen=True)
class Told:
    """The bytes that llama.cpp plans for the KV cache, compute buffer, and rows of logits."""

    kv: int
    compute: int
    output: int


class Oracle:
    """Asks llama.cpp for memory sizes; nothing is loaded or allocated."""

    def __init__(self, path: Path) -> None:
        library.start()
        params = llama_cpp.llama_model_default_params()
        params.no_alloc, params.load_mode = True, 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self._model, library.last_complaint()

    def close(self) -> None:
        llama_cpp.llama_model_free(self._model)

    def ask(self, spec: ContextSpec) -> Told:
        """The memory that a context of this size would take."""
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.n_outputs_max = spec.n_ctx, *2 * (spec.n_seq_max,)
        params.n_batch, params.n_ubatch = max(2048, spec.n_ubatch), spec.n_ubatch
        params.flash_attn_type, params.swa_full, params.kv_unified = -1, False, spec.unified
        params.type_k = params.type_v = getattr(llama_cpp, f"GGML_TYPE_{spec.kv_type.upper()}")
        with llama_log() as lines:
            context = llama_cpp.llama_init_from_model(self._model, params)
        log = "".join(lines)
        assert context, log[-2000:]
        llama_cpp.llama_free(context)
        return Told(
            kv=_sum(r"llama_kv_cache: size = +([\d.]+) MiB", log),
            compute=_sum(r"compute buffer size = +([\d.]+) MiB", log),
            output=_sum(r"output buffer size = +([\d.]+) MiB", log),
        )


def _sum(pattern: str, log: str) -> int:
    return round(sum(float(size) for size in re.findall(pattern, log)) * (1 << 20))
