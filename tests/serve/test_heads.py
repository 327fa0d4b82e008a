"""Heads of requests: too large, too slow, or none at all. Each is refused in the API's format."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from served import served

from l4cli.loading.llm import LLM
from l4cli.serve import http

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def connection(tiny: LLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A connection to a server that waits half a second for a head."""
    monkeypatch.setattr(http, "_HEAD_SECONDS", 0.5)
    with served(tiny) as url:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 0)
        with socket.create_connection(address, 10) as connected:
            yield connected


def until(connection: socket.socket, end: bytes) -> bytes:
    """What comes until these bytes; the test fails by a timeout if they never do."""
    said = b""
    while not said.endswith(end):
        said += connection.recv(65536)
    return said


def until_closed(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def said(reply: bytes) -> tuple[bytes, str]:
    """The status line, and the message of the error."""
    head, _, body = reply.partition(b"\r\n\r\n")
    return head.splitlines()[0], json.loads(body)["error"]["message"]


def test_a_head_without_end_is_refused(connection: socket.socket) -> None:
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
    for number in range(9):
        connection.sendall(b"X-%d: " % number + b"a" * 8000 + b"\r\n")
    status, message = said(until_closed(connection))
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert "64 KiB" in message


@pytest.mark.parametrize("garbage", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nno header\r\n\r\n"])
def test_what_is_no_request_is_told_so(connection: socket.socket, garbage: bytes) -> None:
    connection.sendall(garbage)
    status, message = said(until_closed(connection))
    assert status == b"HTTP/1.1 400 Bad Request"
    assert "HTTP/1.1" in message


def test_a_damaged_body_is_told_so(connection: socket.socket) -> None:
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"\r\nzz\r\n"
    )
    status, _ = said(until_closed(connection))
    assert status == b"HTTP/1.1 400 Bad Request"


def test_a_head_that_drips_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(b"GET /he")
    assert until_closed(connection) == b""


def test_a_second_head_that_drips_is_cut_off(connection: socket.socket) -> None:
    for _ in range(2):
        connection.sendall(HEALTH)
        assert until(connection, b'"ok"}').startswith(b"HTTP/1.1 200")
        time.sleep(0.8)  # between two requests, the connection may rest for longer
    connection.sendall(b"GET /he")
    assert until_closed(connection) == b""


def test_requests_sent_at_once_are_answered_in_order(connection: socket.socket) -> None:
    other = HEALTH.replace(b"/health", b"/v1/models")
    connection.sendall(
        HEALTH + other + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    reply = until_closed(connection)
    assert reply.count(b"HTTP/1.1 200") == 3
    assert reply.index(b'"status"') < reply.index(b'"object"')


def test_a_client_that_takes_no_answer_does_not_keep_the_server_from_ending(
    tiny: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_FLUSH_SECONDS", 0.5)
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        with served(tiny) as url:
            parts = urlsplit(url)
            stuck.connect((parts.hostname or "", parts.port or 0))
            body = json.dumps({"content": "the world " * 400_000}).encode()
            head = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
            stuck.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            assert stuck.recv(12) == b"HTTP/1.1 200"  # and no more: the answer fills all buffers
