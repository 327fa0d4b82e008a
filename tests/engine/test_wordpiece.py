"""WordPiece gives the ids of Hugging Face's tokenizers; golden/make_embeddings.py asks them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GOLDEN
from encoders import write_encoder

import convert
from l4cli.engine.llamacpp import LlamaModel, VocabularyFacts
from l4cli.engine.wordpiece import WordPiece
from l4cli.errors import RequestError

IDS = json.loads((GOLDEN / "embeddings.json").read_text())


def load(path: Path) -> LlamaModel:
    return LlamaModel(path, vocab_only=True, vocabulary=VocabularyFacts(path))


@pytest.fixture(scope="module", params=["uncased", "cased"])
def encoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LlamaModel, dict[str, list[int]]]]:
    checkpoint = write_encoder(
        tmp_path_factory.mktemp("wordpiece") / "model", lowercase=request.param == "uncased"
    )
    path = checkpoint.with_name("out.gguf")
    convert.convert(convert.plan(checkpoint, "F32"), path)
    model = load(path)
    yield model, IDS[request.param]
    model.close()


def test_ids_are_transformers_own(encoder: tuple[LlamaModel, dict[str, list[int]]]) -> None:
    model, expected = encoder
    for text, ids in expected.items():
        found = [*model.text_begin, *model.tokenize(text), *model.text_end]
        assert found == ids, text


def test_halves_of_characters_are_refused(
    encoder: tuple[LlamaModel, dict[str, list[int]]],
) -> None:
    with pytest.raises(RequestError, match="lone surrogate at character 1"):
        encoder[0].tokenize("a\ud800")


def test_a_word_is_found_the_same_after_many_others() -> None:
    tokens = WordPiece([("▁a", 1), ("b", 2)], 0)
    assert tokens.ids("ab ba") == [1, 2, 0]
    for number in range(140_000):
        tokens.ids(str(number))
    assert tokens.ids("ab ba") == [1, 2, 0]
