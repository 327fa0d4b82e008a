"""How a chat uses the reading cache: for documents, and for prompts that another chat computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from l4cli.chat.totals import Totals
from l4cli.chat.turn import AnswerView
from l4cli.documents.prompt import DocumentPrompt
from l4cli.documents.reading import read
from l4cli.engine.answer import Answer
from l4cli.engine.pieces import PIECE
from l4cli.loading.llm import LLM
from l4cli.signals import catch_interrupts


def read_documents(
    llm: LLM, documents: DocumentPrompt, view: Callable[[str], AnswerView], totals: Totals
) -> Answer | None:
    """Restore the documents that a conversation begins with, or compute and store them.

    They are computed in the same way as in `l4 ask`. Returns None, or an empty answer if the user
    stopped the reading; the tokens computed until then are stored, too.
    """
    num_tokens = len(documents.prefix)
    with closing(view("")) as screen, catch_interrupts(llm.interrupt) as interrupts:
        reading = read(
            llm,
            documents,
            use_store=llm.states is not None,
            on_progress=lambda done: screen.progress(done, num_tokens),
            stopping=lambda: interrupts,
        )
    totals.add_reading(reading.num_computed_tokens, reading.prefill_seconds)
    return None if reading.is_whole else Answer(exit_code=interrupts.exit_code)


def recall_prompt(llm: LLM, prompt: Sequence[int]) -> None:
    """Restore a prompt's stored prefix if the KV cache lacks at least `PIECE` of its tokens.

    This helps when another chat has read the same long file.
    """
    _, held = llm.engine.prefixes.holder(prompt)
    if len(prompt) - held >= PIECE:
        llm.recall(prompt)
