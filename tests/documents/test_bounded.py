"""Documents that take too long, too much memory, or crash their reader cost one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import papers
import pytest

from l4cli.documents import bounded
from l4cli.documents.bounded import Limits, convert_bounded, limits_of
from l4cli.errors import InputError

SLOW = ("<p>" + "<b><i>x</b></i>" * 200 + "</p>").encode() * 300
PLENTY = Limits(60, 1 << 32)


def test_time_is_limited() -> None:
    with pytest.raises(InputError, match=r"a\.html: takes more than 0 s to read"):
        convert_bounded(SLOW, "a.html", Limits(0.01, PLENTY.n_bytes))
    assert convert_bounded(b"<p>next", "b.html", PLENTY).document.text == "next"


def test_memory_is_limited() -> None:
    with pytest.raises(InputError, match=r"a\.html: takes more memory than a document of its size"):
        convert_bounded(SLOW, "a.html", Limits(60, 4 << 20))
    assert convert_bounded(b"<p>next", "b.html", PLENTY).document.text == "next"


def test_a_reader_that_was_killed_is_replaced() -> None:
    convert_bounded(b"<p>one", "a.html", PLENTY)
    child = bounded._child
    assert child is not None
    os.kill(child._process.pid, signal.SIGKILL)
    child._process.wait()
    assert convert_bounded(b"<p>two", "b.html", PLENTY).document.text == "two"


def bomb_pdf() -> bytes:
    """Return a PDF of 10 kB whose page is a gigabyte of drawing operators, packed twice."""
    content = b"0 0 m 1 1 l S\n" * (1 << 20)
    for _ in range(2):
        content = zlib.compress(content * (70 if len(content) > 1 << 20 else 1), 9)
    page = papers.pdf([b"%s"])
    return page.replace(
        b"<< /Length 2 >>\nstream\n%s",
        b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%s"
        % (len(content), content),
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("deep.html", b"<div>" * 100_000 + b"x" + b"</div>" * 100_000),
        ("sup.html", b"<sup>" * 100_000),
        ("span.html", b"<table><tr><td rowspan=65534 colspan=1000>" * 300),
        ("quotes.md", b">" * 200_000 + b" x"),
        ("zeros.docx", papers.word("<w:p><w:r><w:t>" + "0" * (70 << 20) + "</w:t></w:r></w:p>")),
        ("deep.docx", papers.word("<w:sdt><w:sdtContent>" * 50_000)),
        ("deep.epub", papers.epub({"a": "<div>" * 100_000})),
        ("bomb.pdf", bomb_pdf()),
    ],
)
def test_every_document_is_read_or_refused_in_a_line(name: str, data: bytes) -> None:
    assert limits_of(data).seconds < 30
    try:
        message = convert_bounded(data, name, Limits(1, 1 << 30)).document.name
    except InputError as error:
        message = str(error)
    assert message.startswith(name)
    assert "\n" not in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_reading_at_once(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "slow.html"
    path.write_bytes(SLOW * 20)
    command = [sys.executable, "-m", "l4cli", "docs", "text", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(2)
        begun = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert time.monotonic() - begun < 30
