"""Takes a model, or models and their reference, through the chunks of a text.

No logits are stored: each step's rows become a few numbers for each token before the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import DecodeAbortedError
from l4cli.errors import ModelError, UsageError
from l4cli.eval.chunks import Chunks, Piece, Step, steps
from l4cli.eval.numerics import Compared, Doubles, Floats, Numerics, Reference
from l4cli.eval.passing import Pass, Rows, rows_at_once
from l4cli.speeds import Conditions

_NO_TOKENS = Compared(
    np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0),
    np.zeros(0, np.int32), np.zeros(0, np.int32),
)  # fmt: skip


@dataclass(slots=True)
class Measured:
    """What is known of a model: numbers of all tokens scored so far.

    pieces: where the tokens are. nlls: their negative log-likelihoods, without a reference.
    compared: their numbers against the reference.
    tokens_per_second: of the model itself, without its reference; None before the first step.
    """

    chunks: Chunks
    pieces: list[Piece] = field(default_factory=list)
    nlls: list[Doubles] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    tokens_per_second: float | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens scored so far."""
        return len(self.positions)

    @property
    def num_chunks(self) -> int:
        """Chunks of which tokens were scored so far."""
        return len({piece.chunk for piece in self.pieces})

    @property
    def positions(self) -> list[int]:
        """For each scored token the position, within its chunk, whose logits predict it."""
        last = self.chunks.n_ctx - 1
        return [at for piece in self.pieces for at in range(piece.start, min(piece.stop, last))]

    @property
    def places(self) -> list[int]:
        """For each scored token its index in the text."""
        n_ctx = self.chunks.n_ctx
        return [
            piece.chunk * n_ctx + at + 1
            for piece in self.pieces
            for at in range(piece.start, min(piece.stop, n_ctx - 1))
        ]

    @property
    def nll(self) -> Doubles:
        """Negative log-likelihoods of all scored tokens."""
        return np.concatenate(self.nlls) if self.nlls else np.zeros(0)

    @property
    def all_compared(self) -> Compared:
        """The numbers of all scored tokens against the reference."""
        if not self.compared:
            return _NO_TOKENS
        return Compared(*(np.concatenate(parts) for parts in zip(*self.compared, strict=True)))


@dataclass(frozen=True, slots=True)
class Subject:
    """A loaded model, and how it was loaded."""

    name: str
    weights: LlamaModel
    conditions: Conditions

    def start(self, chunks: Chunks, width: int) -> Pass:
        """Return a pass through the chunks, with a context of two regions.

        width: rows of logits that a step keeps. ModelLoadError if memory is short.
        """
        backend = LlamaBackend(
            self.weights,
            n_ctx=2 * chunks.n_ctx,
            n_seq_max=2,
            n_batch=2 * width,
            n_ubatch=2 * width,
            n_outputs=width,
            n_threads=self.conditions.n_threads,
            kv_type=self.conditions.kv_type,
            unified=False,
        )
        return Pass(backend, chunks)


