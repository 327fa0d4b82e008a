"""ggml's own quantization kernels, through ctypes.

The only importer of llama_cpp in this package, and only to find libggml-base beside it: no model
code is loaded. The kernels work row by row and ctypes releases the GIL, so threads scale and the
output is the same however the rows are shared out.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import ConvertError
from convert.qtypes import QTYPES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LIBRARY_NAME = "libggml-base.dylib" if sys.platform == "darwin" else "libggml-base.so"


def quantize_rows(qtype: str, rows: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """Quantize `rows` [n, n_cols], C order and finite, into `out`'s n * row_bytes bytes.

    Raises OverflowError where the numbers are too large for the type's scales.
    """
    n_rows, n_cols = rows.shape
    n_bytes = n_rows * QTYPES[qtype].row_bytes(n_cols)
    if not (rows.flags.c_contiguous and out.flags.c_contiguous and out.nbytes == n_bytes):
        raise ValueError(f"rows {rows.shape} and an output of {out.nbytes} bytes do not match")
    library = _library()
    type_id = QTYPES[qtype].id
    library.ggml_quantize_chunk(type_id, rows.ctypes.data, out.ctypes.data, 0, n_rows, n_cols, None)
    if not library.ggml_validate_row_data(type_id, out.ctypes.data, n_bytes):
        raise OverflowError(f"weights too large for {qtype}")


def requires_imatrix(qtype: str) -> bool:
    """Whether ggml would abort the process when given no importance matrix for this type."""
    return bool(_library().ggml_quantize_requires_imatrix(QTYPES[qtype].id))


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
    path = Path(spec.origin).parent / "lib" / _LIBRARY_NAME
    if not path.is_file():
        raise ConvertError(f"{path}: missing; reinstall llama-cpp-python")
    return path
