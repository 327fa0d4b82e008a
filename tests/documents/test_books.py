"""Books and notebooks: chapters of every kind are read, and what is left out is told."""

from __future__ import annotations

import json
from pathlib import Path

import papers
import pytest

from l4cli.documents.ingest import document_of, ingest
from l4cli.errors import InputError

XHTML = (
    '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>'
    "<p>{}</p></body></html>"
)


def read(data: bytes, name: str = "a.epub") -> tuple[str, list[str]]:
    notes: list[str] = []
    return document_of(data, name, notes.append).text, notes


@pytest.mark.parametrize(
    "kind",
    ["application/xhtml+xml", "text/x-oeb1-document", "text/xml", "", "application/octet-stream"],
)
def test_a_chapter_is_known_by_its_content(kind: str) -> None:
    data = papers.book({"OEBPS/a": XHTML.format("one")}, [("a", kind)])
    assert read(data) == ("one", [])


def test_plain_chapters_are_read_and_others_are_told() -> None:
    members = {"OEBPS/a.txt": "1 < 2\r\n", "OEBPS/b.jpg": b"\xff\xd8", "OEBPS/c.pdf": b"%PDF-"}
    manifest = [("a.txt", "text/plain"), ("b.jpg", "image/jpeg"), ("c.pdf", "application/pdf")]
    notes = ["a.epub: left out: 1 picture, 1 chapter of another type"]
    assert read(papers.book(members, manifest)) == ("1 < 2", notes)


@pytest.mark.parametrize(
    ("href", "member"),
    [
        ("a%20b.xhtml", "OEBPS/a b.xhtml"),
        ("a b.xhtml", "OEBPS/a%20b.xhtml"),
        ("A.XHTML", "OEBPS/a.xhtml"),
        ("/OEBPS/a.xhtml", "OEBPS/a.xhtml"),
        ("./x/../a.xhtml", "OEBPS/a.xhtml"),
        ("x\\a.xhtml", "OEBPS/x/a.xhtml"),
        ("u\u0308.xhtml", "OEBPS/\u00fc.xhtml"),
        ("a.xhtml#start", "OEBPS/a.xhtml"),
    ],
)
def test_names_are_found_as_they_are_meant(href: str, member: str) -> None:
    data = papers.book({member: XHTML.format("one")}, [(href, "application/xhtml+xml")])
    assert read(data)[0] == "one"


def test_a_book_without_a_spine_has_its_chapters() -> None:
    chapters = {"OEBPS/a.xhtml": XHTML.format("one"), "OEBPS/b.xhtml": XHTML.format("two")}
    manifest = [("a.xhtml", "application/xhtml+xml"), ("b.xhtml", "application/xhtml+xml")]
    assert read(papers.book(chapters, manifest, spine=False))[0] == "one\n\ntwo"


def test_a_spine_of_a_million_entries_is_refused() -> None:
    spine = '<itemref idref="c0"/>' * 1_000_000
    package = (
        '<package><manifest><item id="c0" href="a.xhtml" media-type="application/xhtml+xml"/>'
        f"</manifest><spine>{spine}</spine></package>"
    )
    data = papers.book({"OEBPS/a.xhtml": XHTML.format("one"), "OEBPS/book.opf": package}, [])
    with pytest.raises(InputError, match=r"OEBPS/book\.opf names more chapters than l4 reads"):
        read(data)


def test_styles_of_a_book_raise_numbers() -> None:
    members = {
        "OEBPS/a.xhtml": XHTML.format('10<span class="s3">6</span>, H<span class="s4">2</span>O'),
        "OEBPS/s.css": ".s3 {position: relative; top: -0.33em} .s4 {vertical-align: -20%}",
    }
    data = papers.book(members, [("a.xhtml", "application/xhtml+xml"), ("s.css", "text/css")])
    assert read(data) == ("10^6, H_2O", ["a.epub: left out: 1 chapter of another type"])


def notebook(*cells: dict[str, object]) -> bytes:
    about = {"language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": about, "nbformat": 4}).encode()


def test_a_notebook_is_its_cells_and_outputs() -> None:
    data = notebook(
        {"cell_type": "markdown", "source": ["# Pump\n", "text ![](attachment:x.png)"]},
        {
            "cell_type": "code",
            "source": "print(12)",
            "outputs": [
                {"output_type": "stream", "text": ["12\n"]},
                {
                    "output_type": "display_data",
                    "data": {"image/png": "iVBOR", "text/plain": "<Figure size 6x4>"},
                },
                {
                    "output_type": "execute_result",
                    "data": {"text/html": "<table><tr><th>a<tr><td>7</table>", "text/plain": "a 7"},
                },
                {"output_type": "error", "traceback": ["\x1b[31mValueError\x1b[0m: no"]},
            ],
        },
        {"cell_type": "raw", "source": "raw"},
    )
    text, notes = read(data, "a.ipynb")
    assert text == (
        "# Pump\ntext\n\n```python\nprint(12)\n```\n\n```\n12\n```\n\n```\na 7\n```\n\n"
        "```\nValueError: no\n```\n\nraw"
    ).replace("text\n", "text \n", 1)
    assert notes == ["a.ipynb: left out: 2 pictures"]


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b"1", b"[" * 200_000, b'{"cells": 1'])
def test_what_is_no_notebook_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.ipynb: not a notebook"):
        read(data, "a.ipynb")


def test_what_a_folder_leaves_out_is_one_line(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        (tmp_path / name).write_text("<p>seen <img src=x> <img src=y alt='a pump'>")
    notes: list[str] = []
    texts = [document.text for document in ingest([str(tmp_path)], on_note=notes.append)]
    assert texts == ["seen  a pump"] * 2
    assert notes == [f"{tmp_path}: left out: 2 pictures"]
