"""Turns conversations into token ids, through l4's own chat template."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from training import attention_targets
from training.attention_targets import AttentionTarget, CarriedValue, NextIds, TokenizedText
from training.corpus.conversation import Conversation
from training.tokenizer import BOS, HEADER_END, HEADER_START, SPECIAL, without_special

TEMPLATE = Path(__file__).parent.parent / "l4cli" / "prompt" / "llama4.jinja"
SPECIAL_PATTERN = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")
# Stands for "<|" inside messages, so that only the template's own tokens are special.
ESCAPED = "<\0|"


@dataclass(frozen=True)
class Sample:
    """A conversation as token ids, with the targets of the auxiliary losses.

    ids: the token ids.
    answers: the first place of each answer of the assistant, and the place after its <|eot|>.
    values, attention, next_ids: see `attention_targets.py`.
    """

    ids: list[int]
    answers: list[tuple[int, int]]
    values: list[CarriedValue] = field(default_factory=list)
    attention: list[AttentionTarget] = field(default_factory=list)
    next_ids: list[NextIds] = field(default_factory=list)


def template_text() -> str:
    return TEMPLATE.read_text("utf8")


class Renderer:
    """Renders and encodes conversations with one tokenizer.

    sentence_ends: the ids after which a sentence has ended.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self.template = environment.from_string(template_text())
        self.special = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        self.plain = without_special(tokenizer)
        self.space = self.plain.token_to_id("Ġ")  # a single space, as it stands before numbers
        pieces = ((tokenizer.decode([i]), i) for i in range(tokenizer.get_vocab_size()))
        self.sentence_ends = {
            i for piece, i in pieces if piece.rstrip("\n").endswith(".") or "\n\n" in piece
        }

    def text(self, conversation: Conversation) -> str:
        """Return the conversation as the chat template writes it."""
        messages = [
            {**message, "content": message["content"].replace("<|", ESCAPED)}
            for message in conversation["messages"]
        ]
        return self.template.render(
            messages=messages,
            tools=conversation.get("tools"),
            bos_token=BOS,
            add_generation_prompt=False,
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a rendered text, or of a piece of it."""
        ids: list[int] = []
        for part in SPECIAL_PATTERN.split(text):
            if part in self.special:
                ids.append(self.special[part])
            elif part:
                plain = part.replace(ESCAPED, "<|")
                ids += self.plain.encode(plain, add_special_tokens=False).ids
        return ids

    def sample(self, conversation: Conversation) -> Sample:
        """Return the whole conversation as ids."""
        ids: list[int] = []
        answers, requests = [], [0]
        pieces = re.split(f"({re.escape(HEADER_START)})", self.text(conversation))
        header = f"assistant{HEADER_END}\n\n"
        for piece in pieces:
            if piece.startswith(header):
                ids += self.encode(header)
                start = len(ids)
                ids += self.encode(piece[len(header) :])
                answers.append((start, len(ids)))
                requests.append(len(ids))
            else:
                ids += self.encode(piece)
        sample = Sample(ids, answers)
        self._add_targets(sample, requests, conversation)
        return sample

    def _add_targets(self, sample: Sample, requests: list[int], conversation: Conversation) -> None:
        """Add the targets of the auxiliary losses; `requests`: a place before each request."""
        text = TokenizedText(sample.ids, self.encode, self.space)
        facts = conversation.get("facts", [])
        sample.values.extend(attention_targets.carried_values(text, facts))
        told = conversation.get("answers", [])
        for answer, fact in zip(sample.answers, told, strict=False):
            if fact is None:
                sample.attention.extend(attention_targets.not_said(text, answer))
                continue
            own = list(attention_targets.answer_targets(text, answer, fact))
            sample.attention.extend(own)
            sample.next_ids.extend(attention_targets.next_ids(text, answer, own))
        asked = conversation.get("requests", [])
        for (start, _), begin, request in zip(sample.answers, requests, asked, strict=False):
            if request:
                sample.attention.extend(
                    attention_targets.function_targets(
                        text, start, begin, request.words, request.function
                    )
                )
