"""Looks at tensors of llama.cpp's graph while it is computed, through its callback `cb_eval`.

    class Routed:                                  # a Watcher
        names, ops = (b"ffn_moe_topk",), frozenset[str]()

        def wants(self, tensor): return True
        def see(self, tensor, ubatch):             # after the tensor is computed
            chosen = tensor.numbers()[0, 0]        # [tokens, experts per token]
            tokens = ubatch.of_columns(len(chosen))

    backend = LlamaBackend(model, n_ctx=512, watcher=Routed())

The numbers that llama.cpp computes are the same bits with and without: it only stops at the wanted
tensors. For each tensor of the graph, Python is asked whether it is wanted (about a microsecond).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import llama_cpp
import numpy as np

from l4cli.engine.llamacpp.tensors import Tensor, check_layout, name_of, op_name, op_number
from l4cli.engine.ubatches import Placed, ubatches
from l4cli.errors import EngineError

_TOKENS = "inp_tokens"  # llama.cpp's name for the ids of a ubatch, which select the embeddings


class Watcher(Protocol):
    """Says which tensors it wants to see, and sees them.

    names: how their names may begin; empty for any name.
    ops: the operations that may make them, in ggml's words (MUL_MAT); empty for all.
    """

    @property
    def names(self) -> tuple[bytes, ...]: ...

    @property
    def ops(self) -> frozenset[str]: ...

    def wants(self, tensor: Tensor) -> bool:
        """Return whether to see this tensor, which is not computed yet but has its sources.

        Asked of those that `names` and `ops` allow. llama.cpp stops behind each wanted tensor.
        """
        ...

    def see(self, tensor: Tensor, ubatch: Placed) -> None:
        """Take what is wanted of a tensor that has just been computed, and of its sources.

        ubatch: the tokens that are computed now; `of_columns` tells which of them the tensor has.
        """
        ...


class Observer:
    """Shows a Watcher the tensors of one context. `callback` must live as long as the context.

    n_ubatch, unified: properties of the context, on which the order of tokens depends.

    Raises ModelLoadError if this build of llama.cpp has tensors of another form.
    """

    def __init__(self, watcher: Watcher, n_ubatch: int, *, unified: bool) -> None:
        check_layout()
        self._watcher, self._n_ubatch, self._unified = watcher, n_ubatch, unified
        self._coming: Iterator[Placed] = iter(())
        self._ubatch: Placed | None = None
        self._raised: BaseException | None = None
        self._embeddings = ""  # the name of the weights that each ubatch begins with
        self._names, self._ops = watcher.names, watcher.ops
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._call)

    def begin(self, batch: Placed) -> None:
        """Take the tokens of the decode that begins now."""
        self._coming = ubatches(batch, self._n_ubatch, unified=self._unified)
        self._ubatch = None

    def end(self) -> None:
        """Raise what the watcher raised during the decode, if it did."""
        raised, self._raised = self._raised, None
        if raised:
            raise raised

    @property
    def has_failed(self) -> bool:
        """Whether the watcher raised something in this decode, whose results are then unusable."""
        return self._raised is not None

    def _call(self, address: int, is_asked: bool, _user_data: Any) -> bool:
        """Be llama.cpp's callback: asked of a tensor first, called again when it is computed.

        Exceptions must not cross C: they are kept, and the computation of the graph ends.
        """
        if self._raised:
            return is_asked  # stops at the next tensor
        try:
            if is_asked:
                return self._is_wanted(address)
            if self._ubatch is None:
                raise EngineError("llama.cpp computes a graph without token ids")
            self._watcher.see(Tensor(address), self._ubatch)
        except BaseException as error:
            self._raised = error
            return is_asked
        return True

    def _is_wanted(self, address: int) -> bool:
        op = op_name(op_number(address))
        if op == "GET_ROWS":
            self._notice_ubatch(Tensor(address))
        if self._ops and op not in self._ops:
            return False
        if self._names and not name_of(address).startswith(self._names):
            return False
        return self._watcher.wants(Tensor(address))

    def _notice_ubatch(self, tensor: Tensor) -> None:
        """If this tensor selects the embeddings of tokens, a ubatch begins: find out which one."""
        weights, ids = tensor.source(0), tensor.source(1)
        if weights is None or ids is None or _TOKENS not in ids.name:
            return
        self._embeddings = self._embeddings or weights.name
        if weights.name != self._embeddings:
            return  # a second table of embeddings in the same graph
        self._ubatch = next(self._coming, None)
        if self._ubatch is None or not np.array_equal(ids.numbers().ravel(), self._ubatch.tokens):
            raise EngineError(
                "llama.cpp computes tokens in another order than l4 knows: what it computes of "
                "which token cannot be told"
            )
