"""The binding to llama.cpp: only this package imports llama_cpp for inference.

    library.py        starts llama.cpp once and keeps its log
    devices.py        graphics cards, CPU features, placement of single tensors
    model.py          weights and vocabulary (one llama_model handle)
    words.py          faster tokenization, word by word
    pages.py          huge pages for the weights
    making.py         makes contexts: what all of them have in common
    batch.py          the tokens of one decode
    tensors.py        reads tensors of the graph that is computed
    observer.py       shows such tensors to a watcher, with the tokens they are of
    routing.py        tells which experts tokens were sent to
    inputs.py         shows what weights are multiplied with
    context.py        KV cache and decode (one llama_context handle): the engine's Backend
    embedding.py      texts to vectors (one llama_context handle)
    disaggregated.py  a Backend with prompts in one context and answers in another
    states.py         saves parts of sequences to files, and loads them
    region_states.py  the same for a context in regions, by way of a small pool
    moving.py         moves sequences from one context to another
    sampling.py       chooses a token from a row of logits
    constraint.py     answers that must match a schema or grammar
    selftest.py       checks all of this with the installed llama.cpp, in a process of its own

Owners close their handles explicitly, in the reverse order of making them.
"""

from l4cli.errors import ModelLoadError
from l4cli.native.cpu import shorten_spinning
from l4cli.native.selftest import require_llama_cpp
from l4cli.native.watcher import forgo_debugger

try:
    require_llama_cpp()
    shorten_spinning()
    forgo_debugger()
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
from l4cli.engine.llamacpp.embedding import EmbeddingContext
from l4cli.engine.llamacpp.library import max_useful_sequences
from l4cli.engine.llamacpp.model import LlamaModel, VocabularyFacts
from l4cli.engine.llamacpp.routing import AnswerRoutes

__all__ = [
    "AnswerRoutes",
    "DisaggregatedBackend",
    "EmbeddingContext",
    "LlamaBackend",
    "LlamaModel",
    "VocabularyFacts",
    "max_useful_sequences",
]
