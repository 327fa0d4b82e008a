"""What the demo model's heads are shown in training is where an answer really stands."""

from random import Random

import pytest

from training import looks
from training.corpus import reading
from training.corpus.facts import Fact
from training.corpus.words import TRAIN
from training.looks import LOOKING, NONE, RECALLING, Text


def encode(text: str) -> list[int]:
    """A token a character."""
    return [ord(character) for character in text]


def read(seed: int) -> tuple[Text, list[tuple[tuple[int, int], Fact | None]]]:
    """A conversation's text, and each answer's span with the fact that it is."""
    conversation = reading.conversation(Random(seed), TRAIN, tokens=200, questions=8)
    text, spans = "", []
    for message in conversation["messages"]:
        start = len(text) + 1
        text += f"\n{message['content']}|"
        if message["role"] == "assistant":
            spans.append((start, len(text)))
    return Text(encode(text), encode, ord(" ")), list(
        zip(spans, conversation["answers"], strict=True)
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_id_of_an_answer_is_shown_where_the_document_has_it(seed):
    text, answers = read(seed)
    for span, fact in answers:
        if fact is None:
            continue
        start = span[0]
        known = {}
        for look in looks.found(text, span, fact):
            if look.id != NONE:
                known[look.place + 1 - start] = look
        written = text.ids[start : span[1] - 1]
        assert [known[n].id for n in sorted(known)] == written[: looks.FOUND]
        for n, look in known.items():
            if fact.value_first and n < looks.CARRIED:
                behind = look.at + (n == 0)
                words = encode(fact.told)
                assert text.ids[behind - len(words) : behind] == words
            else:
                # A sentence's start may have the same letter, capital.
                assert chr(text.ids[look.at]).lower() == chr(look.id).lower()


def test_what_is_found_together_is_recalled_from_where_it_was_found():
    text, answers = read(0)
    span, fact = next(pair for pair in answers if pair[1])
    every = list(looks.found(text, span, fact))
    found_at = {look.place for look in every if look.layer == LOOKING}
    for look in every:
        assert look.place in found_at
        if look.layer == RECALLING:
            assert look.at < look.place
            assert look.at in found_at


def test_a_request_is_decided_by_the_functions_name_or_the_very_beginning():
    text = Text(encode("delete_note get_note|Delete my note now|[delete_note()]"), encode, ord(" "))
    start = "".join(map(chr, text.ids)).index("[")
    fits = list(looks.decided(text, start, 20, "Delete my note", "delete_note"))
    none = list(looks.decided(text, start, 20, "Delete my note", None))
    assert {look.at for look in fits if look.layer == LOOKING} == {len("delete_note") - 1}
    assert {look.at for look in none if look.layer == LOOKING} == {0}
    noun = text.find("Delete my note")
    assert noun
    assert [look.at for look in fits if look.layer == RECALLING] == [noun[1] - 1]
