"""A model without weights whose prompts and answers are texts with tags; the tags are tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fakes import BOS, EOG, FakeBackend, FakeSampler

from l4cli.engine.channels import Channels
from l4cli.engine.thoughts import shown_tags
from l4cli.engine.types import Sampled, SamplingParams
from l4cli.loading.llm import LLM


class Tags:
    """The ids of some tags; every other token is a byte. `ends` are the tags that end an answer."""

    def __init__(self, ids: Mapping[str, int], ends: Sequence[str]) -> None:
        self.ids = ids
        self.ends = {EOG, *(ids[tag] for tag in ends)}
        self._texts = {id_: text.encode() for text, id_ in ids.items()}
        self._tag = re.compile("|".join(map(re.escape, ids)))

    def encode(self, text: str) -> list[int]:
        """The ids of a text with tags."""
        ids, at = list[int](), 0
        for found in self._tag.finditer(text):
            ids += [*text[at : found.start()].encode(), self.ids[found[0]]]
            at = found.end()
        return ids + list(text[at:].encode())

    def decode(self, ids: Sequence[int]) -> str:
        """The text with tags that ids stand for."""
        return b"".join(self._texts[id_] if id_ >= BOS else bytes([id_]) for id_ in ids).decode()


class TaggedVocabulary:
    """Bytes, and tags as control tokens."""

    bos_token, eos_token = None, EOG
    adds_bos = False
    n_vocab = BOS + 20

    def __init__(self, tags: Tags, template: str) -> None:
        self.special_tokens, self.chat_template = tags.ids, template

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def token_text(self, token: int | None) -> str:
        return next((text for text, id_ in self.special_tokens.items() if id_ == token), "")


class TaggedBackend(FakeBackend):
    """Answers a prompt with `answer(prompt)`."""

    def __init__(self, tags: Tags, **options: Any) -> None:
        super().__init__(**options)
        self.tags, self.channels = tags, Channels.of(tags.ids)

    def piece(self, token: int) -> bytes:
        return shown_tags(self.tags.ids).get(token) or super().piece(token)

    def sampler(self, params: SamplingParams, prompt: Sequence[int] = ()) -> FakeSampler:
        return _Sampler(self, prompt)

    def is_eog(self, token: int) -> bool:
        return token in self.tags.ends


class _Sampler(FakeSampler):
    def __init__(self, backend: TaggedBackend, prompt: Sequence[int]) -> None:
        super().__init__(backend)
        tags = backend.tags
        self._num_given, self._answer = (
            len(prompt),
            tags.encode(backend.answer(tags.decode(prompt))),
        )

    def sample(self, output: int) -> Sampled:
        num_said = len(self.backend.cells[self.backend.outputs[output]]) - self._num_given
        return Sampled(self._answer[num_said] if num_said < len(self._answer) else EOG)


def tagged_llm(tags: Tags, template: str, answer: Callable[[str], str], **sizes: Any) -> LLM:
    """An LLM that answers so; prompts and answers are texts with tags."""
    backend = TaggedBackend(tags, **{"n_ctx": 8192, "n_seq_max": 1, **sizes}, answer=answer)
    return LLM("fake", TaggedVocabulary(tags, template), backend)
