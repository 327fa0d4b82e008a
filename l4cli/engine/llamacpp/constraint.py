"""Answers that must belong to a language: a JSON Schema, a grammar, a regular expression.

llguidance does the work. It covers JSON Schema well, reports what it does not support, and computes
a mask in microseconds. (llama.cpp's own grammars throw C++ exceptions, which end a Python process.)
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from typing import Protocol

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from l4cli.engine.channels import CHANNEL, END, MESSAGE, START, Channels
from l4cli.engine.guidance.translate import complaint, limits
from l4cli.engine.guidance.trial import tried
from l4cli.engine.types import Constraint
from l4cli.errors import EngineError, RequestError

# Of compiled constraints that are kept. A compiled grammar takes up to 500 bytes a character.
_MOST_KEPT = 256
_MOST_CHARACTERS_KEPT = 200_000

_NAMES = {
    "json_schema": "JSON schema",
    "json_object": "JSON object",
    "grammar": "grammar",
    "regex": "regular expression",
    "lark": "grammar",
    "calls": "tool call",
}


class Matcher:
    """Follows one answer through its language."""

    def __init__(self, matcher: LLMatcher, n_vocab: int) -> None:
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._bits = np.zeros((n_vocab + 31) // 32, np.int32)

    @property
    def ends(self) -> bool:
        """Whether the answer is complete and no token may follow."""
        return bool(self._matcher.is_stopped())

    def consume(self, token: int) -> bool:
        """Advance by `token`; if it is not allowed here, change nothing and return False."""
        return bool(self._matcher.try_consume_tokens([token]) == 1)

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        """Set the logits [n_vocab] of tokens that are not allowed here to -inf.

        EngineError if the language has become too complex to continue, or allows no token.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise EngineError(
                f"the answer's grammar failed: {complaint(self._matcher.get_error())}"
            )
        allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._n_vocab]
        if not allowed.any():
            raise EngineError("the answer's grammar allows none of the model's tokens here")
        row[allowed == 0] = -np.inf


class Vocabulary(Protocol):
    """The parts of a model that a compiler needs."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def bos_token(self) -> int | None: ...

    @property
    def eog_tokens(self) -> frozenset[int]: ...

    @property
    def special_tokens(self) -> dict[str, int]: ...

    @property
    def channels(self) -> Channels | None: ...

    def piece(self, token: int) -> bytes: ...

    def tokenize(self, text: str) -> list[int]: ...


class Compiler:
    """Compiles constraints for one vocabulary; requests with equal constraints share the work."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._n_vocab = vocabulary.n_vocab
        self._special = _special(vocabulary)
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_Tokens(vocabulary)), eos_token=sorted(vocabulary.eog_tokens)
        )
        self._kept: OrderedDict[Constraint, LLMatcher | RequestError] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, constraint: Constraint) -> Matcher:
        """A new matcher; RequestError, with the reason, if the constraint is not usable.

        CompileAbortedError after an interrupt.
        """
        with self._lock:
            compiled = self._kept.pop(constraint, None)
        if compiled is None:
            compiled = self._compile(constraint)
        self._keep(constraint, compiled)
        if isinstance(compiled, RequestError):
            raise RequestError(*compiled.args)
        return Matcher(compiled.deep_copy(), self._n_vocab)

    def _keep(self, constraint: Constraint, compiled: LLMatcher | RequestError) -> None:
        """Keep what was compiled, as the newest; drop the oldest that are too much."""
        with self._lock:
            self._kept[constraint] = compiled
            num_characters = sum(len(kept.source) for kept in self._kept)
            while len(self._kept) > _MOST_KEPT or (
                num_characters > _MOST_CHARACTERS_KEPT and len(self._kept) > 1
            ):
                oldest, _ = self._kept.popitem(last=False)
                num_characters -= len(oldest.source)

    def _compile(self, constraint: Constraint) -> LLMatcher | RequestError:
        """The matcher, or why there is none: finding that out may have taken seconds."""
        try:
            matcher = LLMatcher(
                self._tokenizer, self._grammar(constraint), log_level=0, limits=limits(constraint)
            )
        except (RequestError, ValueError) as error:
            return RequestError(f"{_NAMES[constraint.kind]}: {complaint(error)}")
        if matcher.is_error():
            return RequestError(f"{_NAMES[constraint.kind]}: {complaint(matcher.get_error())}")
        return matcher

    def _grammar(self, constraint: Constraint) -> str:
        grammar = tried(constraint)
        if constraint.thinking == "no":
            return grammar
        inner = (
            json.loads(grammar)["grammars"][0]
            if grammar.startswith('{"grammars"')
            else {"lark_grammar": grammar}
        )
        outer = {"name": "outer", "lark_grammar": self._before_body(constraint)}
        return json.dumps({"grammars": [outer, {**inner, "name": "body"}]})

    def _before_body(self, constraint: Constraint) -> str:
        """What an answer may, or must, say before the constraint's own language begins."""
        if constraint.thinking == "channels":
            tags = {tag: f"<[{self._special[tag]}]>" for tag in (START, CHANNEL, MESSAGE, END)}
            final = f'{tags[CHANNEL]} "final" {tags[MESSAGE]}'
            lines = [
                f"start: thought? {'' if constraint.kind == 'calls' else final} @body",
                f'thought: {tags[CHANNEL]} "analysis" {tags[MESSAGE]} words {tags[END]} '
                f'{tags[START]} "assistant"',
                r"words: /(.|\n)*/",
            ]
            return "\n".join(lines)
        begin, end = map(self._special.get, constraint.tags)
        first = "thought" if constraint.thinking == "must" else "(open thought)?"
        lines = [
            f"start: {first} @body",
            f"open: {json.dumps(constraint.tags[0])}" if begin is None else f"open: <[{begin}]>",
            "space: /\\s*/",
        ]
        if end is None:
            ending = re.escape(constraint.tags[1]).replace("/", r"\/")
            lines += ["thought: words space", rf"words[lazy]: /(.|\n)*{ending}/"]
        else:
            lines += [f"thought: words <[{end}]> space", r"words: /(.|\n)*/"]
        return "\n".join(lines)


def _special(vocabulary: Vocabulary) -> dict[str, int]:
    """The tokens that are no text in an answer."""
    channels = vocabulary.channels
    return {**vocabulary.special_tokens, **(channels.ids if channels else {})}


class _Tokens:
    """A vocabulary in the form that llguidance's TokenizerWrapper expects."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        special = _special(vocabulary)
        self.tokens = [vocabulary.piece(token) for token in range(vocabulary.n_vocab)]
        for text, token in special.items():
            self.tokens[token] = text.encode()
        self.special_token_ids = sorted(special.values())
        self.bos_token_id = vocabulary.bos_token
        self.eos_token_id = min(vocabulary.eog_tokens)
        self._tokenize = vocabulary.tokenize

    def __call__(self, text: str) -> list[int]:
        return self._tokenize(text)
