"""Conversations to token ids through the product's own chat template, and which ids to learn."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from demo.tokenizer import BOS, EOT, HEADER_END, HEADER_START, SPECIAL, without_special

TEMPLATE = Path(__file__).parent.parent / "l4cli" / "prompt" / "llama4.jinja"
SPECIAL_PATTERN = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")
CARRIED = 3  # of a value's ids, the first ones
HIDDEN = (
    "<\0|"  # stands for "<|" inside messages, so that only the template's own tokens are special
)


class Look(NamedTuple):
    """From a place one of an answer's first ids can be known: that id, the head that is to find it,
    and the first and the last place where it may look."""

    place: int
    id: int
    head: int
    first: int
    last: int


@dataclass(frozen=True)
class Sample:
    """Token ids; spans are the assistant's turns; carried are places in a document behind a thing
    whose value was named before it, where that value begins, and its first ids; looks are what
    is to be found from where in the prompt or before an answer's first ids."""

    ids: list[int]
    spans: list[tuple[int, int]]
    carried: list[tuple[int, int, list[int]]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


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
        text = np.array(ids, np.int32).tobytes()
        sample = Sample(ids, spans, list(self._carried(ids, text, conversation.get("carried", ()))))
        for span, source in zip(spans, conversation.get("sources", ()), strict=False):
            sample.looks.extend(self._sources(ids, text, span, *source))
        decided = zip(spans, openings, conversation.get("decided", ()), strict=False)
        for (start, _), opening, by in decided:
            if by:
                sample.looks.extend(self._decided(ids, text, start, opening, *by))
        return sample

    def _find(self, text: bytes, words: str, begin: int = 0) -> tuple[int, int] | None:
        """Where words stand in a text of int32 ids, from a place on: their first place, and the one
        behind them."""
        wanted = np.array(self.encode(words), np.int32)
        at = text.find(wanted.tobytes(), begin * wanted.itemsize)
        if at < 0 or at % wanted.itemsize:
            return None
        start = at // wanted.itemsize
        return start, start + len(wanted)

    def _sources(
        self,
        ids: list[int],
        text: bytes,
        span: tuple[int, int],
        words: str | None,
        value: str | None,
    ) -> Iterator[Look]:
        """An answer's first ids, each with a head of its own, look behind the words, or, if they
        end with it, at the value; where nothing was said, the first looks at the very beginning."""
        start, end = span
        if words is None:
            yield Look(start - 1, ids[start], 1, 0, 0)
            return
        if (found := self._find(text, words)) is None:
            return
        numbers = range(min(CARRIED, end - 1 - start))
        if value is None:
            for n in numbers:
                yield Look(start - 1 + n, ids[start + n], n + 1, found[1] - 1, found[1])
            return
        begin, named = self._before(ids, found[1], value)
        for n, known in zip(numbers, named, strict=False):
            if n and known != ids[start + n]:  # it is cut otherwise than in the answer
                return
            yield Look(start - 1 + n, ids[start + n], n + 1, begin + n, begin + n)

    def _decided(
        self, ids: list[int], text: bytes, start: int, opening: int, said: str, name: str | None
    ) -> Iterator[Look]:
        """From where a request is decided, and from before its answer, the first head looks at the
        end of the function's name in the list, or at the very beginning where none is offered."""
        asked = self._find(text, said, opening)
        listed = self._find(text, name) if name else (0, 1)
        if asked and listed:
            end = listed[1] - 1
            yield from (Look(place, ids[start], 0, end, end) for place in (asked[1] - 1, start - 1))

    def _carried(
        self, ids: list[int], text: bytes, facts: Iterable[tuple[str, str]]
    ) -> Iterator[tuple[int, int, list[int]]]:
        for behind, value in facts:
            found = self._find(text, behind)
            if found is None:
                continue
            start, end = found
            begin, named = self._before(ids, start, value)
            places = (place for place in (end - 1, end) if named and place < len(ids))
            yield from ((place, begin, named) for place in places)

    def _before(self, ids: list[int], end: int, value: str) -> tuple[int, list[int]]:
        """Where the value that ends before place `end` begins, and its first ids."""
        for written in (" " + value, value, value.capitalize()):
            known = self.encode(written)
            if ids[max(0, end - len(known)) : end] == known:
                skipped = int(known[0] == self.space)
                return end - len(known) + skipped, known[skipped:][:CARRIED]
        return 0, []


__all__ = ["EOT", "Renderer", "Sample"]
