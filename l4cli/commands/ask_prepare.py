"""What comes before the first answer: documents, numbers, reading. For `ask` and `docs add`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from l4cli import console
from l4cli.errors import InputError

if TYPE_CHECKING:
    from l4cli.ask.preflight import Preflight
    from l4cli.ask.session import AskSession
    from l4cli.documents import Document
    from l4cli.documents.prompt import DocumentPrompt
    from l4cli.llm import LLM
    from l4cli.speeds import Conditions

TYPED_QUESTION = 512  # tokens that are kept free for one typed in a terminal


def read_documents(sources: Sequence[str]) -> tuple[list[Document], int]:
    """The documents, and how many could not be read; InputError if none could."""
    from l4cli.documents import ingest

    errors: list[InputError] = []
    texts = list(ingest(sources, on_error=errors.append, on_note=console.warn))
    if not texts and errors:
        *before, last = errors
        for error in before:
            console.warn(str(error))
        raise last
    for error in errors:
        console.warn(f"{error}; the others are read without it")
    if not texts:
        raise InputError(f"{', '.join(sources)}: no documents")
    return texts, len(errors)


def vocabulary(model: str | None, hardware: Mapping[str, Any]) -> LLM:
    """The model without its weights, and how it would be loaded."""
    from l4cli.commands.loading import load_vocabulary

    llm, _ = load_vocabulary(model, ctx="auto", parallel=1, **hardware)
    return llm


def preflight_of(
    llm: LLM,
    prompt: DocumentPrompt,
    asked: Sequence[str],
    max_tokens: int,
    where: Conditions,
    hardware: Mapping[str, Any],
) -> Preflight:
    from l4cli import speeds
    from l4cli.ask.preflight import Demand, preflight
    from l4cli.commands.loading import wanted
    from l4cli.fit.hardware import probe
    from l4cli.fit.loading import wishes
    from l4cli.fit.shape import shape_of_file

    assert llm.path is not None
    lengths = [len(prompt.question(text)) for text in asked] or [TYPED_QUESTION]
    return preflight(
        Demand(len(prompt.prefix), max(lengths), max_tokens, max(1, len(asked))),
        shape_of_file(llm.path),
        probe(),
        kv_type=where.kv_type,
        wishes=wishes(wanted(max_tokens, **hardware)),
        measured=speeds.recall(where),
        effective=speeds.recall_effective_length(where.model, where.kv_type),
    )


def warn(told: Preflight) -> None:
    if told.verdict == "from disk":
        console.warn("weights are read from disk, for memory is short: this will be slow")
    if told.exceeds_effective and told.effective:
        console.warn(
            f"`l4 ctx-test` found this model reliable up to {told.effective.n_tokens:,} "
            f"tokens; these documents have {told.demand.num_document_tokens:,}"
        )


def read(session: AskSession) -> int:
    """Read the documents behind a bar; the exit code of a signal that ended it."""
    total = len(session.prompt.prefix)
    with console.token_progress("reading", total) as update:
        reading = session.read(update)
    if reading.exit_code:
        kept = " and is kept" if reading.num_bytes_saved else ""
        console.warn(f"stopped; {reading.num_read_tokens:,} of {total:,} tokens were read{kept}")
    return reading.exit_code
