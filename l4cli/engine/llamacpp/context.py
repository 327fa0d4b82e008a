"""The engine's Backend on llama.cpp: one context with its KV cache, in a pool or in regions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from convert.gguf.qtypes import find_qtype
from l4cli.engine.kv import element_bytes, num_sequences
from l4cli.engine.llamacpp import library
from l4cli.engine.llamacpp.batch import Batch
from l4cli.engine.llamacpp.devices import devices
from l4cli.engine.llamacpp.making import ABORTED, context_params, make_context
from l4cli.engine.llamacpp.model import LlamaModel
from l4cli.engine.llamacpp.moving import move_to_region
from l4cli.engine.llamacpp.observer import Observer, Watcher
from l4cli.engine.llamacpp.pages import give_back
from l4cli.engine.llamacpp.region_states import RegionStates
from l4cli.engine.llamacpp.routing import AnswerRoutes
from l4cli.engine.llamacpp.sampling import (
    NO_NUMBERS,
    Candidates,
    LlamaSampler,
    is_usable,
    token_logprob,
)
from l4cli.engine.llamacpp.states import SequenceStates
from l4cli.engine.rollback import RollbackRule
from l4cli.engine.types import BatchItem, DecodeAbortedError, SamplingParams, TokenLogprob
from l4cli.errors import EngineError, UsageError

_MOST_TOKENS = 2**31 - 1  # of a context or a batch: larger numbers wrap around in llama.cpp
_DECODE_ERRORS = {
    1: "no room in the KV cache for the batch",
    -1: "the batch was invalid",
    -2: "out of memory",
    -3: "the computation failed",
}


class LlamaBackend:
    """A context over a loaded model, which it does not own.

    n_ctx: KV cells of all sequences together. One sequence can hold at most as many tokens as the
        model was trained for.
    unified: all sequences share the cells (a pool): a fork is free, but each sequence's attention
        has to step over the others' cells. Otherwise each sequence has a region of equal size: a
        fork copies the region, and attention reads nothing else.
    n_batch: most tokens in one decode.
    n_ubatch: tokens that are computed at a time.
    n_threads: None means one per physical core.
    kv_type: element type of keys and values, a name in KV_ELEMENT_BYTES.
    n_outputs: most rows of logits that one decode keeps; None means one for each sequence.
        llama.cpp reserves memory for twice as many rows.
    with_states: parts of sequences can be saved and loaded (`states`). A pool takes one sequence
        more than `n_seq_max` for this, and chunked layers then have 8192 cells more. Regions take
        a second context of `n_ctx_seq` cells, which is made when it is first needed.
    along_with: another backend. Interrupting it also interrupts this one; the flag clears when
        either stops.
    watcher: sees tensors of every decode while they are computed (`observer.py`).
    routes: is told to which experts the tokens of answers are sent; not together with a watcher.

    Raises ModelLoadError if the context does not fit in memory.
    """

    min_prefill: int | None = None

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_ctx: int,
        n_seq_max: int = 1,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_outputs: int | None = None,
        n_threads: int | None = None,
        kv_type: str = "f16",
        unified: bool = True,
        with_states: bool = False,
        along_with: LlamaBackend | None = None,
        watcher: Watcher | None = None,
        routes: AnswerRoutes | None = None,
    ) -> None:
        self.model = model
        self.unified = unified
        self._interrupt: ctypes.Array[ctypes.c_char] = (
            along_with._interrupt if along_with else ctypes.create_string_buffer(2)
        )
        with_states = with_states and model.has_states
        trained = model.n_ctx_train or n_ctx
        n_ctx = min(n_ctx, n_seq_max * trained)
        num_seqs = num_sequences(n_seq_max, unified=unified, with_states=with_states)
        params = self._params(n_ctx, max(n_batch, n_ubatch), num_seqs, kv_type, n_threads)
        params.n_outputs_max = max(num_seqs, n_outputs or 0)
        params.n_batch = max(n_batch, n_seq_max)
        params.n_ubatch = min(params.n_batch, max(n_ubatch, n_seq_max))
        self._observer: Observer | None = None
        self.routes = routes
        if watcher := routes.watcher if routes else watcher:
            is_pool = unified or num_seqs == 1
            self._observer = Observer(watcher, int(params.n_ubatch), unified=is_pool)
            params.cb_eval = self._observer.callback
        self._handle = make_context(
            model, params, f"of {n_ctx:,} tokens", "try a smaller --ctx or --kv-type q8_0"
        )
        self._memory = llama_cpp.llama_get_memory(self._handle)
        self.n_ctx = int(llama_cpp.llama_n_ctx(self._handle))
        self.n_ctx_seq = min(int(llama_cpp.llama_n_ctx_seq(self._handle)), trained)
        self.n_batch = int(llama_cpp.llama_n_batch(self._handle))
        self.n_ubatch = int(llama_cpp.llama_n_ubatch(self._handle))
        self.n_seq_max = n_seq_max
        self.n_outputs = int(params.n_outputs_max)
        self._rule = RollbackRule(*model.attention)
        self._lengths: dict[int, int] = {}  # llama.cpp knows only the window's last position
        self.states: SequenceStates | RegionStates | None = None
        if with_states:
            key = f"{_states_key(kv_type, params.n_ubatch)}, {model.rounding}"
            where = self._handle, n_seq_max
            reached = self.num_computed, self._advanced
            if unified:
                self.states = SequenceStates(*where, *reached, key)
            elif model.can_move:
                pool = partial(self._pool, model, kv_type)
                self.states = RegionStates(*where, pool, *reached, key)
        self._batch = Batch(self.n_batch)
        self._n_vocab = model.n_vocab
        self._candidates = Candidates(self._n_vocab)
        self._outputs: list[int] = []
        self._address, self._buffer = 0, np.zeros((0, 0), np.float32)  # where the logits lie
        self._rows: npt.NDArray[np.float32] | None = None  # the kept ones, once one is asked for
        self._likeliest: list[int] | None = None
        self.channels = model.channels
        self.piece, self.is_eog = model.piece, model.eog_tokens.__contains__

    def _params(
        self, n_ctx: int, n_batch: int, n_seq_max: int, kv_type: str, n_threads: int | None
    ) -> Any:
        element_bytes(kv_type)  # UsageError for an unknown type
        limit = llama_cpp.llama_max_parallel_sequences()
        if not 1 <= n_seq_max <= limit:
            raise UsageError(f"llama.cpp runs 1 to {limit} sequences at once, not {n_seq_max}")
        if n_ctx < 1:
            raise UsageError(f"a context needs at least 1 token, not {n_ctx}")
        if (most := max(n_ctx, n_batch)) > _MOST_TOKENS:
            raise UsageError(
                f"a context or a batch has at most {_MOST_TOKENS:,} tokens, not {most:,}"
            )
        params = context_params(self._interrupt, n_threads)
        regions = 1 if self.unified else n_seq_max
        params.n_ctx = regions * max(1, n_ctx // regions)
        params.n_seq_max = n_seq_max
        params.type_k = params.type_v = find_qtype(kv_type).id
        params.kv_unified = self.unified
        return params

    def _pool(self, model: LlamaModel, kv_type: str) -> LlamaBackend:
        """A pool with room for one sequence, and a spare one."""
        return LlamaBackend(
            model, n_ctx=self.n_ctx_seq, n_seq_max=2, n_ubatch=self.n_ubatch, kv_type=kv_type
        )

    @property
    def handle(self) -> Any:
        """The llama_context, which this object owns."""
        return self._handle

    def close(self) -> None:
        """Free the context; idempotent. Samplers are closed by their own owners."""
        if isinstance(self.states, RegionStates):
            self.states.close()
        if self._handle:
            llama_cpp.llama_free(self._handle)
            self._handle = None

    def decode(self, items: Sequence[BatchItem]) -> None:
        """Compute the items' tokens; `Sampler.sample(i)` then reads the i-th kept logits.

        Raises DecodeAbortedError after `interrupt`, and EngineError with llama.cpp's reason. In
        both cases `num_computed` tells how far each sequence got. What a watcher raises is raised
        here, and none of the items' tokens is kept.
        """
        self._outputs = self._batch.fill(items)
        self._rows = self._likeliest = None
        library.forget_log()
        observer = self._observer
        if observer:
            observer.begin(self._batch.placed)
        code = llama_cpp.llama_decode(self._handle, self._batch.struct)
        if observer and observer.has_failed:
            self._interrupt[0] = b"\0"
            for item in items:
                self.truncate(item.seq_id, item.pos)
            observer.end()
        if code == 0:
            for item in items:
                self._advanced(item.seq_id, item.pos + len(item.tokens))
            return
        for item in items:
            reached = int(llama_cpp.llama_memory_seq_pos_max(self._memory, item.seq_id)) + 1
            self._advanced(item.seq_id, max(item.pos, reached))
        if code == ABORTED:
            self._interrupt[0] = b"\0"
            raise DecodeAbortedError
        why = library.last_complaint()
        raise EngineError(
            f"llama.cpp failed to decode: {_DECODE_ERRORS.get(code, f'code {code}')}"
            + (f" ({why})" if why else "")
        )

    def sampler(self, params: SamplingParams, prompt: Sequence[int]) -> LlamaSampler:
        return LlamaSampler(self, self.model, self._candidates, params, prompt)

    def logprob(self, output: int, token: int, num_top: int) -> TokenLogprob:
        return token_logprob(self.logits(output), token, num_top, self.piece)

    def kept(self) -> npt.NDArray[np.float32]:
        """All logits that the last decode kept, float32 [rows, n_vocab], in the items' order.

        They are llama.cpp's own memory: valid until the next decode, not to be written to.
        """
        if self._rows is None:  # the rows lie one after another, in the batch's order
            first = llama_cpp.llama_get_logits_ith(self._handle, self._outputs[0])
            address = ctypes.addressof(first.contents)
            if address != self._address:  # making a view takes longer than slicing it
                shape = self.n_outputs, self._n_vocab
                self._address, self._buffer = address, np.ctypeslib.as_array(first, shape)
            self._rows = self._buffer[: len(self._outputs)]
        return self._rows

    def drop_kept(self) -> None:
        """Give the memory of the kept logits back to the system until the next decode.

        What `kept` returned is not valid then. Without effect where graphics cards are used.
        """
        if self._rows is not None and not devices():  # a card's driver pins that memory
            give_back(self._address, self._rows.nbytes)
        self._rows = self._likeliest = None

    def logits(self, output: int) -> npt.NDArray[np.float32]:
        """The `output`-th logits of the last decode, float32 [n_vocab]; valid until the next."""
        row: npt.NDArray[np.float32] = self.kept()[output]
        return row

    def likeliest(self, output: int) -> int:
        """The token with the greatest of the `output`-th kept logits. One call finds all rows'.

        EngineError if the greatest logit is not a number to choose by.
        """
        if self._likeliest is None:
            rows = self.kept()
            tokens = rows.argmax(axis=1)  # the index of a NaN if there is one
            has_choice = is_usable(rows[np.arange(len(rows)), tokens])
            self._likeliest = np.where(has_choice, tokens, -1).tolist()
        token: int = self._likeliest[output]
        if token < 0:
            raise EngineError(NO_NUMBERS)
        return token

    def num_computed(self, seq_id: int) -> int:
        return self._lengths.get(seq_id, 0)

    def _advanced(self, seq_id: int, num_computed: int) -> None:
        self._lengths[seq_id] = num_computed
        self._rule.advanced(seq_id, num_computed)

    def exact_prefix(self, seq_id: int, length: int) -> int:
        return self._rule.exact_prefix(seq_id, self.num_computed(seq_id), length)

    def fork(self, src: int, dst: int, length: int) -> None:
        if self.unified:
            llama_cpp.llama_memory_seq_cp(self._memory, src, dst, 0, length)
        else:  # between regions, llama.cpp copies whole sequences only
            llama_cpp.llama_memory_seq_cp(self._memory, src, dst, -1, -1)
            llama_cpp.llama_memory_seq_rm(self._memory, dst, length, -1)
        self._lengths[dst] = length
        self._rule.forked(src, dst, length)

    def truncate(self, seq_id: int, length: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, seq_id, length, -1)
        self._lengths[seq_id] = min(length, self.num_computed(seq_id))
        self._rule.truncated(seq_id, length)

    def hand_over(self, seq_id: int, other: LlamaBackend) -> None:
        """Move a sequence of this pool to the same id in `other`, a context in regions.

        Both have the same weights, whose order may differ.
        """
        move_to_region(self._handle, other._handle, seq_id, other.n_seq_max, to=seq_id)
        other._advanced(seq_id, self.num_computed(seq_id))
        self.truncate(seq_id, 0)

    def interrupt(self) -> None:
        self._interrupt[0] = b"\1"


def _states_key(kv_type: str, n_ubatch: int) -> str:
    """The properties of the context just made that decide how its numbers are rounded.

    Only llama.cpp's log tells whether it turned flash attention off for this model.
    """
    is_off = any("Flash Attention not supported" in line for line in library.complaints())
    return f"KV {kv_type}, flash attention {'off' if is_off else 'on'}, ubatch {n_ubatch}"
