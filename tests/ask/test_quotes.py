"""Quotations: found in the documents however they are written, and not found if not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4cli.documents import Document, Place
from l4cli.documents.normalize import Normalized
from l4cli.documents.quotes import (
    QUOTES_LEAD,
    Quotes,
    quote_constraint,
    split_answer,
)
from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import Request, SamplingParams

TEXT = (
    "Priming\n\nThe pump’s im-\npeller cannot move air; a well-\nknown “ﬁrst step” is to\n"
    "prime  it—with water. Cafe\u0301 owners re-sign.\n\n"
    "水泵必须先\n灌水，然后启动。 Resign at once…"
)
MANUAL = Document("manual.txt", TEXT, has_lines=True)
NOTES = Document("notes.pdf", "Page one.\n\nThe pump leaks.", pages=(0, 11))


@pytest.mark.parametrize(
    ("quote", "original"),
    [
        ("cannot move air", "cannot move air"),
        ("The pump's impeller cannot", "The pump’s im-\npeller cannot"),
        ("im- peller cannot", "im-\npeller cannot"),
        ('a well-known "first step" is', "a well-\nknown “ﬁrst step” is"),
        ("wellknown", "well-\nknown"),
        ("to prime it - with", None),
        ("to prime it-with water.", "to\nprime  it—with water."),
        ("Café owners", "Cafe\u0301 owners"),
        ('"prime it—with water"', "prime  it—with water"),
        ("水泵必须先灌水", "水泵必须先\n灌水"),
        ("必须", "必须"),
        ("Resign at once...", "Resign at once…"),
        ("re-sign", "re-sign"),
        ("Re-sign at", None),  # a hyphen may be left out at line ends only
        ("resign.", None),
        ("pell", None),  # within a word
        ("cannot move water", None),
        ("cannot Move air", None),
        ("", None),
        ('""', None),
    ],
)
def test_a_quotation_is_found_or_not(quote: str, original: str | None) -> None:
    found = Quotes([NOTES, MANUAL]).find(quote)
    assert found.is_proved == (original is not None)
    assert found.original == (original or "")


def test_a_quotation_says_where_it_stands() -> None:
    quotes = Quotes([MANUAL, NOTES])
    assert str(quotes.find("The pump leaks.")) == "notes.pdf, page 2"
    assert quotes.find("owners").place == Place(line=6)
    assert str(quotes.find("The pump drips.")) == "not in the documents"


@pytest.mark.parametrize(
    ("answer", "said", "quotes"),
    [
        ("Fill it.\n\n> one\n> two", "Fill it.", ["one", "two"]),
        ("Fill it.\n> one\n\n> two\n", "Fill it.", ["one", "two"]),
        ("> one", "", ["one"]),
        ("> not at the end\n\nFill it.", "> not at the end\n\nFill it.", []),
        ("Fill it, if a > b", "Fill it, if a > b", []),
        ("Fill it.\n\n> ", "Fill it.", []),
        ("", "", []),
    ],
)
def test_an_answer_is_split_from_its_quotations(answer: str, said: str, quotes: list[str]) -> None:
    assert split_answer(answer) == (said, quotes)


def test_an_answer_with_a_false_quotation() -> None:
    said, (first, second) = Quotes([MANUAL]).of_answer("So:\n\n> prime it-with\n> prime it twice")
    assert (said, first.is_proved, second.is_proved) == ("So:", True, False)


words = st.text("aeﬁ“”-’…é", min_size=1, max_size=4) | st.sampled_from(["pump", "e\u0301", "水泵"])


@given(st.lists(st.tuples(words, st.sampled_from([" ", "\n", "  ", "-\n", "\u00ad"])), min_size=1))
def test_every_stretch_of_the_normal_form_leads_back(parts: list[tuple[str, str]]) -> None:
    """Every character of the normal form maps back to text whose normal form contains it."""
    text = "".join(word + space for word, space in parts)
    content = Normalized(text)
    assert content.span(0, len(content.text))[0] >= 0
    for start in range(len(content.text)):
        begin, end = content.span(start, start + 1)
        assert 0 <= begin < end <= len(text)
        assert content.text[start] in Normalized(text[begin:end]).text or content.text[start] == " "
    begins = [content.span(start, start + 1)[0] for start in range(len(content.text))]
    assert begins == sorted(begins)


# With a real model. Its weights are random, so without a constraint it would write anything.


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[Engine]:
    model = LlamaModel(tiny_gguf)
    with Engine(LlamaBackend(model, n_ctx=2048, n_seq_max=4, n_batch=128)) as engine:
        yield engine
    model.close()


def test_a_constrained_quotation_is_always_proved(engine: Engine) -> None:
    constraint = quote_constraint([TEXT, NOTES.text])
    params = [
        SamplingParams(max_tokens=400, temperature=3.0, seed=seed, constraint=constraint)
        for seed in range(6)
    ]
    requests = [Request(str(n), (1, 2, 3), one) for n, one in enumerate(params)]
    quotes = Quotes([MANUAL, NOTES])
    for completion in engine.generate(requests):
        assert completion.finish_reason == "stop"
        _, found = quotes.of_answer(f"So it is.{QUOTES_LEAD}{completion.text}")
        assert 1 <= len(found) <= 3
        for quotation in found:
            assert quotation.is_proved, quotation.text
            assert 20 <= len(quotation.text) <= 400 or quotation.text.startswith("水")
            assert quotation.text == quotation.text.strip()


def test_a_quotation_begins_and_ends_at_sentences(engine: Engine) -> None:
    text = (
        "The pump of Dr. Smith holds 3.5 bar at\nmost. It must be primed, i.e. filled with "
        "wa-\nter, before it starts. Do not run it dry! Its impeller cannot move air.\n\n"
        + "long "
        * 100
    )
    starts, ends = ("The pump", "It must", "Do not", "Its"), ("most.", "starts.", "dry!", "air.")
    params = [
        SamplingParams(
            max_tokens=400, temperature=3.0, seed=seed, constraint=quote_constraint([text])
        )
        for seed in range(12)
    ]
    requests = [Request(str(n), (1, 2, 3), one) for n, one in enumerate(params)]
    seen = set()
    for completion in engine.generate(requests):
        assert completion.finish_reason == "stop"
        for quotation in completion.text.split("\n> "):
            if "long" not in quotation:  # a sentence that is too long is quoted in part
                assert quotation.startswith(starts), quotation
                assert quotation.endswith(ends), quotation
                seen.add(quotation)
    assert len(seen) > 3


def test_a_short_document_can_be_quoted(engine: Engine) -> None:
    params = SamplingParams(max_tokens=50, constraint=quote_constraint(["Yes.\n\nNo."]), seed=1)
    (completion,) = engine.generate([Request("r", (1, 2, 3), params)])
    assert set(completion.text.split("\n> ")) == {"Yes."}


def test_what_is_too_long_to_be_held_to_is_proved_afterwards(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l4cli.documents.quotes.MAX_VERBATIM_CHARS", 10)
    params = SamplingParams(max_tokens=30, constraint=quote_constraint([TEXT]), seed=1)
    (completion,) = engine.generate([Request("r", (1, 2, 3), params)])
    _, (found, *_) = Quotes([MANUAL]).of_answer(f"So.{QUOTES_LEAD}{completion.text}")
    assert not found.is_proved
