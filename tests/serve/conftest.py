"""Servers over models, for the tests of `l4 serve`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from encoders import write_encoder
from served import served

import convert
from l4cli.loading.embedder import Embedder
from l4cli.loading.llm import LLM
from l4cli.loading.load import find_model, load_file
from l4cli.loading.load_embedder import load_embedder
from l4cli.loading.options import LoadOptions


def loaded(model: str, *, parallel: int, threads: int) -> LLM:
    """Load a model as `l4 serve` does."""
    options = LoadOptions(ctx="auto", parallel=parallel, threads=threads, elastic=True)
    return load_file(find_model(model), options.but(interactive=True, store=True))


@pytest.fixture(scope="package")
def demo() -> Iterator[LLM]:
    """The demo model, as `l4 serve` loads it."""
    with loaded("demo", parallel=8, threads=2) as llm:
        llm.provide(4096, 8)
        yield llm


@pytest.fixture(scope="package")
def url(demo: LLM) -> Iterator[str]:
    """The address of a server of the demo model."""
    with served(demo) as url:
        yield url


@pytest.fixture
def tiny(tiny_gguf: Path) -> Iterator[LLM]:
    """A model that babbles, of its own for each test."""
    with loaded(str(tiny_gguf), parallel=4, threads=1) as llm:
        llm.provide(1024, 4)
        yield llm


@pytest.fixture(scope="package")
def bert_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder that makes embeddings."""
    path = tmp_path_factory.mktemp("bert") / "tiny-bert.gguf"
    convert.convert(convert.plan(write_encoder(path.with_name("model")), "F32"), path)
    return path


@pytest.fixture(scope="package")
def embedder(bert_gguf: Path) -> Iterator[Embedder]:
    """The encoder, as `l4 serve --embed` loads it."""
    with load_embedder(bert_gguf, threads=1) as embedder:
        yield embedder
