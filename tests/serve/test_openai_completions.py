"""/v1/completions through OpenAI's own client: texts and token ids, echo and logprobs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from l4cli.loading.llm import LLM

TEXT = "The sun is a star. The moon is"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def complete(client: openai.OpenAI, prompt: Any, **body: Any) -> Any:
    body = {"temperature": 0, "max_tokens": 6, **body}
    return client.completions.create(model="demo", prompt=prompt, **body)


def test_texts_and_their_tokens_are_continued_alike(client: openai.OpenAI, demo: LLM) -> None:
    tokens = demo.encoder.text(TEXT)
    both = complete(client, [TEXT, "Once upon"])
    alone = complete(client, [tokens])
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == alone.choices[0].text
    assert alone.usage.prompt_tokens == len(tokens)


def test_a_stream_adds_up(client: openai.OpenAI) -> None:
    whole = complete(client, TEXT, n=2).choices
    parts = ["", ""]
    for chunk in complete(client, TEXT, n=2, stream=True):
        for choice in chunk.choices:
            parts[choice.index] += choice.text
    assert parts == [choice.text for choice in whole]


def test_echo_scores_the_prompt(client: openai.OpenAI, demo: LLM) -> None:
    tokens = demo.encoder.text(TEXT)
    answer = complete(client, TEXT, echo=True, logprobs=3, max_tokens=2)
    choice = answer.choices[0]
    scored = choice.logprobs
    assert choice.text.endswith(complete(client, TEXT, max_tokens=2).choices[0].text)
    assert TEXT in choice.text
    assert len(scored.tokens) == len(tokens) + 2
    assert (scored.token_logprobs[0], scored.top_logprobs[0]) == (None, None)
    assert all(value <= 0 for value in scored.token_logprobs[1:])
    assert all(len(top) == 3 for top in scored.top_logprobs[1:])
    for text, offset in zip(scored.tokens, scored.text_offset, strict=True):
        assert choice.text[offset:].startswith(text)


def test_a_prompts_scores_are_those_of_generating_it(client: openai.OpenAI) -> None:
    """What the model says of its own greedy answer must be what it said while generating it."""
    generated = complete(client, TEXT, logprobs=0, max_tokens=8).choices[0]
    echoed = complete(client, TEXT + generated.text, echo=True, logprobs=0, max_tokens=0).choices[0]
    assert echoed.text.endswith(TEXT + generated.text)
    last = echoed.logprobs.token_logprobs[-8:]
    for one, other in zip(last, generated.logprobs.token_logprobs, strict=True):
        assert math.isclose(one, other, abs_tol=0.05)


def test_a_score_follows_a_prompt_that_the_model_ends(client: openai.OpenAI, demo: LLM) -> None:
    """As lm-evaluation-harness asks: it drops the last score, which must not be the prompt's."""
    tokens = demo.vocabulary.tokenize(
        "What does a tokenizer do?\nAnswer: It splits text into tokens."
    )
    assert complete(client, tokens, max_tokens=1).choices[0].text == ""  # the model ends here
    asked: Any = {"max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    (scored,) = complete(client, [tokens], **asked).choices
    assert len(scored.logprobs.token_logprobs) == len(tokens) + 1
    assert scored.text.endswith("tokens.")
    whole = complete(client, [tokens], **{**asked, "max_tokens": 0}).choices[0].logprobs
    assert scored.logprobs.token_logprobs[:-1] == whole.token_logprobs


def test_nothing_is_generated_with_max_tokens_0(client: openai.OpenAI) -> None:
    answer = complete(client, TEXT, echo=True, logprobs=1, max_tokens=0)
    assert answer.usage.completion_tokens == 0
    assert answer.choices[0].text.endswith(TEXT)
    streamed = list(complete(client, TEXT, echo=True, max_tokens=0, stream=True))
    assert "".join(c.choices[0].text for c in streamed if c.choices).endswith(TEXT)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "prompt is empty"),
        (5, "prompt must be a string"),
        ([["a"]], r"prompt\[0\] must be a text or a list of token ids"),
        ([[99_999_999]], "99999999"),
        ("word " * 200_000, "the context holds"),
    ],
)
def test_wrong_prompts_are_named(client: openai.OpenAI, prompt: Any, message: str) -> None:
    for options in ({}, {"echo": True, "logprobs": 1}):
        with pytest.raises(openai.BadRequestError, match=message):
            complete(client, prompt, **options)
