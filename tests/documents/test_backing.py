"""What a passage has in common with the answer that it is quoted for."""

from __future__ import annotations

import pytest

from l4cli.documents.backing import WordCounts, shared

CODE = "What is the access code of the pump house?"


@pytest.mark.parametrize(
    ("question", "answer", "passage", "found"),
    [
        (CODE, "The access code is 4711.", "Enter 4711 at the door.", True),
        (CODE, "The access code is 4711.", "The access code is changed every year.", False),
        (CODE, "It is 4711.", "The pump house was built in 1911.", False),
        ("How much?", "1,250.50 euros", "Der Preis beträgt 1.250,50 Euro.", True),
        ("How much?", "1250 euros", "It cost 1 250 pounds.", True),
        ("How much?", "١٢ bar", "up to 12 atmospheres", True),
        ("How many?", "12 bar", "up to 125 bars", False),
        ("How many?", "12 people", "up to 125 at once", False),
        ("Who?", "It was Li.", "In May, Li opened the valve.", True),
        ("Who?", "It was Li.", "In May, Bo opened the valve.", False),
        (
            "How is it primed?",
            "By filling it with water.",
            "Fill the casing; water must rise.",
            True,
        ),
        ("How is it primed?", "By filling it with water.", "These are kept in the shed.", False),
        ("What helps?", "Priming helps.", "The pump must be primed.", True),
        ("Is the impeller worn?", "Yes.", "A worn impeller cannot move air.", True),
        ("Is the impeller worn?", "Yes.", "The shed is locked.", False),
        ("Wie?", "Mit Öl schmieren.", "Der Wart schmiert das Lager.", True),
        ("Wie?", "Mit Fett einreiben.", "Das Lager wird jedoch oft geprüft.", False),
        ("泵怎么启动？", "先灌水。", "启动前必须灌水。", True),
        ("泵怎么启动？", "先灌水。", "保修期为两年。", False),
        ("펌프?", "물을 채운다.", "먼저 물을 넣어 채운다.", True),
    ],
)
def test_answer_and_passage_share_something_or_nothing(
    question: str, answer: str, passage: str, found: bool
) -> None:
    assert bool(shared(answer, passage, question)) == found


def test_a_word_that_is_everywhere_in_the_document_is_not_rare() -> None:
    text = (
        "The pump runs. The pump stops. A pump is a pump; this pump leaks. Water is for the pump."
    )
    counts = WordCounts([text * 3])
    assert shared("The pump leaks oil.", "The pump stands in the yard.", "", counts) == ()
    assert shared("The pump leaks oil.", "Nothing leaks here.", "", counts) is not None
    assert shared("The pump leaks oil.", "The pump stands in the yard.") == ("pump",)


def test_without_anything_to_compare_nothing_is_said() -> None:
    assert shared("Yes.", "The pump is primed.", "Is it so?") is None
