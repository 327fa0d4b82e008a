"""Documents in `l4 run`, and the reading cache it shares with `l4 ask`, with a fake backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeBackend, FakeVocabulary

from l4cli.ask.session import AskSession
from l4cli.batch.dry_run import measure
from l4cli.batch.requests import BatchOptions
from l4cli.batch.rows import read_rows
from l4cli.batch.runner import run_rows
from l4cli.batch.stats import BatchStats
from l4cli.documents import Document
from l4cli.documents.prompt import DocumentPrompt
from l4cli.engine.sizing import ContextSize, SizingLimits
from l4cli.engine.types import BatchItem
from l4cli.loading.contexts import Contexts
from l4cli.loading.llm import LLM
from l4cli.loading.vocabulary import VocabularyBackend
from l4cli.speeds import Conditions
from l4cli.store import catalogue
from l4cli.store.directory import store_root

MANUAL = "The pump is primed by opening valve seven.\n" * 60
NOTES = "Valve seven is red.\n" * 60
SHORT = "Closed on Mondays.\n" * 5


class Cells(FakeBackend):
    """Records every batch. Does not count used cells: that would take too long here."""

    def __init__(self, n_ctx: int = 16_384, n_seq_max: int = 4, **options: Any) -> None:
        super().__init__(n_ctx, n_batch=64, n_seq_max=n_seq_max, with_states=True, **options)
        self.batches: list[list[BatchItem]] = []

    def num_used_cells(self) -> int:
        return 0

    def decode(self, items: list[BatchItem]) -> None:
        super().decode(items)
        self.batches.append(list(items))


class Run:
    """One `l4 run` process. Writes the documents to `folder`; calling it answers rows."""

    def __init__(self, folder: Path, llm: LLM | None = None, **options: Any) -> None:
        for name, text in (("manual.txt", MANUAL), ("notes.txt", NOTES), ("short.txt", SHORT)):
            (folder / name).write_text(text)
        self.folder = folder
        self.llm = llm or LLM("fake", FakeVocabulary(), Cells())
        self.options = {"use_store": True, "sampling": {"max_tokens": 50}, **options}
        self.stats = BatchStats()

    def __call__(self, *rows: dict[str, Any], **hooks: Any) -> list[dict[str, Any]]:
        lines = [json.dumps(row).encode() for row in rows]
        read = read_rows(lines, folder=self.folder)
        options = BatchOptions(**self.options)
        return [out for _, out in run_rows(self.llm, read, options, self.stats, **hooks)]

    @property
    def num_computed(self) -> int:
        return self.llm.engine.backend.num_decoded_tokens


def prefix_of(text: str) -> tuple[int, ...]:
    return DocumentPrompt(
        LLM("fake", FakeVocabulary(), Cells()).encoder, [Document("d", text)]
    ).prefix


def ask(text: str, *questions: str, name: str = "manual.txt") -> AskSession:
    """Ask questions about a document, as `l4 ask` in a process of its own."""
    llm = LLM("fake", FakeVocabulary(), Cells())
    prompt = DocumentPrompt(llm.encoder, [Document(name, text)])
    session = AskSession(llm, prompt, {"max_tokens": 50}, Conditions("fake"))
    session.read()
    assert [one.text for one in session.ask(questions)] == [q.upper() for q in questions]
    return session


def num_restored(session: AskSession) -> int:
    assert session.reading is not None
    return session.reading.num_restored_tokens


def texts(row: dict[str, Any]) -> list[str]:
    return [one["text"] for one in row["answers"]]


def cached(row: dict[str, Any]) -> list[int]:
    return [one["usage"]["cached_tokens"] for one in row["answers"]]


@pytest.mark.parametrize("text", [MANUAL, SHORT])
def test_what_ask_has_read_is_not_computed_again(tmp_path: Path, text: str) -> None:
    ask(text, "how?")
    run = Run(tmp_path)
    name = "manual.txt" if text is MANUAL else "short.txt"
    (row,) = run({"document": name, "questions": ["which valve?"]})
    assert texts(row) == ["WHICH VALVE?"]
    assert cached(row) == [len(prefix_of(text))]
    assert run.num_computed < 40
    assert run.stats.num_restored_tokens == len(prefix_of(text))
    assert run.stats.num_prefill_tokens == row["usage"]["prompt_tokens"] - len(prefix_of(text))


def test_what_run_has_read_is_there_for_ask_and_for_the_next_run(tmp_path: Path) -> None:
    run, prefix = Run(tmp_path), prefix_of(MANUAL)
    (row,) = run({"document": "manual.txt", "questions": ["who?", "when?", "why?"]})
    assert texts(row) == ["WHO?", "WHEN?", "WHY?"]
    assert cached(row)[0] == 0  # the document was computed for the first question
    assert min(cached(row)[1:]) >= len(prefix)
    assert run.stats.num_bytes_kept > 0
    (entry,) = catalogue.entries(store_root())
    assert entry.document.names == (str(tmp_path / "manual.txt"),)
    assert num_restored(ask(MANUAL, "how?")) == len(prefix)

    again = Run(tmp_path)
    (row,) = again({"document": "manual.txt", "questions": ["where?"]})
    assert (texts(row), cached(row)) == (["WHERE?"], [len(prefix)])
    assert (again.num_computed < 40, again.stats.num_bytes_kept) == (True, 0)


def test_documents_among_other_rows_are_read_alone(tmp_path: Path) -> None:
    """Documents are prefilled in the pieces of `l4 ask`, whatever other rows run before or after.

    The states that are saved must not depend on the other rows.
    """
    run, prefix = Run(tmp_path), prefix_of(MANUAL)
    rows = run(
        {"prompt": "a"},
        {"document": "manual.txt", "questions": ["1", "2"]},
        {"prompt": "b"},
        {"document": "short.txt", "questions": ["3"]},
        {"document": "notes.txt", "questions": ["4", "5"]},
        {"document": "manual.txt", "questions": ["6"]},
        {"prompt": "c"},
    )
    assert [row.get("text") or texts(row) for row in rows] == [
        "A", ["1", "2"], "B", ["3"], ["4", "5"], ["6"], "C",
    ]  # fmt: skip
    assert cached(rows[5]) == [len(prefix)]  # restored from disk
    computed: list[int] = []
    for items in run.llm.engine.backend.batches:
        assert len(items) == 1 or not any(
            tuple(item.tokens) == prefix[item.pos : item.pos + len(item.tokens)]
            for item in items
            if len(item.tokens) > 1 and item.pos + len(item.tokens) <= len(prefix)
        )
        computed += [item.pos for item in items if tuple(item.tokens) == prefix[item.pos :][:64]]
    assert computed == sorted(set(computed))  # each piece is computed once
    assert {entry.document.names[0] for entry in catalogue.entries(store_root())} == {
        str(tmp_path / "manual.txt"), str(tmp_path / "notes.txt"),
    }  # fmt: skip


def test_rows_about_one_document_read_it_once(tmp_path: Path) -> None:
    run, prefix = Run(tmp_path), prefix_of(MANUAL)
    run.llm.engine.scheduler.max_retained = 1
    rows = run(*({"document": "manual.txt", "questions": [f"{n}a", f"{n}b"]} for n in range(9)))
    assert [texts(row) for row in rows] == [[f"{n}A", f"{n}B"] for n in range(9)]
    assert run.num_computed < len(prefix) + 18 * 20
    assert sum(count < len(prefix) for row in rows for count in cached(row)) == 1


def test_without_the_cache_nothing_is_restored_or_kept(tmp_path: Path) -> None:
    ask(MANUAL)
    run = Run(tmp_path, use_store=False)
    questions = ["who?", "when?"]
    rows = run(
        {"document": "manual.txt", "questions": questions},
        {"document": "notes.txt", "questions": questions},
    )
    assert [texts(row) for row in rows] == [["WHO?", "WHEN?"]] * 2
    assert run.num_computed > len(prefix_of(MANUAL)) + len(prefix_of(NOTES))
    assert len(catalogue.entries(store_root())) == 1


def test_a_short_document_with_one_question_is_a_prompt_like_any_other(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = run(*({"document": "short.txt", "questions": [f"{n}?"]} for n in range(3)))
    assert [texts(row) for row in rows] == [["0?"], ["1?"], ["2?"]]
    assert not store_root().exists()


def test_a_damaged_state_is_read_again(tmp_path: Path) -> None:
    ask(MANUAL)
    (state,) = store_root().glob("*/*.state")
    state.write_bytes(state.read_bytes()[:-70] + bytes(70))
    run = Run(tmp_path)
    rows = run({"prompt": "a"}, {"document": "manual.txt", "questions": ["how?", "why?"]})
    assert texts(rows[1]) == ["HOW?", "WHY?"]
    assert cached(rows[1])[0] == 0
    assert num_restored(ask(MANUAL)) == len(prefix_of(MANUAL))


def stopping_after(num_tokens: int, run: Run) -> Callable[[], int]:
    return lambda: 2 if run.num_computed > num_tokens else 0


def test_a_reading_that_is_stopped_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    rows = [{"document": "manual.txt", "questions": ["how?", "why?"]}, {"prompt": "a"}]
    run = Run(tmp_path)
    assert run(*rows, stopping=stopping_after(1000, run)) == []
    again = Run(tmp_path)
    document, plain = again(*rows)
    assert (texts(document), plain["text"]) == (["HOW?", "WHY?"], "A")
    assert cached(document)[0] > 900
    assert again.num_computed < len(prefix_of(MANUAL)) - 900 + 60


def test_a_row_whose_document_takes_too_long_is_given_up(tmp_path: Path) -> None:
    run = Run(tmp_path, row_timeout=1e-9)
    document, plain = run(
        {"document": "manual.txt", "questions": ["how?", "why?"]}, {"prompt": "hello"}
    )
    assert document["error"]["type"] == "timeout"
    assert plain["error"]["type"] == "timeout"
    assert run.num_computed < 200


def test_a_document_too_long_for_the_context_is_an_error_row(tmp_path: Path) -> None:
    run = Run(tmp_path, LLM("fake", FakeVocabulary(), Cells(n_ctx=1000)))
    document, plain = run({"document": "manual.txt", "questions": ["1", "2"]}, {"prompt": "a"})
    assert document["error"]["type"] == "context_overflow"
    assert plain["text"] == "A"


def elastic_llm(made: list[ContextSize], *, has_states: bool = True) -> LLM:
    """Return an LLM that makes contexts to fit, and appends their sizes to `made`.

    As with llama.cpp, only a pool context can save and restore states.
    """

    def make(size: ContextSize) -> Cells:
        made.append(size)
        backend = Cells(size.n_ctx, size.n_seq_max, unified=size.unified)
        backend.n_ctx_seq = size.n_ctx if size.unified else size.n_ctx // size.n_seq_max
        backend.states = backend.states if size.unified and has_states else None
        return backend

    limits = SizingLimits(n_seq_max=8, n_ctx_seq=16_384, n_cells=65_536)
    return LLM("fake", FakeVocabulary(), Contexts(make, limits))


def test_the_context_is_a_pool_for_documents_only(tmp_path: Path) -> None:
    made: list[ContextSize] = []
    document = {"document": "manual.txt", "questions": ["how?", "why?"]}
    run = Run(tmp_path, elastic_llm(made))
    run({"prompt": "a"}, {"document": "short.txt", "questions": ["b"]})
    assert [size.unified for size in made] == [False]

    made.clear()
    run = Run(tmp_path, elastic_llm(made), look_ahead=1)  # as for rows from a pipe
    rows = run({"prompt": "x" * 3000}, document, {"prompt": "a"})
    assert [size.unified for size in made] == [False, True]
    assert (texts(rows[1]), rows[2]["text"]) == (["HOW?", "WHY?"], "A")

    made.clear()
    run = Run(tmp_path, elastic_llm(made))
    rows = run({"prompt": "a"}, document)
    assert [size.unified for size in made] == [True]
    assert min(cached(rows[1])) >= len(prefix_of(MANUAL))


def test_a_model_whose_states_cannot_be_stored_reads_all_the_same(tmp_path: Path) -> None:
    made: list[ContextSize] = []
    run = Run(tmp_path, elastic_llm(made, has_states=False))
    rows = run(*[{"document": "manual.txt", "questions": ["how?", "why?"]}, {"prompt": "a"}] * 2)
    assert [texts(row) for row in rows[::2]] == [["HOW?", "WHY?"]] * 2
    assert [size.unified for size in made] == [True, False]  # without states, regions are faster
    assert not list(store_root().glob("*/*.state"))


def test_a_dry_run_knows_that_it_takes_a_pool(tmp_path: Path) -> None:
    llm = LLM("fake", FakeVocabulary(), VocabularyBackend(16_384))
    Run(tmp_path)
    rows = [{"document": "manual.txt", "questions": ["how?", "why?"]}, {"prompt": "a"}]
    for asked, use_store, pool in (
        (rows, True, True),
        (rows, False, False),
        (rows[1:], True, False),
    ):
        read = read_rows([json.dumps(row).encode() for row in asked], folder=tmp_path)
        assert measure(llm, read, BatchOptions(use_store=use_store)).demand.pool == pool


def test_a_waiting_document_is_looked_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not looked up again at every step of the rows it waits for, which would be slow."""
    run = Run(tmp_path)
    looked_up: list[int] = []
    num_stored = LLM.num_stored

    def counting(llm: LLM, tokens: tuple[int, ...]) -> int:
        looked_up.append(len(tokens))
        return num_stored(llm, tokens)

    monkeypatch.setattr(LLM, "num_stored", counting)
    rows = run({"prompt": "a" * 40}, {"document": "manual.txt", "questions": ["1", "2"]})
    assert texts(rows[1]) == ["1", "2"]
    assert len(looked_up) <= 3


def test_the_first_ctrl_c_lets_a_document_be_read_to_its_end(tmp_path: Path) -> None:
    """The interrupt aborts the current decode, but the document and its row are still finished."""
    run = Run(tmp_path)
    pressed = 0

    def press() -> None:
        nonlocal pressed
        if run.num_computed > 1000 and not pressed:
            pressed = 1
            run.llm.interrupt()

    rows = [{"document": "manual.txt", "questions": ["how?", "why?"]}, {"prompt": "a"}]
    (row,) = run(*rows, stopping=lambda: pressed, on_step=press)
    assert texts(row) == ["HOW?", "WHY?"]
    assert cached(row) == [0, len(prefix_of(MANUAL))]
