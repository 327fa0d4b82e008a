"""Documents read in parts: each part is read once, even after kills, and failures are reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TESTS
from damage import damaged, seeds
from split_support import QUESTION, Recorder, book, read, reader

from l4cli.ask.completions import StoppedEarly
from l4cli.ask.parts import parts_of
from l4cli.ask.split_journal import Noted, SplitJournal
from l4cli.ask.split_preflight import summary
from l4cli.ask.split_prompts import says_nothing
from l4cli.ask.split_run import Progress, SplitRun
from l4cli.ask.split_session import SplitSession
from l4cli.documents import Document
from l4cli.errors import ContextOverflowError, OutputError, UsageError
from l4cli.loading.load import load
from l4cli.speeds import Measured, RunSpeeds


def test_every_part_is_read_and_the_answer_rests_on_all_notes() -> None:
    recorder = Recorder()
    run = SplitRun(recorder.llm, [book(6)], max_answer=400)
    steps: list[Progress] = []
    with SplitJournal(run.journal_path([QUESTION])) as journal:
        (findings,) = run.read([QUESTION], journal, on_progress=steps.append)
        journal.discard()
    assert not journal.path.exists()
    assert [str(note) for note in findings.notes] == [
        '[book.md, line 1, "Section 0"]\nF0',
        '[book.md, line 11, "Section 2"]\nF2',
        '[book.md, line 21, "Section 4"]\nF4',
    ]
    coverage = findings.coverage
    assert (coverage.num_parts, coverage.num_read, coverage.num_notes) == (6, 6, 3)
    assert coverage.is_whole
    assert coverage.lines()[0].startswith("read 6 of 6 parts, ")
    assert (steps[-1].num_done, steps[-1].num_all) == (6, 6)
    assert steps[-1].num_tokens == coverage.num_tokens
    (answer,) = recorder.llm.engine.generate([run.answer_request(findings)])
    assert answer.text == "These: F0 F2 F4"


def test_progress_is_seen_before_the_first_note_is_made() -> None:
    """Reading a part may take half a minute."""
    recorder = Recorder()
    recorder.backend.n_batch = 256
    seen: list[Progress] = []
    session = SplitSession(recorder.llm, [book(6)], {"max_tokens": 200})
    session.read([QUESTION], seen.append)
    before = [step.in_work for step in seen if step.num_done == 0]
    assert len(before) > 2
    assert 0 < max(before) < 6
    assert (seen[-1].num_done, seen[-1].num_all) == (6, 6)


def test_what_reading_takes_is_told_before_and_is_what_it_takes() -> None:
    recorder = Recorder()
    questions = (QUESTION, "And which fillers?")
    run = SplitRun(recorder.llm, [book(6)], max_answer=400)
    demand = run.demand(questions)
    assert (demand.num_parts, demand.num_note_calls, demand.num_answer_calls) == (6, 12, 2)
    assert demand.num_document_tokens == sum(part.num_tokens for part in run.parts(questions))
    assert not demand.may_merge
    with SplitJournal(run.journal_path(questions)) as journal:
        run.read(questions, journal)
    num_said = sum(len(reader(prompt)) for prompt in set(recorder.prompts))
    computed = recorder.backend.num_decoded_tokens - num_said
    expected = demand.num_prompt_tokens - demand.num_shared_tokens
    assert 0.97 * expected < computed < 1.03 * expected
    assert demand.most_prefill_tokens > expected
    assert demand.most_decode_tokens == 12 * 250 + 2 * 400
    assert demand.seconds(None, 8) is None
    measured = Measured(runs=(RunSpeeds(8, prefill_tps=100.0, decode_tps=10.0),))
    seconds = demand.most_prefill_tokens / 100 + demand.most_decode_tokens / 10
    assert demand.seconds(measured, 8) == pytest.approx(seconds)
    assert summary(demand, 3600).endswith(
        "tokens in 6 parts; calls: 12 for notes, 2 for the answers; about 60 min at most"
    )
    assert SplitRun(recorder.llm, [book(12)], max_answer=400).demand(questions).may_merge


def test_many_questions_read_a_part_once() -> None:
    recorder = Recorder()
    first, second = read(recorder, [book(4)], (QUESTION, "And which fillers?"))
    assert [note.text for note in first.notes] == [note.text for note in second.notes]
    assert recorder.num_read == 8
    text = sum(part.num_tokens for part in SplitRun(recorder.llm, [book(4)]).parts([QUESTION]))
    assert recorder.backend.num_decoded_tokens < 2 * text  # prompts share all but the question


def test_notes_are_merged_until_they_fit() -> None:
    recorder = Recorder(
        lambda prompt: "x" * 400 if "one part of what" in prompt else reader(prompt) + "y" * 99
    )
    (findings,) = read(recorder, [book(8)])
    assert findings.coverage.num_rounds >= 1
    assert findings.coverage.num_notes == 8
    assert findings.coverage.num_cut == 8
    assert "the notes on 8 of them ran to their limit" in findings.coverage.lines()[0]
    assert findings.notes[0].where.startswith('book.md, line 1, "Section 0" … ')


@pytest.mark.parametrize(
    ("note", "is_nothing"),
    [
        ("NOTHING", True),
        ("**Nothing.**", True),
        ("", True),
        ("The text does not say.", True),
        ("This part of the text doesn't mention the pump.", True),
        ("The text does not say when, but Ada built it.", False),
        ("Nothing moves air.", False),
        ("The text does not say.\nAda built it.", False),
    ],
)
def test_a_note_that_says_nothing(note: str, is_nothing: bool) -> None:
    assert says_nothing(note) == is_nothing


def test_nothing_found_is_still_an_answer() -> None:
    recorder = Recorder(lambda prompt: "Nothing." if "one part" in prompt else "It does not say.")
    run = SplitRun(recorder.llm, [book(3)], max_answer=400)
    with SplitJournal(run.journal_path([QUESTION])) as journal:
        (findings,) = run.read([QUESTION], journal)
    assert (findings.notes, findings.coverage.num_read) == ((), 3)
    (answer,) = recorder.llm.engine.generate([run.answer_request(findings)])
    assert answer.text == "It does not say."


def test_a_part_that_fails_is_named_and_the_others_are_read() -> None:
    recorder = Recorder()
    document = book(4)
    broken = Document(
        document.name,
        document.text.replace("F2", "F\x01"),
        headings=document.headings,
        has_lines=True,
    )
    recorder.backend.fail_on = 1
    (findings,) = read(recorder, [broken])
    assert [note.text for note in findings.notes] == ["F0"]
    assert not findings.coverage.is_whole
    assert findings.coverage.lines() == [
        f"read 3 of 4 parts, {findings.coverage.num_tokens:,} tokens; "
        "1 of them had something on the question",
        'not read: book.md, line 11, "Section 2": llama_decode failed with code -3',
    ]


def test_pages_that_were_not_read_are_not_counted() -> None:
    pages = ["filler " * 120 + ("\x01" if n == 2 else "") for n in range(4)]
    starts = tuple(n * (len(pages[0]) + 2) + (n > 2) for n in range(4))
    document = Document("a.pdf", "\n\n".join(pages), pages=starts)
    recorder = Recorder()
    recorder.backend.fail_on = 1
    (findings,) = read(recorder, [document])
    assert (findings.coverage.num_pages, findings.coverage.num_pages_read) == (4, 3)
    assert ", 3 of 4 pages; " in findings.coverage.lines()[0]
    assert findings.coverage.lines()[1].startswith("not read: a.pdf, page 3: ")


def test_small_documents_are_read_together() -> None:
    documents = [Document(f"{n}.txt", f"The fact is F{n}.") for n in range(40)]
    recorder = Recorder()
    (findings,) = read(recorder, documents)
    assert recorder.num_read < 8
    assert " ".join(note.text for note in findings.notes) == " ".join(f"F{n}" for n in range(40))
    for part in parts_of(documents, 300, len):
        assert len(part.text) <= part.num_tokens <= 300
    assert "[39.txt]\nThe fact is F39." in parts_of(documents, 300, len)[-1].text


def test_a_context_too_small_for_any_part_is_said() -> None:
    recorder = Recorder(n_ctx=400)
    with pytest.raises(ContextOverflowError, match="context of 400 tokens is too small to read"):
        read(recorder, [book(2)])


def test_what_was_stopped_goes_on_where_it_was() -> None:
    recorder = Recorder()
    run = SplitRun(recorder.llm, [book(6)], max_answer=400)
    path = run.journal_path([QUESTION])
    with SplitJournal(path) as journal, pytest.raises(StoppedEarly):
        run.read([QUESTION], journal, stopping=lambda: len(journal.noted) >= 2)
    assert recorder.llm.engine.num_unfinished == 0
    num_noted = len(path.read_bytes().splitlines())
    assert 2 <= num_noted < 6
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes() + b'{"key": "torn')
    again = Recorder()
    (findings,) = read(again, [book(6)])
    assert again.num_read == 6 - num_noted
    assert [note.text for note in findings.notes] == ["F0", "F2", "F4"]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
    assert SplitRun(again.llm, [book(6)]).journal_path(["Another?"]) != path
    assert SplitRun(again.llm, [book(7)]).journal_path([QUESTION]) != path


def test_a_full_disk_loses_no_note_that_was_kept(mounted: Path) -> None:
    path = mounted / "ask" / "notes.jsonl"
    with SplitJournal(path) as journal:
        journal.add("a", Noted("kept", "stop"))
        with pytest.raises(OutputError, match="No space left on device; those so far are kept"):
            journal.add("b", Noted("x" * 300_000, "stop"))
        journal.add("c", Noted("kept, too", "stop"))
    with SplitJournal(path) as journal:
        assert [note.text for note in journal.noted.values()] == ["kept", "kept, too"]


STUCK = """
import time, split_support as t
def say(prompt):
    if len(set(recorder.prompts)) > 6:
        time.sleep(600)
    return t.reader(prompt)
