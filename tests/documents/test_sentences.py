"""Paragraphs are divided into sentences, and never in the middle of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4cli.documents.sentences import paragraphs, sentences


@pytest.mark.parametrize(
    "expected",
    [
        ["The pump leaks.", "Fill it!", "Why?", "It has 3.5 bar."],
        ["Dr. Smith met J. R. Jones at approx. 5 p.m. on Monday.", "They left."],
        ["See Fig. 3 and e.g. No. 7 in the U.S. Navy manual.", "It helps."],
        ['He said "stop." and left.', 'He said "Stop."', "It was 1999.", "All slept."],
        ["Das gilt z. B. für Pumpen, d. h. für alle.", "Am 3. Mai lief sie."],
        ["Die Pumpe (s. Abb. 4) läuft.", "„Gut.“", "Sie hält."],
        ["泵必须先灌水。", "然后启动！", "「行く。」と言った。", "終わり。"],
        ["पंप को भरें।", "फिर चलाएँ।"],
        ["هل تعمل المضخة؟", "نعم تعمل."],
        ["Насос (см. рис. 2) работает.", "Он стоит в г. Минске."],
        ["The value is .5 of 1.000.000 units…", "That is all."],
        ["The pump must be\nprimed with wa-\nter before it starts.", "Then\nit runs."],
        ["Tools:", "- a wrench", "- a bucket of 5.0 l", "- oil"],
        ["Do this:", "1. Open the valve.", "2. Fill it."],
        ["| part | no. |", "| --- | --- |", "| seal | 12 |"],
        ["Is it so?!", "(Yes.)", "“Never.”", "End"],
    ],
)
def test_sentences(expected: list[str]) -> None:
    is_cjk = expected[0].startswith("泵")
    for gap in ("",) if is_cjk else (" ", "\n", "  \n"):
        is_item = expected[-1][0] in "-|2"
        text = ("\n" if is_item else gap).join(expected)
        assert [sentence for sentence, _ in sentences(text)] == expected


@given(st.text(alphabet='aB .!?\n"”。「」1-|', max_size=60))
def test_sentences_are_the_whole_text(text: str) -> None:
    assert "".join(sentence + gap for sentence, gap in sentences(text)) == text


def test_a_page_end_does_not_divide_a_sentence() -> None:
    text = "First.\n\nThe pump must\n\n be\n\nprimed, or it\n\nruns dry.\n\nNext."
    text = text.replace("\n\n be", " be")
    assert paragraphs(text) == ["First.", "The pump must be\n\nprimed, or it\n\nruns dry.", "Next."]
