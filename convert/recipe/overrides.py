"""The qtypes that a user asks for instead of the recipe's, by the rules of llama-quantize."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from convert.errors import ConvertError
from convert.gguf.ftypes import FType
from convert.gguf.qtypes import QTYPES, find_qtype
from convert.types import TypeOptions

_POSIX_CLASSES = {
    "alnum": "a-z0-9",
    "alpha": "a-z",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "xdigit": "0-9a-f",
}


@dataclass(frozen=True)
class Overrides:
    """Checked `TypeOptions`: qtypes are spelled as in QTYPES, and patterns are compiled."""

    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()
    output: str | None = None
    token_embedding: str | None = None
    is_pure: bool = False
    cold_experts: str | None = None

    def find(self, name: str) -> str | None:
        """The qtype of the first pattern that occurs in `name`; None if no pattern does."""
        return next((qtype for pattern, qtype in self.patterns if pattern.search(name)), None)

    def refuse_idle(self, ftype: FType, names: Iterable[str]) -> None:
        """Raise ConvertError if a pattern has no effect. `names`: the quantizable tensors."""
        if self.patterns and not QTYPES[ftype.base].is_quantized:
            raise ConvertError(
                f"type {ftype.name} quantizes nothing, so --tensor-type has no effect; "
                "choose a quantized --type"
            )
        names = list(names)
        for pattern, _ in self.patterns:
            if not any(pattern.search(name) for name in names):
                raise ConvertError(
                    f"--tensor-type {pattern.pattern}: matches no tensor that is quantized; "
                    "see their names with --dry-run"
                )


def read_overrides(options: TypeOptions) -> Overrides:
    """Check `options`. Raises ConvertError on an unknown type or an invalid pattern."""
    return Overrides(
        tuple(
            (_compile(pattern), _qtype(type_, f"--tensor-type {pattern}={type_}"))
            for pattern, type_ in options.tensor_types
        ),
        _named(options.output_tensor_type, "--output-tensor-type"),
        _named(options.token_embedding_type, "--token-embedding-type"),
        options.pure,
        _named(options.cold_experts, "--cold-experts"),
    )


def _named(type_: str | None, option: str) -> str | None:
    return None if type_ is None else _qtype(type_, option)


def _qtype(type_: str, option: str) -> str:
    """The qtype's name as in QTYPES. Raises ConvertError, which names `option`, if unknown."""
    try:
        return find_qtype(type_).name
    except ConvertError as error:
        raise ConvertError(f"{option}: {error}") from None


def _compile(pattern: str) -> re.Pattern[str]:
    """Compile `pattern` as llama-quantize reads it: lower-cased ECMAScript, to be searched for."""
    if re.search(r"\\[A-Z]", pattern):
        raise ConvertError(
            f"--tensor-type {pattern}: patterns are lower-cased, which turns an escape like \\D "
            "into its opposite; write [^0-9]"
        )
    text = pattern.lower()
    for name, members in _POSIX_CLASSES.items():
        text = text.replace(f"[:{name}:]", members)
    # Refuse groups that ECMAScript does not have, and unknown character classes.
    if not text or re.search(r"\(\?[^:=!]|\[:", text):
        raise ConvertError(f"--tensor-type {pattern!r}: not a pattern that llama-quantize knows")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Python warns of nested brackets
            return re.compile(text, re.ASCII)
    except re.error as error:
        raise ConvertError(f"--tensor-type {pattern}: not a regular expression: {error}") from None
