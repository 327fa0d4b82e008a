"""The targets of the auxiliary losses name the places where an answer really stands."""

from random import Random

import pytest

from training import attention_targets
from training.attention_targets import FETCH_LAYER, NO_ID, SEARCH_LAYER, TokenizedText
from training.corpus import reading
from training.corpus.facts import Fact
from training.corpus.words import TRAIN


def encode(text: str) -> list[int]:
    """Return one token for each character."""
    return [ord(character) for character in text]


def read(seed: int) -> tuple[TokenizedText, list[tuple[tuple[int, int], Fact | None]]]:
    """Return a conversation's text, and each answer's places with the fact that it states."""
    conversation = reading.conversation(Random(seed), TRAIN, tokens=200, questions=8)
    text, places = "", []
    for message in conversation["messages"]:
        start = len(text) + 1
        text += f"\n{message['content']}|"
        if message["role"] == "assistant":
            places.append((start, len(text)))
    answers = zip(places, conversation["answers"], strict=True)
    return TokenizedText(encode(text), encode, ord(" ")), list(answers)


@pytest.mark.parametrize("seed", range(5))
def test_every_id_of_an_answer_has_a_target_where_the_document_has_it(seed):
    text, answers = read(seed)
    for answer, fact in answers:
        if fact is None:
            continue
        start = answer[0]
        known = {}
        for target in attention_targets.answer_targets(text, answer, fact):
            if target.next_id != NO_ID:
                known[target.query + 1 - start] = target
        written = text.ids[start : answer[1] - 1]
        assert [known[n].next_id for n in sorted(known)] == written[: attention_targets.MOST_IDS]
        for n, target in known.items():
            if fact.value_first and n < attention_targets.GROUP:
                after = target.key + (n == 0)
                words = encode(fact.anchor)
                assert text.ids[after - len(words) : after] == words
            else:
                # At the start of a sentence the letter may be a capital.
                assert chr(text.ids[target.key]).lower() == chr(target.next_id).lower()


def test_ids_that_are_found_together_are_fetched_from_where_they_were_found():
    text, answers = read(0)
    answer, fact = next(pair for pair in answers if pair[1])
    every = list(attention_targets.answer_targets(text, answer, fact))
    found_at = {target.query for target in every if target.layer == SEARCH_LAYER}
    for target in every:
        assert target.query in found_at
        if target.layer == FETCH_LAYER:
            assert target.key < target.query
            assert target.key in found_at


def test_a_request_attends_to_the_functions_name_or_to_the_first_token():
    written = "delete_note get_note|Delete my note now|[delete_note()]"
    text = TokenizedText(encode(written), encode, ord(" "))
    start, words = written.index("["), "Delete my note"
    fits = list(attention_targets.function_targets(text, start, 20, words, "delete_note"))
    none = list(attention_targets.function_targets(text, start, 20, words, None))
    assert {t.key for t in fits if t.layer == SEARCH_LAYER} == {len("delete_note") - 1}
    assert {t.key for t in none if t.layer == SEARCH_LAYER} == {0}
    noun = text.find(words)
    assert noun
    assert [t.key for t in fits if t.layer == FETCH_LAYER] == [noun[1] - 1]
