"""Log-likelihoods of continuations: what contexts have in common is computed once.

All sequences share a pool of cells. The tokens with which all contexts begin are computed first.
Then groups of continuations are computed together, each group with one context: the context in one
sequence, forked for each continuation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.sequence import common_prefix
from l4cli.engine.types import BatchItem
from l4cli.errors import ModelError
from l4cli.eval.passing import ROWS_BYTES, Rows
from l4cli.speeds import Conditions

_N_BATCH = 512
_CELLS = 2048  # of the groups that are computed together, unless one needs more
_SEQUENCES = 33
_WORTH_SHARING = 16  # tokens


class Likelihood(NamedTuple):
    """How likely a continuation is.

    logprob: the sum over its tokens. is_greedy: whether each is the likeliest at its place.
    """

    logprob: float
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A context and what may follow it, as token ids; none of them is empty."""

    context: Sequence[int]
    continuations: Sequence[Sequence[int]]

    @property
    def longest(self) -> int:
        """Tokens of the context with its longest continuation."""
        return len(self.context) + max(map(len, self.continuations))

    @property
    def num_cells(self) -> int:
        """Cells that the group takes without anything shared."""
        return len(self.context) + sum(map(len, self.continuations))


class PoolBackend(Protocol):
    """What scoring needs of `LlamaBackend`: a pool of sequences that keeps many rows."""

    n_batch: int
    n_outputs: int
    n_seq_max: int

    def decode(self, items: list[BatchItem]) -> None: ...

    def kept(self) -> Rows: ...

    def fork(self, src: int, dst: int, length: int) -> None: ...

    def truncate(self, seq_id: int, length: int) -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def encode_pair(
    model: LlamaModel, context: str, continuation: str, *, special: bool = False
) -> tuple[list[int], list[int]]:
    """Return the ids of a context and of what follows it, as lm-evaluation-harness cuts them.

    Blanks at the end of the context belong to the continuation. Both are tokenized as one text, so
    that the cut changes no token behind it. The context begins with BOS if the vocabulary adds one,
    and is never empty.

    special: whether texts such as `<|eot|>` are control tokens.
    """
    bare = context.rstrip() if continuation else context
    continuation = context[len(bare) :] + continuation
    begin = [] if model.added_bos is None else [model.added_bos]
    ids = [*begin, *model.tokenize(bare, special=special)]
    whole = [*begin, *model.tokenize(bare + continuation, special=special)]
    if not ids:
        token = model.bos_token if model.bos_token is not None else model.eos_token
        return [token or 0], whole
    return ids, whole[len(ids) :]


def shared_prefix(texts: Sequence[Sequence[int]]) -> int:
    """Return with how many tokens all texts begin, short of the shortest one's last token."""
    if not texts:
        return 0
    lists = [list(text) for text in texts]  # what the least and the greatest share, all share
    return min(common_prefix(min(lists), max(lists)), min(map(len, lists)) - 1)


