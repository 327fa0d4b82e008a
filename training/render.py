"""Conversations to token ids through the product's own chat template, and which ids to learn."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from training import looks
from training.looks import Look, Text
from training.tokenizer import BOS, EOT, HEADER_END, HEADER_START, SPECIAL, without_special

TEMPLATE = Path(__file__).parent.parent / "l4cli" / "prompt" / "llama4.jinja"
SPECIAL_PATTERN = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")
HIDDEN = (
    "<\0|"  # stands for "<|" inside messages, so that only the template's own tokens are special
)


@dataclass(frozen=True)
class Sample:
    """Token ids; spans are the assistant's turns; carried are places in a document behind a thing
    whose value was named before it, where that value begins, and its first ids; looks are what
    is to be found from where in the prompt or in an answer, and foreseen are places from which an
    answer's next ids are found, and those."""

    ids: list[int]
    spans: list[tuple[int, int]]
    carried: list[tuple[int, int, list[int]]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    foreseen: list[tuple[int, list[int]]] = field(default_factory=list)


def template_text() -> str:
    return TEMPLATE.read_text("utf8")


class Renderer:
    def __init__(self, tokenizer: Tokenizer) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self.template = environment.from_string(template_text())
        self.special = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        self.plain = without_special(tokenizer)
        self.space = self.plain.token_to_id("Ġ")  # stands before numbers as a token of its own
        pieces = ((tokenizer.decode([i]), i) for i in range(tokenizer.get_vocab_size()))
        self.ends = {
            i for piece, i in pieces if piece.rstrip("\n").endswith(".") or "\n\n" in piece
        }

    def text(self, conversation: dict, add_generation_prompt: bool = False) -> str:
        messages = [
            {**message, "content": message["content"].replace("<|", HIDDEN)}
            for message in conversation["messages"]
        ]
        return self.template.render(
            messages=messages,
            tools=conversation.get("tools"),
            bos_token=BOS,
            add_generation_prompt=add_generation_prompt,
        )

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in SPECIAL_PATTERN.split(text):
            if part in self.special:
                ids.append(self.special[part])
            elif part:
                plain = part.replace(HIDDEN, "<|")
                ids += self.plain.encode(plain, add_special_tokens=False).ids
        return ids

    def sample(self, conversation: dict) -> Sample:
        """The whole conversation; every assistant turn, its <|eot|> included, is a span."""
        ids: list[int] = []
        spans, openings = [], [0]
        pieces = re.split(f"({re.escape(HEADER_START)})", self.text(conversation))
        opening = f"assistant{HEADER_END}\n\n"
        for piece in pieces:
            if piece.startswith(opening):
                ids += self.encode(opening)
                start = len(ids)
                ids += self.encode(piece[len(opening) :])
                spans.append((start, len(ids)))
                openings.append(len(ids))
            else:
                ids += self.encode(piece)
        sample = Sample(ids, spans)
        self._show(sample, openings, conversation)
        return sample

    def _show(self, sample: Sample, openings: list[int], conversation: dict) -> None:
        """What the auxiliary losses are to know of a conversation to train on; a request begins
        behind the place in `openings`."""
        text = Text(sample.ids, self.encode, self.space)
        sample.carried.extend(looks.carried(text, conversation.get("facts", ())))
        for span, fact in zip(sample.spans, conversation.get("answers", ()), strict=False):
            own = list(looks.found(text, span, fact) if fact else looks.not_said(text, span))
            sample.looks.extend(own)
            if fact:
                sample.foreseen.extend(looks.foreseen(text, span, own))
        decided = zip(sample.spans, openings, conversation.get("decided", ()), strict=False)
        for (start, _), opening, by in decided:
            if by:
                sample.looks.extend(looks.decided(text, start, opening, *by))


__all__ = ["EOT", "Renderer", "Sample"]