class Evaluation:
    """One way through a text, of one model alone or of models together with their reference.

    The reference computes each step once for all models. A model that computes what is no number
    is left out from there on.

    models: those to measure; more than one only with a reference.
    base: the reference; None if there is none.
    stopping: asked before each step; the evaluation ends once it is true.
    show: called with the number of tokens computed so far, of all models together.

    `found` has what was measured, and `failures` the errors, of each model.
    """

    def __init__(
        self,
        models: Sequence[Subject],
        base: Subject | None,
        chunks: Chunks,
        *,
        stopping: Callable[[], object] = lambda: False,
        show: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._models, self._base, self._chunks = list(models), base, chunks
        self.stopping, self.show = stopping, show
        self._passes: list[Pass] = []
        self.found = [Measured(chunks) for _ in models]
        self.failures: dict[int, ModelError] = {}

    def interrupt(self) -> None:
        """Make the running step end soon. Safe from signal handlers and other threads."""
        for each in list(self._passes):
            each.interrupt()

    def run(self) -> None:
        """Fill `found`. It ends early after an interrupt.

        Raises ModelError if the reference computes something that is no number, EngineError if
        llama.cpp fails; what was found before is kept.
        """
        chunks, models = self._chunks, self._models
        num_models = len(models) + (1 if self._base else 0)
        width = rows_at_once(models[0].weights.n_vocab, chunks.n_ctx, num_models)
        numerics = Numerics(models[0].conditions.n_threads)
        try:
            base = self._start(self._base, width) if self._base else None
            own = [self._start(model, width) for model in models]
            for step in steps(chunks, width):
                if self.stopping() or len(self.failures) == len(models):
                    return
                self._step(step, own, base, numerics)
        except DecodeAbortedError:
            return
        finally:
            numerics.close()
            passes, self._passes = self._passes, []
            for each in reversed(passes):
                each.close()

    def _step(self, step: Step, own: Sequence[Pass], base: Pass | None, numerics: Numerics) -> None:
        piece, targets = step.scored, list[int]()
        if piece:  # a piece that is the chunk's last token alone has no target
            targets = self._chunks.targets(piece.chunk, piece.start, piece.stop)
        reference: Reference | None = None
        if base:
            rows = base.rows(step)
            if piece and targets and rows is not None:
                assert self._base
                reference = numerics.reference(rows, targets)
                _check(self._base, reference.nll, piece)
            base.drop()
        for number, each in enumerate(own):
            if number in self.failures:
                continue
            rows = each.rows(step)
            self.show(sum(one.num_tokens for one in self._passes))
            measured = self.found[number]
            measured.tokens_per_second = each.num_tokens / max(each.seconds, 1e-9)
            if piece and targets and rows is not None:
                try:
                    self._score(number, rows, reference, targets, piece, numerics)
                except ModelError as error:
                    self.failures[number] = error
            each.drop()

    def _score(
        self,
        number: int,
        rows: Rows,
        reference: Reference | None,
        targets: list[int],
        piece: Piece,
        numerics: Numerics,
    ) -> None:
        model, measured = self._models[number], self.found[number]
        if reference is None:
            nll = numerics.nll(rows, targets)
            _check(model, nll, piece)
            measured.nlls.append(nll)
        else:
            compared = numerics.compare(rows, reference, targets)
            _check(model, compared.nll, piece)
            _check(model, compared.kld, piece)
            measured.compared.append(compared)
        measured.pieces.append(piece)

    def _start(self, subject: Subject, width: int) -> Pass:
        started = subject.start(self._chunks, width)
        self._passes.append(started)
        return started


def check_context(subject: Subject, n_ctx: int) -> None:
    """Raise UsageError if a chunk is longer than the model was trained for, or too short."""
    trained = subject.weights.n_ctx_train
    if trained and n_ctx > trained:
        raise UsageError(
            f"--ctx {n_ctx:,} is more than the {trained:,} tokens that {subject.name} was trained "
            "for"
        )


def check_same_vocabulary(model: Subject, base: Subject) -> None:
    """Raise UsageError, which says what differs, unless both models have the same tokens."""
    ours, theirs = model.weights, base.weights
    if ours.n_vocab != theirs.n_vocab:
        why = f"{ours.n_vocab:,} tokens and {theirs.n_vocab:,}"
    elif (ours.adds_bos, ours.bos_token) != (theirs.adds_bos, theirs.bos_token):
        why = "different tokens at the beginning of a text"
    else:
        ids: Sequence[int] = range(ours.n_vocab)
        token = next((i for i in ids if ours.token_text(i) != theirs.token_text(i)), None)
        if token is None:
            return
        texts = f"{ours.token_text(token)!r} and {theirs.token_text(token)!r}"
        why = f"token {token} is {texts}"
    raise UsageError(
        f"{model.name} and {base.name} have different vocabularies ({why}): their predictions "
        "cannot be compared"
    )


def _check(subject: Subject, numbers: Doubles | Floats, piece: Piece) -> None:
    usable = np.isfinite(numbers)
    if not usable.all():
        at = piece.start + int(usable.argmin())
        raise ModelError(
            f"{subject.name}: it computed what is no number (NaN or infinite) for token {at + 1} "
            f"of chunk {piece.chunk + 1}: its weights may be damaged (`l4 info` looks at the file)"
        )
