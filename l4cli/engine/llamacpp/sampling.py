"""Chooses a token from a row of logits: llama.cpp's sampler chain, made faster.

llama.cpp fills and sorts a candidate for every token of the vocabulary, 202,048 of them for
Llama 4: 2 ms per token, and 15 ms if the model is unsure. Here plain greedy is an argmax. A draw
first drops the tokens that together would be drawn about once in a million times, and top-p is
cut without sorting the rest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import llama_cpp
import numpy as np
import numpy.typing as npt

from l4cli.engine.llamacpp.model import LlamaModel
from l4cli.engine.types import Sampled, SamplingParams, TokenLogprob
from l4cli.errors import EngineError, RequestError

if TYPE_CHECKING:
    from l4cli.engine.llamacpp.constraint import Matcher

Logits = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.integer[Any]]

# A draw drops the tokens whose logits are this many temperatures below the greatest. Even 202,048
# of them together have a probability of only 1e-6.
_NEGLIGIBLE = 26.0
_FEW = 512  # candidates; llama.cpp's own top-p sorts fewer faster than `nucleus` cuts them
_NUM_BUCKETS = 4096
_MAX_SORTED = 4096  # tokens; `nucleus` does not sort more
_OTHER_DRAWS = 0x9E3779B9  # changes a seed, see `_after_top_p`
_LONGEST_ANSWER = 1 << 16  # tokens that penalties look back on if max_tokens is None
_LEAST_LOGPROB = -9999.0  # what OpenAI reports of a token that cannot be; JSON has no -Infinity
# llama.cpp computes in float32, and a logit that becomes infinite ends the whole process: its draw
# finds no candidate. With these three bounds none does. A smaller temperature or penalty would
# give the same draws: only equal logits are drawn from, only repeated tokens are chosen.
_SMALLEST_TEMPERATURE = 1e-12
_SMALLEST_PENALTY = 1e-6
_LARGEST_LOGIT = 1e15
NO_NUMBERS = (
    "the model's scores are not numbers (NaN or infinity): its file is damaged, its values are too"
    " large for this quantization, or thousands of tokens are alike, whose values llama.cpp adds up"
    " in 16 bits (with --kv-type q8_0 in 32)"
)


def is_usable(logits: Any) -> Any:
    """Whether a row's greatest logit is a number to choose by; also of an array of them."""
    return np.abs(logits) < _LARGEST_LOGIT  # false for NaN


class Kept(Protocol):
    """The logits that the last decode kept; `output` counts the sequences that wanted them."""

    def logits(self, output: int) -> Logits: ...

    def likeliest(self, output: int) -> int:
        """The token with the greatest logit; EngineError(NO_NUMBERS) if that is not usable."""
        ...


class Candidates:
    """The candidate array that sampler chains work on, allocated once per context."""

    def __init__(self, n_vocab: int) -> None:
        fields = [("id", np.int32), ("logit", np.float32), ("p", np.float32)]
        self._every = np.arange(n_vocab, dtype=np.int32)
        self._is_above = np.empty(n_vocab, np.bool_)
        self._data = np.zeros(n_vocab, np.dtype(fields))
        self._array = llama_cpp.llama_token_data_array()
        kind = dict(llama_cpp.llama_token_data_array._fields_)["data"]
        self._pointer = ctypes.cast(self._data.ctypes.data, kind)

    def above(self, row: Logits, bound: np.float32) -> TokenIds:
        """The tokens whose logits are `bound` or greater."""
        np.greater_equal(row, bound, out=self._is_above)
        return self._is_above.nonzero()[0]

    def choose(self, chain: Any, row: Logits, ids: TokenIds | None = None) -> int:
        """Run the chain over the tokens `ids`, or over all; return the chosen one."""
        ids = self._every if ids is None else ids
        chosen = self._data[: len(ids)]
        chosen["id"], chosen["logit"] = ids, row[ids]
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._pointer, len(ids), -1, False
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
        return int(array.data[array.selected].id)


