"""The seam: the only place that imports llama_cpp for inference.

    library.py   llama.cpp itself: started once, its log kept, threads counted
    model.py     weights and vocabulary (one llama_model handle)
    context.py   KV cache and decode (one llama_context handle): the engine's Backend
    sampling.py  a row of logits -> a token
    constraint.py  answers that must match a schema or grammar

Handles are closed explicitly, by their owner, in the reverse order of their making.
"""

import os

from l4cli.errors import ModelLoadError

# How long OpenMP's threads spin at a barrier before they sleep, read once when llama.cpp is loaded.
# By default long: on 2 cores a tenth slower, and tenfold where another process wants a core, too.
# With many threads waking them might cost more than it saves; that has not been measured.
_SPIN_COUNT, _FEW_CORES = "2000", 8
if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} and (
    (os.cpu_count() or 1) <= _FEW_CORES
):
    os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT

try:
    import llama_cpp as _llama_cpp  # noqa: F401
except Exception as error:  # a missing package, or a shared library that does not load
    raise ModelLoadError(
        f"llama-cpp-python cannot be loaded ({error}): "
        "install it again with pip install --force-reinstall --no-cache-dir llama-cpp-python"
    ) from error

from l4cli.engine.llamacpp.context import LlamaBackend
from l4cli.engine.llamacpp.library import memory_bytes
from l4cli.engine.llamacpp.model import LlamaModel

__all__ = ["LlamaBackend", "LlamaModel", "memory_bytes"]