recorder = t.Recorder(say)
t.read(recorder, [t.book(12)])
"""


def test_kill_9_loses_no_note_that_was_made(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    process = subprocess.Popen([sys.executable, "-c", STUCK], env=env)
    path = SplitRun(Recorder().llm, [book(12)], max_answer=400).journal_path([QUESTION])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.01)
    with pytest.raises(UsageError, match="another l4 is reading these documents"):
        SplitJournal(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    num_noted = path.read_bytes().count(b"\n")
    assert 3 <= num_noted < 12
    recorder = Recorder()
    (findings,) = read(recorder, [book(12)])
    assert recorder.num_read == 12 - num_noted
    assert findings.coverage.num_read == 12
    assert [note.text for note in findings.notes] == [f"F{n}" for n in range(0, 12, 2)]


def test_a_real_model_reads_in_a_context_made_for_it(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l4cli.ask.split_run.MAX_NOTE_TOKENS", 4)
    with load(tiny_gguf, ctx=1024, parallel="auto") as llm:
        run = SplitRun(llm, [book(2)], max_answer=4, max_part=300)
        with SplitJournal(run.journal_path([QUESTION])) as journal:
            (findings,) = run.read([QUESTION], journal)
            assert len(run.parts([QUESTION])) == findings.coverage.num_read > 1
            assert len(journal.noted) == findings.coverage.num_parts
        (answer,) = llm.engine.generate([run.answer_request(findings)])
        assert answer.num_completion_tokens <= 4


def test_a_damaged_journal_costs_its_wrong_lines_alone(tmp_path: Path) -> None:
    """Whatever the file holds: right notes are used, wrong lines are not, and none is removed."""
    path = tmp_path / "notes.jsonl"
    notes = {f"{n:032x}": Noted(f"note {n} 你", "stop") for n in range(6)}
    with SplitJournal(path) as journal:
        for key, noted in notes.items():
            journal.add(key, noted)
    whole = path.read_bytes()
    for seed in seeds():
        data = damaged(whole, seed)
        path.write_bytes(data)
        try:
            journal = SplitJournal(path)
        except UsageError:
            assert path.read_bytes() == data, seed
            continue
        with journal:
            assert path.read_bytes() == data, seed
            for key in journal.noted.keys() & notes.keys():
                assert type(journal.noted[key].text) is str
            journal.add("f" * 32, Noted("more", "stop"))
        kept = data[: data.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(kept), seed
        with SplitJournal(path) as again:
            assert again.noted["f" * 32].text == "more"


def test_a_file_that_is_no_journal_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("my own notes\n")
    with pytest.raises(UsageError, match="is not a file of notes"):
        SplitJournal(path)
    assert path.read_text() == "my own notes\n"
