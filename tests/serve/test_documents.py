"""POST /documents: files become text with exact tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import papers
import pytest
from chat_support import fake_llm
from served import served

from l4cli.serve import documents


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(fake_llm()) as url:
        yield url


def send(url: str, data: bytes, name: str, **headers: str) -> Any:
    headers = {"x-file-name": quote(name), **headers}
    return httpx.post(f"{url}/documents", content=data, headers=headers)


def test_a_text_comes_back_with_its_tokens(url: str) -> None:
    read = send(url, "Grüße\r\nan alle".encode(), "a b.txt").json()
    assert read["text"] == "Grüße\nan alle"
    assert read["name"] == "a b.txt"
    assert read["tokens"] == len("Grüße\nan alle".encode())  # the fake's tokens are bytes


def test_formats_are_read_as_by_ask(url: str) -> None:
    data = papers.docx([("Title", "Pumps"), ("", "The code is 4711.")])
    read = send(url, data, "pumps.docx").json()
    assert "4711" in read["text"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("", "document"),
        ("..", "document"),
        ("x" * 500 + ".md", "x" * 197 + ".md"),
        ("a\x1b[31m\n.txt", "a␛[31m .txt"),
    ],
)
def test_a_name_is_only_shown(url: str, given: str, name: str) -> None:
    assert send(url, b"text", given).json()["name"] == name


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "a.txt", "a.txt: the file is empty"),
        (b"\x89PNG\r\n", "../a.png", "a.png: an image"),
        (b"PK\x03\x04broken", "a.docx", "a.docx: "),
    ],
)
def test_what_cannot_be_read_is_said(url: str, data: bytes, name: str, message: str) -> None:
    reply = send(url, data, name)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(message)


def test_an_unknown_model_is_404(url: str) -> None:
    assert send(url, b"text", "a.txt", **{"x-model": "gpt-5"}).status_code == 404


def test_a_slow_file_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_MOST_SECONDS", 0.01)
    slow = b"<table>" + b"<tr><td>" * 20_000
    reply = send(url, slow, "a.html")
    assert reply.status_code == 400
    assert "a.html: takes more than 0 s to read" in reply.json()["error"]["message"]


def test_too_many_files_at_once_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_MOST_WAITING", 0)
    reply = send(url, b"text", "a.txt")
    assert reply.status_code == 503
    assert reply.headers["retry-after"]
