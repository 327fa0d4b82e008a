"""What answers in the Hub's place may send anything: one line, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from convert.names import is_etag
from l4cli.errors import HubError
from l4cli.models.hub import answers
from l4cli.models.hub.repository import look_up

COMMIT = "0123456789abcdef0123456789abcdef01234567"
INFO: dict[str, Any] = {"sha": COMMIT, "siblings": [{"rfilename": "a.gguf"}]}


class Answer:
    """What the server sends: a status, headers, and a body that may be repeated without end."""

    def __init__(self) -> None:
        self.status, self.headers, self.body, self.is_endless = 200, {}, b"", False
        self.tokens: list[str | None] = []
        self.url = ""


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    sent = Answer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            sent.tokens.append(self.headers.get("Authorization"))
            self.send_response(sent.status)
            for name, value in sent.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(sent.body)
                while sent.is_endless:
                    self.wfile.write(sent.body)
            except OSError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    sent.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", sent.url)
    close_session()
    yield sent
    sent.is_endless = False
    server.shutdown()
    server.server_close()
    thread.join()


def refused(repo: str = "acme/tiny") -> str:
    with pytest.raises(HubError) as caught:
        look_up(repo, None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_answer_is_read(answer: Answer) -> None:
    lfs = {"size": 3, "sha256": "ab" * 32, "pointerSize": 135}
    answer.body = json.dumps({**INFO, "siblings": [{"rfilename": "a.gguf", "lfs": lfs}]}).encode()

    info = look_up("acme/tiny", "v1")

    assert (info.sha, info.siblings[0].rfilename) == (COMMIT, "a.gguf")
    assert info.siblings[0].lfs == answers.LargeFile(3, "ab" * 32)


@pytest.mark.parametrize(
    "value",
    [
        [], None, 1, "x", {}, {"sha": 1}, {**INFO, "siblings": {}}, {**INFO, "siblings": [1]},
        {**INFO, "siblings": [{"rfilename": None}]},
        {**INFO, "siblings": [{"rfilename": "a.gguf", "lfs": []}]},
        {**INFO, "siblings": [{"rfilename": "a.gguf", "lfs": {"size": "3", "sha256": "ab"}}]},
        {**INFO, "siblings": [{"rfilename": "a.gguf", "lfs": {"size": -1, "sha256": "ab"}}]},
        {**INFO, "siblings": [{"rfilename": "\ud800.gguf"}]},
    ],
)  # fmt: skip
def test_wrong_types_are_one_line(value: Any, answer: Answer) -> None:
    answer.body = json.dumps(value).encode()

    assert "the Hub's answer is not what it should be" in refused()


def test_a_captive_portal_is_one_line(answer: Answer) -> None:
    answer.body, answer.headers = b"<html><body>Log in</body></html>", {"Content-Type": "text/html"}

    assert "the Hub's answer is a web page: does the network ask for a login" in refused()


def test_deep_nesting_is_one_line(answer: Answer) -> None:
    answer.body = b"[" * 100_000

    assert "nested too deep" in refused()


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_gzip_bomb_is_bounded(
    status: int, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_MOST_BYTES", 1 << 20)
    answer.status, answer.headers = status, {"Content-Encoding": "gzip"}
    answer.body = gzip.compress(bytes(96 << 20))

    message = refused()

    assert ("more than" in message) == (status == 200)


@pytest.mark.parametrize("status", [200, 403, 500])
def test_an_endless_body_is_bounded(
    status: int, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer.status, answer.body, answer.is_endless = status, b"x" * (1 << 16), True

    refused()


def test_a_drip_ends_in_time(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_SECONDS", 0.0)
    answer.body = b"x"

    assert "no whole answer within 0 s" in refused()


def test_a_redirect_to_another_host_gets_no_token(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    port = answer.url.rpartition(":")[2]
    other = f"http://localhost:{port}/elsewhere"
    answer.status, answer.headers = 302, {"Location": other}

    refused()

    assert answer.tokens[0] == "Bearer hf_secret"
    assert set(answer.tokens[1:]) == {None}


def test_a_token_of_other_letters_is_one_line(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_tökén")

    message = refused()

    assert "correct HF_TOKEN" in message
    assert "kén" not in message


@pytest.mark.parametrize("status", [None, 403, 500])
def test_a_password_in_the_endpoint_is_not_echoed(
    status: int | None, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = answer.url.removeprefix("http://") if status else "127.0.0.1:9"
    answer.status = status or 200
    answer.headers = {"X-Error-Code": "GatedRepo"} if status == 403 else {}
    monkeypatch.setattr(constants, "ENDPOINT", f"http://me:geheim@{host}")

    message = refused()

    assert "geheim" not in message
    assert "me:" not in message


@pytest.mark.parametrize(
    "tag",
    [
        "../../x",
        "/tmp/x",
        "x" * 300,
        "..",
        ".",
        "",
        "a\tb",
        "a b",
        "\x9b31m",
        "é",
        "a\\b",
        "W/../x",
    ],
)
def test_etags_that_name_no_file(tag: str) -> None:
    assert not is_etag(tag)
    assert not is_etag(f'"{tag}"')


@pytest.mark.parametrize("tag", ["f" * 40, "0" * 64, "5d41402abc4b2a76-12", "abc:gzip", "1a2b.c"])
def test_etags_of_hubs_and_mirrors(tag: str) -> None:
    assert is_etag(f'"{tag}"')
    assert is_etag(f'W/"{tag}"')
