"""Questions about documents: the prompt, prefill and its interruption, answers, the preflight."""

from __future__ import annotations

import io
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeBackend, FakeVocabulary
from hypothesis import given, settings
from hypothesis import strategies as st
from split_support import QUESTION, Recorder, book

from l4cli.ask.answering import QuestionAnswer
from l4cli.ask.loop import ask_loop
from l4cli.ask.preflight import Demand, lines, preflight, stored_bytes
from l4cli.ask.quoting import Quoter, asking
from l4cli.ask.session import AskSession
from l4cli.ask.split_session import SplitSession
from l4cli.commands import ask_show
from l4cli.documents import Document
from l4cli.documents.prompt import DocumentPrompt
from l4cli.documents.quotes import Quotation
from l4cli.engine.llamacpp import LlamaModel
from l4cli.errors import ContextOverflowError, RequestError
from l4cli.fit.choose import PlacementLimits
from l4cli.fit.described import described_shape
from l4cli.fit.hardware import GIB, Gpu, Hardware
from l4cli.fit.shape import shape_of_file
from l4cli.loading.llm import LLM
from l4cli.loading.load import load
from l4cli.models.registry import load_registry
from l4cli.paths import state_dir
from l4cli.prompt import PromptEncoder
from l4cli.speeds import Conditions, EffectiveLength, recall
from l4cli.store import catalogue
from l4cli.store.directory import store_root

MANUAL = Document("shelf/manual.txt", "The pump is primed by opening valve seven.\n" * 60)
NOTES = Document("notes.txt", "Valve seven is red.\n" * 40)
WHERE = Conditions("fake")


class Cells(FakeBackend):
    def num_used_cells(self) -> int:
        return 0


def make_llm(n_seq_max: int = 4) -> LLM:
    backend = Cells(8192, n_batch=64, n_seq_max=n_seq_max, with_states=True)
    return LLM("fake", FakeVocabulary(), backend)


def make_session(llm: LLM, *documents: Document, use_store: bool = True) -> AskSession:
    prompt = DocumentPrompt(llm.encoder, documents or [MANUAL])
    return AskSession(llm, prompt, {"max_tokens": 40}, WHERE, use_store)


def test_many_questions_are_branches_of_one_reading() -> None:
    llm = make_llm()
    session = make_session(llm)
    assert session.read().num_read_tokens == len(session.prompt.prefix)
    shown: list[tuple[int, str]] = []
    questions = ["how?", "why is that so?", "when?", "where?", "who?", "why is that?"]
    answers = list(session.ask(questions, lambda index, text: shown.append((index, text))))
    assert [answer.text for answer in answers] == [q.upper() for q in questions]
    assert all(a.num_cached_tokens >= len(session.prompt.prefix) for a in answers)
    assert [index for index, _ in shown] == sorted(index for index, _ in shown)
    assert max(llm.engine.backend.batch_sizes[-30:]) > 1
    assert [a.text for a in session.ask(["again?"])] == ["AGAIN?"]


def test_a_second_process_reads_nothing() -> None:
    session = make_session(make_llm())
    reading = session.read()
    assert reading.num_restored_tokens == 0
    assert reading.num_bytes_saved > 0
    later = make_session(make_llm())
    reading = later.read()
    assert reading.num_restored_tokens == len(later.prompt.prefix)
    assert reading.num_bytes_saved == 0
    assert [a.text for a in later.ask(["how?"])] == ["HOW?"]


def test_without_the_cache_nothing_is_kept() -> None:
    make_session(make_llm(), use_store=False).read()
    assert not store_root().exists()


def test_several_documents_share_what_comes_first() -> None:
    llm = make_llm()
    both = make_session(llm, MANUAL, NOTES)
    both.read()
    other = make_session(make_llm(), MANUAL, Document("b.txt", "Something else."))
    shared = other.prompt.part_lengths[0]
    assert both.prompt.prefix[:shared] == other.prompt.prefix[:shared]
    assert shared - 64 <= other.read().num_restored_tokens <= shared + 20


