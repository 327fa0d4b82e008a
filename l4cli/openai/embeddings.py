"""Bodies and answers of /v1/embeddings. Bodies raise InputError, which begins with the field."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from l4cli.errors import InputError
from l4cli.openai import fields

MOST_INPUTS = 2048  # of one body, as OpenAI has it
_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_FORMATS = ("float", "base64")

Input = str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingBody:
    """What a request body asks for.

    inputs: texts, or token ids.
    format: how each embedding is written: as numbers, or as float32 in base64.
    dimensions: how many numbers each has; None for all.
    """

    inputs: tuple[Input, ...]
    format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def read(body: Mapping[str, Any], *, lenient: bool = False) -> EmbeddingBody:
    """Return what a body asks for.

    lenient: ignore unknown fields.
    """
    if not lenient:
        fields.refuse_unknown(body, _KNOWN)
    form = body.get("encoding_format")
    if form not in (None, *_FORMATS):
        raise InputError(f"encoding_format must be float or base64, not {form!r}")
    if not isinstance(body.get("user"), str | None):
        raise InputError(f"user must be a string, not {fields.json_type(body['user'])}")
    return EmbeddingBody(_inputs(body.get("input")), form or "float", _dimensions(body))


def _dimensions(body: Mapping[str, Any]) -> int | None:
    given = body.get("dimensions")
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
        return given
    raise InputError("dimensions must be an integer from 1 up")


def _inputs(given: Any) -> tuple[Input, ...]:
    """Return the inputs of a body: a text, token ids, or a list of such."""
    if given is None:
        raise InputError("input is missing: give a text, or a list of texts")
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list):
        raise InputError(f"input must be a string or a list, not {fields.json_type(given)}")
    if not given:
        raise InputError("input is an empty list")
    if all(_is_token(item) for item in given):
        return (tuple(given),)
    if len(given) > MOST_INPUTS:
        raise InputError(f"input has {len(given):,} texts, and may have {MOST_INPUTS:,}")
    return tuple(_input(index, item) for index, item in enumerate(given))


def _input(index: int, item: Any) -> Input:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and all(map(_is_token, item)):
        return tuple(item)
    raise InputError(f"input[{index}] must be a text or a list of token ids")


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def answer(
    model: str,
    vectors: npt.NDArray[np.float32],
    num_tokens: Sequence[int],
    form: Literal["float", "base64"],
) -> Iterator[str]:
    """Yield the JSON of the answer piece by piece: large ones take long to write.

    vectors: float32 [inputs, dimensions].
    num_tokens: of each input.
    """
    yield '{"object":"list","data":['
    for index, vector in enumerate(vectors):
        comma = "," if index else ""
        shown = _written(vector, form)
        yield f'{comma}{{"object":"embedding","index":{index},"embedding":{shown}}}'
    total = sum(num_tokens)
    usage = json.dumps({"prompt_tokens": total, "total_tokens": total})
    yield f'],"model":{json.dumps(model)},"usage":{usage}}}'


def _written(vector: npt.NDArray[np.float32], form: Literal["float", "base64"]) -> str:
    if form == "base64":
        return f'"{base64.b64encode(vector.astype("<f4").tobytes()).decode()}"'
    return json.dumps(vector.tolist(), separators=(",", ":"))
