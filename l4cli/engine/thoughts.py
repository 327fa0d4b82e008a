"""What a model thinks before it answers, and the tags around it, which differ between families.

Where the tags are control tokens, which have no text, an answer is shown with `<think>` and
`</think>` in their places. The answers of gpt-oss have channels instead: `channels.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from l4cli.engine.types import Completion


class Tags(NamedTuple):
    """The texts before and behind a thought."""

    begin: str
    end: str


# DeepSeek, Qwen, GLM, SmolLM, Granite, Hunyuan, Nemotron, Ling
THINK = Tags("<think>", "</think>")
FAMILIES = (
    THINK,
    Tags("[THINK]", "[/THINK]"),  # Magistral
    Tags("<seed:think>", "</seed:think>"),  # Seed-OSS
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Tags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Tags("◁think▷", "◁/think▷"),  # Kimi
    Tags("<thought>", "</thought>"),  # EXAONE Deep
)


class Thoughts(NamedTuple):
    """How a model thinks: its tags, and whether the prompt has already begun the thought."""

    tags: Tags
    is_begun: bool

    def split(self, text: str) -> tuple[str, str] | None:
        """What was thought, and what was said; None if the text has no thought that ends.

        A thought that was cut off, or has only begun, has no end.
        """
        begins, ends = (_either(*pair) for pair in zip(self.tags, THINK, strict=True))
        begun = re.match(rf"\s*{begins}", text)
        if not begun and not self.is_begun:
            return None
        start = begun.end() if begun else 0
        end = re.compile(rf"{ends}\s*").search(text, start)
        return (text[start : end.start()].strip(), text[end.end() :]) if end else None

    def parts(self, text: str) -> tuple[str, str]:
        """What was thought, and what was said; a thought that is marked may be cut off."""
        if found := self.split(text):
            return found
        begun = re.match(rf"\s*{_either(self.tags.begin, THINK.begin)}", text)
        return (text[begun.end() :].strip(), "") if begun else ("", text)

    def is_open(self, text: str) -> bool:
        """Whether the text is a thought, or the beginning of one, that has no end."""
        begins = re.match(rf"\s*{_either(self.tags.begin, THINK.begin)}", text)
        return self.split(text) is None and (self.is_begun or begins is not None)

    def apart(self, completion: Completion) -> Completion:
        """The completion with its thought by itself, unless `<think>` and `</think>` show it."""
        if completion.reasoning or completion.said or self == Thoughts(THINK, is_begun=False):
            return completion
        if found := self.split(completion.text):
            return replace(completion, reasoning=found[0], text=found[1])
        if completion.finish_reason != "stop" and self.is_open(completion.text):
            thought, said = self.parts(completion.text)
            return replace(completion, reasoning=thought or said.strip(), text="")
        return completion


def tags_in(source: str) -> Tags | None:
    """The tags that a template's source knows; None if it has none."""
    return next((tags for tags in FAMILIES if tags.end in source), None)


def tags_begun(prompt: str) -> Tags | None:
    """The tags of the thought that a prompt has begun; None if it has not."""
    return next((tags for tags in FAMILIES if prompt.rstrip().endswith(tags.begin)), None)


def shown_tags(control_tokens: Mapping[str, int]) -> dict[int, bytes]:
    """What stands in an answer for each control token that is one of these tags."""
    return {
        control_tokens[tag]: shown.encode()
        for tags in FAMILIES
        if all(tag in control_tokens for tag in tags)
        for tag, shown in zip(tags, THINK, strict=True)
    }


def _either(one: str, other: str) -> str:
    return f"(?:{re.escape(one)}|{re.escape(other)})"