class LlamaSampler:
    """One request's sampler chain, in Meta's order: temperature, top-k, top-p, min-p, the draw.

    Temperature 0 is greedy: the likeliest token after biases and penalties. A constraint checks
    the token that was chosen without it. Only if that token is not allowed, the whole vocabulary is
    masked and the choice is made again. The distribution is the same.
    """

    def __init__(
        self,
        kept: Kept,
        model: LlamaModel,
        candidates: Candidates,
        params: SamplingParams,
        prompt: Sequence[int],
    ) -> None:
        self._kept, self._model, self._candidates = kept, model, candidates
        self._num_logprobs = params.logprobs
        params = _within_bounds(params, model.n_vocab)
        self._temperature = params.temperature
        self._matcher = model.matcher(params.constraint) if params.constraint else None
        adjustments = _adjustments(params, prompt, model.n_vocab)
        self._is_adjusted = bool(adjustments)
        self._chain = _chain([*adjustments, *_choice(params)])
        self._is_plain = not (
            params.temperature or adjustments or self._matcher or params.logprobs is not None
        )
        self._top_p, self._cut_chain = 1.0, None
        if params.temperature and params.top_p < 1 and not params.top_k and not adjustments:
            self._top_p = params.top_p
            self._cut_chain = _chain(_choice(_after_top_p(params)))

    def sample(self, output: int) -> Sampled:
        likeliest = self._kept.likeliest(output)
        if self._is_plain:
            return Sampled(likeliest)
        row = self._kept.logits(output)
        unmasked = row.copy() if self._matcher and self._num_logprobs is not None else row
        token = self._choose(row, likeliest)
        if self._matcher and not self._matcher.consume(token):
            self._matcher.mask(row)
            token = self._choose(row, _likeliest(row))
            self._matcher.consume(token)
        if self._is_adjusted:
            llama_cpp.llama_sampler_accept(self._chain, token)
        return Sampled(token, self._logprob(unmasked, token), _ends(self._matcher))

    def close(self) -> None:
        """Free the chain and its links; idempotent."""
        for chain in filter(None, (self._chain, self._cut_chain)):
            llama_cpp.llama_sampler_free(chain)
        self._chain = self._cut_chain = None

    def _choose(self, row: Logits, likeliest: int) -> int:
        if self._is_adjusted:
            return self._candidates.choose(self._chain, row)
        if self._temperature == 0:
            return likeliest
        bound = row[likeliest] - np.float32(_NEGLIGIBLE * self._temperature)
        ids = self._candidates.above(row, bound)
        if len(ids) == 1:  # nothing to draw
            return int(ids[0])
        if self._cut_chain is None or len(ids) <= _FEW:
            return self._candidates.choose(self._chain, row, ids)
        ids = ids[nucleus(row[ids] / self._temperature, self._top_p)]
        return self._candidates.choose(self._cut_chain, row, ids)

    def _logprob(self, row: Logits, token: int) -> TokenLogprob | None:
        if self._num_logprobs is None:
            return None
        return token_logprob(row, token, self._num_logprobs, self._model.piece)


def token_logprob(
    row: Logits, token: int, num_top: int, piece: Callable[[int], bytes]
) -> TokenLogprob:
    """The logprob of a token by a row of logits, and those of the `num_top` likeliest tokens."""
    peak = row.max()
    total = float(peak) + float(np.log(np.exp(row - peak).sum(dtype=np.float64)))
    top = tuple((int(i), piece(int(i)), _logprob(row[i], total)) for i in _top(row, num_top))
    return TokenLogprob(token, piece(token), _logprob(row[token], total), top)


def _likeliest(row: Logits) -> int:
    token = int(row.argmax())
    if not is_usable(row[token]):
        raise EngineError(NO_NUMBERS)
    return token


