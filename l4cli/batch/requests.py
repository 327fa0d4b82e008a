"""Rows to requests: what a row shows the model, and how each of its answers is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from l4cli.batch.ahead import Asked
from l4cli.batch.rows import Row
from l4cli.documents.prompt import DocumentPrompt
from l4cli.engine.types import Request
from l4cli.loading.llm import LLM

DEFAULT_MAX_TOKENS = 1024
LOOK_AHEAD = 256


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What applies to every row that does not say otherwise.

    `unordered` gives rows out as they finish; `row_timeout` is in seconds from when the first of
    a row's requests begins to run. A context that fits the rows is made for the `look_ahead`
    requests that come next: 1 where rows may be long in coming. With `use_store`, documents are
    restored from the prefix store and kept in it.
    """

    system: str | None = None
    raw: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    window: int = 1024
    unordered: bool = False
    row_timeout: float | None = None
    timings: bool = True
    look_ahead: int = LOOK_AHEAD
    use_store: bool = False


class RowRequests:
    """The requests of one row. What they have in common is encoded once."""

    def __init__(self, llm: LLM, row: Row, options: BatchOptions) -> None:
        self._llm, self._row, self._options = llm, row, options

    @cached_property
    def document(self) -> DocumentPrompt | None:
        """What all questions of a document row begin with: the same tokens as for `l4 ask`."""
        row = self._row
        if row.document is None:
            return None
        return DocumentPrompt(
            self._llm.encoder,
            [row.document.source],
            system=self._options.system,
            tools=row.tools,
        )

    @property
    def asked(self) -> Asked | None:
        """The document as the prefix store is asked for it; None without, or without the store."""
        if not self._options.use_store or self.document is None:
            return None
        return Asked(self.document, self._row.num_answers)

    def request(self, index: int) -> Request:
        """The request for the `index`-th answer; its id is the caller's to set.

        Several answers to one prompt have the row's seed, its successor, and so on. Raises L4Error
        where it cannot be served.
        """
        if self._row.document and self.document:
            return self._request(self.document.tokens(self._row.document.questions[index]))
        return replace(self._first, params=self._first.params.varied(index))

    @cached_property
    def _first(self) -> Request:
        row, options = self._row, self._options
        if row.prompt is not None and (options.raw or row.dialect == "completions"):
            return self._request(row.prompt, raw=True)
        messages: list[Mapping[str, Any]] = list(row.messages or ())
        if row.messages is None:
            messages = [{"role": "user", "content": row.prompt}]
        if options.system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": options.system}, *messages]
        return self._request(messages)

    def _request(
        self, prompt: str | Sequence[Mapping[str, Any]] | Sequence[int], *, raw: bool = False
    ) -> Request:
        return self._llm.request(
            prompt,
            tools=self._row.tools,
            raw=raw,
            default_max_tokens=DEFAULT_MAX_TOKENS,
            **{**self._options.sampling, **self._row.sampling},
        )
