"""PDF pages: superscripts and subscripts by their places, form fields and comments in theirs."""

from __future__ import annotations

from pathlib import Path

import papers
import pytest

from l4cli.documents import read_document
from l4cli.documents.ingest import document_of

CASES = Path(__file__).parents[1] / "data" / "cases" / "pdf"


def drawn(*pieces: tuple[float, float, str]) -> bytes:
    """Return a content stream of pieces in a row: size, rise, text."""
    shown = " ".join(f"/F {size} Tf {rise} Ts ({text}) Tj" for size, rise, text in pieces)
    return f"BT 72 700 Td {shown} ET".encode("cp1252")


@pytest.mark.parametrize(
    ("pieces", "read"),
    [
        ([(12, 0, "There are 10"), (8, 4, "6"), (12, 0, " cells")], "There are 10^6 cells"),
        ([(12, 0, "H"), (8, -2, "2"), (12, 0, "O")], "H_2O"),
        ([(12, 0, "2"), (8, 4, "100"), (12, 0, ".")], "2^100."),
        ([(12, 0, "x"), (8, -2, "1"), (8, 4, "12"), (12, 0, " + 3")], "x_1^12 + 3"),
        ([(12, 0, "10"), (12, 4, "6"), (12, 0, " at 1 size")], "10^6 at 1 size"),
        ([(8, 4, "14"), (12, 0, "C")], "^14C"),
        ([(12, 0, "C"), (9, 0, "APS")], "CAPS"),
        ([(12, 0, "in 1999"), (7, 4, "1")], "in 1999^1"),
    ],
)
def test_scripts_are_found_by_their_places(
    pieces: list[tuple[float, float, str]], read: str
) -> None:
    assert document_of(papers.pdf([drawn(*pieces)]), "a.pdf").text == read


def test_a_word_space_behind_a_power_is_kept() -> None:
    apart = b"BT /F 12 Tf 72 700 Td (Part 72) Tj /F 8 Tf 5 Ts (6) Tj 0 Ts"
    apart += b" /F 11 Tf 47 0 Td (2005) Tj ET"
    assert document_of(papers.pdf([apart]), "a.pdf").text == "Part 72^6 2005"


def test_a_power_that_a_line_divides_behind_its_sign_is_whole() -> None:
    divided = (
        b"BT /F 12 Tf 72 700 Td (about 10) Tj /F 8 Tf 4 Ts (-) Tj 0 Ts "
        b"0 -14 Td 4 Ts (7) Tj 0 Ts /F 12 Tf ( m wide) Tj ET"
    )
    assert document_of(papers.pdf([divided]), "a.pdf").text == "about 10^-7\nm wide"
    alone = divided.replace(b"/F 12 Tf ( m wide) Tj", b"")
    assert document_of(papers.pdf([alone]), "a.pdf").text == "about 10^-7"


def test_lines_of_the_same_size_are_lines() -> None:
    apart = b"BT /F 12 Tf 72 700 Td (Total) Tj 200 3 Td (4711) Tj -200 -12 Td (next 12) Tj ET"
    assert "^" not in document_of(papers.pdf([apart]), "a.pdf").text


def test_form_fields_and_comments_are_in_their_places() -> None:
    assert read_document(CASES / "form.pdf").text == (
        "Name of the tenant: Mira Example\nRent per month: 4711 EUR\nPets allowed [x]"
    )
    noted = read_document(CASES / "annot.pdf").text
    assert noted == "See note.\nFree text code 4712\n[comment: The comment says 4711]"
