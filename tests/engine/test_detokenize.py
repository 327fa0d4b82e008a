"""Streaming detokenization: the joined text never depends on how the bytes were split."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from l4cli.engine.detokenize import Detokenizer


def stream(data: bytes, cuts: list[int], stop: tuple[str, ...] = ()) -> tuple[str, bool]:
    detokenizer = Detokenizer(stop)
    points = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    texts = []
    for start, end in pairwise(points):
        if not detokenizer.stopped:
            texts.append(detokenizer.feed(data[start:end]))
    if not detokenizer.stopped:
        texts.append(detokenizer.finish())
    return "".join(texts), detokenizer.stopped


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_any_split_of_any_bytes_equals_one_shot(data: bytes, cuts: list[int]) -> None:
    assert stream(data, cuts)[0] == data.decode("utf-8", errors="replace")


@given(st.text(), st.lists(st.integers(0, 200)))
def test_text_comes_back_as_it_was(text: str, cuts: list[int]) -> None:
    assert stream(text.encode("utf-8", "ignore"), cuts)[0] == text


@given(
    st.text("abc你", max_size=30),
    st.lists(st.integers(0, 100)),
    st.lists(st.text("abc你", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stop_strings_do_not_depend_on_the_split(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    by_character = stream(text.encode(), list(range(100)), tuple(stop))
    assert stream(text.encode(), cuts, tuple(stop)) == by_character
    assert not any(s in by_character[0] for s in stop)


def test_half_a_character_is_never_given_out() -> None:
    detokenizer = Detokenizer()
    first, second = "你".encode()[:2], "你".encode()[2:]
    assert detokenizer.feed(first) == ""
    assert detokenizer.feed(second) == "你"


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    detokenizer = Detokenizer(["END"])
    assert detokenizer.feed(b"the E") == "the "
    assert detokenizer.feed(b"N") == ""
    assert detokenizer.feed(b"emy") == "ENemy"
    assert detokenizer.feed(b" END and more") == " "
    assert detokenizer.stopped
