"""A model without weights that answers in channels, as gpt-oss does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from conftest import GOLDEN
from fakes import BOS, EOG, FakeBackend, FakeSampler

from l4cli.engine.channels import Channels
from l4cli.engine.types import Sampled, SamplingParams
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
_TAG = re.compile("|".join(map(re.escape, TAGS)))

THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
CALL = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
OSLO = '{"city": "Oslo"}'


def encode(text: str) -> list[int]:
    """The ids of a text with tags."""
    ids, at = list[int](), 0
    for found in _TAG.finditer(text):
        ids += [*text[at : found.start()].encode(), TAGS[found[0]]]
        at = found.end()
    return ids + list(text[at:].encode())


def decode(ids: Sequence[int]) -> str:
    """The text with tags that ids stand for."""
    texts = {id_: text.encode() for text, id_ in TAGS.items()}
    return b"".join(texts[id_] if id_ >= BOS else bytes([id_]) for id_ in ids).decode()


class HarmonyVocabulary:
    """Bytes, and the control tokens of harmony."""

    n_vocab = 266
    special_tokens = TAGS
    bos_token, eos_token = None, EOG
    adds_bos = False
    chat_template = (GOLDEN / "families/gpt_oss.jinja").read_text("utf-8")

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def token_text(self, token: int | None) -> str:
        return next((text for text, id_ in TAGS.items() if id_ == token), "")


class _Sampler(FakeSampler):
    def __init__(self, backend: HarmonyBackend, prompt: Sequence[int]) -> None:
        super().__init__(backend)
        self._num_given, self._answer = len(prompt), encode(backend.answer(decode(prompt)))

    def sample(self, output: int) -> Sampled:
        num_said = len(self.backend.cells[self.backend.outputs[output]]) - self._num_given
        return Sampled(self._answer[num_said] if num_said < len(self._answer) else EOG)


class HarmonyBackend(FakeBackend):
    """Answers a prompt, a text with tags, with `answer(prompt)`, another one."""

    channels = Channels.of(TAGS)

    def sampler(self, params: SamplingParams, prompt: Sequence[int] = ()) -> FakeSampler:
        return _Sampler(self, prompt)

    def is_eog(self, token: int) -> bool:
        return token in (EOG, TAGS["<|call|>"])


def harmony_llm(answer: Callable[[str], str] | str, **sizes: Any) -> LLM:
    """An LLM that answers prompts so; as ids they are the bytes of texts, and the tags' ids."""
    said = (lambda _prompt: answer) if isinstance(answer, str) else answer
    backend = HarmonyBackend(**{"n_ctx": 4096, "n_seq_max": 1, **sizes}, answer=said)
    return LLM("fake", HarmonyVocabulary(), backend)
