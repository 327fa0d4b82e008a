"""Prepares documents for `l4 ask` and `l4 docs add`: finds them, estimates, and reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from l4cli import console
from l4cli.commands import stopped
from l4cli.errors import InputError

if TYPE_CHECKING:
    from l4cli.ask.preflight import Preflight
    from l4cli.ask.session import AskSession
    from l4cli.documents import Document
    from l4cli.documents.prompt import DocumentPrompt
    from l4cli.engine.types import Constraint
    from l4cli.loading.llm import LLM

TYPED_QUESTION = 512  # tokens reserved for a question typed in the terminal


def read_documents(
    sources: Sequence[str], *, use_gitignore: bool = True
) -> tuple[list[Document], int]:
    """The documents, and how many could not be read. Raises InputError if there are none."""
    from l4cli.documents import ingest

    errors: list[InputError] = []
    found = ingest(
        sources, on_error=errors.append, on_note=console.warn, use_gitignore=use_gitignore
    )
    texts = list(found)
    if not texts and errors:
        *before, last = errors
        for error in before:
            console.warn(str(error))
        raise last
    for error in errors:
        console.warn(f"{error}; continuing without it")
    if not texts:
        raise InputError(f"{', '.join(sources)}: no documents")
    return texts, len(errors)


def constraint_of(schema: str | None) -> Constraint | None:
    """The constraint that --schema sets, before anything is read or loaded."""
    from l4cli.batch.input import constraint_of

    return constraint_of(schema, None)


def preflight_of(
    llm: LLM,
    prompt: DocumentPrompt,
    asked: Sequence[str],
    max_tokens: int,
) -> Preflight:
    """What reading the documents and answering the questions takes.

    llm: may be without weights.
    asked: the questions; if empty, room is left for one typed in the terminal.
    max_tokens: of each answer.
    """
    from l4cli import speeds
    from l4cli.ask.preflight import Demand, preflight
    from l4cli.fit.hardware import probe

    assert llm.file is not None
    where = llm.conditions
    lengths = [len(prompt.question(text)) for text in asked] or [TYPED_QUESTION]
    return preflight(
        Demand(len(prompt.prefix), max(lengths), max_tokens, max(1, len(asked))),
        llm.file.shape,
        probe(),
        kv_type=where.kv_type,
        limits=llm.options.placement,
        measured=speeds.recall(where),
        effective=speeds.recall_effective_length(where.model, where.kv_type),
    )


def warn(told: Preflight) -> None:
    """Warn if reading will be slow, or if the documents are longer than the model uses well."""
    if told.verdict == "from disk":
        console.warn(
            "memory cannot hold all weights, so they are read from disk: this will be slow"
        )
    if told.exceeds_effective and told.effective:
        console.warn(
            f"`l4 ctx-test` found this model reliable up to {told.effective.n_tokens:,} tokens, "
            f"but these documents have {told.demand.num_document_tokens:,}"
        )


def read(session: AskSession) -> int:
    """Read the documents with a progress bar; return 0, or the exit code of a signal that came."""
    total = len(session.prompt.prefix)
    with console.token_progress("reading", total) as update:
        reading = session.read(update)
    if reading.exit_code:
        console.warn(stopped.while_reading(reading))
    return reading.exit_code
