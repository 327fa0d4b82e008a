"""A model ready to answer: weights, context, prompt encoding and sampling defaults together.

This is the public Python API, and what the commands stand on:

    from l4cli import load

    with load("demo") as llm:
        print(llm.generate("What is GGUF?").text)
        for text in llm.stream("And what is quantization?"):
            print(text, end="", flush=True)
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from typing_extensions import TypeIs

from l4cli.engine.completion import Collector, without_thought
from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.llamacpp.devices import devices
from l4cli.engine.sizing import SizingLimits
from l4cli.engine.types import Backend, Completion, Request, SamplingParams
from l4cli.errors import EngineError, RequestError, UsageError
from l4cli.loading.contexts import Contexts
from l4cli.loading.decision import Decision
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions
from l4cli.native.cpu import num_physical_cores
from l4cli.prompt import PromptEncoder
from l4cli.prompt.call_tags import TAGS, tagged_text
from l4cli.prompt.encode import Vocabulary
from l4cli.prompt.template import Message
from l4cli.speeds import Conditions
from l4cli.store.directory import StateDirectory
from l4cli.store.reuse import num_stored, recall, remember

_AFTER_THOUGHTS = ("json_schema", "json_object", "calls")  # constraints that a thought may precede
Prompt = str | Sequence[Message] | Sequence[int]


class LLM:
    """An engine with its model. Close it, or use it as a context manager.

    A prompt is a text, taken as one user message, a list of messages with `role` and `content`, or
    a list of token ids, taken as they are.
    Sampling arguments are the fields of SamplingParams; what is not given comes from models.toml,
    and what is not there from the GGUF's own metadata.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        contexts: Backend | Contexts,
        *,
        file: ModelFile | None = None,
        options: LoadOptions = LoadOptions(),  # noqa: B008 (frozen)
        decision: Decision | None = None,
        sampling: Mapping[str, Any] | None = None,
        on_close: Callable[[], None] = lambda: None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name, self.vocabulary, self.file = name, vocabulary, file
        self.options, self.decision = options, decision  # how it was to be loaded, and was
        self.encoder = PromptEncoder(vocabulary)
        self.sampling = dict(sampling or {})
        self.on_close = on_close
        self._on_note = on_note
        self._contexts = contexts if isinstance(contexts, Contexts) else Contexts.of(contexts)
        self._directories: dict[str, StateDirectory] = {}  # by what states are good for
        self._ids = itertools.count(1)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """The engine over the present context, which is made now if there is none."""
        return self._contexts.engine

    def check(self, params: SamplingParams) -> None:
        """Raise RequestError for parameters that this model could never serve."""
        if isinstance(self.vocabulary, LlamaModel) and params.constraint:
            self.vocabulary.matcher(params.constraint)

    @property
    def is_deterministic(self) -> bool:
        """Whether the same request gives the same text whatever came before."""
        return self._contexts.deterministic

    @property
    def n_ctx(self) -> int:
        """Tokens that one sequence can hold, its prompt and its answer together."""
        return self._contexts.n_ctx

    @property
    def limits(self) -> SizingLimits:
        """How large contexts can be made."""
        return self._contexts.limits

    def fit(self, requests: Sequence[Request], *, more: bool = False, pool: bool = False) -> None:
        """Make a context for these requests, if its size is automatic.

        With `more` they are only the first of many; with `pool` all sequences share the cells, as
        `recall` and `remember` need it. None may be in flight. A context that grows does so at
        least twofold, so that rows ever longer do not make it anew each time.
        """
        self._contexts.fit(requests, more=more, pool=pool)

    @property
    def is_sized(self) -> bool:
        """Whether there is a context: given with the model, or made by `fit`."""
        return self._contexts.is_made

    def has_space_for(self, request: Request) -> bool:
        """Whether the present context is as long as the request; if not, `fit` can mend it."""
        return self._contexts.has_space_for(request)

    def allow_parallel(self, count: int, tokens: Sequence[int]) -> int:
        """Let up to `count` sequences share the context; how many may, where memory falls short.

        A context for fewer is made anew; what it has computed of `tokens` goes by way of the store.
        None may be in flight. It is not made so from the beginning, since chunked layers keep cells
        for each sequence.
        """
        if self._contexts.can_widen(count):
            self.remember(tokens)
            self._contexts.widen(count)
            self.recall(tokens)
        return self.engine.backend.n_seq_max

    def interrupt(self) -> None:
        """Make a step under way return soon. Safe from signal handlers and other threads."""
        self._contexts.interrupt()

    @property
    def fingerprint(self) -> str:
        """Tells one model file from another without reading it whole; "" without a file."""
        return self.file.fingerprint if self.file else ""

    @property
    def conditions(self) -> Conditions:
        """What the speeds of this model hold for, loaded or to be loaded as was decided."""
        threads, model = self.options.threads, self.vocabulary
        if self.decision is None or not isinstance(model, LlamaModel):  # not loaded from a file
            return Conditions(self.fingerprint, n_threads=threads or num_physical_cores())
        cards = [device.name for device in devices()]
        return self.decision.conditions(self.fingerprint, threads, cards, model.n_layers)

    @property
    def states(self) -> StateDirectory | None:
        """The prefixes of this model on disk, as the present context can load them.

        None where the model was loaded without `store`, or each sequence has its own region.
        """
        states = self.engine.backend.states
        if states is None:
            return None
        if states.key not in self._directories:
            weights = self.file.weights_identity if self.file else ""
            about = {
                "weights": weights,
                "template": self.encoder.template_digest,
                "state": states.key,
            }
            self._directories[states.key] = StateDirectory(
                {"model": self.name, **about}, limit=self.options.store_limit
            )
        return self._directories[states.key]

    @property
    def has_states(self) -> bool:
        """Whether what is computed with this model can be stored at all, in a suitable context."""
        return not isinstance(self.vocabulary, LlamaModel) or self.vocabulary.has_states

    def recall(self, tokens: Sequence[int], *, exact: bool = False) -> int:
        """Restore the longest stored prefix of `tokens` for the next request; how many tokens.

        0 where nothing longer is stored than the engine holds, or the model was loaded without
        `store`. With `exact` only what a fresh `engine.prefixes.prefill` would give bit for bit.
        A bad file is ignored, with a word to `on_note`.
        """
        if self.states is None:
            return 0
        return recall(self.engine, self.states, tokens, exact=exact, note=self._on_note)

    def num_stored(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` an exact `recall` would find, whatever the engine holds."""
        return num_stored(self.engine, self.states, tokens) if self.states else 0

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
        return without_thought(completion, request.params.constraint)

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
        must_call: Sequence[str] = (),
        raw: bool = False,
        default_max_tokens: int | None = None,
        **sampling: Any,
    ) -> Request:
        """A request for the engine; with `raw` a text is continued as it stands, no template.

        Where the draw needs a seed and none is given, one is drawn here, so that it can be told.

        `default_max_tokens` holds where no max_tokens is given, and is cut to what is left of the
        context; a given max_tokens never is: where it does not fit, the engine refuses.

        With `must_call` the answer calls one of these functions, which are among the `tools`.
        """
        tokens = self._encode(prompt, tools, raw)
        if must_call:
            if sampling.get("constraint"):
                raise RequestError("a tool call and a response format cannot both be required")
            sampling["constraint"] = self.encoder.must_call(tools or (), must_call)
        params = self.params(**sampling)
        if not raw and params.constraint and params.constraint.kind in _AFTER_THOUGHTS:
            constraint = replace(params.constraint, thinking=self.encoder.thinking)
            params = replace(params, constraint=constraint)
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

    def tagged_text(self, completion: Completion) -> str:
        """An answer's text with the tags around its calls, which as control tokens have no text."""
        special = self.vocabulary.special_tokens
        tags = {special[tag] for tag in TAGS if tag in special}
        if tags.isdisjoint(completion.token_ids):
            return completion.text
        return tagged_text(completion.token_ids, self.engine.backend.piece, special)

    def close(self) -> None:
        """Free context and weights; idempotent."""
        self._contexts.close()
        self.on_close()

    def _encode(
        self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] | None, raw: bool
    ) -> list[int]:
        if isinstance(prompt, str):
            if raw:
                return self.encoder.text(prompt)
            prompt = [{"role": "user", "content": prompt}]
        if _is_token_ids(prompt):
            return list(prompt)
        return self.encoder.chat(prompt, tools=tools)


def _is_token_ids(prompt: Sequence[Message] | Sequence[int]) -> TypeIs[Sequence[int]]:
    return bool(prompt) and isinstance(prompt[0], int)
