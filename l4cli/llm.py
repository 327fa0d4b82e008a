"""A model ready to answer: weights, context, prompt encoding and sampling defaults together.

This is the public Python API, and what the commands stand on:

    from l4cli import load

    with load("demo") as llm:
        print(llm.generate("What is GGUF?").text)
        for text in llm.stream("And what is quantization?"):
            print(text, end="", flush=True)
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from l4cli.engine.completion import Collector
from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel, memory_bytes
from l4cli.engine.sizing import ContextSize, Demand, SizingLimits, choose_size, demand_of
from l4cli.engine.types import Backend, Completion, Request, SamplingParams
from l4cli.errors import EngineError, InputError, ModelLoadError, UsageError
from l4cli.fit.wanted import ROOM_FOR_CONTEXT, Decision, Wanted, decide
from l4cli.locate import locate, split_parts
from l4cli.prompt import PromptEncoder
from l4cli.prompt.encode import Vocabulary
from l4cli.prompt.template import Message
from l4cli.store.directory import StateDirectory
from l4cli.store.reuse import recall, remember

DEFAULT_N_CTX = 16384
_BATCH_N_BATCH = 2048  # many prompts a decode; llama.cpp takes it in pieces of n_ubatch
_PIECE = 256  # of a prompt, where pieces must always be the same: what is reused is whole pieces
_KV_SHARE = 4  # an automatic context takes at most this part of the machine's memory: a quarter

Prompt = str | Sequence[Message]


@dataclass(frozen=True, slots=True)
class Contexts:
    """How contexts are made for an LLM that sizes its own, and how large they may be."""

    make_backend: Callable[[ContextSize], Backend]
    limits: SizingLimits
    tune: bool = False
    deterministic: bool = False


class LLM:
    """An engine with its model. Close it, or use it as a context manager.

    A prompt is a text, taken as one user message, or a list of messages with `role` and `content`.
    Sampling arguments are the fields of SamplingParams; what is not given comes from models.toml,
    and what is not there from the GGUF's own metadata.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        backend: Backend | Contexts,
        *,
        sampling: Mapping[str, Any] | None = None,
        path: Path | None = None,
        on_close: Callable[[], None] = lambda: None,
        on_note: Callable[[str], None] = lambda text: None,
        remake: Callable[[int], Backend] | None = None,
        decision: Decision | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.decision = decision  # how the model was loaded, if it was
        self.vocabulary = vocabulary
        self.encoder = PromptEncoder(vocabulary)
        self._contexts = backend if isinstance(backend, Contexts) else None
        self._engine = None if isinstance(backend, Contexts) else Engine(backend)
        self._size: ContextSize | None = None
        self.sampling = dict(sampling or {})
        self._on_close = on_close
        self._on_note = on_note
        self._remake = remake
        self._ids = itertools.count(1)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._make(Demand(DEFAULT_N_CTX, DEFAULT_N_CTX, num_requests=1))
        assert self._engine is not None
        return self._engine

    def check(self, params: SamplingParams) -> None:
        """Raise RequestError for parameters that this model could never serve."""
        if isinstance(self.vocabulary, LlamaModel) and params.constraint:
            self.vocabulary.matcher(params.constraint)

    @property
    def is_deterministic(self) -> bool:
        """Whether the same request gives the same text whatever came before."""
        return self._contexts is not None and self._contexts.deterministic

    @property
    def n_ctx(self) -> int:
        """Tokens that one sequence can hold, its prompt and its answer together."""
        return self._contexts.limits.longest if self._contexts else self.engine.backend.n_ctx_seq

    def fit(self, requests: Sequence[Request], *, more: bool = False) -> None:
        """Make a context for these requests, if its size is automatic.

        With `more` they are only the first of many. None may be in flight. A context grows at
        least twofold, so that rows ever longer do not make it anew each time.
        """
        demand = demand_of(requests, more=more)
        if self._engine:
            longest = max(demand.longest, 2 * self._engine.backend.n_ctx_seq)
            demand = replace(demand, longest=longest)
        self._make(demand)

    @property
    def is_sized(self) -> bool:
        """Whether there is a context: given with the model, or made by `fit`."""
        return self._engine is not None

    def _make(self, demand: Demand) -> None:
        if self._contexts is None:
            return
        size = choose_size(demand, self._contexts.limits)
        if size != self._size:
            if self._engine:
                self._engine.close()
            self._engine, self._size = self._make_engine(self._contexts, size), size

    def has_space_for(self, request: Request) -> bool:
        """Whether the present context is as long as the request; if not, `fit` can mend it."""
        if self._contexts is None:
            return True
        length = len(request.prompt) + (request.params.max_tokens or 0)
        return min(length, self.n_ctx) <= self.engine.backend.n_ctx_seq

    def allow_parallel(self, count: int, tokens: Sequence[int]) -> int:
        """Let up to `count` sequences share the context; how many may, where memory falls short.

        A context for fewer is made anew; what it has computed of `tokens` goes by way of the store.
        None may be in flight. It is not made so from the beginning, since chunked layers keep cells
        for each sequence.
        """
        backend = self.engine.backend
        if backend.n_seq_max >= count or not self._remake:
            return backend.n_seq_max
        self.remember(tokens)
        self.engine.close()
        try:
            made = self._remake(count)
        except ModelLoadError:
            made = self._remake(backend.n_seq_max)
        self._engine = Engine(made)
        self.recall(tokens)
        return made.n_seq_max

    def interrupt(self) -> None:
        """Make a step under way return soon. Safe from signal handlers and other threads."""
        if self._engine:
            self._engine.interrupt()

    def _make_engine(self, contexts: Contexts, size: ContextSize) -> Engine:
        """An engine of that size, or with fewer sequences where memory falls short."""
        while True:
            try:
                backend = contexts.make_backend(size)
            except ModelLoadError:
                if size.n_seq_max == 1:
                    raise
                fewer = size.n_seq_max // 2
                size = replace(size, n_seq_max=fewer, n_ctx=size.n_ctx // size.n_seq_max * fewer)
            else:
                return Engine(backend, tune=contexts.tune, deterministic=contexts.deterministic)

    @property
    def fingerprint(self) -> str:
        """Tells one model file from another without reading it whole; "" without a file."""
        return fingerprint_of(self.path) if self.path else ""

    @property
    def template_digest(self) -> str:
        """Tells one chat template from another; "" without one."""
        template = self.encoder.template
        return hashlib.sha256(template.source.encode()).hexdigest()[:16] if template else ""

    @cached_property
    def states(self) -> StateDirectory | None:
        """The prefixes of this model on disk; None where it was not loaded with `store`."""
        states = self.engine.backend.states
        if states is None:
            return None
        weights = weights_identity(self.path) if self.path else ""
        about = {"weights": weights, "template": self.template_digest, "state": states.key}
        return StateDirectory({"model": self.name, **about})

    def recall(self, tokens: Sequence[int], *, exact: bool = False) -> int:
        """Restore the longest stored prefix of `tokens` for the next request; how many tokens.

        0 where nothing longer is stored than the engine holds, or the model was loaded without
        `store`. With `exact` only what a fresh `engine.prefixes.prefill` would give bit for bit.
        A bad file is ignored, with a word to `on_note`.
        """
        if self.states is None:
            return 0
        return recall(self.engine, self.states, tokens, exact=exact, note=self._on_note)

    def remember(self, tokens: Sequence[int]) -> int:
        """Save what the engine holds of `tokens`; bytes written, 0 if nothing is new.

        What cannot be written is left, with a word to `on_note`.
        """
        if self.states is None:
            return 0
        return remember(self.engine, self.states, tokens, note=self._on_note)

    def generate(self, prompt: Prompt, **sampling: Any) -> Completion:
        """The whole answer to one prompt; RequestError if it cannot be served."""
        request = self.request(prompt, **sampling)
        collector = Collector()
        collector.begin(request)
        completion = next(collector.feed(self.engine.stream(request)))
        if completion.error:
            raise EngineError(completion.error)
        return completion

    def stream(self, prompt: Prompt, **sampling: Any) -> Iterator[str]:
        """The answer's text as it comes; leaving the loop stops the generation."""
        for output in self.engine.stream(self.request(prompt, **sampling)):
            if output.text:
                yield output.text

    def request(
        self,
        prompt: Prompt,
        *,
        id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        raw: bool = False,
        default_max_tokens: int | None = None,
        **sampling: Any,
    ) -> Request:
        """A request for the engine; with `raw` a text is continued as it stands, no template.

        Where the draw needs a seed and none is given, one is drawn here, so that it can be told.

        `default_max_tokens` holds where no max_tokens is given, and is cut to what is left of the
        context; a given max_tokens never is: where it does not fit, the engine refuses.
        """
        tokens = self._encode(prompt, tools, raw)
        params = self.params(**sampling)
        if params.max_tokens is None and default_max_tokens:
            left = max(1, self.n_ctx - len(tokens))
            params = replace(params, max_tokens=min(default_max_tokens, left))
        if params.seed is None and params.temperature > 0:
            params = replace(params, seed=secrets.randbelow(2**32 - 1))
        return Request(id or f"r{next(self._ids)}", tuple(tokens), params)

    def params(self, **sampling: Any) -> SamplingParams:
        """SamplingParams with this model's defaults under what is given; None means not given."""
        given = {key: value for key, value in sampling.items() if value is not None}
        known = {field.name for field in fields(SamplingParams)}
        if unknown := given.keys() - known:
            raise UsageError(f"unknown sampling option {sorted(unknown)[0]!r}")
        return SamplingParams(**{**self.sampling, **given})

    def close(self) -> None:
        """Free context and weights; idempotent."""
        if self._engine:
            self._engine.close()
        self._on_close()

    def _encode(
        self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] | None, raw: bool
    ) -> list[int]:
        if not isinstance(prompt, str):
            return self.encoder.chat(prompt, tools=tools)
        if raw:
            return self.encoder.text(prompt)
        return self.encoder.chat([{"role": "user", "content": prompt}], tools=tools)


