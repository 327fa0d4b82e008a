"""The seam: the only place that imports llama_cpp for inference.

    library.py   llama.cpp itself: started once, its log kept
    model.py     weights and vocabulary (one llama_model handle)
    context.py   KV cache and decode (one llama_context handle): the engine's Backend
    disaggregated.py  prompts on one context, answers on another
    moving.py    sequences from one context to another
    sampling.py  a row of logits -> a token
    constraint.py  answers that must match a schema or grammar
    selftest.py  whether all of this works with the llama.cpp at hand; runs in a process of its own

Handles are closed explicitly, by their owner, in the reverse order of their making.
"""

from l4cli.errors import ModelLoadError
from l4cli.native.cpu import shorten_spinning
from l4cli.native.selftest import require_llama_cpp

try:
    require_llama_cpp()
    shorten_spinning()
    import llama_cpp as _llama_cpp  # noqa: F401
except ModelLoadError:
    raise
except Exception as error:  # a missing package, or a shared library that does not load
    raise ModelLoadError(
        f"llama-cpp-python cannot be loaded ({error}): "
        "`l4 doctor` tells how to build it for this machine"
    ) from error

from l4cli.engine.llamacpp.context import LlamaBackend
from l4cli.engine.llamacpp.disaggregated import DisaggregatedBackend
from l4cli.engine.llamacpp.library import (
    has_gpu_support,
    max_useful_sequences,
)
from l4cli.engine.llamacpp.model import LlamaModel, VocabularyFacts

__all__ = [
    "DisaggregatedBackend",
    "LlamaBackend",
    "LlamaModel",
    "VocabularyFacts",
    "has_gpu_support",
    "max_useful_sequences",
]
