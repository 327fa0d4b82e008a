"""The engine's requests and results, and the interface of the backend that it computes on."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from l4cli.engine.channels import Channels, Said
from l4cli.errors import RequestError

FinishReason = Literal["stop", "length", "abort", "error"]
ExpertCounts = dict[int, dict[int, int]]  # layer -> expert -> how often it was chosen
Thinking = Literal["no", "may", "must", "channels"]
MAX_LOGPROBS = 20
MOST_BIAS = 100
NUM_SEEDS = 2**32 - 1  # a seed is less than this


@dataclass(frozen=True, slots=True)
class Constraint:
    """A formal language that the whole answer must belong to.

    kind: how `source` describes the language.
    source: the JSON Schema as JSON text for "json_schema"; empty for "json_object"; GBNF for
        "grammar"; a regular expression for "regex"; Lark with llguidance's extensions for "lark",
        and for "calls", calls of functions with the schemas that a user gave.
    thinking: whether the answer thinks first, up to `tags[1]`: "must" if the prompt has begun it;
        "channels" if it has channels (`channels.py`), of which the last is meant.
    """

    kind: Literal["json_schema", "json_object", "grammar", "regex", "lark", "calls"]
    source: str = ""
    thinking: Thinking = "no"
    tags: tuple[str, str] = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose the tokens of one request. Values outside their range raise RequestError.

    The defaults are those that Meta suggests for Llama 4.

    max_tokens: most tokens to generate; None means up to the end of the context.
    temperature: 0 is greedy; top_p, top_k and min_p then have no effect.
    seed: None draws a new one.
    stop: strings that end the answer; the text ends before them.
    ignore_eos: whether to continue after EOG tokens.
    repetition_penalty: counts the tokens of prompt and answer, as transformers does.
    frequency_penalty, presence_penalty: count the answer's tokens only, as OpenAI defines them.
    logit_bias: pairs of a token id and the number to add to its logit.
    logprobs: k asks for the logprob of every chosen token and of the k likeliest tokens.
    constraint: a language that the answer must belong to.
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
            (self.seed is None or 0 <= self.seed < NUM_SEEDS, "seed must be in 0..4294967294"),
            (all(self.stop), "stop strings must not be empty"),
            (0.0 < self.repetition_penalty <= 10.0, "repetition_penalty must be in (0, 10]"),
            (-2.0 <= self.frequency_penalty <= 2.0, "frequency_penalty must be between -2 and 2"),
            (-2.0 <= self.presence_penalty <= 2.0, "presence_penalty must be between -2 and 2"),
            (
                all(-MOST_BIAS <= bias <= MOST_BIAS for _, bias in self.logit_bias),
                f"logit_bias values must be between -{MOST_BIAS} and {MOST_BIAS}",
            ),
            (
                self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS,
                f"logprobs must be between 0 and {MAX_LOGPROBS}",
            ),
        )
        for holds, message in checks:
            if not holds:
                raise RequestError(message)

    @property
    def is_repeatable(self) -> bool:
        """Whether the same logits give the same answer again."""
        return self.temperature == 0 or self.seed is not None

    def varied(self, index: int) -> SamplingParams:
        """The parameters of the `index`-th of several answers to one prompt.

        A given seed is shifted by `index`, so that the answers differ.
        """
        if not index or self.seed is None:
            return self
        return replace(self, seed=(self.seed + index) % NUM_SEEDS)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token's logprob: the natural logarithm of its probability.

    Probabilities are those before temperature, penalties and constraint.
    """

    token_id: int
    piece: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()  # (id, piece, logprob), likeliest first


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids for the model to continue. `id` is unique among the requests in flight.

    max_cached: the most tokens of the prompt to take over from other sequences; None is no limit.
        A prompt gives the same bits again only if as many of its tokens are computed anew.
    background: whether all other requests that wait are admitted before this one.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    max_cached: int | None = None
    background: bool = False


class StepOutput(NamedTuple):
    """The result of one step for one request.

    text: the new text that can no longer change; it has no incomplete characters, and nothing
        that could still become part of a stop string.
    token_ids: the new tokens.
    finish_reason: set on the request's last output, and only there.
    num_completion_tokens: tokens of the answer so far.
    error: the reason if finish_reason is "error".
    said: on the last output of an answer in channels, what it has in each of them.
    stopped_by: on the last output, the stop string that ended the answer; None if none did.
    experts: on the last output, how often each expert was chosen for the answer's tokens; None if
        that was not asked for, or is not known.
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
    said: Said | None = None
    stopped_by: str | None = None
    experts: ExpertCounts | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The whole answer to one request.

    `reasoning` is what was thought before an answer with a constraint, or in a channel of its own;
    the text is without it. `said` is what an answer in channels has in each of them.
    `stopped_by` is the stop string that ended the answer. `experts` is how often each expert was
    chosen for the answer's tokens, if that was asked for and is known.
    Times are in seconds from when the engine queued the request; `ttft` is that of the first token.
    """

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
    reasoning: str = ""
    said: Said | None = None
    stopped_by: str | None = None
    experts: ExpertCounts | None = None