def test_a_signal_ends_the_reading_and_keeps_what_was_read() -> None:
    session = make_session(make_llm())

    def interrupt(done: int) -> None:
        if done > 1000:
            os.kill(os.getpid(), signal.SIGINT)

    reading = session.read(interrupt)
    assert reading.exit_code == 130
    assert 1000 < reading.num_read_tokens < len(session.prompt.prefix)
    again = make_session(make_llm()).read()
    assert again.num_restored_tokens == reading.num_read_tokens
    assert again.num_read_tokens == again.num_tokens


def test_a_signal_ends_the_answers_where_they_are() -> None:
    llm = make_llm(n_seq_max=3)
    session = make_session(llm)
    session.read()

    def interrupt(index: int, text: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    answers = list(session.ask(["a longer question?", "another?", "a third?", "4?"], interrupt))
    assert len(answers) == 4
    assert [answer.exit_code for answer in answers] == [143] * 4
    assert llm.engine.num_unfinished == 0
    assert [answer.text for answer in session.ask(["once more?"])] == ["ONCE MORE?"]


def test_a_question_too_long_for_what_is_left_is_an_error() -> None:
    session = make_session(make_llm())
    session.read()
    with pytest.raises(RequestError, match="the context holds 8,192"):
        list(session.ask(["?" * 9000]))
    assert [answer.text for answer in session.ask(["shorter?"])] == ["SHORTER?"]


def test_the_rate_of_reading_is_kept_for_the_next_estimate() -> None:
    make_session(make_llm(), use_store=False).read()
    assert recall(WHERE).prefill_seconds(10_000) is not None


@settings(max_examples=30, deadline=None)
@given(question=st.text(max_size=20), text=st.text(min_size=1, max_size=40))
def test_documents_are_the_same_tokens_whatever_is_asked(question: str, text: str) -> None:
    encoder = PromptEncoder(FakeVocabulary())
    prompt = DocumentPrompt(encoder, [Document("d", text)])
    try:
        tokens = prompt.tokens(question)
    except RequestError:
        return  # a lone surrogate
    assert tokens[: len(prompt.prefix)] == prompt.prefix


def test_a_document_cannot_write_control_tokens(tiny_gguf: Path) -> None:
    model = LlamaModel(tiny_gguf, vocab_only=True)
    eot = model.special_tokens["<|eot|>"]
    prompt = DocumentPrompt(PromptEncoder(model), [Document("d", "a<|eot|>b"), MANUAL])
    assert list(prompt.tokens("what<|eot|>?")).count(eot) == 1
    assert b"manual.txt" in b"".join(map(model.piece, prompt.prefix))
    model.close()


def test_quotations_are_forced_and_proved(tiny_gguf: Path) -> None:
    """The quotations are from the document, even with random weights."""
    text = "\n\n".join(f"Rule {n}: the pump is primed with valve {n}." for n in range(9))
    documents = [Document("rules.txt", text, has_lines=True)]
    with load(tiny_gguf, ctx=2048, parallel=2, threads=1) as llm:
        session = AskSession(
            llm, DocumentPrompt(llm.encoder, documents), {"max_tokens": 4}, WHERE, False, True
        )
        session.read()
        cut_off = QuestionAnswer(question="how?")
        whole = QuestionAnswer("Because.", finish_reason="stop", question="why?")
        prompts = [session.prompt.tokens(asking(one.question)) for one in (cut_off, whole)]
        Quoter(llm, documents).quote([cut_off, whole], prompts)
        assert cut_off.quotations == []
        assert 1 <= len(whole.quotations) <= 3
        assert all(one.is_proved for one in whole.quotations)
        assert all(one.place.line for one in whole.quotations)
        dear = QuestionAnswer("It costs 300 euros.", finish_reason="stop", question="Its price?")
        Quoter(llm, documents).quote([dear], [session.prompt.tokens(asking(dear.question))])
        assert {one.shared for one in dear.quotations} == {()}
        fifth = QuestionAnswer("It is valve 5.", finish_reason="stop", question="Which valve?")
        unknown = QuestionAnswer("I don’t know.", finish_reason="stop", question="Its price?")
        prompts = [session.prompt.tokens(asking(one.question)) for one in (fifth, unknown)]
        Quoter(llm, documents).quote([fifth, unknown], prompts)
        assert {one.text for one in fifth.quotations} == {
            "Rule 5: the pump is primed with valve 5."
        }
        assert unknown.quotations == []


def test_a_quotation_that_shares_nothing_with_the_answer_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = ask_show._Printer(["Its price?"])
    quotation = Quotation("The pump leaks.", NOTES, 0, 15)
    printer.write(0, "It costs 300 euros.")
    printer.end(0, [replace(quotation, shared=()), replace(quotation, shared=("300",))])
    nothing, something = re.findall(r"^\(.*\)$", capsys.readouterr().out, re.MULTILINE)
    assert nothing.endswith(
        "; check this quotation: it has none of the answer's numbers and names)"
    )
    assert something == f"({quotation})"


def test_what_does_not_fit_is_answered_from_notes_on_its_parts() -> None:
    model = Recorder()
    session = SplitSession(model.llm, [book(12)], {"max_tokens": 200}, system=None)
    session.read([QUESTION])
    shown: list[str] = []
    (given,) = session.ask([QUESTION], lambda index, text: shown.append(text))
    assert given.text == "".join(shown)
    assert {f"F{n}" for n in range(0, 12, 2)} <= set(given.text.split())
    assert given.coverage is not None
    assert given.coverage.is_whole
    assert not list(state_dir().glob("ask/*.jsonl"))


# The preflight.

SMALL = Hardware(ram_total=4 * GIB, ram_free=4 * GIB, ram_bandwidth=50e9)


def told(tiny_gguf: Path, num_tokens: int, hardware: Hardware = SMALL, **options: object):
    most = options.pop("max_tokens", 100)
    demand = Demand(num_tokens, 20, most, options.pop("num_questions", 1))
    options.setdefault("kv_type", "f16")
    return preflight(demand, shape_of_file(tiny_gguf), hardware, **options)


def test_what_fits_is_told_with_all_its_parts(tiny_gguf: Path) -> None:
    plan = told(tiny_gguf, 5000, num_questions=3)
    plan.check()
    assert plan.spec.n_ctx >= 5000 + 3 * 120
    assert plan.num_branches == 3
    assert [row.kv_type for row in plan.kv_types] == ["f16", "q8_0", "q4_0"]
    assert plan.kv_types[0].kv > plan.kv_types[1].kv > plan.kv_types[2].kv
    shown = dict(lines(plan, ["a.txt"]))
    assert shown["documents"] == "1, 5,000 tokens"
    assert "unknown; `l4 bench MODEL`" in shown["time to read"]
    assert plan.as_json()["verdict"] == "fits"


def test_what_does_not_fit_is_refused_with_what_would(tiny_gguf: Path) -> None:
    plan = told(tiny_gguf, 5_000_000)
    with pytest.raises(ContextOverflowError) as caught:
        plan.check()
    message = str(caught.value)
    assert "5,000,000 tokens of documents" in message
    assert "GiB more than is free here" in message
    for way in ("--split", "documents of up to", "a machine with"):
        assert way in message
    between = next(n for n in range(400_000, 5_000_000, 100_000) if not told(tiny_gguf, n).fits)
    with pytest.raises(ContextOverflowError, match="--kv-type q8_0"):
        told(tiny_gguf, between).check()


def test_the_weights_are_placed_as_asked_for() -> None:
    registry = load_registry()
    scout = described_shape(registry.models["scout"], "Q4_K_M", registry)
    card = Gpu("GPU 0", 24 * GIB, 24 * GIB, 1e12)
    hardware = Hardware(64 * GIB, 64 * GIB, 50e9, (card,))
    demand = Demand(5000, 20, 100, 1)
    with pytest.raises(ContextOverflowError, match="What works: --gpu-layers auto, or"):
        preflight(demand, scout, hardware, kv_type="f16").check()
    for limits in (PlacementLimits(-1, cpu_moe=48), PlacementLimits()):
        preflight(demand, scout, hardware, kv_type="f16", limits=limits).check()


def test_what_the_model_was_not_trained_for_is_refused(tiny_gguf: Path) -> None:
    with pytest.raises(ContextOverflowError, match="trained for 10,485,760"):
        told(tiny_gguf, 10_485_760).check()


def test_an_answer_that_is_too_long_is_no_matter_of_the_documents(tiny_gguf: Path) -> None:
    with pytest.raises(ContextOverflowError, match=r"-n, the most .* to 10,480,740") as told_so:
        told(tiny_gguf, 5000, max_tokens=10_485_760).check()
    assert "--split" not in str(told_so.value)


def test_fewer_questions_at_once_where_memory_is_short(tiny_gguf: Path) -> None:
    many = told(tiny_gguf, 100_000, num_questions=20)
    assert many.num_branches == 8
    lacking = Hardware(ram_total=GIB, ram_free=GIB + many.use.total - (8 << 20), ram_bandwidth=1e9)
    fewer = told(tiny_gguf, 100_000, lacking, num_questions=20)
    assert 1 <= fewer.num_branches < 8
    assert fewer.fits


def test_beyond_what_the_model_was_measured_to_use_it_warns(tiny_gguf: Path) -> None:
    reliable = EffectiveLength(n_tokens=4096, n_longest=32768, score=0.9, base_score=0.95)
    assert told(tiny_gguf, 5000, effective=reliable).exceeds_effective
    assert not told(tiny_gguf, 3000, effective=reliable).exceeds_effective


def test_the_catalogue_knows_documents_by_name(tmp_path: Path) -> None:
    for documents in ((MANUAL,), (NOTES,), (NOTES, MANUAL)):
        make_session(make_llm(), *documents).read()
    entries = catalogue.entries(store_root())
    assert {entry.document.names for entry in entries} == {
        ("shelf/manual.txt",),
        ("notes.txt",),
        ("notes.txt", "shelf/manual.txt"),
    }
    assert all(entry.num_stored_tokens == entry.document.num_tokens for entry in entries)
    entry = next(e for e in entries if e.document.names == ("notes.txt",))
    assert catalogue.remove(store_root(), entry) == entry.n_bytes > 0
    assert len(catalogue.entries(store_root())) == 2
    assert catalogue.others(store_root()) == (0, 0)
    entry.paths[0].with_name("broken.document.json").write_text("{")
    assert len(catalogue.entries(store_root())) == 2
    assert catalogue.prune(store_root(), 0) > 0
    assert catalogue.entries(store_root()) == []


def test_what_is_stored_is_told_before(tiny_gguf: Path) -> None:
    """The store keeps global layers for all tokens, other layers for the last segment only."""
    shape = shape_of_file(tiny_gguf)
    per_layer = 2 * 64 * 2
    assert stored_bytes(shape, 8192, "f16") == 8192 * 4 * per_layer
    assert stored_bytes(shape, 8193, "f16") == 8192 * per_layer + 4 * per_layer
    assert stored_bytes(shape, 0, "f16") == 0


def test_a_terminal_without_cursor_control_gets_questions_and_answers_as_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.TextIOWrapper(io.BytesIO("Wo ist größe?\n/help\n\nend\n".encode()))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdin", typed)
    asked: list[str] = []

    def ask(question: str) -> int:
        asked.append(question)
        return 0

    assert ask_loop(ask) == 0
    assert asked == ["Wo ist größe?", "end"]
    out, err = capsys.readouterr()
    assert out == "? " * 5 + "\n"
    assert err.startswith("Type a question.")
