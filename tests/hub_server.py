"""A local Hub for tests: a server with one repository that huggingface_hub can download from.

    with serve(checkpoint, "acme/tiny") as hub:
        ... HF_ENDPOINT=hub.url ...

`hub.got` lists the shards and GGUFs of which more than the header was requested, in order.
`hub.ranges` lists the ranges of bytes that were sent, as (name, first, end).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HEADER_BYTES = 100_000  # the size of a request that reads only the header
_LARGE = (".safetensors", ".gguf")  # files that the Hub stores by checksum


class Hub:
    """The repository that is served, and its failures. All can be changed while the server runs."""

    def __init__(self, checkpoint: Path, repo: str) -> None:
        self.checkpoint = checkpoint
        self.repo = repo
        self.commit = COMMIT
        # A path prefix, and the status and X-Error-Code that are returned for it.
        self.refusal: tuple[str, int, str] | None = None
        self.cut: set[str] = set()  # files whose next response ends in the middle, once
        self.corrupt: set[str] = set()  # files that are sent with one byte changed
        self.held: set[str] = set()  # files that are not sent before `gate` is set
        self.stalled: set[str] = set()  # files of which the second half waits for `gate`
        self.redirects = False  # large files come from another address, as on the real Hub
        self.headers: dict[str, str] = {}  # sent in place of those that a file's answer has
        self.states_blob_ids = True  # the real Hub does
        self.tokens: set[str | None] = set()  # Authorization headers sent to the Hub itself
        self.gate = threading.Event()
        self.got: list[str] = []
        self.ranges: list[tuple[str, int, int]] = []
        self.url = ""

    def info(self) -> dict[str, Any]:
        siblings = []
        for path in sorted(self.checkpoint.rglob("*.*")):
            name = path.relative_to(self.checkpoint).as_posix()
            entry: dict[str, Any] = {"rfilename": name, "size": path.stat().st_size}
            if path.suffix in _LARGE:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                entry["lfs"] = {"size": entry["size"], "sha256": digest, "pointerSize": 135}
            elif self.states_blob_ids:
                data = path.read_bytes()
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            siblings.append(entry)
        return {"id": self.repo, "modelId": self.repo, "sha": self.commit, "siblings": siblings}


@contextmanager
def serve(checkpoint: Path, repo: str) -> Iterator[Hub]:
    hub = Hub(checkpoint, repo)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/cdn/"):
                self.send(hub.checkpoint / path.removeprefix("/cdn/"))
                return
            hub.tokens.add(self.headers.get("Authorization"))
            if hub.refusal is not None and path.startswith(hub.refusal[0]):
                _, status, code = hub.refusal
                self.reply(status, b"", {"X-Error-Code": code})
            elif re.fullmatch(f"/api/models/{hub.repo}(/revision/[^/]+)?", path):
                self.reply(200, json.dumps(hub.info()).encode(), {})
            elif match := re.fullmatch(f"/{hub.repo}/resolve/{hub.commit}/(.+)", path):
                if hub.redirects and match[1].endswith(_LARGE):
                    self.reply(302, b"", {"Location": f"{hub.url}/cdn/{match[1]}"})
                else:
                    self.send(hub.checkpoint / match[1])
            else:
                self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})

        def send(self, file: Path) -> None:
            data = file.read_bytes()
            is_shard = file.suffix in _LARGE
            headers = {
                "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Repo-Commit": hub.commit,
                "Accept-Ranges": "bytes",
            }
            headers |= hub.headers
            start, end, wanted = 0, len(data), self.headers.get("Range")
            if wanted is not None:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, end = int(first), min(len(data), int(last) + 1 if last else len(data))
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            if self.command == "GET" and is_shard and end - start != min(HEADER_BYTES, len(data)):
                if file.name not in hub.got:
                    hub.got.append(file.name)
                if file.name in hub.held:
                    hub.gate.wait()
                if file.name in hub.corrupt:
                    data = data[:-1] + bytes([data[-1] ^ 1])
            if self.command == "GET" and is_shard:
                hub.ranges.append((file.name, start, end))
            body, cut = data[start:end], None
            if file.name in hub.cut and len(body) > HEADER_BYTES and self.command == "GET":
                hub.cut.discard(file.name)
                cut = len(body) // 2
            is_stalled = file.name in hub.stalled and self.command == "GET"
            self.reply(206 if wanted else 200, body, headers, cut, is_stalled)

        def reply(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str],
            cut: int | None = None,
            is_stalled: bool = False,
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                with suppress(ConnectionError):  # the test may have killed the client
                    half = len(body) // 2 if is_stalled else 0
                    self.wfile.write(body[:half])
                    if is_stalled:
                        hub.gate.wait()
                    self.wfile.write(body[half:cut])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
