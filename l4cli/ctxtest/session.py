"""One context test: makes documents, prefills each once, and asks all its questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from random import Random

from l4cli.amounts import roughly, tokens
from l4cli.ctxtest.haystack import Document, make_documents
from l4cli.ctxtest.probes import Probe, make_probes
from l4cli.ctxtest.scoring import Judged, judge
from l4cli.engine.completion import Collector
from l4cli.engine.types import Request
from l4cli.errors import EngineError
from l4cli.loading.llm import LLM


@dataclass(frozen=True, slots=True)
class Plan:
    """What to test.

    lengths: tokens of the longest prompt of each document, with its answer.
    depths: the depths of the needles, 0.0 to 1.0.
    tasks: names of tasks, from `probes.TASKS`.
    num_samples: how many sets of documents to test at each length.
    seed: the same seed makes the same documents.
    max_tokens: the most tokens of every answer; None for each task's own limit.
    """

    lengths: Sequence[int]
    depths: Sequence[float]
    tasks: Sequence[str]
    num_samples: int = 1
    seed: int = 0
    max_tokens: int | None = None

    @property
    def num_tokens(self) -> int:
        """The least number of tokens to prefill; short lengths need several documents a sample."""
        return sum(self.lengths) * self.num_samples


class ContextTest:
    """Runs a context test with a model.

    llm: the model.
    plan: what to test.
    stopping: checked between steps; stops the test once it is true.
    show: called with a progress line after each step.
    clock: returns the time in seconds.
    """

    def __init__(
        self,
        llm: LLM,
        plan: Plan,
        *,
        stopping: Callable[[], object] = lambda: False,
        show: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._llm, self._plan = llm, plan
        self._stopping, self._show, self._clock = stopping, show, clock
        self._num_read = 0

    def run(self) -> Iterator[tuple[int, Judged]]:
        """Yield pairs of a length and an answer, one length after the other.

        If the test is stopped, the current length is left out entirely, because its scores would
        be based on fewer questions than those of other lengths.
        """
        self._started = self._clock()
        for length in sorted(self._plan.lengths):
            answers: list[Judged] = []
            for sample in range(self._plan.num_samples):
                for document in self._documents(length, sample):
                    answers += self._ask(document, length)
                    if self._stopping():
                        return
            yield from ((length, answer) for answer in answers)

    def _documents(self, length: int, sample: int) -> Iterator[Document]:
        rng = Random(f"{self._plan.seed}/{length}/{sample}")
        probes = make_probes(rng, self._plan.tasks, self._plan.depths)
        if self._plan.max_tokens:
            probes = [replace(probe, max_tokens=self._plan.max_tokens) for probe in probes]
        return make_documents(rng, probes, length, self._count_sentence, self._count_prompt)

    def _ask(self, document: Document, length: int) -> Iterator[Judged]:
        """Yield the judged answers to all questions on a document, which is prefilled once."""
        engine, collector = self._llm.engine, Collector()
        asked: dict[str, Probe] = {}
        head = self._head(document.head)
        requests = []
        for probe in document.probes:
            request = self._request(f"q{len(asked)}", head + self._question(probe.question), probe)
            collector.begin(request)
            requests.append(request)
            asked[request.id] = probe
        with closing(engine.run(requests, stopping=self._stopping)) as steps:
            for outputs in steps:
                for done in collector.feed(outputs):
                    if done.finish_reason == "error":
                        raise EngineError(done.error or "llama.cpp failed and gave no reason")
                    if done.finish_reason != "abort":
                        yield judge(asked[done.request_id], done.text)
                self._show_progress(length)
        self._num_read += length

    def _show_progress(self, length: int) -> None:
        computed = self._llm.engine.progress.num_computed_tokens
        done, total = self._num_read + computed, max(1, self._plan.num_tokens)
        elapsed = self._clock() - self._started
        left = max(0.0, total - done) * elapsed / max(1, done)
        share = min(1.0, done / total)
        read = f"{tokens(length)} tokens: {min(computed, length):,} read"
        self._show(f"{read} · {share:.0%} of all · {roughly(left)} left")

    def _count_sentence(self, text: str) -> int:
        return len(self._llm.vocabulary.tokenize(f" {text}"))

    def _count_prompt(self, head: str, question: str) -> int:
        return len(self._head(head)) + len(self._question(question))

    def _head(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a prompt up to its question."""
        encoder = self._llm.encoder
        return tuple(
            encoder.chat_in_sections([text, ""])[0] if encoder.template else encoder.text(text)
        )

    def _question(self, text: str) -> tuple[int, ...]:
        """Return the tokens from the question to the start of the answer.

        They do not depend on the text before the question.
        """
        if self._llm.encoder.template:
            return tuple(self._llm.encoder.chat_in_sections(["-", text])[1])
        return tuple(self._llm.vocabulary.tokenize(f"{text}\nAnswer:"))

    def _request(self, id: str, prompt: tuple[int, ...], probe: Probe) -> Request:
        """Return a greedy request. Without a chat template, the answer ends at a newline."""
        stop = () if self._llm.encoder.template else ("\n",)
        params = self._llm.params(temperature=0.0, max_tokens=probe.max_tokens, stop=stop)
        return Request(id, prompt, params)
