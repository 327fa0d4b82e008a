"""What a chat suggests to a stranger is shown, and the demo model answers it rightly."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_support import RecordingView
from conftest import ROOT
from terminal import CTRL_D, ENTER, Terminal

from l4cli.chat.session import ChatSession
from l4cli.chat.tools.rounds import ToolRounds
from l4cli.chat.tools.toolbox import Toolbox
from l4cli.loading.llm import LLM
from l4cli.loading.load import load

TOOLS = ROOT / "examples" / "tools.py"
CHAT = [sys.executable, "-m", "l4cli", "chat", "-t", "2"]
# What is said of each question in the answer.
ANSWERS = {
    "What is a mixture of experts?": "a router sends each token to a few expert networks",
    "How do I convert a model?": "l4 convert SRC -o OUT.gguf --type Q4_K_M",
    "How much memory does Scout need?": "65 GB",
}
# Each question of examples/tools.py, the calls, and the answer to their results.
CALLS = {
    "What is the weather in Oslo?": (
        '[get_weather(city="Oslo")]',
        "The temperature is 28 and the sky is cloudy.",
    ),
    "Set a timer for 20 minutes.": (
        "[set_timer(minutes=20)]",
        r"The status is ok and the time is \d\d:\d\d.",
    ),
    "Book a table for 4 people on Friday.": (
        '[book_table(guests=4, day="Friday")]',
        "The status is done and the id is T-46.",
    ),
    "Send a mail to Anna.": ("", "None of the functions fits this request."),
}


@pytest.fixture(scope="module")
def demo() -> Iterator[LLM]:
    with load("demo", threads=2) as llm:
        yield llm


def test_the_demo_model_answers_what_is_suggested(demo: LLM) -> None:
    assert demo.file is not None
    assert demo.file.questions == tuple(ANSWERS)
    for order in (list(ANSWERS), list(ANSWERS)[::-1]):
        session = ChatSession(demo, lambda _: RecordingView())
        for question in order:
            assert ANSWERS[question] in session.ask(question).text


@pytest.mark.parametrize("order", [1, -1])
def test_the_demo_model_calls_the_example_tools(demo: LLM, order: int) -> None:
    with Toolbox(TOOLS) as toolbox:
        assert re.findall(r"^- (.*?[.?])(?:  |$)", toolbox.about, re.M) == list(CALLS)
        rounds = ToolRounds(toolbox, None, max_rounds=8, streams=False)
        session = ChatSession(demo, lambda _: RecordingView(), rounds=rounds)
        for question in list(CALLS)[::order]:
            before = len(session.conversation.messages)
            session.ask(question)
            said = [m.content.strip() for m in session.conversation.messages[before + 1 :]]
            call, answer = CALLS[question]
            assert said[0] == call or not call
            assert re.fullmatch(answer, said[-1]), said
            if found := re.search(r"\d\d:\d\d", said[-1]):
                assert found[0] in said[-2]  # the time that the timer gave


def test_a_chat_begins_with_questions_to_try(tiny_gguf: Path) -> None:
    with Terminal(CHAT, timeout=60) as terminal:
        terminal.wait_for(r"^> *$")
        for question in ANSWERS:
            assert f"\n  {question}" in terminal.text()
        terminal.type("What are you?" + ENTER)
        terminal.wait_for("l4 demo model")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0
    with Terminal([*CHAT, "-c"], timeout=60) as terminal:
        terminal.wait_for(r"^> *$")
        assert "Try:" not in terminal.text()  # of a conversation that goes on
        terminal.type(CTRL_D)
    with Terminal([*CHAT, "--tools", str(TOOLS)], timeout=60) as terminal:
        terminal.wait_for(r"^> *$")
        assert "- Set a timer for 20 minutes." in terminal.text()
        assert "\nTry:" not in terminal.text()
        terminal.type(CTRL_D)
