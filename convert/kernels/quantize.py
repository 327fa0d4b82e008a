"""Quantizes rows with ggml's kernels, through ctypes, or with `kquants` in large conversions.

Both give the same bytes. This is the only file of this package that looks for llama_cpp, and only
to find libggml-base in its directory; no model code is loaded. All kernels work row by row without
the GIL, so the work scales with threads, and the output does not depend on which thread gets which
rows.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import ConvertError
from convert.gguf.qtypes import QTYPES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convert.types import Plan, PlannedTensor

    Quantize = Callable[
        [str, NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32] | None], None
    ]

# The types that gguf's Python package cannot dequantize.
DEQUANTIZED_BY_GGML = frozenset(("Q1_0", "Q2_0"))

# The types that `kquants` can make. It takes seconds to compile, once per machine, and a tenth of a
# GB of memory. So it pays off only if ggml would take more than a few seconds.
IN_LANES = frozenset(("Q4_K", "Q5_K", "Q6_K"))
_MUCH = 1 << 27  # weights

# With larger weights the kernels of the IQ types may overflow and abort the process. Their scales
# could not represent such weights anyway.
_MAX_SEARCHED = 1e8

# The name that libllama links to comes first. A process that has loaded both then has one copy of
# the library, and the tables of the IQ kernels, which take seconds to compute, are computed once.
_LIBRARY_NAMES = (
    ("libggml-base.0.dylib", "libggml-base.dylib")
    if sys.platform == "darwin"
    else ("libggml-base.so.0", "libggml-base.so")
)


def quantizer(plans: Sequence[Plan]) -> Quantize:
    """The function that quantizes rows for `plans`: with `kquants` if they are much work.

    Its arguments are those of `quantize_rows`, and the bytes are the same in both cases.
    """
    if not (is_much(plans) and has_lanes()):
        return quantize_rows
    from convert.kernels import kquants

    def quantize(
        qtype: str,
        rows: NDArray[np.float32],
        out: NDArray[np.uint8],
        importance: NDArray[np.float32] | None = None,
    ) -> None:
        if qtype in IN_LANES and importance is None and kquants.quantize(qtype, rows, out):
            _validate(qtype, out)
        else:
            quantize_rows(qtype, rows, out, importance)

    return quantize


def is_much(plans: Sequence[Plan]) -> bool:
    """Whether ggml would take more than a few seconds for the tensors that `kquants` can make."""
    tensors = (tensor for plan in plans for tensor in plan.tensors)
    return sum(tensor.output.n_params for tensor in tensors if fits_lanes(tensor)) >= _MUCH


def fits_lanes(tensor: PlannedTensor) -> bool:
    """Whether `kquants` can make the tensor."""
    return tensor.qtype in IN_LANES and tensor.importance is None


def has_lanes() -> bool:
    return importlib.util.find_spec("numba") is not None


def quantize_rows(
    qtype: str,
    rows: NDArray[np.float32],
    out: NDArray[np.uint8],
    importance: NDArray[np.float32] | None = None,
) -> None:
    """Quantize `rows` into `out` with ggml's kernels.

    rows: weights [n, n_cols], finite and in C order.
    out: the result, n * row_bytes bytes.
    importance: how much an error in each column counts [n_cols], finite and not negative; None: all
        count the same, which the types in `requires_imatrix` do not allow.

    Raises OverflowError if weights are too large for the type's scales, and ValueError if the
    arguments do not match.
    """
    n_rows, n_cols = rows.shape
    n_bytes = n_rows * QTYPES[qtype].row_bytes(n_cols)
    if not (rows.flags.c_contiguous and out.flags.c_contiguous and out.nbytes == n_bytes):
        raise ValueError(f"rows {rows.shape} and an output of {out.nbytes} bytes do not match")
    weights = None if importance is None else _checked(importance, n_cols)
    if weights is None and requires_imatrix(qtype):
        raise ValueError(f"{qtype} without importance")  # ggml would abort the process
    if qtype.startswith("IQ") and not max(rows.max(), -rows.min()) <= _MAX_SEARCHED:
        raise OverflowError(f"weights too large for {qtype}")
    _library().ggml_quantize_chunk(
        QTYPES[qtype].id, rows.ctypes.data, out.ctypes.data, 0, n_rows, n_cols, weights
    )
    _validate(qtype, out)


def _validate(qtype: str, out: NDArray[np.uint8]) -> None:
    if not _library().ggml_validate_row_data(QTYPES[qtype].id, out.ctypes.data, out.nbytes):
        raise OverflowError(f"weights too large for {qtype}")


def dequantize_rows(qtype: str, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The weights of `rows` [n, row_bytes], of a quantized type, as llama.cpp computes them."""
    import numpy as np

    rows = np.ascontiguousarray(rows)
    n_rows, n_bytes = rows.shape
    info = QTYPES[qtype]
    out = np.empty((n_rows, n_bytes // info.block_bytes * info.block), np.float32)
    dequantize = getattr(_library(), f"dequantize_row_{qtype.lower().replace('_k', '_K')}")
    source, target = (ctypes.c_void_p(each.ctypes.data) for each in (rows, out))
    dequantize(source, target, ctypes.c_int64(out.size))
    return out


def requires_imatrix(qtype: str) -> bool:
    """Whether ggml would abort the process if this type got no importance matrix."""
    return bool(_library().ggml_quantize_requires_imatrix(QTYPES[qtype].id))


def _checked(importance: NDArray[np.float32], n_cols: int) -> int:
    """The address of `importance`. Raises ValueError unless its layout is what the kernels read."""
    flags = importance.flags
    if importance.shape != (n_cols,) or importance.dtype != "f4" or not flags.c_contiguous:
        raise ValueError(f"importance {importance.shape} for rows of {n_cols}")
    return importance.ctypes.data


@lru_cache(maxsize=1)
def _library() -> Any:
    library = ctypes.CDLL(str(_library_path()))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,  # type, src, dst
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,  # start, n_rows, n_cols
        ctypes.c_void_p,  # imatrix
    )  # fmt: skip
    library.ggml_validate_row_data.restype = ctypes.c_bool
    library.ggml_validate_row_data.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int,)
    return library


def _library_path() -> Path:
    spec = importlib.util.find_spec("llama_cpp")  # finds it without running it
    if spec is None or spec.origin is None:
        raise ConvertError("llama-cpp-python is not installed; pip install llama-cpp-python")
    directory = Path(spec.origin).parent / "lib"
    for name in _LIBRARY_NAMES:
        if (directory / name).is_file():
            return directory / name
    raise ConvertError(f"{directory / _LIBRARY_NAMES[-1]}: missing; reinstall llama-cpp-python")
