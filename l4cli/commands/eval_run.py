"""What `l4 eval` does with texts: loads the models, measures them, finds what is broken."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convert.errors import ConvertError
from l4cli import console
from l4cli.commands import chunk_options
from l4cli.errors import InputError, L4Error

if TYPE_CHECKING:
    from convert import Oddity
    from l4cli.eval.report import Result
    from l4cli.eval.session import Evaluation, Subject
    from l4cli.eval.texts import Text
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions


@dataclass(slots=True)
class Run:
    """All models of a command over one text; the reference stays loaded.

    n_ctx: tokens of a chunk; None for the default.
    finds: whether tensors are compared, whatever the figures are.
    seconds: how long the models are measured, all together; None for the whole text.
    keeps: whether results are kept for `l4 info` at once; otherwise `keep` does it.

    results: what was measured, in the order of the files; sources: the file of each.
    failures: why models could not be measured.
    oddities: of models that may be broken, by name, what differs from the reference.
    exit_code: that of the signal that ended it; 0 if none did.
    """

    text: Text
    loading: LoadOptions
    n_ctx: int | None
    most_chunks: int | None
    finds: bool = False
    seconds: float | None = None
    keeps: bool = True
    results: list[Result] = field(default_factory=list)
    sources: list[ModelFile] = field(default_factory=list)
    oddities: dict[str, tuple[Oddity, ...]] = field(default_factory=dict)
    failures: list[L4Error] = field(default_factory=list)
    exit_code: int = 0
    _failed: list[ModelFile] = field(default_factory=list)
    _num_files: int = 0

    def all(self, files: Sequence[ModelFile], base_file: ModelFile | None) -> None:
        """Fill `results` and `failures`."""
        from l4cli.signals import GivenUpError

        self._num_files = len(files)
        try:
            if base_file is None:
                for file in files:
                    with ExitStack() as opened:
                        self._group([file], None, None, [self._candidate(file, opened)])
                    if self.exit_code:
                        return
            else:
                self._compare(files, base_file)
        except GivenUpError as given_up:
            self.exit_code = given_up.exit_code
        except L4Error as error:
            self.failures.append(error)

    def _compare(self, files: Sequence[ModelFile], base_file: ModelFile) -> None:
        """Measure the files against the reference: all at once, if memory allows."""
        from l4cli.eval.planning import options_together
        from l4cli.fit.hardware import probe

        with ExitStack() as opened:
            together = None
            if len(files) > 1:
                n_ctx = self._ctx(base_file.n_ctx_train)
                own = [file.with_experts(self.loading.experts) for file in files]
                together = options_together([base_file, *own], self.loading, n_ctx, probe())
            first = together[0] if together else None
            base = self._load(base_file, opened, first, experts=None)
            if together:
                llms = [
                    self._candidate(file, opened, loading)
                    for file, loading in zip(files, together[1:], strict=True)
                ]
                self._group(files, base_file, base, llms)
            else:
                for file in files:
                    with ExitStack() as candidate:
                        self._group([file], base_file, base, [self._candidate(file, candidate)])
                    if self.exit_code:
                        return
        # The models are closed: what follows only reads the files.
        self._find(base_file)

    def _candidate(
        self, file: ModelFile, opened: ExitStack, loading: LoadOptions | None = None
    ) -> LLM:
        return self._load(file, opened, loading, experts=self.loading.experts)

    def _load(
        self,
        file: ModelFile,
        opened: ExitStack,
        loading: LoadOptions | None = None,
        *,
        experts: int | None,
    ) -> LLM:
        """Load a model. `loading`: what was planned for it together with others, if it was."""
        from l4cli.commands.open_model import load_shown
        from l4cli.eval.planning import loaded_for

        loading = loading or loaded_for(self.loading, self._ctx(file.n_ctx_train))
        return opened.enter_context(load_shown(file, loading.but(experts=experts)))

    def _ctx(self, trained: int) -> int:
        return chunk_options.length(self.n_ctx, trained)

    def _group(
        self,
        files: Sequence[ModelFile],
        base_file: ModelFile | None,
        base_llm: LLM | None,
        llms: Sequence[LLM],
    ) -> None:
        """Measure loaded models together. L4Error if that is not possible."""
        from l4cli.eval import session
        from l4cli.eval.chunks import cut
        from l4cli.signals import catch_interrupts

        models = [_subject(llm) for llm in llms]
        base = _subject(base_llm) if base_llm else None
        first = base or models[0]  # llama-perplexity, too, has the tokens of the reference
        n_ctx = self._ctx(first.weights.n_ctx_train)
        for each in (*models, *([base] if base else [])):
            session.check_context(each, n_ctx)
        if base:
            for model in models:
                session.check_same_vocabulary(model, base)
        with console.status("reading the text"):
            tokens = self.text.tokens(first.weights)
        chunks = cut(tokens, n_ctx, self.most_chunks, first.weights.added_bos, self.text.name)
        total = chunks.count * n_ctx * (len(models) + (1 if base else 0))
        evaluation = session.Evaluation(models, base, chunks)
        end = math.inf if self.seconds is None else time.monotonic() + self._share(len(files))
        label = models[0].name if len(models) == 1 else f"{len(models)} models"
        try:
            with (
                console.token_progress(label, total) as show,
                catch_interrupts(
                    evaluation.interrupt, console.show_stopping, is_last=True
                ) as interrupts,
            ):
                evaluation.stopping = lambda: interrupts.count or time.monotonic() >= end
                evaluation.show = show
                evaluation.run()
                self.exit_code = interrupts.exit_code if interrupts else 0
        finally:
            self._take(files, base_file, evaluation, models)

    def _take(
        self,
        files: Sequence[ModelFile],
        base_file: ModelFile | None,
        evaluation: Evaluation,
        models: Sequence[Subject],
    ) -> None:
        """Take over what was measured, and keep it for `l4 info`."""
        from l4cli.eval.report import result_of

        for file, model, measured in zip(files, models, evaluation.found, strict=True):
            found = result_of(model.name, file.n_bytes, measured, model.weights.piece)
            if found:
                self.results.append(found)
                self.sources.append(file)
        self.failures += evaluation.failures.values()
        self._failed += [files[number] for number in evaluation.failures]
        if self.keeps:
            self.keep(base_file, since=len(self.results) - len(files))

    def keep(self, base_file: ModelFile | None, *, since: int = 0) -> None:
        """Keep the results for `l4 info`, from number `since` on."""
        from l4cli.eval.keeping import Identity, Kept, keep, today
        from l4cli.eval.report import as_kept

        for file, result in list(zip(self.sources, self.results, strict=True))[max(0, since) :]:
            figures = as_kept(result)
            figures["is_partial"] &= bool(self.exit_code) or file in self._failed
            with suppress(OSError):  # a file is gone meanwhile
                own = Identity.of(file.header)
                base = Identity.of(base_file.header) if base_file else None
                kept = Kept(
                    fingerprint=own.fingerprint,
                    samples=own.samples,
                    text=self.text.name,
                    digest=self.text.digest,
                    against=f"{base.fingerprint} {base.samples}" if base else "",
                    reference=base_file.name if base_file else "",
                    date=today(),
                    **figures,
                )
                keep(kept)

    def _share(self, count: int) -> float:
        """Seconds for `count` of the models."""
        return (self.seconds or 0.0) * count / max(1, self._num_files)

    def _find(self, base_file: ModelFile) -> None:
        """Compare the tensors of what may be broken with those of the reference."""
        from l4cli.eval.suspicion import is_suspicious

        if self.exit_code:
            return
        doubtful = dict.fromkeys(self._failed)
        for file, result in zip(self.sources, self.results, strict=True):
            comparison = result.comparison
            if self.finds or (comparison and is_suspicious(comparison, _bits(file))):
                doubtful[file] = None
        for file in doubtful:
            self.oddities[file.name] = find_oddities(file, base_file)


def find_oddities(file: ModelFile, base: ModelFile) -> tuple[Oddity, ...]:
    """Compare a model's tensors and metadata with those of its reference.

    GivenUpError if a signal ends it, InputError if a file cannot be read.
    """
    import convert as converter
    from l4cli.signals import GivenUpError, catch_interrupts

    total = len(file.header.tensors)
    with (
        console.status(f"comparing the {total:,} tensors of {file.name}") as update,
        catch_interrupts(console.show_stopping) as interrupts,
    ):

        def progress(made: converter.Progress) -> None:
            update(f"comparing tensors of {file.name}: {made.bytes_done / made.bytes_total:.0%}")
            if interrupts:
                raise GivenUpError(interrupts.exit_code)

        try:
            return converter.find_oddities(file.path, base.path, progress=progress)
        except ConvertError as error:
            raise InputError(str(error)) from None


def _bits(file: ModelFile) -> float:
    """Bits of a weight, on average."""
    tensors = file.header.tensors.values()
    return 8 * sum(one.n_bytes for one in tensors) / max(1, sum(one.n_values for one in tensors))


def _subject(llm: LLM) -> Subject:
    from l4cli.engine.llamacpp import LlamaModel
    from l4cli.eval.session import Subject

    assert isinstance(llm.vocabulary, LlamaModel)
    experts = llm.options.experts
    name = llm.name if experts is None else f"{llm.name} with {experts} experts"
    return Subject(name, llm.vocabulary, llm.conditions)
