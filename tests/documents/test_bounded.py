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

from l4cli.documents.formats import bounded
from l4cli.documents.formats.bounded import Limits, convert_bounded, limits_of
from l4cli.errors import InputError

SLOW = ("<p>" + "<b><i>x</b></i>" * 200 + "</p>").encode() * 300
PLENTY = Limits(60, 1 << 32)


def test_a_small_document_gets_no_more_than_ten_seconds() -> None:
    for start in (b"<p>", b"PK\x03\x04", b"%PDF-1.4"):
        assert limits_of(start.ljust(10_000)).seconds < 10


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
    """Return a small PDF whose page is 56 MiB of drawing operators, packed twice."""
    content = zlib.compress(zlib.compress(b"0 0 m 1 1 l S\n" * (1 << 22), 1), 9)
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
    try:
        message = convert_bounded(data, name, Limits(1, 1 << 30)).document.name
    except InputError as error:
        message = str(error)
    assert message.startswith(name)
    assert "\n" not in message


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_reading_at_once(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "slow.html"
    path.write_bytes(SLOW * 20)
    command = [sys.executable, "-m", "l4cli", "docs", "text", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():  # until the reader has been started
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    # Python itself ends by SIGINT after one that came within exec(), as when a dataclass is made;
    # to a shell both are 130.
    assert process.returncode in (128 + number, -number)
    assert out == b""
    assert b"Traceback" not in err
