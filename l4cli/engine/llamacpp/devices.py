"""ggml's devices, the CPU's features, and the placement of single tensors."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
from llama_cpp import _ggml

from l4cli.engine.llamacpp import library

_GPU, _IGPU = 1, 2  # enum ggml_backend_dev_type
# ggml_backend_reg_name of what computes on the CPU, or elsewhere; all others are for GPUs.
_NO_GPU = frozenset({"CPU", "BLAS", "RPC", "zDNN", "ZenDNN", "virtgpu"})


@dataclass(frozen=True, slots=True)
class Device:
    """A graphics card with its memory in bytes; `id` is ggml's name for it, `name` its maker's."""

    id: str
    name: str
    total: int
    free: int


def devices() -> list[Device]:
    """The graphics cards that this build of llama.cpp can use, in its order."""
    library.start()
    found = []
    for handle in map(_device, range(_device_count())):
        if _device_type(handle) not in (_GPU, _IGPU):
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        _device_memory(handle, ctypes.addressof(free), ctypes.addressof(total))
        id_, name = (text(handle).decode(errors="replace") for text in (_device_id, _device_name))
        found.append(Device(id_, name, total.value, free.value))
    return found


def has_gpu_support() -> bool:
    """Whether this build of llama.cpp has code for GPUs, be there one or not.

    llama_supports_gpu_offload is false without a GPU that can be used.
    """
    library.start()
    names = (_backend_name(_backend(index)).decode() for index in range(_backend_count()))
    return not _NO_GPU.issuperset(names)


def cpu_features() -> frozenset[str]:
    """Features that both ggml's CPU code and this CPU have: AVX2, AVX512, MATMUL_INT8 ..."""
    library.start()
    text = llama_cpp.llama_print_system_info().decode(errors="replace")
    return frozenset(re.findall(r"(\w+) = 1", text))


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override of llama.h, which llama-cpp-python does not define."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buft", ctypes.c_void_p))


def on_cpu(patterns: Sequence[str]) -> Any:
    """A list for llama_model_params: tensors whose names match these patterns stay in RAM.

    The caller keeps the list alive while the model is loaded.
    """
    entries = [_Override(pattern.encode(), _cpu_buffer_type()) for pattern in patterns]
    return (_Override * (len(entries) + 1))(*entries)  # an entry of null pointers ends it


def expert_patterns(layers: Iterable[int]) -> list[str]:
    """Patterns that match exactly the routed experts of these layers."""
    return [rf"^blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps\." for layer in layers]


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml with its types; without them ctypes would cut pointers to 32 bits."""
    prototype = ctypes.CFUNCTYPE(result, *arguments)
    return prototype((name, _ggml.libggml))


_pointer = ctypes.c_void_p
_backend_count = _function("ggml_backend_reg_count", ctypes.c_size_t)
_backend = _function("ggml_backend_reg_get", _pointer, ctypes.c_size_t)
_backend_name = _function("ggml_backend_reg_name", ctypes.c_char_p, _pointer)
_device_count = _function("ggml_backend_dev_count", ctypes.c_size_t)
_device = _function("ggml_backend_dev_get", _pointer, ctypes.c_size_t)
_device_type = _function("ggml_backend_dev_type", ctypes.c_int, _pointer)
_device_id = _function("ggml_backend_dev_name", ctypes.c_char_p, _pointer)
_device_name = _function("ggml_backend_dev_description", ctypes.c_char_p, _pointer)
_device_memory = _function("ggml_backend_dev_memory", None, _pointer, _pointer, _pointer)
_cpu_buffer_type = _function("ggml_backend_cpu_buffer_type", _pointer)