class Scorer:
    """Scores groups on a backend that it owns. Close it."""

    def __init__(self, backend: PoolBackend, name: str, shared: Sequence[int] = ()) -> None:
        self._backend, self._name, self._shared = backend, name, list(shared)
        self._is_begun = False

    @classmethod
    def of(
        cls, name: str, model: LlamaModel, conditions: Conditions, groups: Sequence[Group]
    ) -> Scorer:
        """Return a scorer with room for these groups. ModelLoadError if memory is short."""
        shared = shared_prefix([group.context for group in groups])
        if shared < _WORTH_SHARING or len(groups) < 2:
            shared = 0
        most = max(len(group.continuations) for group in groups)
        cells = max(_CELLS, *(group.num_cells for group in groups)) + shared
        rows = max(_SEQUENCES, min(_N_BATCH, ROWS_BYTES // (8 * model.n_vocab)))
        backend = LlamaBackend(
            model,
            n_ctx=cells,
            n_seq_max=max(_SEQUENCES, most + 1),
            n_batch=_N_BATCH,
            n_outputs=rows,
            n_threads=conditions.n_threads,
            kv_type=conditions.kv_type,
        )
        return cls(backend, name, groups[0].context[:shared])

    def run(
        self, groups: Sequence[Group], stopping: Callable[[], object] = lambda: False
    ) -> Iterator[list[Likelihood]]:
        """Yield the likelihoods of each group's continuations, in the order of the groups.

        Raises DecodeAbortedError after `interrupt`, ModelError if the model computes NaN.
        """
        if self._shared and not self._is_begun:
            self._backend.truncate(0, 0)
            self._fill([(0, 0, self._shared)])
            self._is_begun = True
        for together in self._batches(groups):
            if stopping():
                return
            yield from self._score(together)

    def interrupt(self) -> None:
        """Make the running step end soon. Safe from signal handlers and other threads."""
        self._backend.interrupt()

    def close(self) -> None:
        """Free the context; idempotent."""
        self._backend.close()

    def _batches(self, groups: Sequence[Group]) -> Iterator[list[Group]]:
        """Yield groups that have room together, at least one."""
        batch: list[Group] = []
        cells = sequences = 0
        for group in groups:
            own = group.num_cells - len(self._shared)
            count = len(group.continuations)
            is_full = cells + own > _CELLS or sequences + count >= self._backend.n_seq_max
            if batch and (is_full or len(batch) >= self._backend.n_outputs):
                yield batch
                batch, cells, sequences = [], 0, 0
            batch.append(group)
            cells, sequences = cells + own, sequences + count
        if batch:
            yield batch

    def _score(self, groups: Sequence[Group]) -> list[list[Likelihood]]:
        shared, backend = len(self._shared), self._backend
        leaders, following = [], 1
        for group in groups:
            leaders.append(following)
            following += len(group.continuations)
        if shared:
            for leader in leaders:
                backend.fork(0, leader, shared)
        contexts = [
            (leader, shared, list(group.context[shared:]))
            for leader, group in zip(leaders, groups, strict=True)
        ]
        found: list[list[Likelihood]] = []
        firsts = self._fill(contexts)
        rest = []
        for leader, group, first in zip(leaders, groups, firsts, strict=True):
            length = len(group.context)
            own = []
            for number, ids in enumerate(group.continuations):
                own.append(first.likelihood(ids[0]))
                if number:
                    backend.fork(leader, leader + number, length)
                rest.append((leader + number, length, list(ids)))
            found.append(own)
        self._check(found)
        self._extend(rest, found)
        for seq_id in range(1, following):
            backend.truncate(seq_id, 0)
        self._check(found)
        return found

    def _fill(self, parts: list[tuple[int, int, list[int]]]) -> list[_Row]:
        """Compute (sequence, position, tokens); return the row behind each one's last token."""
        backend, rows = self._backend, dict[int, _Row]()
        items: list[BatchItem] = []
        ending: list[int] = []
        room = backend.n_batch

        def flush() -> None:
            if items:
                backend.decode(items)
            if ending:
                kept = backend.kept()
                rows.update((part, _Row.of(kept[at])) for at, part in enumerate(ending))
            items.clear()
            ending.clear()

        for part, (seq_id, pos, tokens) in enumerate(parts):
            at = 0
            while at < len(tokens):
                take = tokens[at : at + room]
                is_last = at + len(take) == len(tokens)
                items.append(BatchItem(seq_id, pos + at, take, is_last))
                if is_last:
                    ending.append(part)
                at, room = at + len(take), room - len(take)
                if not room or len(ending) == backend.n_outputs:
                    flush()
                    room = backend.n_batch
        flush()
        return [rows[part] for part in range(len(parts))]

    def _extend(
        self, rest: list[tuple[int, int, list[int]]], found: list[list[Likelihood]]
    ) -> None:
        """Add to `found`, in the order of `rest`, what all tokens after the first give."""
        backend = self._backend
        most = min(backend.n_batch, backend.n_outputs)
        places = [(group, number) for group, own in enumerate(found) for number in range(len(own))]
        items: list[BatchItem] = []
        wanted: list[tuple[int, int, int]] = []
        room = most

        def flush() -> None:
            if not items:
                return
            backend.decode(items)
            for row, (group, number, token) in zip(backend.kept(), wanted, strict=True):
                step = _Row.of(row).likelihood(token)
                sofar = found[group][number]
                found[group][number] = Likelihood(
                    sofar.logprob + step.logprob, sofar.is_greedy and step.is_greedy
                )
            items.clear()
            wanted.clear()

        for (seq_id, pos, ids), (group, number) in zip(rest, places, strict=True):
            at = 0
            while at < len(ids) - 1:
                take = ids[at : min(at + room, len(ids) - 1)]
                items.append(BatchItem(seq_id, pos + at, take, True, wants_all=True))
                wanted += [(group, number, token) for token in ids[at + 1 : at + 1 + len(take)]]
                at, room = at + len(take), room - len(take)
                if not room:
                    flush()
                    room = most
        flush()

    def _check(self, found: list[list[Likelihood]]) -> None:
        if any(np.isnan(one.logprob) for own in found for one in own):
            raise ModelError(
                f"{self._name}: it computed what is no number (NaN): its weights may be damaged "
                "(`l4 info` looks at the file)"
            )


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of logits, copied: llama.cpp's own is gone with the next decode."""

    logits: Rows
    log_sum: float
    top: int

    @classmethod
    def of(cls, row: Rows) -> _Row:
        greatest = row.max()
        total = float(np.exp(row - greatest).sum(dtype=np.float64))
        return cls(row.copy(), float(greatest) + float(np.log(total)), int(row.argmax()))

    def likelihood(self, token: int) -> Likelihood:
        return Likelihood(float(self.logits[token]) - self.log_sum, token == self.top)