def fingerprint_of(path: Path) -> str:
    """Tells one model file from another without reading it whole: size, digest of both ends."""
    size, span = path.stat().st_size, 1 << 20
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(span))
        file.seek(max(0, size - span))
        digest.update(file.read(span))
    return f"{size}:{digest.hexdigest()[:16]}"


def weights_identity(path: Path) -> str:
    """The fingerprint, and of every part of a split model its size and time.

    Of two files that differ only in the middle, one at least was written at another time.
    """
    files = split_parts(path)
    stats = [file.stat() for file in files]
    return " ".join([fingerprint_of(path), *(f"{s.st_size}:{s.st_mtime_ns}" for s in stats)])


def load(
    model: str | Path | None = None,
    *,
    ctx: int | Literal["auto", "largest"] = DEFAULT_N_CTX,
    parallel: int | Literal["auto"] = 1,
    threads: int | None = None,
    gpu_layers: int | Literal["auto"] = -1,
    cpu_moe: int | Literal["auto"] | None = None,
    tensor_split: Sequence[float] | Literal["auto"] | None = None,
    kv_type: str = "f16",
    force: bool = False,
    elastic: bool = False,
    deterministic: bool = False,
    store: bool = False,
    on_progress: Callable[[float], None] | None = None,
    on_convert: Callable[[Path], None] | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> LLM:
    """Load a model by path, by its name in models.toml, or the default one.

    `ctx` tokens of context are shared by up to `parallel` sequences, and cut to what the model was
    trained for. With "auto" for one of them, or `elastic`, these are limits: the context is made by
    `LLM.fit`, and how many sequences run at once is found out while they run. A `ctx` of "largest"
    is as much as fits beside the weights.
    `gpu_layers` on the graphics cards in shares of `tensor_split`, and of how many layers the
    experts stay in RAM (`cpu_moe`), is chosen where it is "auto", as is a `kv_type` of "auto";
    `on_note` is told the outcome in a line. What cannot fit is refused before it is loaded,
    unless with `force`.
    `deterministic` runs one sequence at a time, always in the same pieces: the same request gives
    the same text, whatever came before. With `store`, `recall` and `remember` keep computed
    prefixes on disk; what goes wrong there is said to `on_note`, too.
    Raises ModelNotFoundError and ModelLoadError with a line that says what to do.
    """
    located = locate(str(model) if model else None, on_convert=on_convert)
    decision = decide(
        located.path,
        Wanted(
            n_ctx="auto" if ctx == "largest" else ROOM_FOR_CONTEXT if ctx == "auto" else ctx,
            n_seq_max=parallel if isinstance(parallel, int) and not elastic else 1,
            kv_type=kv_type,
            gpu_layers=gpu_layers,
            cpu_moe=cpu_moe,
            split=tensor_split,
            force=force,
        ),
    )
    if decision.line:
        on_note(decision.line)
    kv_type = decision.kv_type
    if ctx == "largest":
        ctx = decision.n_ctx
    weights = LlamaModel(
        located.path,
        n_gpu_layers=decision.gpu_layers,
        cpu_moe=decision.cpu_moe,
        tensor_split=decision.split,
        repack=decision.repack,
        on_progress=on_progress,
    )
    try:
        make = partial(LlamaBackend, weights, n_threads=threads, kv_type=kv_type, with_states=store)
        backend: Backend | Contexts
        remake = None
        if elastic or deterministic or ctx == "auto" or parallel == "auto":
            limits = sizing_limits(weights, ctx, 1 if deterministic else parallel, kv_type)
            n_batch = _PIECE if deterministic else _BATCH_N_BATCH
            backend = Contexts(
                partial(_make_backend, make, n_batch),
                limits,
                tune=parallel == "auto",
                deterministic=deterministic,
            )
        else:
            backend = make(n_ctx=ctx, n_seq_max=parallel)
            remake = partial(_remake, make, ctx)
        return LLM(
            located.name,
            weights,
            backend,
            sampling=located.sampling(weights.metadata),
            path=located.path,
            on_close=weights.close,
            on_note=on_note,
            remake=remake,
            decision=decision,
        )
    except BaseException:
        weights.close()
        raise


def _remake(make: Callable[..., LlamaBackend], n_ctx: int, n_seq_max: int) -> LlamaBackend:
    return make(n_ctx=n_ctx, n_seq_max=n_seq_max)


def _make_backend(
    make: Callable[..., LlamaBackend], n_batch: int, size: ContextSize
) -> LlamaBackend:
    return make(
        n_ctx=size.n_ctx,
        n_seq_max=size.n_seq_max,
        n_batch=n_batch,
        unified=size.unified,
    )


def sizing_limits(
    weights: LlamaModel, ctx: int | str, parallel: int | str, kv_type: str
) -> SizingLimits:
    """What is given holds; else as much as the model was trained for, in a part of the memory."""
    from l4cli.fit.memory import most_per_token
    from l4cli.fit.shape import read_cache

    trained = weights.n_ctx_train or DEFAULT_N_CTX
    try:
        per_token = most_per_token(read_cache(weights.metadata, str(weights.path)), kv_type)
        cells = memory_bytes() // _KV_SHARE // per_token
    except InputError:  # an architecture whose cache is not of keys and values
        cells = DEFAULT_N_CTX
    if isinstance(ctx, int):
        cells = trained = min(ctx, trained)
    return SizingLimits(
        n_seq_max=parallel if isinstance(parallel, int) else weights.max_useful_sequences,
        n_ctx_seq=trained,
        n_cells=max(cells, 256),
    )
