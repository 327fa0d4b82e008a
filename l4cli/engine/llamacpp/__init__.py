"""The seam: the only place that imports llama_cpp for inference.

    library.py   llama.cpp itself: started once, its log kept, threads counted
    model.py     weights and vocabulary (one llama_model handle)
    context.py   KV cache, decode, sampling (one llama_context handle): the engine's Backend

Handles are closed explicitly, by their owner, in the reverse order of their making.
"""

from l4cli.engine.llamacpp.context import LlamaBackend
from l4cli.engine.llamacpp.model import LlamaModel

__all__ = ["LlamaBackend", "LlamaModel"]
