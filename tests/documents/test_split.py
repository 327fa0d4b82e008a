"""Chunks: every character is in exactly one, none is too long, and they end at good places."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4cli.documents import Document, Heading
from l4cli.documents.markdown import headings_of
from l4cli.documents.split import Chunk, split


def words(text: str) -> int:
    """Counts up to six letters, a mark, or a line end as a token: easier than a tokenizer's."""
    return len(re.findall(r"\w{1,6}|[^\w ]", text))


def markdown(text: str) -> Document:
    return Document("a.md", text, headings=headings_of(text), has_lines=True)


def sentence(n: int) -> str:
    return f"This is sentence {n} of it. "


parts = st.sampled_from(
    [
        *("# A\n", "\n## B\n\n", "word ", "a long sentence of words. ", "x" * 90, "\n", "\n\n"),
        *("。", "水泵必须先灌水", "\u2028", "  ", "!?) ", "e\u0301"),
    ]
)


@given(st.lists(parts, max_size=60), st.integers(16, 60))
def test_every_character_is_in_exactly_one_chunk(texts: list[str], max_tokens: int) -> None:
    document = markdown("".join(texts))
    chunks = split(document, max_tokens, words)
    assert "".join(chunk.text for chunk in chunks) == document.text
    assert [chunk.start for chunk in chunks[1:]] == [chunk.end for chunk in chunks[:-1]]
    for chunk in chunks:
        assert 0 < chunk.num_tokens == words(chunk.text) <= max_tokens or not words(chunk.text)


@given(st.lists(parts, max_size=40), st.integers(16, 40))
def test_tokens_that_do_not_add_up_are_counted_exactly(texts: list[str], max_tokens: int) -> None:
    def uneven(text: str) -> int:  # unlike a tokenizer: more for a text than for its parts
        return len(text) // 2 + (len(text) > 20) * len(text) // 8

    document = Document("a", "".join(texts))
    chunks = split(document, max_tokens, uneven)
    assert "".join(chunk.text for chunk in chunks) == document.text
    assert all(uneven(chunk.text) <= max_tokens for chunk in chunks)


def test_what_fits_is_one_chunk() -> None:
    assert [chunk.text for chunk in split(markdown("# A\n\none\n"), 16, words)] == ["# A\n\none\n"]
    assert split(markdown(""), 16, words) == []


def test_headings_are_cut_before_and_the_highest_first() -> None:
    section = "".join(map(sentence, range(4))) + "\n\n"
    text = f"# One\n\n{section}## Sub\n\n{section}# Two\n\n{section}## Sub\n\n{section}"
    chunks = split(markdown(text), 80, words)
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["# One", "# Two"]
    assert [str(chunk) for chunk in chunks] == ['a.md, line 1, "One"', 'a.md, line 9, "Two"']


def test_without_headings_paragraphs_then_lines_then_sentences() -> None:
    paragraph = "".join(map(sentence, range(3))) + "\n\n"
    assert {chunk.text for chunk in split(markdown(paragraph * 6), 30, words)} == {paragraph}
    line = "".join(map(sentence, range(3))) + "\n"
    assert {chunk.text for chunk in split(Document("a", line * 6), 30, words)} == {line}
    long = "".join(map(sentence, range(20)))
    chunks = split(Document("a", long), 30, words)
    assert all(chunk.text.endswith("of it. ") for chunk in chunks)
    assert len(chunks) < 8


def test_a_chunk_is_at_least_half_full() -> None:
    """A chunk does not end at a heading near its beginning."""
    text = "# A\n\nshort\n\n" + "".join(map(sentence, range(30)))
    chunks = split(markdown(text), 60, words)
    assert all(chunk.num_tokens >= 30 for chunk in chunks[:-1])


def test_a_chunk_knows_its_pages() -> None:
    pages = ["".join(map(sentence, range(5))).strip() for _ in range(6)]
    text = "\n\n".join(pages)
    starts = tuple(n * (len(pages[0]) + 2) for n in range(6))
    document = Document("a.pdf", text, pages=starts, headings=(Heading(starts[2], 1, "Two"),))
    chunks = split(document, 90, words)
    assert [str(chunk) for chunk in chunks] == [
        "a.pdf, pages 1-2",
        'a.pdf, pages 3-4, "Two"',
        'a.pdf, pages 5-6, "Two"',
    ]
    one = Chunk(document, starts[3], starts[4], 1)
    assert (one.pages, str(one)) == (range(4, 5), 'a.pdf, page 4, "Two"')


def test_a_word_longer_than_a_chunk_is_cut() -> None:
    chunks = split(Document("a", "x" * 600 + " end"), 20, words)
    assert "".join(chunk.text for chunk in chunks) == "x" * 600 + " end"
    assert max(chunk.num_tokens for chunk in chunks) <= 20


def test_chunks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="chunks of 15 tokens are too small; 16 or more"):
        split(markdown("a"), 15, words)
    with pytest.raises(ValueError, match="a single character takes more"):
        split(markdown("a"), 20, lambda text: 99)
