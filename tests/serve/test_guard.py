"""Who may use the server, and what clients that mean no good, or are broken, get."""

from __future__ import annotations

import json
import pickle
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from served import served

from l4cli.loading.llm import LLM
from l4cli.serve.app import Access
from l4cli.serve.guesses import MOST_GUESSES, WINDOW, Guesses

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0}
PATHS = ("/metrics", "/v1/models", CHAT, "/v1/completions", "/tokenize", "/nothing")


@pytest.fixture(scope="module")
def with_key(demo: LLM) -> Iterator[str]:
    access = Access(key="secret", origins=["http://app.example:3000"])
    with served(demo, access=access) as url:
        yield url


def post(body: dict[str, Any]) -> bytes:
    """A request for an answer, as bytes."""
    content = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def raw(url: str, request: bytes, seconds: float = 5) -> bytes:
    """Send bytes as they are; return what comes back until the connection ends."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), seconds) as connection:
        connection.sendall(request)
        said = b""
        try:
            while piece := connection.recv(1 << 16):
                said += piece
        except (TimeoutError, ConnectionResetError):  # a reset is an answer, too
            pass
        return said


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"x-api-key": "s"}])
def test_without_the_key_nothing_is_answered(
    with_key: str, path: str, header: dict[str, str]
) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        reply = httpx.request(method, with_key + path, headers=header)
        assert reply.status_code == 401
        assert "'Authorization: Bearer KEY'" in reply.json()["error"]["message"]


def test_the_key_opens_by_either_header_and_health_needs_none(with_key: str) -> None:
    for header in ({"Authorization": "Bearer secret"}, {"x-api-key": "secret"}):
        assert httpx.get(f"{with_key}/v1/models", headers=header).status_code == 200
    assert httpx.get(f"{with_key}/health").json() == {"status": "ok"}


def test_an_address_that_tries_many_keys_has_to_wait(demo: LLM) -> None:
    with served(demo, access=Access(key="secret")) as url:

        def status(key: str, address: str = "198.51.100.7") -> httpx.Response:
            headers = {"x-api-key": key, "x-forwarded-for": address}
            return httpx.get(f"{url}/v1/models", headers=headers)

        same = {status("an old key").status_code for _ in range(3 * MOST_GUESSES)}
        assert same == {401}  # which is no guessing
        guessed = [status(f"guess {n}") for n in range(MOST_GUESSES + 5)]
        codes = [reply.status_code for reply in guessed]
        assert codes == [401] * (MOST_GUESSES - 1) + [429] * 6
        assert 0 < int(guessed[-1].headers["retry-after"]) <= WINDOW
        assert guessed[-1].json()["error"]["code"] == "too_many_wrong_keys"
        assert status("secret").status_code == 429
        assert status("secret", "198.51.100.8").status_code == 200
        there = {"x-forwarded-for": "198.51.100.7"}
        assert httpx.get(f"{url}/health", headers=there).status_code == 200
        assert httpx.get(f"{url}/v1/models", headers=there).status_code == 401
        form = httpx.post(f"{url}/login", data={"key": "secret"}, headers=there)
        assert form.status_code == 429
        assert "too many wrong keys" in form.text
        assert 'action="/login"' in form.text


def test_guesses_are_forgotten_and_take_little_memory() -> None:
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    for number in range(MOST_GUESSES):
        guesses.add("192.0.2.1", b"%d" % number)
        guesses.add(f"2001:db8::{number:x}", b"%d" % number)
        now[0] += 1
    assert guesses.seconds_to_wait("192.0.2.1") == WINDOW - MOST_GUESSES
    assert guesses.seconds_to_wait("::ffff:192.0.2.1") > 0  # the same address
    assert guesses.seconds_to_wait("2001:db8::ffff") > 0  # the same network
    assert guesses.seconds_to_wait("2001:db8:0:1::1") == guesses.seconds_to_wait("192.0.2.2") == 0
    now[0] = WINDOW
    assert guesses.seconds_to_wait("192.0.2.1") == 0
    for number in range(10_000):
        guesses.add(f"10.0.{number >> 8}.{number & 255}", b"x" * 1000)
    assert len(pickle.dumps(guesses._wrong)) < 200_000


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""]
)
def test_a_name_that_is_not_ours_is_refused(url: str, host: str) -> None:
    """DNS rebinding: a page's own name is made to lead to this machine."""
    reply = httpx.get(f"{url}/v1/models", headers={"Host": host})
    assert reply.status_code == 403
    assert "does not answer to the name" in reply.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "192.168.0.7"])
def test_addresses_and_localhost_are_ours(url: str, host: str) -> None:
    assert httpx.get(f"{url}/v1/models", headers={"Host": host}).status_code == 200


def test_foreign_pages_are_refused_and_allowed_ones_may_read(url: str, with_key: str) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        reply = httpx.post(url + CHAT, json=BODY, headers={"Origin": origin})
        assert reply.status_code == 403
        assert "access-control-allow-origin" not in reply.headers
    own = httpx.get(f"{url}/v1/models", headers={"Origin": url})
    assert own.status_code == 200
    page = {"Origin": "http://app.example:3000"}
    preflight = httpx.options(with_key + CHAT, headers=page)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == page["Origin"]
    refused = httpx.post(with_key + CHAT, json=BODY, headers=page)
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"", "application/json", 400, "the body is empty"),
        (b"{", "application/json", 400, "the body is not JSON"),
        (b"\xff\xfe{}", "application/json", 400, "not UTF-8: byte 1"),
        (b"[1]", "application/json", 400, "must be a JSON object"),
        (b"[" * 100_000, "application/json", 400, "the body is not JSON"),
        (b'{"a":' * 100_000, "application/json", 400, "the body is not JSON"),
        (b'{"messages": NaN}', "application/json", 400, "the body is not JSON"),
        (b"{}", "text/plain", 415, "must be application/json, not text/plain"),
    ],
)
def test_a_wrong_body_is_named(
    url: str, content: bytes, kind: str, status: int, message: str
) -> None:
    reply = httpx.post(url + CHAT, content=content, headers={"content-type": kind})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, None)
    assert message in error["message"]
    assert error["message"].count("not JSON") <= 1


