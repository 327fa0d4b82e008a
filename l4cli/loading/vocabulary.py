"""The Backend of a model that was loaded without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from l4cli.engine.types import BatchItem, SamplingParams


class VocabularyBackend:
    """A backend that only knows the size of its context: it admits requests, but never decodes."""

    n_seq_max = 1
    unified = False
    states = None
    routes = None
    min_prefill = None
    channels = None

    def __init__(self, n_ctx: int, n_batch: int = 512) -> None:
        self.n_ctx = self.n_ctx_seq = n_ctx
        self.n_batch = self.n_ubatch = n_batch

    def sampler(self, _params: SamplingParams, _prompt: Sequence[int]) -> _NoSampler:
        return _NoSampler()

    def decode(self, _items: Sequence[BatchItem]) -> NoReturn:
        raise AssertionError("there are no weights to decode with")

    def logprob(self, _output: int, _token: int, _num_top: int) -> NoReturn:
        raise AssertionError("there are no weights to score with")

    def piece(self, _token: int) -> bytes:
        return b""

    def is_eog(self, _token: int) -> bool:
        return False

    def num_computed(self, _seq_id: int) -> int:
        return 0

    def exact_prefix(self, _seq_id: int, _length: int) -> int:
        return 0

    def fork(self, src: int, dst: int, length: int) -> None: ...

    def truncate(self, seq_id: int, length: int) -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class _NoSampler:
    def sample(self, _output: int) -> NoReturn:
        raise AssertionError("there are no weights to sample from")

    def close(self) -> None: ...