class BatchItem(NamedTuple):
    """Consecutive tokens of one sequence, to be decoded from position `pos` on.

    With `wants_logits`, the backend keeps the last token's logits for sampling; with `wants_all`,
    too, those of all tokens, as far as the context has room for so many rows.
    """

    seq_id: int
    pos: int
    tokens: Seq[int]
    wants_logits: bool
    wants_all: bool = False


class DecodeAbortedError(Exception):
    """`interrupt()` stopped a decode; the ubatches already computed stay in the KV cache."""


class CompileAbortedError(Exception):
    """`interrupt()` stopped the compiling of a constraint; the request may be made again."""


class Sampled(NamedTuple):
    """A chosen token. `ends` says that the request's constraint allows no token after it."""

    token: int
    logprob: TokenLogprob | None = None
    ends: bool = False


class Sampler(Protocol):
    """Chooses tokens for one sequence."""

    def sample(self, output: int) -> Sampled:
        """Choose the next token from the `output`-th logits that the last decode kept."""
        ...

    def close(self) -> None: ...


class States(Protocol):
    """Saves parts of sequences to files, and loads them.

    segment: number of tokens. A sequence is cut into states at its multiples, because no key of
        a chunked layer is needed after one, and at the sequence's end.
    key: everything except the weights that a file must have in common with the context that
        loads it.
    """

    segment: int
    key: str

    def size(self, seq_id: int, start: int, stop: int) -> int:
        """Bytes that a state of the positions `start` to `stop` takes."""
        ...

    def save(self, seq_id: int, start: int, tokens: Seq[int], path: Path) -> int:
        """Write the positions from `start` on, which hold `tokens`; return the bytes written.

        EngineError if it fails.
        """
        ...

    def load(self, seq_id: int, start: int, tokens: Seq[int], path: Path) -> None:
        """Append `tokens` to a sequence of `start` tokens, from a file that begins with them.

        EngineError if the file begins with other tokens or does not fit into the cache; the
        sequence is then unchanged.
        """
        ...

    def settle(self, seq_id: int) -> None:
        """Arrange the cells of the attention window as `load` would."""
        ...


class Routes(Protocol):
    """Knows which experts the tokens of answers were sent to."""

    def take(self, seq_id: int, start: int, stop: int) -> ExpertCounts | None:
        """How often each layer chose each expert for these positions of a sequence that has ended.

        None if it is not known of all of them.
        """
        ...


class Backend(Protocol):
    """Weights, KV cache and sampling: llama.cpp, or a fake in tests.

    All methods except `interrupt` are called from one thread. `decode` raises DecodeAbortedError
    after `interrupt`, and EngineError on failure.

    n_ctx: KV cells of all sequences together.
    n_ctx_seq: KV cells that one sequence may hold.
    n_batch: most tokens in one decode.
    n_ubatch: tokens that are computed at a time.
    n_seq_max: most sequences.
    unified: whether all sequences share the cells (a pool); otherwise each has its own region.
    min_prefill: prompts without a reused prefix are computed apart from the rest of a batch if
        they have at least so many tokens together; None means never.
    states: saves and loads parts of sequences; None if the backend cannot.
    routes: knows the experts of answers; None if that was not asked for.
    channels: the tokens between which answers have channels; None if the vocabulary has none.
    """

    n_ctx: int
    n_ctx_seq: int
    n_batch: int
    n_ubatch: int
    n_seq_max: int
    unified: bool

    @property
    def channels(self) -> Channels | None: ...

    @property
    def min_prefill(self) -> int | None: ...

    @property
    def states(self) -> States | None: ...

    @property
    def routes(self) -> Routes | None: ...

    def decode(self, items: Seq[BatchItem]) -> None: ...

    def sampler(self, params: SamplingParams, prompt: Seq[int]) -> Sampler:
        """Make the sampler of a request with this prompt.

        RequestError if the parameters ask for something that the vocabulary or l4 cannot do, and
        CompileAbortedError after `interrupt` while their constraint is compiled.
        """
        ...

    def logprob(self, output: int, token: int, num_top: int) -> TokenLogprob:
        """The logprob of a token by the `output`-th logits that the last decode kept."""
        ...

    def piece(self, token: int) -> bytes: ...

    def is_eog(self, token: int) -> bool: ...

    def num_computed(self, seq_id: int) -> int:
        """Number of tokens of a sequence that the KV cache holds, counted from position 0."""
        ...

    def exact_prefix(self, seq_id: int, length: int) -> int:
        """The longest prefix, at most `length` tokens, from which decoding continues exactly."""
        ...

    def fork(self, src: int, dst: int, length: int) -> None:
        """Let the empty sequence `dst` share the first `length` tokens of `src`."""
        ...

    def truncate(self, seq_id: int, length: int) -> None:
        """Remove everything from position `length` on (0: the whole sequence)."""
        ...

    def interrupt(self) -> None:
        """Make the current decode, or the next one, stop soon. Safe from any thread."""
        ...

    def close(self) -> None: ...
