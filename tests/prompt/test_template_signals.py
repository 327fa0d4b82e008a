"""Ctrl-C and SIGTERM while a chat template runs: it ends at once, in every command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from chat_support import Chat
from fakes import FakeBackend, FakeVocabulary
from slow_templates import LOOP, write_with_template

from l4cli.chat.history.session_file import SessionFile
from l4cli.chat.terminal import loop
from l4cli.loading.llm import LLM
from l4cli.prompt.budget import Budget
from l4cli.prompt.template import ChatTemplate
from l4cli.signals import GivenUpError, catch_interrupts, ignore_interrupts

HI = [{"role": "user", "content": "Hi"}]


def send_at_step(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """Send a signal when a template has begun, once."""
    step = Budget.step

    def sending(budget: Budget) -> None:
        monkeypatch.setattr(Budget, "step", step)
        os.kill(os.getpid(), number)
        step(budget)

    monkeypatch.setattr(Budget, "step", sending)


@pytest.mark.parametrize(
    ("context", "number", "code"),
    [
        (catch_interrupts(), signal.SIGINT, 130),
        (catch_interrupts(), signal.SIGTERM, 143),
        (ignore_interrupts(), signal.SIGINT, 130),
    ],
)
def test_a_signal_ends_a_rendering(
    monkeypatch: pytest.MonkeyPatch,
    context: AbstractContextManager[object],
    number: signal.Signals,
    code: int,
) -> None:
    send_at_step(monkeypatch, number)
    with context, pytest.raises(GivenUpError) as given_up:
        ChatTemplate(LOOP).render(HI)
    assert given_up.value.exit_code == code
    with ignore_interrupts():
        os.kill(os.getpid(), signal.SIGINT)  # outside of a rendering it ends nothing
        assert ChatTemplate("{{ messages[0].content }}").render(HI) == "Hi"


def test_a_chat_whose_prompt_is_given_up_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Vocabulary(FakeVocabulary):
        n_vocab = 300
        chat_template = (
            "{% if messages[-1].content == 'slow' %}" + LOOP + "{% endif %}"
            "{% for m in messages %}{{ m.content }}\n{% endfor %}<|answer|>"
        )

    file = SessionFile(tmp_path / "one.jsonl")
    chat = Chat(LLM("fake", Vocabulary(), FakeBackend()), file=file)
    chat.session.ask("one")
    send_at_step(monkeypatch, signal.SIGINT)
    with ignore_interrupts():
        loop._handle(chat.session, "slow", None)  # type: ignore[arg-type]
        assert "stopped before the answer began; nothing was added" in capsys.readouterr().err
        chat.session.ask("two")
    said = [message.content for message in chat.session.conversation.messages]
    assert said[::2] == ["one", "two"]
    chat.session.close()
    again = Chat(chat.session.llm, file=SessionFile(file.path))
    assert again.session.conversation == chat.session.conversation


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_context_test_ends_at_once(
    tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    model = write_with_template(tiny_checkpoint, tmp_path, LOOP)
    command = [sys.executable, "-m", "l4cli", "ctx-test", "--lengths", "1k", "-m", str(model)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "tokens to read" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(0.5)  # now it renders
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert "stopped; not tested: 1" in process.stderr.read()
