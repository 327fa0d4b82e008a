"""Connections that hang, drip, cut, send garbage, or send far too much; by number, all at once.

with serving_process(model, errors) as server:
    asyncio.run(attack(server.port, 1000))
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

CHAT = "/v1/chat/completions"
_PIECE = b"a" * (1 << 16)
_LARGE = 100 << 20  # bytes of a body that is too large
_OPEN_SECONDS = 1.5  # for which connections that hang stay open
_PATIENCE = 5.0  # seconds for which an answer is waited for
_ANSWER_SECONDS = 60.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Way = Callable[[Connection, Random], Awaitable[None]]


@dataclass(slots=True)
class ServerProcess:
    """`l4 serve` in a process of its own, and whether it always said that it is well."""

    url: str
    pid: int
    _stop: threading.Event = field(default_factory=threading.Event)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds of an answer of /health
    num_asked: int = 0

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) << 10

    @property
    def num_files(self) -> int:
        """Files and sockets that the process has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def is_idle(self) -> bool:
        """Whether it holds no request, and hardly a connection."""
        gauges = ("l4_requests_running", "l4_requests_waiting")
        return self.num_files < 50 and not any(map(self.gauge, gauges))

    def gauge(self, name: str) -> float:
        """A value of /metrics."""
        text = httpx.get(f"{self.url}/metrics", timeout=_ANSWER_SECONDS).text
        found = re.search(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)
        assert found
        return float(found[1])

    def watch(self) -> None:
        """Ask /health again and again, each time over a connection of its own."""
        while not self._stop.wait(0.05):
            began = time.perf_counter()
            try:
                reply = httpx.get(f"{self.url}/health", timeout=_ANSWER_SECONDS)
                if reply.status_code != 200:
                    self.wrong.append(f"{reply.status_code} {reply.text}")
            except httpx.HTTPError as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
            self.slowest = max(self.slowest, time.perf_counter() - began)
            self.num_asked += 1

    def stop_watching(self) -> None:
        self._stop.set()


@contextmanager
def serving_process(model: Path, errors: Path, *options: str) -> Iterator[ServerProcess]:
    """Start the command; while this lasts, its health is watched.

    errors: the file for its stderr.
    """
    command = [sys.executable, "-m", "l4cli", "serve", "-m", str(model), "--port", "0", *options]
    with errors.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        while not (found := re.search(r"(http\S+) is the page", errors.read_text())):
            assert process.poll() is None, errors.read_text()
            time.sleep(0.05)
        server = ServerProcess(found[1], process.pid)
        watching = threading.Thread(target=server.watch)
        watching.start()
        try:
            yield server
        finally:
            server.stop_watching()
            watching.join()
            process.terminate()  # asks it to drain
            process.terminate()  # and to stop


async def attack(port: int, count: int, seed: int = 0) -> None:
    """Open so many connections, and end when all are closed."""
    random = Random(seed)
    ways = [_WAYS[number % len(_WAYS)] for number in range(count)]
    random.shuffle(ways)
    await asyncio.gather(*(_attempt(port, way, Random(random.random())) for way in ways))


async def _attempt(port: int, way: Way, random: Random) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):  # to be cut off is what they deserve
        async with _connected(port) as (reader, writer):
            await way((reader, writer), random)


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


def _head(*headers: str, method: str = "POST", path: str = CHAT) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def _asked(content: bytes) -> bytes:
    return _head(f"Content-Length: {len(content)}") + content


def _chat(**fields: object) -> bytes:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 400}
    return _asked(json.dumps({**body, "ignore_eos": True, **fields}).encode())


async def _hang(connection: Connection, _random: Random) -> None:
    await asyncio.sleep(_OPEN_SECONDS)


async def _hang_in_head(connection: Connection, _random: Random) -> None:
    await _send(connection, _head()[:40])
    await asyncio.sleep(_OPEN_SECONDS)


async def _hang_in_body(connection: Connection, _random: Random) -> None:
    await _send(connection, _head("Content-Length: 1000") + b"{")
    await asyncio.sleep(_OPEN_SECONDS)


async def _drip(connection: Connection, random: Random) -> None:
    request = _chat()
    for at in range(random.randrange(10, 40)):
        await _send(connection, request[at : at + 1])
        await asyncio.sleep(_OPEN_SECONDS / 40)


async def _cut(connection: Connection, random: Random) -> None:
    """Send a part of a request, or all of it, and reset the connection."""
    request = _chat(stream=random.random() < 0.5)
    await _send(connection, request[: random.randrange(1, len(request) + 1)])
    await asyncio.sleep(random.random() / 10)
    own: socket.socket = connection[1].get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _garbage(connection: Connection, random: Random) -> None:
    await _send(connection, random.randbytes(random.randrange(1, 100_000)))
    await _read(connection, 1000)


async def _large(connection: Connection, _random: Random) -> None:
    await _send(connection, _head(f"Content-Length: {_LARGE}"))
    for _ in range(_LARGE // len(_PIECE)):
        await _send(connection, _PIECE)


async def _large_without_a_length(connection: Connection, _random: Random) -> None:
    await _send(connection, _head("Transfer-Encoding: chunked"))
    for _ in range(_LARGE // len(_PIECE)):
        await _send(connection, b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE))


async def _nested(connection: Connection, random: Random) -> None:
    opening = random.choice([b"[", b'{"messages":', b'{"messages":['])
    await _send(connection, _asked(opening * 100_000))
    await _read(connection, 1000)


async def _go_away(connection: Connection, random: Random) -> None:
    """Ask for an answer, read its beginning, and close."""
    await _send(connection, _chat(stream=True, n=random.randrange(1, 4)))
    await _read(connection, random.randrange(1, 2000))


async def _read_nothing(connection: Connection, _random: Random) -> None:
    await _send(connection, _chat(stream=True, logprobs=True, top_logprobs=20))
    await asyncio.sleep(_OPEN_SECONDS)


async def _ask_in_a_row(connection: Connection, random: Random) -> None:
    """Send many requests without waiting for an answer."""
    await _send(connection, _chat(max_tokens=1) * random.randrange(2, 50))
    await _read(connection, 1000)


async def _read(connection: Connection, most: int) -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(connection[0].read(most), _PATIENCE)


async def _send(connection: Connection, data: bytes) -> None:
    connection[1].write(data)
    await connection[1].drain()


_WAYS: Sequence[Way] = (
    _hang, _hang_in_head, _hang_in_body, _drip, _cut, _garbage, _large, _large_without_a_length,
    _nested, _go_away, _read_nothing, _ask_in_a_row,
)  # fmt: skip
