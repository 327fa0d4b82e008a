"""What a stream passes on adds up to the whole answer, wherever its pieces end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from l4cli.engine.thoughts import FAMILIES, THINK, Thoughts
from l4cli.engine.types import Completion
from l4cli.openai.said import Said, said_in
from l4cli.serve.generation import _apart
from l4cli.serve.splitting import Splitter

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("look", "look_up")]
WORDS = st.sampled_from(
    [
        *("Hello", " ", "\n\n", "look", "look_up", "<", "<tool", "[", "`", "```\n", "a < b", "[1]"),
        *('{"name": "look", "arguments": {}}', "<tool_call>", "</tool_call>", "[TOOL_CALLS]"),
        *('<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>', "é", "<think>"),
        *("<function=look>{}</function>", "[look()]", "</th", "Fine.", "<|python", "thinking"),
    ]
)
TEXTS = st.lists(WORDS, max_size=8).map("".join)


def streamed(
    text: str, cuts: list[int], thoughts: Thoughts | None, tools: list[dict[str, object]]
) -> tuple[Said, Said, str]:
    """What an answer says as a stream and as a whole, and the text passed on before its end."""
    names = ["look", "look_up"] if tools else []
    splitter = Splitter(thoughts, functions=names)
    passed, reasoning = "", ""
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, stop in pairwise(edges):
        piece = splitter.feed(text[start:stop])
        passed, reasoning = passed + piece.text, reasoning + piece.reasoning
    completion = Completion("1", text, (), "stop", 1, 0, 1, 0.0, 0.0)
    if thoughts:
        completion = _apart(completion, thoughts)
    said = said_in(completion, tools, lambda one: replace(one).text)
    rest = splitter.finish(said.text, reasoning, said.reasoning)
    total = Said(passed + rest.text, said.calls, reasoning + rest.reasoning)
    return total, said, passed


@given(
    thought=TEXTS.map(lambda text: text.replace("<think>", "").replace("</th", "")),
    answer=TEXTS,
    cuts=st.lists(st.integers(0, 200), max_size=6),
    tags=st.sampled_from(FAMILIES),
    is_begun=st.booleans(),
    tools=st.sampled_from([[], TOOLS]),
)
def test_a_thought_and_an_answer(
    thought: str,
    answer: str,
    cuts: list[int],
    tags: tuple[str, str],
    is_begun: bool,
    tools: list[dict[str, object]],
) -> None:
    thoughts = Thoughts(THINK._make(tags), is_begun)
    text = ("" if is_begun else tags[0]) + thought + tags[1] + answer
    total, said, _ = streamed(text, cuts, thoughts, tools)
    assert total.reasoning.split() == said.reasoning.split()
    assert total.text.split() == said.text.split()


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_an_answer_without_tools_is_passed_on_as_it_is(text: str, cuts: list[int]) -> None:
    total, said, passed = streamed(text, cuts, None, [])
    assert total.text == said.text == passed == text


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_a_call_is_never_passed_on_as_text(text: str, cuts: list[int]) -> None:
    total, said, _ = streamed(text, cuts, None, TOOLS)
    assert total.text.split() == said.text.split()
    if said.calls:
        assert '"arguments"' not in total.text or '"arguments"' in said.text
