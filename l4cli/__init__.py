"""l4: run Llama 4 and other GGUF models from a terminal, or from Python.

    from l4cli import load

    with load("demo") as llm:
        print(llm.generate("What is GGUF?").text)

Importing this package is cheap: the names below are imported on first use, and llama.cpp is loaded
with the first model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l4cli.engine.types import Completion, Request, SamplingParams, StepOutput
    from l4cli.errors import L4Error
    from l4cli.loading.embedder import Embedder, Embeddings
    from l4cli.loading.llm import LLM
    from l4cli.loading.load import load
    from l4cli.loading.load_embedder import load_embedder

__version__ = "0.1.0"

_MODULES = {  # the module that defines each public name
    "LLM": "l4cli.loading.llm",
    "load": "l4cli.loading.load",
    "Embedder": "l4cli.loading.embedder",
    "Embeddings": "l4cli.loading.embedder",
    "load_embedder": "l4cli.loading.load_embedder",
    "Completion": "l4cli.engine.types",
    "Request": "l4cli.engine.types",
    "SamplingParams": "l4cli.engine.types",
    "StepOutput": "l4cli.engine.types",
    "L4Error": "l4cli.errors",
}

__all__ = [
    "LLM",
    "Completion",
    "Embedder",
    "Embeddings",
    "L4Error",
    "Request",
    "SamplingParams",
    "StepOutput",
    "__version__",
    "load",
    "load_embedder",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
