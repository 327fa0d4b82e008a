"""The options that choose the tokens of an answer, for `l4 run`, `l4 chat` and `l4 ask`.

Their values are checked as the command line is parsed: a wrong one costs no time, and the error
names the option as it was typed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from l4cli.errors import RequestError

SAMPLING_PANEL = "Sampling"


def given(
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    min_p: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """The options of the sampling panel, as `LLM.params` takes them; None means not given."""
    return {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "seed": seed,
    }


def _parser(field: str, kind: type[int] | type[float]) -> Callable[[Any], float]:
    """A parser of the values that SamplingParams takes for one of its fields."""

    def parse(value: Any) -> float:
        from l4cli.engine.types import SamplingParams

        is_fit = isinstance(value, (str, int, kind)) and not isinstance(value, bool)
        try:
            number = kind(value if is_fit else "")
            SamplingParams(**{field: number})  # type: ignore[arg-type]
        except ValueError:
            whole = "whole " if kind is int else ""
            raise typer.BadParameter(f"it is not a {whole}number") from None
        except RequestError as error:
            raise typer.BadParameter(f"it {str(error).removeprefix(f'{field} ')}") from None
        return number

    return parse


MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        "-n",
        metavar="N",
        parser=_parser("max_tokens", int),
        help="Longest answer, in tokens (default: 1024; in `l4 chat`, what is left of the "
        "context).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        parser=_parser("temperature", float),
        help="Randomness: 0 always picks the most likely token, higher values vary more "
        "(default: the model's own, else 0.6).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        parser=_parser("top_p", float),
        help="Sample from the most likely tokens whose probabilities add up to P (default: the "
        "model's own, else 0.9).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        parser=_parser("top_k", int),
        help="Sample from the K most likely tokens; 0 means all (default: the model's own, else "
        "0).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        "--min-p",
        metavar="P",
        parser=_parser("min_p", float),
        help="Leave out tokens whose probability is below P times that of the most likely one "
        "(default: the model's own, else 0).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        parser=_parser("seed", int),
        help="Seed of the random draw, to make it repeatable (default: a new one each time).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="SCHEMA|FILE",
        help="What every answer must match: a JSON Schema, a file with one, or a short form such "
        "as 'name, age int, stars 1..5, mood good|bad'.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
