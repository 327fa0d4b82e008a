"""The model class `l4` of lm-evaluation-harness, which is the extra `eval`.

    python -m l4cli.eval.harness run --model l4 --model_args model=demo --tasks TASK …

is the harness's own command with the class registered: the harness has no plug-ins, so that
`lm_eval --model l4` alone does not know it. In a program, `register()` is called before
`lm_eval.simple_evaluate(model="l4", model_args={"model": "demo"}, …)`.

Arguments: `model`, a name or a file; `max_length`, the most tokens of a context; `threads`,
`gpu_layers` and `kv_type`, as the options of `l4 eval`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.types import DecodeAbortedError
from l4cli.errors import UsageError
from l4cli.eval.scoring import Group, Likelihood, Scorer, encode_pair
from l4cli.loading.llm import LLM
from l4cli.loading.load import load
from l4cli.loading.options import DEFAULT_N_CTX

_MAX_GEN = 256  # tokens of an answer, if the task does not say
_NO_USE = ("batch_size", "max_batch_size", "device")  # the harness gives them to every class


class Harness:
    """What the harness asks of a model, on l4. `model_class` makes it a subclass of its `LM`.

    model: a name or a GGUF file; None is the default model.
    max_length: most tokens of a context with what follows it; longer contexts lose their beginning.
        None is the length that the model was trained for, at most 16,384.
    threads, gpu_layers, kv_type: as in `l4cli.load`.
    llm: a loaded model to use, which the caller closes; `model` and what follows are not used then.
    """

    def __init__(
        self,
        model: str | None = None,
        max_length: int | None = None,
        threads: int | None = None,
        gpu_layers: int | str = -1,
        kv_type: str = "f16",
        llm: LLM | None = None,
        **others: Any,
    ) -> None:
        if unknown := sorted(others.keys() - {*_NO_USE}):
            raise UsageError(
                f"the model class l4 has no argument {unknown[0]!r}: it takes model, max_length, "
                "threads, gpu_layers and kv_type"
            )
        super().__init__()
        options: dict[str, Any] = {
            "threads": threads,
            "gpu_layers": gpu_layers,
            "kv_type": kv_type,
            "elastic": True,
            "parallel": "auto",
        }
        self._owned, self._is_stopped = llm is None, False
        self._llm = llm or load(model, **options)
        self._scorer: Scorer | None = None
        self.show: Callable[[int, int], None] = lambda done, total: None
        assert isinstance(self._llm.vocabulary, LlamaModel)
        self._model = self._llm.vocabulary
        trained = self._model.n_ctx_train or DEFAULT_N_CTX
        self.max_length = int(max_length or min(trained, DEFAULT_N_CTX))
        self._is_templated = False

    def close(self) -> None:
        """Free the model, unless it is the caller's; idempotent."""
        if self._owned:
            self._llm.close()

    def interrupt(self) -> None:
        """End the running requests soon, with DecodeAbortedError. Safe from other threads."""
        self._is_stopped = True
        self._llm.interrupt()
        if scorer := self._scorer:
            scorer.interrupt()

    @property
    def tokenizer_name(self) -> str:
        """A name under which the harness keeps requests."""
        return self._llm.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The source of the model's chat template, for the harness's records."""
        return self._model.chat_template if chat_template else ""

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as the model's template writes it.

        The harness hands out texts only, so from now on control tokens are found in texts.
        """
        self._is_templated = True
        messages: list[Any] = [dict(message) for message in chat_history]
        text = str(self._llm.encoder.render(messages, add_generation_prompt=add_generation_prompt))
        bos = self._model.token_text(self._model.bos_token)
        return text.removeprefix(bos) if self._model.adds_bos and bos else text

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """Return (log-likelihood, is greedy) of each request's continuation.

        Requests with the same context are computed together, whatever their order.
        """
        pairs = [self._pair(*request.args) for request in requests]
        return [tuple(found) for found in self._score(pairs)]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-likelihood of each request's text, every token with as many before it.

        A long text is cut into windows of `max_length` tokens, whose scored tokens do not overlap.
        """
        found = []
        for request in requests:
            (text,) = request.args
            windows = list(self._windows(self._model.tokenize(text)))
            found.append(sum(one.logprob for one in self._score(windows)))
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the answer to each request's context, up to one of its stop strings."""
        asked = []
        for number, request in enumerate(requests):
            context, settings = request.args
            asked.append(self._request(str(number), context, dict(settings)))
        if not asked:
            return []
        self._llm.fit(asked)
        texts = {}
        for completion in self._llm.engine.generate(asked, lambda: self._is_stopped):
            if completion.finish_reason == "abort":
                raise DecodeAbortedError
            if completion.error:
                raise UsageError(f"request {completion.request_id}: {completion.error}")
            texts[completion.request_id] = completion.text
            self.show(len(texts), len(asked))
        return [texts[request.id] for request in asked]

    def _request(self, name: str, context: str, settings: dict[str, Any]) -> Any:
        until = settings.get("until") or []
        stop = tuple(one for one in ([until] if isinstance(until, str) else until) if one)
        most = int(settings.get("max_gen_toks", settings.get("max_new_tokens", _MAX_GEN)))
        temperature = float(settings.get("temperature") or 0.0)
        if settings.get("do_sample") is False:
            temperature = 0.0
        ids, _ = encode_pair(self._model, context, "", special=self._is_templated)
        ids = ids[-max(1, self.max_length - most) :]
        request = self._llm.request(
            ids, id=name, stop=stop, max_tokens=most, temperature=temperature
        )
        return replace(request, prompt=tuple(ids))

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        ids, following = encode_pair(self._model, context, continuation, special=self._is_templated)
        if len(following) >= self.max_length:
            raise UsageError(
                f"a continuation has {len(following):,} tokens, max_length is {self.max_length:,}"
            )
        return ids[-(self.max_length + 1 - len(following)) :], following

    def _score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Likelihood]:
        by_context: dict[tuple[int, ...], list[int]] = {}
        for at, (context, _) in enumerate(pairs):
            by_context.setdefault(tuple(context), []).append(at)
        parts = [
            (context, places[start : start + _MOST_TOGETHER])
            for context, places in by_context.items()
            for start in range(0, len(places), _MOST_TOGETHER)
        ]
        if not parts:
            return []
        groups = [Group(context, [pairs[at][1] for at in places]) for context, places in parts]
        scorer = Scorer.of(self._llm.name, self._model, self._llm.conditions, groups)
        self._scorer = scorer
        found: dict[int, Likelihood] = {}
        try:
            for (_, places), likelihoods in zip(parts, scorer.run(groups), strict=True):
                found.update(zip(places, likelihoods, strict=True))
                self.show(len(found), len(pairs))
        finally:
            self._scorer = None
            scorer.close()
        return [found[at] for at in range(len(pairs))]

    def _windows(self, ids: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Yield contexts and the tokens scored behind them; together they are all tokens, once."""
        model = self._model
        prefix = model.bos_token if model.bos_token is not None else model.eos_token
        whole = [prefix or 0, *ids]
        at = 1
        while at < len(whole):
            stop = min(at + self.max_length, len(whole))
            start = max(0, stop - self.max_length - 1) if at > 1 else 0
            yield whole[start:at], whole[at:stop]
            at = stop


_MOST_TOGETHER = 200  # continuations of one context: llama.cpp runs 256 sequences at once


@functools.cache
def model_class() -> type:
    """Return the class for the harness. UsageError if the harness is not installed."""
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise UsageError(
            f"lm-evaluation-harness cannot be imported ({error}): pip install 'l4[eval]'"
        ) from None
    return type("L4", (Harness, LM), {"__doc__": Harness.__doc__})


def register() -> None:
    """Let the harness know the model class `l4`; idempotent. UsageError if it is not installed."""
    found = model_class()
    from lm_eval.api.registry import model_registry

    if "l4" not in model_registry:
        # The harness fills an empty registry with its own classes, and only an empty one.
        import lm_eval.models  # noqa: F401

        model_registry.register("l4")(found)


def main() -> None:
    """The harness's command line, which knows the model class `l4`."""
    try:
        register()
    except UsageError as error:
        sys.exit(f"l4: {error}")
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
