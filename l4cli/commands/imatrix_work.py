"""What `l4 imatrix` does with a model: read the texts, measure, write the file, tell about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from l4cli import console
from l4cli.amounts import counted
from l4cli.commands import chunk_options
from l4cli.commands.open_model import load_shown
from l4cli.engine.llamacpp import LlamaModel
from l4cli.errors import EngineError, UsageError
from l4cli.eval import texts
from l4cli.eval.texts import Text
from l4cli.imatrix import choosing, files, partial
from l4cli.imatrix.chunks import Chunks, Source, cut
from l4cli.imatrix.partial import PartialFile, State
from l4cli.imatrix.session import Collection
from l4cli.imatrix.sums import Sums
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions
from l4cli.outputs import refuse_unfit
from l4cli.signals import GivenUpError, catch_interrupts

_COLD_TOKENS = 32  # an expert with fewer is told as cold: its sums are off by a quarter or more
_MOST_LINES = 24


@dataclass(frozen=True, slots=True)
class Wishes:
    """The values of the command's options."""

    texts: tuple[Path, ...] = ()
    rows: tuple[Path, ...] = ()
    ctx: int | None = None
    chunks: int | None = None
    coverage: int | None = None
    add: Path | None = None
    overwrite: bool = False
    resume: bool = False

    def refuse_output(self, out: Path) -> None:
        """Raise L4Error if the output cannot be written, or lies there and may not be replaced."""
        refuse_unfit(out, partial.part_of(out))
        _ = partial.num_done(out)  # refuses a file of somebody else's
        if not self.is_done(out):
            refuse_taken(out, overwrite=self.overwrite)

    def is_done(self, out: Path) -> bool:
        """Whether a run that would be gone on with is complete."""
        return self.resume and out.exists() and partial.num_done(out) is None

    def read_texts(self) -> list[Text]:
        """Read the files; the built-in text if there are none. InputError names the file."""
        found = [texts.read_text_file(path) for path in self.texts]
        found += [texts.read_rows(path) for path in self.rows]
        return found or [texts.built_in_text()]


def measure(
    file: ModelFile, out: Path, sources: Sequence[Text], wishes: Wishes, loading: LoadOptions
) -> int:
    """Measure a model and write the imatrix. Return 0, or the exit code of a signal.

    Raises L4Error, also for an output that may not be replaced.
    """
    wishes.refuse_output(out)
    if wishes.is_done(out):
        console.note(f"{out} is there already, complete: nothing is left to do")
        return 0
    _ = file.header  # tells files that are no language model before anything is loaded
    if wishes.coverage:
        file.require_experts("--coverage")
    begun = _begun(file, wishes.add)
    if (num := partial.num_done(out)) and not wishes.resume:
        console.note(
            f"{out}: an unfinished run, {counted(num, 'chunk')} read, is restarted; with --resume "
            "it would go on"
        )
    try:
        with load_shown(file, loading.but(elastic=True)) as llm:
            weights = llm.vocabulary
            assert isinstance(weights, LlamaModel)
            with console.status("reading the texts"):
                chunks = _chunks(weights, sources, wishes.ctx, llm.name)
            policy = choosing.Policy(chunks.ends, wishes.chunks, wishes.coverage)
            names = (*(begun.texts if begun else ()), *(source.name for source in sources))
            part = PartialFile(out, _run_of(file, chunks, wishes), names, chunks.n_ctx)
            state = (part.load() if wishes.resume else None) or State(
                begun.sums if begun else Sums()
            )
            collection = Collection(weights, llm.conditions, chunks, policy, state)
            if exit_code := _read(llm.name, collection, part):
                return exit_code
    except GivenUpError as given_up:
        return given_up.exit_code
    found = part.finish(state)
    console.note(
        f"wrote {out}: {counted(len(state.done), 'chunk')} of {chunks.n_ctx:,} tokens, "
        f"{counted(len(found.sums.entries), 'tensor')}"
    )
    _tell_cold(found, wishes.coverage)
    return 0


def refuse_taken(out: Path, *, overwrite: bool) -> None:
    """Raise L4Error if the output cannot be written, or lies there and may not be replaced."""
    refuse_unfit(out)
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: give another name, or replace it with --overwrite")


def _read(name: str, collection: Collection, part: PartialFile) -> int:
    """Read chunks; return 0, or the exit code of a signal that stopped it."""
    state, n_ctx, total = collection.state, part.n_ctx, collection.total
    asked = 0

    def on_signal() -> None:
        """The first one waits for the end of the chunk, the next one does not."""
        nonlocal asked
        asked += 1
        if asked > 1:
            collection.interrupt()

    done = len(state.done) * n_ctx
    try:
        with (
            console.token_progress(name, total * n_ctx, done=done) as show,
            catch_interrupts(on_signal, console.show_stopping, is_last=True) as interrupts,
        ):
            collection.stopping = lambda: interrupts.count
            collection.show = lambda read: show(read * n_ctx)
            collection.after = part.save_if_due
            collection.run()
            if interrupts and collection.is_whole and state.done:
                part.save(state)
    except EngineError:
        if part.path.exists():
            console.note(
                f"what was read up to the last save is kept: --resume goes on ({part.path})"
            )
        raise
    if not interrupts:
        return 0
    kept = partial.num_done(part.out)
    console.warn(
        f"stopped: {kept:,} of at most {counted(total, 'chunk')} are read and kept; the "
        "same command with --resume goes on"
        if kept
        else "stopped before anything was read"
    )
    return interrupts.exit_code


def _begun(file: ModelFile, add: Path | None) -> files.Imatrix | None:
    """Read the imatrix to begin with, and see whether it is of this model."""
    if add is None:
        return None
    found = files.read(add)
    shapes = {name: tensor.shape for name, tensor in file.header.tensors.items()}
    files.check_model(found, add, shapes)
    return found


def _chunks(weights: LlamaModel, sources: Sequence[Text], ctx: int | None, name: str) -> Chunks:
    chunk_options.refuse_beyond(ctx, weights.n_ctx_train, name)
    n_ctx = chunk_options.length(ctx, weights.n_ctx_train)
    tokens = [Source(text.name, text.tokens(weights)) for text in sources]
    return cut(tokens, n_ctx, weights.added_bos)


def _run_of(file: ModelFile, chunks: Chunks, wishes: Wishes) -> str:
    """Identify what a run is of: only the same one is gone on with."""
    added = hashlib.sha256(wishes.add.read_bytes()).hexdigest()[:32] if wishes.add else None
    value = [file.fingerprint, chunks.digest, wishes.chunks, wishes.coverage, added]
    return json.dumps(value)


def _tell_cold(found: files.Imatrix, least: int | None) -> None:
    """Name the experts that saw too few tokens."""
    experts = found.sums.experts()
    least = least or _COLD_TOKENS
    total = sum(map(len, experts.values()))
    lines = list(choosing.cold_lines(experts, least))
    if not lines:
        if experts:
            console.note(f"all {total:,} experts have seen at least {least:,} tokens")
        return
    cold = int((choosing.flat(experts) < least).sum())
    console.warn(
        f"{cold:,} of {counted(total, 'expert')} saw fewer than {least:,} tokens (in brackets: how "
        "many); give more text, or --experts N, or later `l4 convert --cold-experts`"
    )
    for line in lines[:_MOST_LINES]:
        console.note(line)
    if len(lines) > _MOST_LINES:
        console.note(f"and in {counted(len(lines) - _MOST_LINES, 'more layer')}")