def test_a_field_of_another_endpoint_is_told_where_it_belongs(url: str) -> None:
    error = httpx.post(url + CHAT, json={"prompt": "x"}).json()["error"]
    assert error["param"] == "prompt"
    assert error["message"].endswith("give messages, or ask /v1/completions")
    assert "l4 serve --lenient" in error["message"]


def test_a_body_that_is_too_large_is_not_read(demo: LLM) -> None:
    with served(demo, access=Access(most_bytes=1 << 20)) as url:
        large = json.dumps({**BODY, "user": "x" * (2 << 20)}).encode()
        assert httpx.post(url + CHAT, content=large).status_code == 413

        def pieces() -> Iterator[bytes]:  # chunked: no length is stated
            for start in range(0, len(large), 1 << 16):
                yield large[start : start + (1 << 16)]

        headers = {"content-type": "application/json"}
        assert httpx.post(url + CHAT, content=pieces(), headers=headers).status_code == 413
        assert httpx.post(url + CHAT, json=BODY).status_code == 200


def test_all_bodies_together_have_a_limit(demo: LLM) -> None:
    with served(demo, access=Access(most_bytes=1 << 16)) as url:
        parts = urlsplit(url)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65000\r\n\r\n"
        address = (parts.hostname or "", parts.port or 0)
        hanging = [socket.create_connection(address, 5) for _ in range(20)]
        try:
            for connection in hanging:
                connection.sendall(head.encode() + b"x" * 64_999)
            refused = [c for c in hanging[-4:] if b"503" in c.recv(100)]
            assert len(refused) == 4
            assert httpx.get(f"{url}/health").status_code == 200
        finally:
            for connection in hanging:
                connection.close()
        for _ in range(100):  # until the server has seen that they are closed
            reply = httpx.post(url + CHAT, json=BODY)
            if reply.status_code == 200:
                break
            assert reply.json()["error"]["code"] == "too_many_large_bodies"
            time.sleep(0.1)
        assert reply.status_code == 200


def test_wrong_methods_and_paths_say_what_there_is(url: str) -> None:
    wrong = httpx.get(url + CHAT)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "does not take GET: use POST" in wrong.json()["error"]["message"]
    missing = httpx.get(f"{url}/v1/chat")
    assert missing.status_code == 404
    assert CHAT in missing.json()["error"]["message"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"\r\nzz\r\n",
    ],
)
def test_garbage_is_refused_and_the_server_goes_on(url: str, garbage: bytes) -> None:
    said = raw(url, garbage, seconds=2)
    assert not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 403"))
    assert httpx.get(f"{url}/health").status_code == 200


def test_a_client_that_goes_away_frees_its_slot(tiny: LLM) -> None:
    with served(tiny) as url:
        body = {**BODY, "max_tokens": 900, "ignore_eos": True}
        for stream in (True, False):
            raw(url, post({**body, "stream": stream}), seconds=0.05)
        for _ in range(100):
            text = httpx.get(f"{url}/metrics").text
            running = [line for line in text.splitlines() if line.startswith("l4_requests_running")]
            if running[0].endswith(" 0"):
                break
            time.sleep(0.1)
        assert running[0].endswith(" 0")
        assert tiny.engine.num_unfinished == 0


def test_a_full_queue_is_said(tiny: LLM) -> None:
    from l4cli.serve.limits import AskingLimits

    with served(tiny, limits=AskingLimits(queue=1)) as url, ThreadPoolExecutor(12) as pool:
        asked = post({**BODY, "max_tokens": 300, "ignore_eos": True})
        asked = asked.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        replies = list(pool.map(lambda _: raw(url, asked, seconds=60), range(12)))
    full = [reply for reply in replies if reply.startswith(b"HTTP/1.1 503")]
    answered = [reply for reply in replies if reply.startswith(b"HTTP/1.1 200")]
    assert len(full) + len(answered) == 12
    assert len(answered) >= 5  # four slots, and one that waits
    assert b"--queue" in full[0]
    assert b"retry-after: 1" in full[0].lower()


def test_a_request_that_takes_too_long_ends(tiny: LLM) -> None:
    from l4cli.serve.limits import AskingLimits

    with served(tiny, limits=AskingLimits(seconds=0.3)) as url:
        body = {**BODY, "max_tokens": 900, "ignore_eos": True}
        reply = httpx.post(url + CHAT, json=body, timeout=60)
        assert reply.status_code == 504
        assert "--timeout of 0.3 s" in reply.json()["error"]["message"]
        streamed = httpx.post(url + CHAT, json={**body, "stream": True}, timeout=60)
        assert '"code":"timeout"' in streamed.text


def test_hundreds_of_idle_connections_hold_nobody_up(url: str) -> None:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    idle = [socket.create_connection(address, 5) for _ in range(300)]
    try:
        for number, connection in enumerate(idle):
            if number % 3 == 0:
                connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: local")
            elif number % 3 == 1:
                connection.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
                )
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.post(url + CHAT, json=BODY, timeout=60).status_code == 200
    finally:
        for connection in idle:
            connection.close()
