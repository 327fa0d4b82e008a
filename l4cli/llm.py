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
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from l4cli.engine.completion import Collector
from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import Backend, Completion, Request, SamplingParams
from l4cli.errors import EngineError, UsageError
from l4cli.locate import locate
from l4cli.prompt import PromptEncoder
from l4cli.prompt.encode import Vocabulary
from l4cli.prompt.template import Message

DEFAULT_N_CTX = 16384

Prompt = str | Sequence[Message]


class LLM:
    """An engine with its model. Close it, or use it as a context manager.

    A prompt is a text, taken as one user message, or a list of messages with `role` and `content`.
    Sampling arguments are the fields of SamplingParams; what is not given comes from models.toml.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        backend: Backend,
        *,
        sampling: Mapping[str, Any] | None = None,
        path: Path | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.path = path
        self.vocabulary = vocabulary
        self.encoder = PromptEncoder(vocabulary)
        self.engine = Engine(backend)
        self.sampling = dict(sampling or {})
        self._on_close = on_close
        self._ids = itertools.count(1)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_ctx(self) -> int:
        """Tokens that fit the context, prompts and answers of all sequences together."""
        return self.engine.backend.n_ctx

    @property
    def fingerprint(self) -> str:
        """Tells one model file from another without reading it whole; "" without a file."""
        return _fingerprint(self.path) if self.path else ""

    @property
    def template_digest(self) -> str:
        """Tells one chat template from another; "" without one."""
        template = self.encoder.template
        return hashlib.sha256(template.source.encode()).hexdigest()[:16] if template else ""

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
        self.engine.close()
        self._on_close()

    def _encode(
        self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] | None, raw: bool
    ) -> list[int]:
        if not isinstance(prompt, str):
            return self.encoder.chat(prompt, tools=tools)
        if raw:
            return self.encoder.text(prompt)
        return self.encoder.chat([{"role": "user", "content": prompt}], tools=tools)


def _fingerprint(path: Path) -> str:
    """Size and a digest of both ends."""
    size, span = path.stat().st_size, 1 << 20
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(span))
        file.seek(max(0, size - span))
        digest.update(file.read(span))
    return f"{size}:{digest.hexdigest()[:16]}"


def load(
    model: str | Path | None = None,
    *,
    ctx: int = DEFAULT_N_CTX,
    parallel: int = 1,
    threads: int | None = None,
    gpu_layers: int = -1,
    kv_type: str = "f16",
    on_progress: Callable[[float], None] | None = None,
    on_convert: Callable[[Path], None] | None = None,
) -> LLM:
    """Load a model by path, by its name in models.toml, or the default one.

    `ctx` tokens of context are shared by up to `parallel` sequences, and cut to what the model was
    trained for. Raises ModelNotFoundError and ModelLoadError with a line that says what to do.
    """
    located = locate(str(model) if model else None, on_convert=on_convert)
    weights = LlamaModel(located.path, n_gpu_layers=gpu_layers, on_progress=on_progress)
    try:
        backend = LlamaBackend(
            weights, n_ctx=ctx, n_seq_max=parallel, n_threads=threads, kv_type=kv_type
        )
        sampling = located.spec.sampling if located.spec else {}
        return LLM(
            located.name,
            weights,
            backend,
            sampling=sampling,
            path=located.path,
            on_close=weights.close,
        )
    except BaseException:
        weights.close()
        raise
