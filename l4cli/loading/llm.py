"""The class LLM: a loaded model with its context, prompt encoding and sampling defaults.

This is the public Python API. The commands use it, too:

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
from l4cli.engine.kv import padded
from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.llamacpp.devices import devices
from l4cli.engine.sizing import ContextSize, SizingLimits
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
    """A model with its engine. Close it, or use it as a context manager.

    A prompt is a text (one user message), a list of messages with `role` and `content`, or a list
    of token ids, which are used as they are.
    Sampling arguments are the fields of SamplingParams. The default of each comes from models.toml
    or, if it has none, from the GGUF's metadata.
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
        self.options, self.decision = options, decision  # as requested, and as decided
        self.encoder = PromptEncoder(vocabulary)
        self.sampling = dict(sampling or {})
        self.on_close = on_close
        self._on_note = on_note
        self._contexts = contexts if isinstance(contexts, Contexts) else Contexts.of(contexts)
        self._directories: dict[str, StateDirectory] = {}  # by the context's states.key
        self._ids = itertools.count(1)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """The engine over the current context, which is made now if there is none."""
        return self._contexts.engine

    def check(self, params: SamplingParams) -> None:
        """Raise RequestError for parameters that this model could never serve."""
        if isinstance(self.vocabulary, LlamaModel) and params.constraint:
            self.vocabulary.matcher(params.constraint)

    @property
    def is_deterministic(self) -> bool:
        """Whether the same request gives the same text whatever came before it."""
        return self._contexts.deterministic

    @property
    def n_ctx(self) -> int:
        """Tokens that one sequence can hold, prompt and answer together."""
        return self._contexts.n_ctx

    @property
    def limits(self) -> SizingLimits:
        """The largest size that a context can have."""
        return self._contexts.limits

    def fit(self, requests: Sequence[Request], *, more: bool = False, pool: bool = False) -> None:
        """Make a context that suits these requests, unless the context has a fixed size.

        No request may be in flight. A context that grows becomes at least twice as long, to avoid a
        new one for each slightly longer row.

        more: whether more requests will follow these.
        pool: whether all sequences must share the cells, which `recall` and `remember` require.
        """
        self._contexts.fit(requests, more=more, pool=pool)

    def provide(self, longest: int, count: int) -> None:
        """Make a context for `count` requests at once that are still to come; it stays as it is.

        longest: tokens that each of them can have, prompt and answer together.
        """
        longest = padded(longest)
        self._contexts.provide(ContextSize(longest * count, count, unified=count == 1))

    @property
    def is_sized(self) -> bool:
        """Whether a context exists: a fixed one, or one made by `fit`."""
        return self._contexts.is_made

    def has_space_for(self, request: Request) -> bool:
        """Whether the request fits into the current context; if not, `fit` makes a longer one."""
        return self._contexts.has_space_for(request)

    def allow_parallel(self, count: int, tokens: Sequence[int]) -> int:
        """Let up to `count` sequences share the context. Return how many may, at most.

        No request may be in flight. A context for fewer sequences is replaced by one for `count`,
        unless memory is short; the computed prefix of `tokens` is saved to the store and restored
        into the new context. The context is not made for `count` sequences from the start because
        layers with chunked attention need cells for each sequence.
        """
        if self._contexts.can_widen(count):
            self.remember(tokens)
            self._contexts.widen(count)
            self.recall(tokens)
        return self.engine.backend.n_seq_max

    def interrupt(self) -> None:
        """Make a running step return soon, and stop compiling a constraint.

        Safe from signal handlers and other threads.
        """
        self._contexts.interrupt()
        if isinstance(self.vocabulary, LlamaModel):
            self.vocabulary.interrupt()

    @property
    def fingerprint(self) -> str:
        """Identifies the model file without reading all of it; "" if there is no file."""
        return self.file.fingerprint if self.file else ""

    @property
    def file_times(self) -> list[str]:
        """When the model's files were last written: differs if one changed only in its middle."""
        return self.file.written if self.file else []

    @property
    def conditions(self) -> Conditions:
        """The conditions under which speeds of this model are measured."""
        threads, model = self.options.threads, self.vocabulary
        if self.decision is None or not isinstance(model, LlamaModel):  # not loaded from a file
            return Conditions(self.fingerprint, n_threads=threads or num_physical_cores())
        cards = [device.name for device in devices()]
        return self.decision.conditions(self.fingerprint, threads, cards, model.n_layers)

    @property
    def states(self) -> StateDirectory | None:
        """The stored prefixes on disk that the current context can load.

        None if the model was loaded without `store`, or if each sequence has its own region.
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
        """Whether computed prefixes of this model can be stored, given a suitable context."""
        return not isinstance(self.vocabulary, LlamaModel) or self.vocabulary.has_states

    def recall(self, tokens: Sequence[int], *, exact: bool = False) -> int:
        """Restore the longest stored prefix of `tokens` for the next request; return its length.

        Returns 0 if the store has no prefix longer than the one the engine holds, or if the model
        was loaded without `store`. A bad file is ignored, and `on_note` is called.

        exact: restore only as far as a fresh `engine.prefixes.prefill` would give identical bits.
        """
        if self.states is None:
            return 0
        return recall(self.engine, self.states, tokens, exact=exact, note=self._on_note)

    def num_stored(self, tokens: Sequence[int]) -> int:
        """Return how many of `tokens` an exact `recall` would find on disk.

        It does not matter how many of them the engine already holds.
        """
        return num_stored(self.engine, self.states, tokens) if self.states else 0

    def remember(self, tokens: Sequence[int]) -> int:
        """Save the prefix of `tokens` that the engine holds; return the bytes written.

        Returns 0 if all of it was saved before. If writing fails, `on_note` is called.
        """
        if self.states is None:
            return 0
        return remember(self.engine, self.states, tokens, note=self._on_note)

    def generate(self, prompt: Prompt, **sampling: Any) -> Completion:
        """Return the whole answer to one prompt.

        Raises RequestError if the request cannot be served, EngineError if computing it fails.
        """
        request = self.request(prompt, **sampling)
        collector = Collector()
        collector.begin(request)
        completion = next(collector.feed(self.engine.stream(request)))
        if completion.error:
            raise EngineError(completion.error)
        return without_thought(completion, request.params.constraint)

    def stream(self, prompt: Prompt, **sampling: Any) -> Iterator[str]:
        """Yield the answer's text as it is generated; leaving the loop stops the generation."""
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
        thinks: bool | str | None = None,
        begun: str = "",
        **sampling: Any,
    ) -> Request:
        """Return a request for the engine.

        id: the request's id; None numbers requests r1, r2, …
        tools: tools that the chat template describes to the model.
        raw: whether a text is continued as it stands, without the chat template.
        default_max_tokens: used if no max_tokens is given, and cut to the space left in the
            context. A given max_tokens is never cut: if it does not fit, the engine refuses it.

        must_call: the answer has to call one of these functions, which are among the `tools`.
        thinks: whether the model is to think first, or how hard: "low", "medium", "high" or another
            word that its chat template knows. None leaves that to the template.
        begun: the beginning of the answer, which the model continues; not for models that think.

        If sampling needs a seed and none is given, a random one is drawn here, so that callers can
        report it.
        """
        encoder = self.encoder_for(thinks)
        tokens = self._encode(encoder, prompt, tools, raw)
        if begun:
            if encoder.thinking != "no":
                raise RequestError("a model that thinks first cannot continue a begun answer")
            tokens = [*tokens, *encoder.begun(begun)]
        if must_call:
            if sampling.get("constraint"):
                raise RequestError("a tool call and a response format cannot both be required")
            sampling["constraint"] = encoder.must_call(tools or (), must_call)
        params = self.params(**sampling)
        if not raw:
            params = _with_thought(params, encoder)
        if params.max_tokens is None and default_max_tokens:
            left = max(1, self.n_ctx - len(tokens))
            params = replace(params, max_tokens=min(default_max_tokens, left))
        if params.seed is None and params.temperature > 0:
            params = replace(params, seed=secrets.randbelow(2**32 - 1))
        return Request(id or f"r{next(self._ids)}", tuple(tokens), params)

    def encoder_for(self, thinks: bool | str | None) -> PromptEncoder:
        """Return the encoder of prompts for a model that is to think first, or so hard, or not.

        RequestError if the model does not think, or cannot be told so.
        """
        if thinks is None:
            return self.encoder
        if isinstance(thinks, str):
            if not self.encoder.takes_effort(thinks):
                raise RequestError(f"the model's chat template does not know an effort {thinks!r}")
            return self.encoder.told(thinks=thinks)
        encoder = self.encoder.told(thinks=thinks)
        if thinks and encoder.thinking == "no":
            raise RequestError("the model does not think before it answers")
        if not thinks and encoder.thinking != "no" and not self.encoder.takes_effort("none"):
            raise RequestError("the model always thinks before it answers: no switch turns it off")
        return encoder

    def params(self, **sampling: Any) -> SamplingParams:
        """Return SamplingParams: the given values over this model's defaults; None is not given.

        Raises UsageError for an unknown option.
        """
        given = {key: value for key, value in sampling.items() if value is not None}
        known = {field.name for field in fields(SamplingParams)}
        if unknown := given.keys() - known:
            raise UsageError(f"unknown sampling option {sorted(unknown)[0]!r}")
        return SamplingParams(**{**self.sampling, **given})

    def params_of_answer(self, **sampling: Any) -> SamplingParams:
        """Return `params` for a whole answer: the model may think before a constraint begins."""
        return _with_thought(self.params(**sampling), self.encoder)

    def tagged_text(self, completion: Completion) -> str:
        """An answer's text with the tags around its calls, which as control tokens have no text."""
        special = self.vocabulary.special_tokens
        tags = {special[tag] for tag in TAGS if tag in special}
        if tags.isdisjoint(completion.token_ids):
            return completion.text
        return tagged_text(completion.token_ids, self.engine.backend.piece, special)

    def close(self) -> None:
        """Free the context and the weights; idempotent."""
        self._contexts.close()
        self.on_close()

    def _encode(
        self,
        encoder: PromptEncoder,
        prompt: Prompt,
        tools: Sequence[Mapping[str, Any]] | None,
        raw: bool,
    ) -> list[int]:
        if isinstance(prompt, str):
            if raw:
                return encoder.text(prompt)
            prompt = [{"role": "user", "content": prompt}]
        if _is_token_ids(prompt):
            self._check_tokens(prompt)
            return list(prompt)
        encoder.check_roles(prompt)
        return encoder.chat(prompt, tools=tools)

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        n_vocab = self.vocabulary.n_vocab
        for wrong in (min(tokens), max(tokens)):
            if not 0 <= wrong < n_vocab:
                raise RequestError(
                    f"prompt has the token {wrong}, but the vocabulary of this model ends at "
                    f"{n_vocab - 1}"
                )


def _with_thought(params: SamplingParams, encoder: PromptEncoder) -> SamplingParams:
    """The parameters with a constraint that begins only after what the model may think."""
    constraint = params.constraint
    if constraint is None:
        return params
    if encoder.thinking != "channels" and constraint.kind not in _AFTER_THOUGHTS:
        return params
    constraint = replace(constraint, thinking=encoder.thinking)
    if encoder.thoughts:
        constraint = replace(constraint, tags=encoder.thoughts.tags)
    return replace(params, constraint=constraint)


def _is_token_ids(prompt: Sequence[Message] | Sequence[int]) -> TypeIs[Sequence[int]]:
    return bool(prompt) and isinstance(prompt[0], int)
