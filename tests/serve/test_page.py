"""The page's files, its policy, and signing in, without a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chat_support import fake_llm
from served import served

import l4cli.serve
from l4cli.serve.app import Access

FOLDER = Path(l4cli.serve.__file__).with_name("page")
HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def open_url() -> Iterator[str]:
    """A server that wants no key."""
    with served(fake_llm()) as url:
        yield url


@pytest.fixture(scope="module")
def locked_url() -> Iterator[str]:
    """A server with the key "sesame"."""
    with served(fake_llm(), access=Access(key="sesame")) as url:
        yield url


def test_the_page_has_a_strict_policy(open_url: str) -> None:
    for path in ("/", "/page/main.js", "/page/style.css"):
        headers = httpx.get(open_url + path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        for part in ("connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_names_only_files_of_its_own(open_url: str) -> None:
    with httpx.Client(base_url=open_url) as client:
        named = re.findall(r'(?:src|href)="([^"]+)"', client.get("/").text)
        assert "/page/main.js" in named
        for name in named:
            assert name.startswith(("/page/", "#"))
            assert name.startswith("#") or client.get(name).status_code == 200
        for module in FOLDER.glob("*.js"):
            for name in re.findall(r'from "\./([^"]+)"', module.read_text("utf-8")):
                reply = client.get(f"/page/{name}")
                assert reply.status_code == 200, f"{module.name} imports {name}"
                assert reply.headers["content-type"].startswith("text/javascript")


def test_no_text_becomes_html_or_a_script() -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    for file in FOLDER.glob("*.js"):
        assert not re.search(ways, file.read_text("utf-8")), file.name
    page = (FOLDER / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\son\w+=|\sstyle=|<script>", page)


@pytest.mark.parametrize("name", ["x.js", "..%2fapp.py", "%2e%2e%2fguard.py", "/etc/passwd", ""])
def test_other_files_are_not_served(open_url: str, name: str) -> None:
    assert httpx.get(f"{open_url}/page/{name}").status_code == 404


def test_without_the_key_a_browser_gets_a_form_and_a_program_json(locked_url: str) -> None:
    form = httpx.get(locked_url, headers=HTML)
    assert form.status_code == 401
    assert 'action="/login"' in form.text
    style = re.search(r"<style>(.*?)</style>", form.text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in form.headers["content-security-policy"]
    program = httpx.get(locked_url)
    assert program.status_code == 401
    assert "Authorization: Bearer" in program.json()["error"]["message"]
    for path in ("/page/main.js", "/v1/models", "/documents"):
        assert httpx.get(locked_url + path, headers=HTML).status_code == 401


def test_the_key_is_exchanged_for_a_cookie(locked_url: str) -> None:
    with httpx.Client(base_url=locked_url) as client:
        wrong = client.post("/login", data={"key": "simsim"})
        assert (wrong.status_code, dict(client.cookies)) == (401, {})
        assert "not the key" in wrong.text
        right = client.post("/login", data={"key": "sesame"})
        assert (right.status_code, right.headers["location"]) == (303, "/")
        cookie = right.headers["set-cookie"].lower()
        for part in ("httponly", "samesite=strict", "path=/"):
            assert part in cookie
        assert "sesame" not in cookie
        assert client.get("/").status_code == 200
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"key", b"key=%ff%fe", b"\xff" * 100, b"key=" + b"x" * 100_000]
)
def test_odd_logins_are_refused(locked_url: str, body: bytes) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert httpx.post(f"{locked_url}/login", content=body, headers=kind).status_code == 401


def test_pages_of_other_sites_cannot_use_the_cookie_or_sign_in(locked_url: str) -> None:
    with httpx.Client(base_url=locked_url) as client:
        client.post("/login", data={"key": "sesame"})
        foreign = {"origin": "http://evil.example"}
        for path in ("/v1/chat/completions", "/documents", "/login"):
            assert client.post(path, headers=foreign, json={}).status_code == 403
        other_port = {"origin": "http://127.0.0.1:1"}
        assert client.post("/v1/chat/completions", headers=other_port, json={}).status_code == 403


def test_without_a_key_there_is_nothing_to_sign_in_to(open_url: str) -> None:
    reply = httpx.get(f"{open_url}/login")
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
