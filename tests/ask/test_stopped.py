"""What `l4 ask` says when Ctrl-C stops it: how far it came, and what is kept."""

from __future__ import annotations

import os
import re
import signal
from contextlib import nullcontext
from typing import Any

import pytest
from fakes import FakeBackend, FakeVocabulary
from split_support import QUESTION, Recorder, book, reader

from l4cli.ask.answering import QuestionAnswer
from l4cli.ask.session import AskSession
from l4cli.ask.split_run import Progress
from l4cli.commands import ask, ask_prepare, ask_show, stopped
from l4cli.documents import Document
from l4cli.documents.prompt import DocumentPrompt
from l4cli.loading.llm import LLM
from l4cli.prompt import PromptEncoder
from l4cli.speeds import Conditions

MANUAL = Document("manual.txt", "The pump is primed by opening valve seven.\n" * 60)


class Interrupted(FakeBackend):
    """Sends Ctrl-C when an answer begins with a word, and counts how often it computes."""

    stop_at = ""
    stop_after = 1 << 30

    def num_used_cells(self) -> int:
        return 0

    def decode(self, items: Any) -> None:
        super().decode(items)
        if len(self.batch_sizes) == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    def next_token(self, seq_id: int) -> int:
        token = super().next_token(seq_id)
        said = bytes(one for one in self.cells[seq_id][-60:] if one < 256)
        if self.stop_at and said.endswith(self.stop_at.encode()):
            self.stop_at = ""
            os.kill(os.getpid(), signal.SIGINT)
        return token


def session_with(**settings: Any) -> AskSession:
    backend = Interrupted(8192, n_batch=64, n_seq_max=1, with_states=True)
    for name, value in settings.items():
        setattr(backend, name, value)
    llm = LLM("fake", FakeVocabulary(), backend)
    prompt = DocumentPrompt(PromptEncoder(llm.vocabulary), [MANUAL])
    return AskSession(llm, prompt, {"max_tokens": 100}, Conditions("fake"))


def test_while_it_reads_it_says_how_much_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_with(stop_after=10)
    assert ask_prepare.read(session) == 130
    assert re.fullmatch(
        r"l4: stopped: 5\d\d of 2,\d\d\d tokens were read and are kept; "
        r"the same command reads only the rest\n",
        capsys.readouterr().err,
    )
    session = session_with(stop_after=10)
    session.use_store = False
    assert ask_prepare.read(session) == 130
    assert "tokens were read; they are not kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        (["what is it?"], "stopped: the answer is not whole"),
        (["first?", "what is it?", "third?"], "stopped: 1 of 3 questions were answered"),
    ],
)
def test_while_it_answers_it_says_what_is_missing(
    questions: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    session = session_with()
    assert ask_prepare.read(session) == 0
    session.llm.engine.backend.stop_at = "WHAT"  # type: ignore[attr-defined]
    assert ask_show.answers(session, questions, ask_show.Show()) == 130
    out, err = capsys.readouterr()
    assert err == f"l4: {said}\n"
    assert "WHAT" in out
    assert "third?" not in out  # no heading without an answer


def test_the_other_moments_of_answering() -> None:
    begun = QuestionAnswer(exit_code=130)
    assert stopped.while_answering([begun], 1) == "stopped before the answer began"
    unquoted = QuestionAnswer("It.", finish_reason="stop", exit_code=130)
    assert stopped.while_answering([unquoted], 1) == "stopped before the quotations were found"
    assert stopped.while_answering([QuestionAnswer("It.", finish_reason="stop")], 1) is None


def test_while_it_reads_in_parts_it_says_how_many_notes_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(prompt: str) -> str:
        if len(recorder.prompts) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return reader(prompt)

    recorder = Recorder(say)
    recorder.backend.n_seq_max = 1
    monkeypatch.setattr(
        "l4cli.commands.open_model.open_model", lambda *_: nullcontext(recorder.llm)
    )
    answering: dict[str, Any] = {"sampling": {"max_tokens": 200}}

    def run() -> int:
        return ask._split([book(12)], [QUESTION], None, answering, ask.show.Show(), None)  # type: ignore[arg-type]

    assert run() == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"l4: stopped: \d of 12 parts were read, and the notes on them are kept; "
        "the same command goes on from there",
        last,
    )
    recorder.prompts = [""] * 9
    assert run() == 0
    assert "F10" in capsys.readouterr().out


def test_the_other_moments_of_reading_in_parts() -> None:
    said = stopped.while_taking_notes
    assert said(Progress(0, 6, 0), 1) == "stopped before the first part was read; nothing is kept"
    assert said(Progress(2, 6, 0), 2).startswith("stopped: 2 of 6 notes on the parts were taken")
    assert said(Progress(6, 6, 0), 1).startswith("stopped when all parts were read")
