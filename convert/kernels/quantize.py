"""Which kernels quantize: ggml's own, through ctypes, or for much work ours, of the same bytes.

The only importer of llama_cpp in this package, and only to find libggml-base beside it: no model
code is loaded. All kernels work row by row without the GIL, so threads scale and the output is the
same however the rows are shared out.
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

# What gguf's Python package does not dequantize.
DEQUANTIZED_BY_GGML = frozenset(("Q1_0", "Q2_0"))

# The types that `kquants` makes. It compiles for seconds, once on a machine, and takes a tenth of a
# GB: it pays from a few seconds of ggml's time on.
IN_LANES = frozenset(("Q4_K", "Q5_K", "Q6_K"))
_MUCH = 1 << 27  # weights

# Beyond it the searching kernels (IQ*) may overflow and abort the process; their scales do not
# reach that far in any case.
_MAX_SEARCHED = 1e8

# The name that libllama itself links to comes first: where both are loaded, there is one copy, and
# what the searching kernels prepare, seconds' worth of tables, is prepared once.
_LIBRARY_NAMES = (
    ("libggml-base.0.dylib", "libggml-base.dylib")
    if sys.platform == "darwin"
    else ("libggml-base.so.0", "libggml-base.so")
)


def quantizer(plans: Sequence[Plan]) -> Quantize:
    """The kernels for this much work; of the same bytes, whichever they are."""
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
    """Whether what `kquants` can do of it takes ggml more than a few seconds."""
    tensors = (tensor for plan in plans for tensor in plan.tensors)
    return sum(tensor.output.n_params for tensor in tensors if fits_lanes(tensor)) >= _MUCH


def fits_lanes(tensor: PlannedTensor) -> bool:
    """Whether `kquants` can make it."""
    return tensor.qtype in IN_LANES and tensor.importance is None


def has_lanes() -> bool:
    return importlib.util.find_spec("numba") is not None


def quantize_rows(
    qtype: str,
    rows: NDArray[np.float32],
    out: NDArray[np.uint8],
    importance: NDArray[np.float32] | None = None,
) -> None:
    """ggml's kernels: `rows` [n, n_cols], C order and finite, into `out`'s n * row_bytes bytes.

    `importance` [n_cols], finite and not negative, weighs the columns' errors. Raises OverflowError
    where the numbers are too large for the type's scales.
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
    """The weights that `rows` [n, row_bytes] stand for; of the types in DEQUANTIZED_BY_GGML."""
    import numpy as np

    rows = np.ascontiguousarray(rows)
    n_rows, n_bytes = rows.shape
    info = QTYPES[qtype]
    out = np.empty((n_rows, n_bytes // info.block_bytes * info.block), np.float32)
    dequantize = getattr(_library(), f"dequantize_row_{qtype.lower()}")
    source, target = (ctypes.c_void_p(each.ctypes.data) for each in (rows, out))
    dequantize(source, target, ctypes.c_int64(out.size))
    return out


def requires_imatrix(qtype: str) -> bool:
    """Whether ggml would abort the process when given no importance matrix for this type."""
    return bool(_library().ggml_quantize_requires_imatrix(QTYPES[qtype].id))


def _checked(importance: NDArray[np.float32], n_cols: int) -> int:
    """The address of `importance`, once it is what the kernels will read."""
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
