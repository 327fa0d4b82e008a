"""A model without weights that answers in channels, as gpt-oss does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conftest import GOLDEN
from fakes import EOG
from tagged import Tags, tagged_llm

from l4cli.loading.llm import LLM

TAGS = {
    "<|start|>": 260,
    "<|channel|>": 261,
    "<|message|>": 262,
    "<|end|>": 263,
    "<|constrain|>": 264,
    "<|call|>": 265,
    "<|return|>": EOG,
}
HARMONY = Tags(TAGS, ends=["<|call|>"])
TEMPLATE = (GOLDEN / "families/gpt_oss.jinja").read_text("utf-8")
encode, decode = HARMONY.encode, HARMONY.decode

THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
CALL = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
OSLO = '{"city": "Oslo"}'


def harmony_llm(answer: Callable[[str], str] | str, **sizes: Any) -> LLM:
    """An LLM that answers a prompt so."""
    said = (lambda _prompt: answer) if isinstance(answer, str) else answer
    return tagged_llm(HARMONY, TEMPLATE, said, **sizes)
