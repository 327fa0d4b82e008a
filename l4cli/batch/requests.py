"""Turns rows into requests: each row's prompt, and the sampling parameters of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from l4cli.batch.ahead import Asked
from l4cli.batch.rows import Row
from l4cli.documents.prompt import DocumentPrompt
from l4cli.engine.thoughts import Thoughts
from l4cli.engine.types import Request
from l4cli.loading.llm import LLM
from l4cli.openai.wishes import granted

DEFAULT_MAX_TOKENS = 1024
LOOK_AHEAD = 256


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Settings for every row of a run.

    system: the system message for rows that have none.
    raw: send prompts to the model without the chat template.
    sampling: arguments for `LLM.request`; a row's own sampling fields override them.
    window: the most finished rows that wait in memory for an earlier row.
    unordered: write rows in the order they finish, not in input order.
    row_timeout: seconds that a row may take, from when its first request starts; None for no limit.
    timings: whether output rows include timings.
    expert_counts: whether output rows include the experts that their answers used.
    look_ahead: how many upcoming requests determine the size of an automatic context. Use 1 if
        the next row may be slow to arrive, as from a pipe.
    use_store: restore documents from the reading cache and save them to it.
    default_max_tokens: the most tokens of an answer if neither the row nor `sampling` has a limit.
    limit_name: what sets the limit of a row that has none of its own, for messages.
    context_name: what sets the context size, for messages; None if the user cannot set it.
    strict: whether a row fails that wishes an effort or a verbosity that the model cannot do;
        otherwise such a wish is ignored.
    """

    system: str | None = None
    raw: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    window: int = 1024
    unordered: bool = False
    row_timeout: float | None = None
    timings: bool = True
    expert_counts: bool = False
    look_ahead: int = LOOK_AHEAD
    use_store: bool = False
    default_max_tokens: int = DEFAULT_MAX_TOKENS
    limit_name: str = "max_tokens"
    context_name: str | None = None
    strict: bool = False


class RowRequests:
    """Makes the requests of one row. The prefix that they share is encoded once."""

    def __init__(self, llm: LLM, row: Row, options: BatchOptions) -> None:
        self._llm, self._row, self._options = llm, row, options

    @cached_property
    def document(self) -> DocumentPrompt | None:
        """The prompt of a document row, token for token that of `l4 ask`; None for other rows."""
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
        """The document for `ReadAhead`; None if the row has none or the reading cache is off."""
        if not self._options.use_store or self.document is None:
            return None
        return Asked(self.document, self._row.num_answers)

    @cached_property
    def thoughts(self) -> Thoughts | None:
        """How the answers' thoughts are marked; None if there are none, as without a template."""
        return None if self._is_raw else self._llm.encoder_for(self._thinks).thoughts

    @cached_property
    def _thinks(self) -> bool | str | None:
        """What the model is told about thinking. RequestError if it cannot be told that."""
        row, lenient = self._row, not self._options.strict
        return granted(self._llm, row.thinks, row.verbosity, "reasoning_effort", lenient=lenient)

    @property
    def _is_raw(self) -> bool:
        """Whether the prompt is continued as it stands."""
        is_for_all = self._options.raw or self._row.dialect == "completions"
        return self._row.prompt is not None and is_for_all

    def more_room(self, request: Request) -> str:
        """Say how this row's answer, which its limit has cut off, is allowed more tokens."""
        if "max_tokens" in self._row.sampling:
            return "raise the row's max_tokens"
        options = self._options
        wanted = options.sampling.get("max_tokens") or options.default_max_tokens
        if (request.params.max_tokens or wanted) >= wanted:
            return f"raise {options.limit_name}"
        larger = f"raise {options.context_name}, or " if options.context_name else ""
        return f"the context was full; {larger}shorten the prompt"

    def request(self, index: int) -> Request:
        """Return the request for answer `index`, from 0. The caller sets its id.

        If a row has n answers and a seed, answer `index` uses seed + index. Raises L4Error if the
        row cannot be encoded or its parameters are invalid.
        """
        if self._row.document and self.document:
            return self._request(self.document.tokens(self._row.document.questions[index]))
        return replace(self._first, params=self._first.params.varied(index))

    @cached_property
    def _first(self) -> Request:
        row, options = self._row, self._options
        if row.prompt is not None and self._is_raw:
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
            must_call=self._row.must_call,
            raw=raw,
            default_max_tokens=self._options.default_max_tokens,
            thinks=self._thinks,
            **{**self._options.sampling, **self._row.sampling},
        )