def nucleus(logits: Logits, top_p: float) -> TokenIds:
    """The indices of the likeliest tokens that make up `top_p` together, as in llama.cpp's top-p.

    Tokens are put into buckets by their logits. Only the bucket in which the sum reaches `top_p` is
    sorted. The result is sorted as well, likeliest first, unless it has thousands of tokens.
    """
    depth = logits.max() - logits
    weights = np.exp(-depth)
    scale = (_NUM_BUCKETS - 1) / max(float(depth.max()), 1e-6)
    buckets = (depth * scale).astype(np.int32)
    sums = np.cumsum(np.bincount(buckets, weights, _NUM_BUCKETS))
    wanted = top_p * sums[-1]
    last = int(np.searchsorted(sums, wanted))
    sure, edge = np.flatnonzero(buckets < last), np.flatnonzero(buckets == last)
    edge = edge[np.argsort(depth[edge], kind="stable")]
    missing = wanted - (sums[last - 1] if last else 0.0)
    num_needed = int(np.searchsorted(np.cumsum(weights[edge], dtype=np.float64), missing)) + 1
    if len(sure) <= _MAX_SORTED:
        sure = sure[np.argsort(depth[sure], kind="stable")]
    return np.concatenate([sure, edge[:num_needed]])


def _within_bounds(params: SamplingParams, n_vocab: int) -> SamplingParams:
    """The same parameters with values that llama.cpp's numbers can hold.

    RequestError if a bias is for a token that the vocabulary does not have.
    """
    for token, _ in params.logit_bias:
        if not 0 <= token < n_vocab:
            raise RequestError(
                f"logit_bias has the token {token}, but the vocabulary of this "
                f"model ends at {n_vocab - 1}"
            )
    return replace(
        params,
        temperature=params.temperature and max(params.temperature, _SMALLEST_TEMPERATURE),
        repetition_penalty=max(params.repetition_penalty, _SMALLEST_PENALTY),
        top_k=min(params.top_k, n_vocab),
    )


def _ends(matcher: Matcher | None) -> bool:
    return matcher is not None and matcher.ends


def _logprob(logit: np.float32, total: float) -> float:
    return max(float(logit) - total, _LEAST_LOGPROB)


def _top(row: Logits, k: int) -> npt.NDArray[np.intp]:
    """The indices of the k greatest logits, greatest first."""
    if k == 0:
        return np.empty(0, np.intp)
    k = min(k, len(row))
    found = np.argpartition(row, -k)[-k:]
    return found[np.argsort(-row[found], kind="stable")]


def _chain(links: Sequence[Any]) -> Any:
    params = llama_cpp.llama_sampler_chain_default_params()
    params.no_perf = True
    chain = llama_cpp.llama_sampler_chain_init(params)
    for link in links:
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain


def _adjustments(params: SamplingParams, prompt: Sequence[int], n_vocab: int) -> list[Any]:
    """The chain's links that change single tokens' logits before the choice."""
    links = []
    if params.logit_bias:
        entries = (llama_cpp.llama_logit_bias * len(params.logit_bias))(*params.logit_bias)
        links.append(
            llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(params.logit_bias), entries)
        )
    n_history = len(prompt) + (params.max_tokens or _LONGEST_ANSWER)
    if params.repetition_penalty != 1:
        link = llama_cpp.llama_sampler_init_penalties(
            n_vocab, n_history, params.repetition_penalty, 0.0, 0.0
        )
        for token in prompt:
            llama_cpp.llama_sampler_accept(link, token)
        links.append(link)
    if params.frequency_penalty or params.presence_penalty:
        links.append(
            llama_cpp.llama_sampler_init_penalties(
                n_vocab, n_history, 1.0, params.frequency_penalty, params.presence_penalty
            )
        )
    return links


def _after_top_p(params: SamplingParams) -> SamplingParams:
    """Parameters of the chain that follows `nucleus`; its draws must differ from the other's."""
    seed = None if params.seed is None else (params.seed ^ _OTHER_DRAWS) % (2**32 - 1)
    return replace(params, top_p=1.0, seed=seed)


def _choice(params: SamplingParams) -> list[Any]:
    if params.temperature == 0:
        return [llama_cpp.llama_sampler_init_greedy()]
    links = []
    if params.temperature != 1:
        links.append(llama_cpp.llama_sampler_init_temp(params.temperature))
    if params.top_k:
        links.append(llama_cpp.llama_sampler_init_top_k(params.top_k))
    if params.top_p < 1:
        links.append(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p:
        links.append(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
    seed = llama_cpp.LLAMA_DEFAULT_SEED if params.seed is None else params.seed
    return [*links, llama_cpp.llama_sampler_init_dist(seed)]
