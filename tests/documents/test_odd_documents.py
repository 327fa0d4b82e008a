"""Odd and damaged documents by seed are read, or refused in a line.

L4_MEMBERS=1000 tries more of them; `python -m benchmarks.sweep documents` also measures.
"""

from __future__ import annotations

import os
import re

import odd_archives
import odd_encodings
from odd_documents import member

from l4cli.documents.ingest import document_of
from l4cli.errors import InputError

MARKS = re.compile("[\ufdd0-\ufdd4]")
MEMBERS = int(os.environ.get("L4_MEMBERS", "400"))  # read here: fixtures remove L4_ variables


def outcome(name: str, data: bytes) -> str:
    """Return the text of a document, or the line that refuses it."""
    try:
        document = document_of(data, name)
    except InputError as error:
        return str(error)
    document.place(len(document.text))
    return f"read\n{document.text}"


def test_odd_documents_are_read_or_refused_in_a_line() -> None:
    num_read = 0
    for seed in range(MEMBERS):
        name, data = member(seed)
        told = outcome(name, data)
        if told.startswith("read\n"):
            num_read += 1
            if name.endswith((".html", ".docx", ".epub", ".pdf")):
                assert not MARKS.search(told), seed
        else:
            assert told.startswith(name)
            assert "\n" not in told
            assert len(told) < 400
    assert MEMBERS / 5 < num_read < MEMBERS


def test_archives_that_no_writer_writes_are_read_or_refused_in_a_line() -> None:
    num_read = 0
    for seed in range(MEMBERS // 2):
        name, data = odd_archives.member(seed)
        told = outcome(name, data)
        num_read += told.startswith("read\n")
        assert told.startswith(("read\n", name)), seed
        assert told.startswith("read\n") or ("\n" not in told and len(told) < 400), seed
    assert MEMBERS / 20 < num_read < MEMBERS / 2


def test_an_archive_with_a_member_beyond_any_file_is_refused_in_a_line() -> None:
    """zipfile raises OverflowError for it."""
    name, data = odd_archives.far_away()
    assert outcome(name, data).startswith(f"{name}: a broken or cut off document")


def test_a_text_is_read_in_the_encoding_that_it_is_in() -> None:
    for seed in range(MEMBERS):
        name, data, text = odd_encodings.member(seed)
        told = outcome(name, data)
        assert told.startswith(("read\n", name)), seed
        assert text is None or text in told, seed
