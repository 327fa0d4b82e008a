"""The engine: queues requests, computes them in batches, and returns the output of each step.

engine.add_request(request)      queue a request; refused at once if it can never fit
engine.step()                    compute one batch; return the new outputs
engine.abort(request_id)         end a request; its computed tokens stay reusable
engine.run(requests)             call `step` until all are done; yield the outputs of each step
engine.stream(request)           yield the outputs of one request
engine.prefixes                  texts prefilled before any request asks for them
engine.score(tokens)             how likely each token of a given text is
engine.generate(requests)        yield the whole answer of each request when it finishes
engine.agenerate(requests)       the same for asyncio
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from collections.abc import Sequence as Seq
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from l4cli.engine.batching import Chunk
from l4cli.engine.channels import ChannelReader
from l4cli.engine.completion import Collector, refused
from l4cli.engine.concurrency import ConcurrencyTuner
from l4cli.engine.detokenize import Detokenizer
from l4cli.engine.prefixes import Prefixes
from l4cli.engine.scheduler import Scheduler
from l4cli.engine.scoring import score
from l4cli.engine.sequence import Sequence
from l4cli.engine.types import (
    Backend,
    BatchItem,
    CompileAbortedError,
    Completion,
    DecodeAbortedError,
    FinishReason,
    Request,
    Sampled,
    Sampler,
    StepOutput,
    TokenLogprob,
)
from l4cli.errors import EngineError, RequestError


@dataclass(frozen=True, slots=True)
class Progress:
    """Tokens of a sequence: computed so far, those of them reused from the cache, its prompt."""

    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_prompt_tokens: int = 0


@dataclass(slots=True)
class _Live:
    """A request in flight, with its own sampler and detokenizer, and a reader of its channels."""

    sequence: Sequence
    sampler: Sampler
    detokenizer: Detokenizer
    reader: ChannelReader | None

    def take(self, token: int, piece: Callable[[int], bytes]) -> str:
        """Add a token of the answer; return the text that can no longer change."""
        return self.detokenizer.feed(self.reader.feed(token) if self.reader else piece(token))

    def finish(self, *, is_whole: bool) -> str:
        """The rest of the answer's text."""
        ending = self.reader.finish(is_whole=is_whole) if self.reader else b""
        return (self.detokenizer.feed(ending) if ending else "") + self.detokenizer.finish()


