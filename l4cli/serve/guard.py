"""Refuses what no handler should see: foreign hosts and origins, missing keys, too large bodies.

An ASGI middleware around the whole application.

- Host: a page on the web can point its own name at 127.0.0.1 (DNS rebinding). So a name in the Host
  header must be known; an address as a number is always right.
- Origin: a page of another site may send requests, too. Browsers name it in the Origin header.
- The key is compared in constant time, on every path but /health and /login. A cookie may stand for
  it (login.py). An address that tries many keys has to wait (guesses.py).
- Bodies are held in memory until their requests end, so all together have a limit, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from l4cli.native.memory import give_back_memory
from l4cli.serve.errors import ApiError
from l4cli.serve.guesses import Guesses
from l4cli.serve.login import COOKIE, login_form
from l4cli.serve.refusing import error_response

OPEN_PATHS = frozenset({"/health", "/login"})
_BODIES_AT_ONCE = 16  # of the largest size; all bodies together may have as many bytes
_WORTH_GIVING_BACK = 64 << 20  # bytes
_BODY_SECONDS = 60.0  # in which a body must have arrived, or the next part of an upload
_UPLOAD_SECONDS = 3600.0  # in which an upload must have arrived
_LOCAL = frozenset({"localhost", "localhost.localdomain"})
_METHODS, _HEADERS = "GET, POST, DELETE, OPTIONS", "authorization, content-type, x-api-key"


class Guard:
    """The middleware.

    app: the application within.
    key: the key that clients must send; None for none.
    hosts: names under which the server may be asked for, beside localhost and this machine's name.
    origins: the origins of pages, such as https://example.org, that may send requests.
    most_bytes: of a body.
    uploads: paths whose bodies may be larger, and how large; they also may take longer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: str | None = None,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        most_bytes: int = 32 << 20,
        uploads: Mapping[str, int] | None = None,
    ) -> None:
        self._app, self._most_bytes, self._uploads = app, most_bytes, uploads or {}
        self._key = key.encode() if key is not None else None
        self._origins = {origin.rstrip("/").lower() for origin in origins}
        named = {urlsplit(origin).hostname or "" for origin in self._origins}
        own = {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._hosts = _LOCAL | own | named | {host.lower() for host in hosts}
        self._cookie = hashlib.sha256(secrets.token_bytes(32) + (self._key or b"")).hexdigest()
        self._guesses = Guesses()
        self._held = _Held(_BODIES_AT_ONCE * most_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._check(scope, headers, origin)
        except ApiError as error:
            is_page = scope["path"] == "/" and "text/html" in headers.get("accept", "")
            asks = error.status == HTTPStatus.UNAUTHORIZED and is_page
            refusal = login_form() if asks else error_response(scope["path"], error)
            await refusal(scope, receive, send)
            return
        if origin is not None:
            send = _with_cors(send, origin)
        if scope["method"] == "OPTIONS" and origin is not None:
            await _preflight(send)
            return
        most = self._most_bytes_on(scope["path"])
        if scope["path"] in self._uploads:  # goes to disk as it arrives
            body = _Body(receive, most, _UPLOAD_SECONDS)
        else:
            body = _Body(receive, most, _BODY_SECONDS, self._held)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()

    def cookie_for(self, key: str, address: str) -> str | None:
        """Return the value of the cookie that stands for the key; None if the key is wrong.

        ApiError if too many other keys came from this address.
        """
        return self._cookie if self._is_right(key.encode(), address) else None

    def _check(self, scope: Scope, headers: Headers, origin: str | None) -> None:
        self._check_host(headers)
        if origin is not None and not self._is_known(origin, headers.get("host", "")):
            raise ApiError(
                403,
                f"pages of {origin} may not use this server; to allow it: "
                f"l4 serve --allow-origin {origin}",
                code="origin_refused",
            )
        is_preflight = scope["method"] == "OPTIONS" and origin is not None
        if scope["path"] not in OPEN_PATHS and not is_preflight:
            self._check_key(headers, _address(scope))
        length, most = headers.get("content-length", "0"), self._most_bytes_on(scope["path"])
        if length.isdigit() and int(length) > most:
            raise _too_large(most)

    def _most_bytes_on(self, path: str) -> int:
        return self._uploads.get(path, self._most_bytes)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (name in self._hosts or _is_address(name)):
            raise ApiError(
                403,
                f"this server does not answer to the name {(hosts or [''])[0][:200]!r}; use its "
                "address, or start it with --allow-origin http://NAME:PORT",
                code="host_refused",
            )

    def _is_known(self, origin: str, host: str) -> bool:
        """Whether requests of pages of this origin are answered: the server's own, or allowed."""
        own = (f"http://{host.lower()}", f"https://{host.lower()}")
        return origin.lower() in own or origin.lower() in self._origins

    def _check_key(self, headers: Headers, address: str) -> None:
        if self._key is None or self._is_cookie(headers.get("cookie", "")):
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if given and self._is_right(given.encode(), address):
            return
        what = "a wrong key" if given else "no key"
        raise ApiError(
            401,
            f"{what} was sent: send the header 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _is_right(self, given: bytes, address: str) -> bool:
        """Whether this is the key. ApiError if too many wrong ones came from the address lately.

        Then the right one gets this error, too: otherwise guesses could go on.
        """
        if self._key is None:
            return True
        if seconds := self._guesses.seconds_to_wait(address):
            raise ApiError(
                429,
                f"too many wrong keys came from {address}: try again in {seconds} s",
                code="too_many_wrong_keys",
                headers={"Retry-After": str(seconds)},
            )
        is_right = hmac.compare_digest(given, self._key)
        if not is_right and given:
            self._guesses.add(address, given)
        return is_right

    def _is_cookie(self, header: str) -> bool:
        try:
            found = SimpleCookie(header).get(COOKIE)
        except CookieError:
            return False
        value = found.value if found else ""
        return hmac.compare_digest(value.encode(), self._cookie.encode())


@dataclass(slots=True)
class _Held:
    """The bytes of all bodies that are in memory now, and the most that they may be."""

    most_bytes: int
    num_bytes: int = 0
    peak: int = 0  # since memory was given back to the system

    def add(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes
        self.peak = max(self.peak, self.num_bytes)

    def remove(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes
        if not self.num_bytes and self.peak > _WORTH_GIVING_BACK:
            self.peak = 0
            give_back_memory()


class _Body:
    """A request's body, with a limit to its size, and to the time that it takes to arrive.

    held: where its bytes count until `release`; None if they are not held in memory.
    """

    def __init__(
        self, receive: Receive, most_bytes: int, seconds: float, held: _Held | None = None
    ) -> None:
        self._receive, self._most_bytes, self._seconds = receive, most_bytes, seconds
        self._held = held
        self._num_bytes, self._is_whole = 0, False
        self._deadline: float | None = None

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        message = await self._in_time()
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            self._is_whole = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """Say that the body is in memory no more."""
        if self._held:
            self._held.remove(self._num_bytes)

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._held:
            self._held.add(num_bytes)
        if self._num_bytes > self._most_bytes:
            raise _too_large(self._most_bytes)
        if self._held and self._held.num_bytes > self._held.most_bytes:
            raise ApiError(
                503,
                f"requests with {self._held.most_bytes >> 20} MiB are in work already: try again "
                "later",
                code="too_many_large_bodies",
                headers={"Retry-After": "1", "Connection": "close"},
            )

    async def _in_time(self) -> Message:
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._seconds
        left = min(_BODY_SECONDS, max(0.0, self._deadline - now))
        try:
            return await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            raise ApiError(
                408,
                f"the body did not arrive within {self._seconds:.0f} s, or its next part within "
                f"{_BODY_SECONDS:.0f} s",
                headers={"Connection": "close"},
            ) from None


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"the body is larger than {most >> 20} MiB",
        code="body_too_large",
        headers={"Connection": "close"},
    )


def _address(scope: Scope) -> str:
    """Return the address of the client."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _host_name(host: str) -> str | None:
    """Return the name or address of a Host header, without its port; None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.username is None and not parts.path else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_cors(send: Send, origin: str) -> Send:
    """Return a `send` that adds the headers by which browsers let a page read the answer."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers.append("Vary", "Origin")
        await send(message)

    return with_headers


async def _preflight(send: Send) -> None:
    headers = {
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": _HEADERS,
        "access-control-max-age": "600",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})
