"""Runs the server: binds the socket, serves until a signal, and then drains."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from l4cli.errors import UsageError
from l4cli.loading.embedder import Embedder
from l4cli.loading.llm import LLM
from l4cli.paths import state_dir
from l4cli.serve.app import Access, make_app
from l4cli.serve.batches.service import Batches
from l4cli.serve.embedding.served import ServedEmbedder
from l4cli.serve.handling import Api
from l4cli.serve.http import Http
from l4cli.serve.limits import AskingLimits
from l4cli.serve.served import Models, Served

_BACKLOG = 2048
_LAST_SECONDS = 1.0  # in which clients are told that their requests have ended
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve.

    access: who may use the server.
    limits: how much may be asked at once.
    lenient: whether unknown fields of bodies are ignored.
    state: the folder for files and batches; None for `serve` in the state folder of l4.
    """

    access: Access = field(default_factory=Access)
    limits: AskingLimits = field(default_factory=AskingLimits)
    lenient: bool = False
    state: Path | None = None


def check_host(host: str) -> None:
    """Raise UsageError if there is no such name or address."""
    _addresses(host, 0)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. UsageError if the address cannot be had."""
    found = _addresses(host, port)
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise UsageError(_why_not(host, port, error)) from None
    bound.setblocking(False)
    return bound


def _addresses(host: str, port: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: no such name or address") from None


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another with --port, or --port 0 for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} needs root's rights: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is no address of this machine; 0.0.0.0 stands for all of them"
    return f"{host} port {port}: {error.strerror}"


def address_of(bound: socket.socket) -> str:
    """Return the address that a socket listens on, as it stands in a URL: 127.0.0.1:8080."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(
    llms: Sequence[LLM],
    embedders: Sequence[Embedder],
    bound: socket.socket,
    options: ServeOptions,
    note: Note,
) -> int:
    """Serve until a signal asks to stop. Return the exit code: 128 + the signal's number.

    The first signal lets requests in flight finish, a second one stops them.
    """
    _allow_many_files()
    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    seen: list[int] = []

    async def until_a_signal() -> None:
        async with serving(llms, options, note, embedders) as server:
            with _signals(server, seen, note):
                await server.serve(sockets=[bound])

    asyncio.run(until_a_signal())
    return 128 + seen[0] if seen else 0


@asynccontextmanager
async def serving(
    llms: Sequence[LLM],
    options: ServeOptions,
    note: Note = lambda _line: None,
    embedders: Sequence[Embedder] = (),
) -> AsyncIterator[Server]:
    """Start the models' threads and the batches, and return a server that is ready to `serve`."""
    models = Models(
        [Served.start(llm, options.limits) for llm in llms],
        [ServedEmbedder.start(embedder, options.limits) for embedder in embedders],
    )
    root = options.state or state_dir() / "serve"
    batches = Batches(root, models, lenient=options.lenient, note=note)
    try:
        batches.start()
        app = make_app(Api(models, batches, options.lenient), options.access)
        config = uvicorn.Config(
            app,
            http=Http,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # not a line on stderr for every client that sends garbage
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
        )
        yield Server(config, batches, models)
    finally:
        batches.close()
        for served in models.all:
            served.close()
        for embedder in models.embedders:
            embedder.close()


class Server(uvicorn.Server):
    """uvicorn's server without its own handling of signals. Batches stop when it stops."""

    def __init__(self, config: uvicorn.Config, batches: Batches, models: Models) -> None:
        super().__init__(config)
        self._batches, self._models = batches, models

    def stop_now(self) -> None:
        """End all requests, with an error for their clients, and soon all connections."""
        for served in self._models.all:
            served.asking.end()
        asyncio.get_running_loop().call_later(_LAST_SECONDS, self._cut)

    def _cut(self) -> None:
        self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._batches.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _signals(server: Server, seen: list[int], note: Note) -> Iterator[None]:
    """Within this context, a first signal drains the server, a second one stops it.

    seen: the signals' numbers are added to it.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        seen.append(number)
        if len(seen) == 1:
            num_open = len(server.server_state.connections)
            end = f"; open connections: {num_open}; Ctrl-C again ends them" if num_open else ""
            note(f"stopping{end}")
            server.should_exit = True
        else:
            server.stop_now()

    numbers = [signal.SIGINT, signal.SIGTERM]
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's log is worth a look: not that a request was cut off."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError)


def _allow_many_files() -> None:
    """Raise the limit of open files as far as it goes: each connection is one."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