class Engine:
    """Continuous batching over one backend. Not thread-safe, except for `interrupt`.

    backend: closed together with the engine.
    max_retained: number of finished sequences whose KV cache is kept as prefixes.
    tune: find out during the work how many sequences run best at once.
    deterministic: compute every prompt in the same pieces, whatever came before it. On a backend
        of one sequence, the same request then gives the same bits.
    takes_turns: between two batches of prompts, every running answer gets a token.

    An error of one request ends that request with finish_reason "error". EngineError is raised
    only if the backend itself is unusable.
    """

    def __init__(
        self,
        backend: Backend,
        max_retained: int = 1,
        *,
        tune: bool = False,
        deterministic: bool = False,
        takes_turns: bool = False,
    ) -> None:
        self.backend = backend
        step = backend.n_batch if deterministic else 1
        self.scheduler = Scheduler(backend, max_retained, prefix_step=step, takes_turns=takes_turns)
        self.prefixes = Prefixes(backend, self.scheduler)
        self._tuner = ConcurrencyTuner(backend.n_seq_max) if tune else None
        if self._tuner:
            self.scheduler.max_running = self._tuner.limit
        self._live: dict[str, _Live] = {}

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_unfinished(self) -> int:
        """Requests waiting or running."""
        return len(self._live)

    @property
    def waiting(self) -> set[str]:
        """Ids of the requests that are not admitted yet."""
        return {sequence.request.id for sequence in self.scheduler.waiting}

    @property
    def progress(self) -> Progress:
        """The progress of the sequence that has been running longest."""
        for sequence in self.scheduler.running[:1]:
            return Progress(
                sequence.num_computed_tokens,
                sequence.num_cached_tokens,
                sequence.num_prompt_tokens,
            )
        return Progress()

    @property
    def share_in_work(self) -> float:
        """How far the running sequences are: the sum of what each has computed of its longest."""
        shares = []
        for sequence in self.scheduler.running:
            longest = sequence.num_prompt_tokens + (sequence.request.params.max_tokens or 0)
            shares.append(sequence.num_computed_tokens / longest)
        return sum(shares)

    def retain(self, count: int) -> None:
        """Keep the KV cache of up to `count` finished sequences for requests that continue them."""
        self.scheduler.max_retained = count

    def forget(self) -> None:
        """Drop the KV cache of finished sequences: the next request reuses none of it."""
        self.scheduler.forget()

    @property
    def has_room(self) -> bool:
        """Whether another request would help: one waiting per slot can refill all slots at once."""
        return len(self.scheduler.waiting) < self.backend.n_seq_max

    def add_request(self, request: Request) -> None:
        """Queue a request.

        Raises ContextOverflowError, with the exact token counts, if it can never fit, and
        RequestError if its id is in flight or its prompt is empty. CompileAbortedError if
        `interrupt` came while its constraint was compiled: it is not queued then.
        """
        if request.id in self._live:
            raise RequestError(f"request id {request.id!r} is already in flight")
        sequence = self.scheduler.add(request)
        try:
            sampler = self.backend.sampler(request.params, request.prompt)
        except BaseException:
            self.scheduler.retire(sequence)
            raise
        channels, piece = self.backend.channels, self.backend.piece
        reader = ChannelReader(channels, piece, request.prompt) if channels else None
        self._live[request.id] = _Live(sequence, sampler, Detokenizer(request.params.stop), reader)

    def step(self) -> list[StepOutput]:
        """Decode one batch, and sample a token of each sequence whose tokens are all computed.

        Returns an empty list when nothing is in flight, when the batch only advanced prompts, and
        after `interrupt`, which keeps the progress of every request.
        """
        chunks = self.scheduler.schedule()
        if not chunks:
            return []
        started = time.perf_counter()
        try:
            self.backend.decode([_item(chunk) for chunk in chunks])
        except DecodeAbortedError:
            self._reconcile(chunks)
            return []
        except EngineError as error:
            return self._recover(chunks, error)
        if self._tuner:
            num_tokens = sum(chunk.stop - chunk.start for chunk in chunks)
            self._tuner.observe(len(chunks), num_tokens, time.perf_counter() - started)
            self.scheduler.max_running = self._tuner.limit
        return self._advance(chunks)

    def abort(self, request_id: str) -> StepOutput | None:
        """End a request now with finish_reason "abort"; None if it is not in flight."""
        live = self._live.get(request_id)
        return self._finish(live, "abort", live.finish(is_whole=False)) if live else None

    def score(self, tokens: Seq[int], num_top: int = 0) -> Iterator[list[TokenLogprob]]:
        """Yield the logprobs of a text's tokens after the first: see `scoring.score`."""
        return score(self.backend, self.scheduler, tokens, num_top)

    def interrupt(self) -> None:
        """Make a running `step` return soon. Safe from signal handlers and other threads."""
        self.backend.interrupt()

    def run(
        self,
        requests: Iterable[Request],
        *,
        stopping: Callable[[], object] = lambda: False,
        on_begun: Callable[[Request], None] = lambda request: None,
        on_refused: Callable[[Request, RequestError], None] | None = None,
    ) -> Generator[list[StepOutput], None, None]:
        """Compute `requests`, which are read lazily, and yield the outputs of each step.

        A step that only advanced prompts yields an empty list. Leaving the loop early aborts the
        requests that still run. Requests that were added elsewhere are computed in the same steps;
        their outputs are not yielded, and they are not aborted.

        stopping: asked before each step. Once it is true, the requests that still run are aborted,
            and their last outputs are yielded together.
        on_begun: called with each request that the engine has queued.
        on_refused: called with each request that cannot be served, and the error; the others go
            on. Without it, that error (a RequestError) is raised.
        """
        source = iter(requests)
        own: dict[str, Request] = {}  # those of `requests` in flight, in the order of adding
        is_exhausted = False
        try:
            while not stopping():
                while self.has_room and not is_exhausted:
                    request = next(source, None)
                    if request is None:
                        is_exhausted = True
                        break
                    try:
                        self.add_request(request)
                        own[request.id] = request
                        on_begun(request)
                    except CompileAbortedError:  # asked again unless `stopping` says otherwise
                        source = itertools.chain([request], source)
                        break
                    except RequestError as error:
                        if on_refused is None:
                            raise
                        on_refused(request, error)
                        yield []
                if not own and is_exhausted:
                    return
                outputs = [output for output in self.step() if output.request_id in own]
                # A request that is no longer in flight has ended, or other code has aborted it.
                own = {id: request for id, request in own.items() if id in self._live}
                yield outputs
            left, own = list(own), {}
            yield [rest for rest in map(self.abort, left) if rest]
        finally:
            for request_id in own:
                self.abort(request_id)

    def stream(self, request: Request) -> Generator[StepOutput, None, None]:
        """Yield the outputs of one request; leaving the loop early aborts it."""
        with closing(self.run([request])) as steps:
            for outputs in steps:
                yield from outputs

    def generate(
        self, requests: Iterable[Request], stopping: Callable[[], object] = lambda: False
    ) -> Generator[Completion, None, None]:
        """Yield each whole answer when it finishes, in any order; `requests` are read lazily.

        A request that can never fit gives a Completion with finish_reason "error". Requests that
        still run when `stopping` becomes true give one with "abort".
        """
        collector, refusals = Collector(), list[Completion]()

        def refuse(request: Request, error: RequestError) -> None:
            refusals.append(refused(request, error))

        steps = self.run(requests, stopping=stopping, on_begun=collector.begin, on_refused=refuse)
        with closing(steps):
            for outputs in steps:
                yield from refusals
                refusals.clear()
                yield from collector.feed(outputs)

    async def agenerate(self, requests: Iterable[Request]) -> AsyncIterator[Completion]:
        """`generate` for asyncio: llama.cpp computes in a separate thread.

        Only that thread uses the engine until the loop has ended. Leaving the loop early aborts
        the requests that still run.
        """
        loop = asyncio.get_running_loop()
        completions = self.generate(requests)
        with ThreadPoolExecutor(1, thread_name_prefix="engine") as thread:
            try:
                while done := await loop.run_in_executor(thread, next, completions, None):
                    yield done
            finally:
                if self._live:
                    self.interrupt()
                await loop.run_in_executor(thread, self._abort_all)

    def _abort_all(self) -> None:
        for request_id in list(self._live):
            self.abort(request_id)

    def close(self) -> None:
        """Free samplers and the backend; idempotent."""
        for live in self._live.values():
            live.sampler.close()
        self._live.clear()
        self.backend.close()

    def _recover(self, chunks: list[Chunk], error: EngineError) -> list[StepOutput]:
        """After a failed decode, decode the chunks one by one: only the failing request ends."""
        self._reconcile(chunks)
        if len(chunks) == 1:
            live = self._live[chunks[0].sequence.request.id]
            return [self._finish(live, "error", live.finish(is_whole=False), str(error))]
        outputs = []
        for chunk in (chunk.rest() for chunk in chunks):
            try:
                self.backend.decode([_item(chunk)])
                outputs += self._advance([chunk])
            except EngineError as again:
                outputs += self._recover([chunk], again)
            except DecodeAbortedError:
                self._reconcile([chunk])
        return outputs

    def _reconcile(self, chunks: list[Chunk]) -> None:
        """After an incomplete decode, ask the KV cache how far each sequence got.

        The last token is always computed again, because its logits are lost. A prompt goes on from
        a multiple of `prefix_step`, where one of its pieces may begin.
        """
        step = self.scheduler.prefix_step
        for sequence in (chunk.sequence for chunk in chunks):
            computed = self.backend.num_computed(sequence.seq_id)
            resume = min(computed, len(sequence.tokens) - 1)
            if resume < sequence.num_prompt_tokens:
                resume = resume // step * step
            if resume < computed:
                self.backend.truncate(sequence.seq_id, resume)
            sequence.num_computed_tokens = resume

    def _advance(self, chunks: list[Chunk]) -> list[StepOutput]:
        outputs = []
        output_index = 0
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.num_computed_tokens = chunk.stop
            if chunk.is_last:
                live = self._live[sequence.request.id]
                outputs.append(self._sample(live, output_index))
                output_index += 1
        return outputs

    def _sample(self, live: _Live, output_index: int) -> StepOutput:
        try:
            sampled = live.sampler.sample(output_index)
        except EngineError as error:
            return self._finish(live, "error", live.detokenizer.finish(), str(error))
        return self._append(live, sampled)

    def _append(self, live: _Live, sampled: Sampled) -> StepOutput:
        """Add a sampled token, and end the request if it is complete."""
        sequence, params, token = live.sequence, live.sequence.request.params, sampled.token
        if self.backend.is_eog(token) and not params.ignore_eos:
            return self._finish(live, "stop", live.finish(is_whole=True))
        sequence.tokens.append(token)
        text = live.take(token, self.backend.piece)
        reason: FinishReason | None = None
        if live.detokenizer.stopped or sampled.ends:
            reason = "stop"
        elif len(sequence.tokens) >= sequence.num_reserved:
            reason = "length"
        if reason is None:
            return _output(sequence, text, sampled)
        text += live.finish(is_whole=sampled.ends)
        if live.detokenizer.stopped:
            reason = "stop"
        return self._finish(live, reason, text, sampled=sampled)

    def _finish(
        self,
        live: _Live,
        reason: FinishReason,
        text: str,
        error: str | None = None,
        sampled: Sampled | None = None,
    ) -> StepOutput:
        output = _output(live.sequence, text, sampled, reason, error)
        output = output._replace(stopped_by=live.detokenizer.stopped_by)
        if live.reader:
            said = live.reader.said.before(live.sequence.request.params.stop)
            output = output._replace(said=said)
        if routes := self.backend.routes:
            sequence = live.sequence
            span = sequence.num_prompt_tokens, sequence.num_computed_tokens
            output = output._replace(experts=routes.take(sequence.seq_id, *span))
        live.sampler.close()
        del self._live[live.sequence.request.id]
        self.scheduler.retire(live.sequence)
        return output


def _item(chunk: Chunk) -> BatchItem:
    sequence = chunk.sequence
    tokens = sequence.tokens[chunk.start : chunk.stop]
    return BatchItem(sequence.seq_id, chunk.start, tokens, chunk.is_last)


def _output(
    sequence: Sequence,
    text: str,
    sampled: Sampled | None,
    reason: FinishReason | None = None,
    error: str | None = None,
) -> StepOutput:
    logprob = sampled.logprob if sampled else None
    return StepOutput(
        sequence.request.id,
        text,
        (sampled.token,) if sampled else (),
        reason,
        sequence.num_prompt_tokens,
        sequence.num_cached_tokens,
        len(sequence.tokens) - sequence.num_prompt_tokens,
        error,
        (logprob,) if logprob else (),
    )
