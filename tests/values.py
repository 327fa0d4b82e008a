"""Values at the edges of every field of a row and of every option that is a number, by seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

# As JSON text: some are not JSON, and some are more than a double or a C integer can hold.
NUMBERS = (
    *("0", "-0", "-0.0", "1", "2", "-1", "0.5", "-2", "2.0", "100", "100.00001", "-100"),
    *("1e-7", "1e-20", "1e-38", "1.4e-45", "1e-40", "1e-45", "1e-46", "5e-324", "1e-400"),
    *("0.9999999", "0.99999999999999999", "1.0000001", "10", "10.01", "20", "21", "128", "129"),
    *("2147483647", "2147483648", "4294967294", "4294967295", "4294967296", "4294967297"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "1e15", "3.5e38"),
    *("1e308", "1e309", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1" + "0" * 400),
    *("-1" + "0" * 400, "9" * 5000, "true", "null", '"1"', "[]", "{}"),
)
FIELDS = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "repetition_penalty"),
    *("frequency_penalty", "presence_penalty", "n", "logprobs", "top_logprobs", "id", "stop"),
    *("logit_bias", "biased", "ignore_eos", "max_completion_tokens"),
)
# The edges of what a field may be: pairs of these reach llama.cpp.
_EDGES = {
    "temperature": ("0", "5e-324", "1e-45", "1e-40", "1e-38", "1e-20", "1e-7", "1", "100"),
    "top_p": ("5e-324", "1e-45", "1e-40", "1e-7", "0.5", "0.99999999999999999", "1"),
    "top_k": ("0", "1", "2147483647", "2147483648", "4294967296", "4294967297", "1" + "0" * 400),
    "min_p": ("0", "5e-324", "1e-45", "1e-40", "1e-7", "0.5", "0.99999999999999999", "1"),
    "seed": ("0", "1", "2147483648", "4294967294"),
    "repetition_penalty": ("5e-324", "1e-45", "1e-40", "1e-20", "0.5", "1.0000001", "10"),
    "frequency_penalty": ("-2", "-1e-40", "5e-324", "1e-7", "2"),
    "presence_penalty": ("-2", "-1e-40", "5e-324", "1e-7", "2"),
    "logit_bias": ("-100", "-1e-40", "5e-324", "1e-7", "100"),
    "biased": ("0", "4095", "007"),
    "logprobs": ("true", "0", "1", "20"),
    "n": ("1", "2"),
    "max_tokens": ("1", "2", "9"),
}
# A short answer and a draw that is made: what a row does not say otherwise.
_USUAL = {"max_tokens": "3", "temperature": "1"}


def row(values: dict[str, str]) -> str:
    """A row as JSON text. `logit_bias` sets the bias of token 5, `biased` the token of bias 1."""
    fields = {**_USUAL, **values}
    if "biased" in fields:
        fields["logit_bias"] = f"{{{json.dumps(fields.pop('biased'))}: 1}}"
    elif "logit_bias" in fields:
        fields["logit_bias"] = f'{{"5": {fields["logit_bias"]}}}'
    if "top_logprobs" in fields:
        fields.setdefault("logprobs", "true")
    written = ", ".join(f'"{name}": {value}' for name, value in fields.items())
    return f'{{"prompt": "Hello", {written}}}'


def single() -> Iterator[str]:
    """A row for each field with each value."""
    return (row({field: value}) for field in FIELDS for value in NUMBERS)


def several(seed: int, count: int) -> Iterator[str]:
    """Rows with two to five fields at once, most of them with values that are allowed."""
    dice = random.Random(seed)
    usable = list(_EDGES)
    for _ in range(count):
        fields = dice.sample(usable, dice.randint(2, 5))
        yield row({field: _value(dice, field) for field in fields})


def _value(dice: random.Random, field: str) -> str:
    is_odd = field not in _EDGES or dice.random() < 0.03
    return dice.choice(NUMBERS if is_odd else _EDGES[field])
