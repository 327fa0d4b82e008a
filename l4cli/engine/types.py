"""What goes into the engine, what comes out, and what it asks of a backend."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from l4cli.errors import RequestError

FinishReason = Literal["stop", "length", "abort", "error"]
MAX_LOGPROBS = 20
_NUM_SEEDS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Constraint:
    """A language that the whole answer belongs to.

    `source` is the JSON Schema as JSON text, nothing for "json_object", GBNF for "grammar", a
    regular expression for "regex", and Lark as llguidance extends it for "lark".
    """

    kind: Literal["json_schema", "json_object", "grammar", "regex", "lark"]
    source: str = ""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one request are chosen.

    The defaults are those Meta suggests for Llama 4. `temperature` 0 is greedy: top_p, top_k and
    min_p are then without effect. `max_tokens` None means up to the end of the context. `seed` None
    draws a fresh one. `repetition_penalty` counts prompt and answer, as transformers does; the
    other two count the answer, as OpenAI defines them. `logprobs` k asks for the logprob of every
    chosen token and of the k likeliest. Values outside their range raise RequestError.
    """

    max_tokens: int | None = None
    temperature: float = 0.6
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        checks = (
            (self.max_tokens is None or self.max_tokens >= 1, "max_tokens must be at least 1"),
            (0.0 <= self.temperature <= 100.0, "temperature must be between 0 and 100"),
            (0.0 < self.top_p <= 1.0, "top_p must be above 0 and at most 1"),
            (self.top_k >= 0, "top_k must be 0 (off) or more"),
            (0.0 <= self.min_p <= 1.0, "min_p must be between 0 and 1"),
            (self.seed is None or 0 <= self.seed < _NUM_SEEDS, "seed must be in 0..4294967294"),
            (all(self.stop), "stop strings must not be empty"),
            (0.0 < self.repetition_penalty <= 10.0, "repetition_penalty must be in (0, 10]"),
            (-2.0 <= self.frequency_penalty <= 2.0, "frequency_penalty must be between -2 and 2"),
            (-2.0 <= self.presence_penalty <= 2.0, "presence_penalty must be between -2 and 2"),
            (
                all(-100.0 <= bias <= 100.0 for _, bias in self.logit_bias),
                "logit_bias values must be between -100 and 100",
            ),
            (
                self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS,
                f"logprobs must be between 0 and {MAX_LOGPROBS}",
            ),
        )
        for holds, message in checks:
            if not holds:
                raise RequestError(message)

    def varied(self, index: int) -> SamplingParams:
        """For the `index`-th of several answers to one prompt: a given seed is another for each."""
        if not index or self.seed is None:
            return self
        return replace(self, seed=(self.seed + index) % _NUM_SEEDS)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithms of probabilities before temperature, penalties and constraint."""

    token_id: int
    piece: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()  # likeliest first


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids to continue. `id` is unique among the requests in flight."""

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)


class StepOutput(NamedTuple):
    """What one step added to one request.

    `text` is only what is new and certain: no half characters, nothing that may yet become a stop
    string. `finish_reason` is set on a request's last output, and only there; `error` says what
    happened when it is "error".
    """

    request_id: str
    text: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0
    error: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The whole answer to one request. Times are seconds; `ttft` counts from admission."""

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    ttft: float
    seconds: float
    error: str | None = None
    seed: int | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


class BatchItem(NamedTuple):
    """A run of consecutive tokens of one sequence, to be decoded from position `pos` on.

    With `wants_logits`, the last token's logits are kept for sampling.
    """

    seq_id: int
    pos: int
    tokens: Seq[int]
    wants_logits: bool


class DecodeAbortedError(Exception):
    """`interrupt()` stopped a decode; ubatches already processed stay in the KV cache."""


class Sampled(NamedTuple):
    """A chosen token. With `ends`, the request's constraint lets nothing follow it."""

    token: int
    logprob: TokenLogprob | None = None
    ends: bool = False


class Sampler(Protocol):
    """Chooses tokens for one sequence."""

    def sample(self, output: int) -> Sampled:
        """The next token, from the `output`-th logits kept by the last decode."""
        ...

    def close(self) -> None: ...


class States(Protocol):
    """Parts of sequences on disk.

    A state is cut at multiples of `segment` tokens, where nothing is needed of what lies before but
    the layers that see all; and wherever a sequence ends. `key` names all that a file must have in
    common with the context that loads it, beside the weights.
    """

    segment: int
    key: str

    def size(self, seq_id: int, start: int, stop: int) -> int:
        """Bytes that positions `start` to `stop` take."""
        ...

    def save(self, seq_id: int, start: int, tokens: Seq[int], path: Path) -> int:
        """Write positions from `start` on, which hold `tokens`; bytes. EngineError if it fails."""
        ...

    def load(self, seq_id: int, start: int, tokens: Seq[int], path: Path) -> None:
        """Append `tokens` to a sequence of `start` tokens, out of a file that begins with them.

        EngineError if it does not, or does not fit; the sequence is then as it was.
        """
        ...

    def settle(self, seq_id: int) -> None:
        """Lay the cells of the attention window out as `load` would."""
        ...


class Backend(Protocol):
    """Weights, KV cache and sampling: llama.cpp, or a fake in tests.

    All calls come from one thread, but for `interrupt`. `decode` raises DecodeAbortedError after
    `interrupt`, EngineError on failure. `n_ctx` counts the KV cells of all sequences together,
    `n_ctx_seq` those that one of them may hold; `unified` says that they share them all. `n_batch`
    tokens go into one decode, `n_ubatch` of them are computed at a time. `states`
    is None where sequences cannot be saved. Where a batch has `min_prefill` tokens of prompts or
    more of which nothing was forked, they are computed apart from the rest (None: never).
    """

    n_ctx: int
    n_ctx_seq: int
    n_batch: int
    n_ubatch: int
    n_seq_max: int
    unified: bool

    @property
    def min_prefill(self) -> int | None: ...

    @property
    def states(self) -> States | None: ...

    def decode(self, items: Seq[BatchItem]) -> None: ...

    def sampler(self, params: SamplingParams, prompt: Seq[int]) -> Sampler:
        """RequestError where the parameters ask for what this vocabulary or l4 cannot do."""
        ...

    def piece(self, token: int) -> bytes: ...

    def is_eog(self, token: int) -> bool: ...

    def num_computed(self, seq_id: int) -> int:
        """How many tokens of a sequence the KV cache holds, counted from position 0."""
        ...

    def exact_prefix(self, seq_id: int, length: int) -> int:
        """The longest prefix, at most `length`, from which decoding can go on exactly."""
        ...

    def fork(self, src: int, dst: int, length: int) -> None:
        """Let the empty sequence `dst` share the first `length` tokens of `src`."""
        ...

    def truncate(self, seq_id: int, length: int) -> None:
        """Forget everything from position `length` on (0: the whole sequence)."""
        ...

    def interrupt(self) -> None:
        """Make the decode under way, or the next one, stop soon. Safe from any thread."""
        ...

    def close(self) -> None: ...
