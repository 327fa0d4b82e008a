"""Rows through the engine: slots kept full, one line a row, in input order.

    lines -> rows -> requests -> engine -> reorder window -> lines

Everything is lazy: at most `window` finished rows wait for one before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from l4cli.batch.rows import BadRow, Row, answer, failure
from l4cli.engine.completion import Collector
from l4cli.engine.types import Completion, Request
from l4cli.errors import L4Error
from l4cli.llm import LLM
from l4cli.prompt.template import Message

DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What applies to every row that does not say otherwise."""

    system: str | None = None
    raw: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    window: int = 1024


@dataclass(slots=True)
class BatchStats:
    """Counts so far."""

    num_rows: int = 0
    num_errors: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0

    def count(self, completion: Completion) -> None:
        self.num_prompt_tokens += completion.num_prompt_tokens
        self.num_cached_tokens += completion.num_cached_tokens
        self.num_completion_tokens += completion.num_completion_tokens


def run_rows(
    llm: LLM,
    rows: Iterable[Row | BadRow],
    options: BatchOptions,
    stats: BatchStats,
    stopping: Callable[[], int] = lambda: 0,
) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
    """Rows with their output, in input order; a bad row has an error row for its output.

    Once `stopping` gives 1 no further row is read and those in flight are finished; from 2 on they
    are given up too.
    """
    batch = _Batch(llm, options, stats)
    source = iter(rows)
    exhausted = False
    while (not exhausted or batch.in_flight) and stopping() < 2:
        while not exhausted and batch.has_room:
            row = None if stopping() else next(source, None)
            if row is None:
                exhausted = True
            else:
                batch.add(row)
        yield from batch.in_order()
        batch.step()
    yield from batch.in_order()


class _Batch:
    """Rows in flight, and the reorder window: answers wait until all before them are out."""

    def __init__(self, llm: LLM, options: BatchOptions, stats: BatchStats) -> None:
        self.llm, self.options, self.stats = llm, options, stats
        self.in_flight: dict[str, tuple[int, Row]] = {}
        self._collector = Collector()
        self._done: dict[int, tuple[Row | BadRow, dict[str, Any]]] = {}
        self._num_read = 0
        self._num_written = 0

    @property
    def has_room(self) -> bool:
        return self.llm.engine.has_room and len(self._done) < self.options.window

    def add(self, row: Row | BadRow) -> None:
        """Give a row to the engine, or set its error row aside."""
        position = self._num_read
        self._num_read += 1
        try:
            if isinstance(row, BadRow):
                raise row.error
            request = self._encode(position, row)
            self.llm.engine.add_request(request)
        except L4Error as error:
            self._done[position] = row, failure(row, error.type, str(error))
            return
        self._collector.begin(request)
        self.in_flight[request.id] = (position, row)

    def step(self) -> None:
        for completion in self._collector.feed(self.llm.engine.step()):
            position, row = self.in_flight.pop(completion.request_id)
            self.stats.count(completion)
            self._done[position] = row, answer(row, completion, self.llm.name)

    def in_order(self) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
        """Answers that nothing before them holds back any more."""
        while self._num_written in self._done:
            row, output = self._done.pop(self._num_written)
            self._num_written += 1
            self.stats.num_rows += 1
            self.stats.num_errors += "error" in output
            yield row, output

    def _encode(self, position: int, row: Row) -> Request:
        prompt: Any = row.prompt if row.messages is None else list(row.messages)
        raw = self.options.raw and row.messages is None
        if self.options.system and not raw:
            prompt = _with_system(prompt, self.options.system)
        return self.llm.request(
            prompt,
            id=str(position),
            tools=row.tools,
            raw=raw,
            default_max_tokens=DEFAULT_MAX_TOKENS,
            **{**self.options.sampling, **row.sampling},
        )


def _with_system(prompt: str | list[Message], system: str) -> list[Message]:
    """The conversation under a system message, unless it brings its own."""
    messages: list[Message]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]
