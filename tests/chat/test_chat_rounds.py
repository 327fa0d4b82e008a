"""Rounds of tool calls: permissions, results, the lines shown, and when the rounds end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence

import pytest
from chat_support import RecordingView, fake_llm
from hypothesis import given
from hypothesis import strategies as st

from l4cli.chat.history.conversation import Conversation, Message
from l4cli.chat.tokens import ConversationTokens
from l4cli.chat.tools.calls import CallGate, FinalView, calls_of, tagged_text
from l4cli.chat.tools.rounds import Permission, ToolRounds
from l4cli.chat.tools.toolbox import Toolbox
from l4cli.engine.answer import Answer
from l4cli.prompt import PromptEncoder
from l4cli.prompt.tool_calls import ToolCall

FUNCTIONS = '''
def add(a: int, b: int) -> int:
    """Add."""
    print(f"{a} and {b}\\x1b[2J")
    return a + b


def remember(text: str) -> str:
    """Say it again."""
    return text
'''
NAMES = ["add", "remember"]


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    path = tmp_path_factory.mktemp("tools") / "tools.py"
    path.write_text(FUNCTIONS, "utf-8")
    with Toolbox(path) as toolbox:
        yield toolbox


class Script:
    """A model with prepared answers, and a user with prepared permissions (`says`)."""

    def __init__(self, toolbox: Toolbox, *answers: str, says: Sequence[Permission] = ()) -> None:
        self.answers = list(answers)
        self.permissions = list(says)
        self.asked: list[str] = []
        self.notes: list[str] = []
        self.results: list[list[str]] = []
        self.rounds = ToolRounds(toolbox, self.ask, self.notes.append, max_rounds=3)

    def ask(self, text: str) -> Permission:
        self.asked.append(text)
        return self.permissions.pop(0)

    def answer(self, results: Sequence[str]) -> Answer:
        if results:
            self.results.append(list(results))
        self.said = self.answers.pop(0)
        return Answer(self.said, finish_reason="stop")

    def run(self) -> Answer:
        return self.rounds.follow(self.answer([]), lambda: calls_of(self.said, NAMES), self.answer)


def test_calls_run_when_they_are_allowed_and_the_model_gets_the_results(toolbox: Toolbox) -> None:
    script = Script(toolbox, "[add(a=2, b=40), remember(text='x')]", "42.", says=["yes", "no"])
    assert script.run().text == "42."
    assert script.asked == ["add(a=2, b=40)", 'remember(text="x")']
    assert script.results == [["42", '{"error": "the user did not allow this call"}']]
    assert script.notes == [
        "  | 2 and 40␛[2J",  # no escape code reaches the terminal
        "  → 42",
        "  → remember was not run: you refused it, and the model is told so",
    ]


def test_always_is_for_one_function(toolbox: Toolbox) -> None:
    script = Script(
        toolbox,
        "[add(a=1, b=1), add(a=2, b=2)]",
        "[add(a=3, b=3), remember(text='x')]",
        "done",
        says=["always", "yes"],
    )
    script.run()
    assert script.asked == ["add(a=1, b=1)", 'remember(text="x")']
    assert script.results == [["2", "4"], ["6", "x"]]
    assert "run add(a=2, b=2)" in script.notes


def test_what_cannot_run_is_not_asked_about_and_goes_back_to_the_model(toolbox: Toolbox) -> None:
    script = Script(toolbox, "[add(a='many'), subtract(a=1)]", "sorry")
    assert script.run().text == "sorry"
    assert script.asked == []
    first, second = (json.loads(text)["error"] for text in script.results[0])
    assert first.startswith("a: input should be a valid integer")
    assert "b is required" in first
    assert second == "there is no function subtract; there are: add, remember"
    assert 'add(a="many") cannot be run' in script.notes


def test_rounds_are_bounded(toolbox: Toolbox) -> None:
    script = Script(toolbox, *["[add(a=1, b=1)]"] * 4, says=["always"])
    answer = script.run()
    assert (answer.text, answer.exit_code) == ("[add(a=1, b=1)]", 1)
    assert len(script.results) == 3
    assert "in 3 rounds and still calls; --max-rounds allows more" in script.notes[-1]


def test_long_results_are_shown_in_part_and_given_whole(toolbox: Toolbox) -> None:
    script = Script(toolbox, f"[remember(text='{'word ' * 200}')]", "done", says=["yes"])
    script.run()
    assert script.results == [["word " * 200]]
    assert script.notes[-1].endswith("… (1,000 characters)")
    assert len(script.notes[-1]) < 350


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("add(a=1, b=2)", 1),
        (" add(a=1, b=2)\n", 1),
        ("[add(a=1, b=2), add(a=1, b=2)]", 2),
        ('{"name": "add", "parameters": {"a": 1}}', 1),
        ("<|python_start|>nowhere()<|python_end|>", 1),
        ("[nowhere()]", 1),
        ("nowhere()", 0),
        ('{"name": "nowhere", "parameters": {"x": 1}}', 1),
        ('{"name": "Ann", "age": 7}', 0),
        ("add(a=1) is a call", 0),
        ("[1, 2]", 0),
        ("[]", 0),
        ("The sum.", 0),
        ("", 0),
    ],
)
def test_what_counts_as_calls(text: str, calls: int) -> None:
    assert len(calls_of(text, NAMES)) == calls


def test_tags_are_found_though_control_tokens_have_no_text() -> None:
    pieces = {1: b"", 2: b"", 3: b"add", 4: b"()", 5: "é".encode()[:1], 6: "é".encode()[1:]}
    special = {"<|python_start|>": 1, "<|python_end|>": 2}
    text = tagged_text([5, 6, 1, 3, 4, 2], pieces.__getitem__, special)
    assert text == "é<|python_start|>add()<|python_end|>"
    assert calls_of(text, NAMES) == (ToolCall("add", {}),)


TEXTS = [
    "Hello, world.",
    "[a link](https://example.org) and more",
    "[1] is a reference, add is a word",
    "add",
    "additional",
    "[add(a=1",
    "{'not': 'json'",
    '{"city": "Oslo"}',
    "",
    " \n",
    "remember (text) that",
    "[add(a=1, b=2)]",
    "add(a=1, b=2)",
    '{"name": "add", "parameters": {}}',
]


@given(st.sampled_from(TEXTS), st.lists(st.integers(0, 40), max_size=6))
def test_an_answer_is_shown_unless_it_calls(text: str, cuts: list[int]) -> None:
    """This holds for every way to cut the answer into pieces, on a terminal and in a pipe."""
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    expected = "" if calls_of(text, NAMES) else text
    view = RecordingView()
    for gate in (CallGate(view, NAMES), FinalView(lambda: view, NAMES)):
        view.text = ""
        for begin, end in itertools.pairwise(places):
            gate.write(text[begin:end])
        gate.close()
        assert view.text == expected
    assert view.is_closed


def test_speech_streams() -> None:
    view = RecordingView()
    gate = CallGate(view, NAMES)
    gate.write("add")
    assert view.text == ""
    gate.write("ing")
    assert view.text == "adding"
    gate.write(" [add(")
    assert view.text == "adding [add("


def test_a_call_leaves_no_empty_line_in_a_pipe() -> None:
    written: list[str] = []

    def make() -> RecordingView:
        written.append("made")
        return RecordingView()

    view = FinalView(make, NAMES)
    view.write("[add(a=1, b=2)]")
    view.close()
    assert written == []


def test_a_template_that_takes_results_only_after_calls_gets_calls() -> None:
    """Mistral's does: the text of a call is no call to it."""
    template = (
        "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}"
        "{% if m.role == 'tool' and not loop.previtem.tool_calls %}{{ raise_exception('no') }}"
        "{% endif %}{{ m.role }}:{% for c in m.tool_calls or [] %}[TOOL_CALLS]"
        "{{ c.function | tojson }}{{ c.id }}{% if c.id | length != 9 %}{{ raise_exception('id') }}"
        "{% endif %}{% else %}{{ m.content }}{% endfor %}{{ m.tool_call_id }}\n{% endfor %}"
    )
    llm = fake_llm()
    llm.vocabulary.chat_template = template  # type: ignore[misc]
    llm.encoder = PromptEncoder(llm.vocabulary)
    tokens = ConversationTokens(llm, [{"type": "function", "function": {"name": "f"}}])
    said = Conversation(
        (
            Message("user", "q"),
            Message("assistant", '[{"name": "f", "arguments": {"x": 1}}]'),
            Message("ipython", "2"),
        )
    )
    text = bytes(token for token in tokens.prompt(said) if token < 256).decode()
    assert '[TOOL_CALLS]{"name": "f", "arguments": {"x": 1}}' in text
    assert "tool:2" in text
