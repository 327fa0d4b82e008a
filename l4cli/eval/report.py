"""The results of an evaluation, as tables and as JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l4cli.amounts import counted, human_size
from l4cli.eval import figures
from l4cli.eval.figures import Comparison, Depth, Estimate
from l4cli.eval.numerics import Compared
from l4cli.eval.session import Measured

NUM_WORST = 10
_BEFORE = 24  # characters of text before a token
_TOKENS_BEFORE = 12

Piece = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Difference:
    """One token that the model and its reference predict differently."""

    place: int
    before: str
    token: str
    kld: float
    base_p: float
    p: float
    base_top: str
    top: str


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one model. Without a reference, `comparison` and `worst` are empty."""

    name: str
    n_bytes: int
    measured: Measured
    ppl: Estimate
    depths: list[Depth]
    comparison: Comparison | None
    worst: list[Difference]


def result_of(name: str, n_bytes: int, measured: Measured, piece: Piece) -> Result | None:
    """Return the figures of a model; None if no token was scored.

    piece: the bytes of a token.
    """
    if not measured.num_tokens:
        return None
    positions = measured.positions
    if not measured.compared:
        nll = measured.nll
        depths = figures.depths(positions, nll)
        return Result(name, n_bytes, measured, figures.perplexity(nll), depths, None, [])
    tokens = measured.all_compared
    comparison = figures.compare(tokens)
    same = tokens.top == tokens.base_top
    depths = figures.depths(positions, tokens.nll, tokens.kld, same)
    worst = _worst(measured, tokens, piece)
    return Result(name, n_bytes, measured, comparison.ppl, depths, comparison, worst)


def text_line(result: Result, text: str) -> str:
    """Return one line on what was computed over."""
    chunks = result.measured.chunks
    return (
        f"{text}: {result.measured.num_tokens:,} tokens scored, "
        f"{counted(result.measured.num_chunks, 'chunk')} of {chunks.n_ctx:,}"
    )


def ppl_line(result: Result) -> str:
    """Return one line with the perplexity and its error."""
    speed = result.measured.tokens_per_second
    at = f" ({speed:,.0f} tokens/s)" if speed else ""
    return f"perplexity {result.ppl.value:.4f} ± {result.ppl.error:.5f}{at}"


FIGURE_COLUMNS = ("FIGURE", "MEAN", "±")


def figure_rows(found: Comparison) -> list[list[str]]:
    """Return the means of a comparison with their errors, to the digits of llama-perplexity."""
    return [
        ["perplexity", *_plain(found.ppl)],
        ["perplexity of the reference", *_plain(found.base_ppl)],
        ["their ratio", *_plain(found.ratio)],
        ["ln of the ratio", *_plain(found.log_ratio)],
        ["their difference", *_plain(found.difference)],
        ["correlation of their logs", f"{100 * found.correlation:.2f}%", ""],
        ["KL divergence", *_plain(found.kld)],
        ["Δp", *_percent(found.delta_p)],
        ["RMS Δp", *_percent(found.rms_delta_p)],
        ["same top token", *_percent(found.same_top)],
    ]


SPREAD_COLUMNS = ("PERCENTILE", "KL DIVERGENCE", "Δp")


def spread_rows(found: Comparison) -> list[list[str]]:
    """Return the percentiles of KL divergence and Δp, from the greatest to the least."""
    klds, deltas = dict(found.klds.percentiles), dict(found.delta_ps.percentiles)
    klds |= {100.0: found.klds.greatest, 50.0: found.klds.median, 0.0: found.klds.least}
    deltas |= {100.0: found.delta_ps.greatest, 50.0: found.delta_ps.median}
    deltas[0.0] = found.delta_ps.least
    names = {100.0: "maximum", 50.0: "median", 0.0: "minimum"}
    return [
        [
            names.get(percent, f"{percent:g}%"),
            f"{klds[percent]:.6f}" if percent in klds else "",
            f"{100 * deltas[percent]:.3f}%",
        ]
        for percent in sorted(deltas, reverse=True)
    ]


def depth_columns(result: Result) -> list[str]:
    """Return the headings of `depth_rows`."""
    return ["TOKENS BEFORE", "PPL", *(["KLD", "SAME TOP"] if result.comparison else [])]


def depth_rows(result: Result) -> list[list[str]]:
    """Return the figures by the number of tokens before the scored ones."""
    return [
        [
            f"{depth.start:,}–{depth.stop:,}",
            _number(depth.ppl),
            *([] if depth.kld is None else [f"{depth.kld:.6f}"]),
            *([] if depth.same_top is None else [f"{depth.same_top:.1%}"]),
        ]
        for depth in result.depths
    ]


WORST_COLUMNS = ("KLD", "BEFORE", "TOKEN", "P REF", "P", "TOP REF", "TOP")


def worst_rows(result: Result) -> list[list[str]]:
    """Return the tokens that the model and its reference predict most differently."""
    return [
        [
            f"{one.kld:.3f}",
            one.before,
            one.token,
            _probability(one.base_p),
            _probability(one.p),
            one.base_top,
            one.top,
        ]
        for one in result.worst
    ]


def summary_columns(results: Sequence[Result]) -> list[str]:
    """Return the headings of `summary_rows`."""
    compared = any(result.comparison for result in results)
    return ["MODEL", "SIZE", "PPL", "±", *(["KLD", "SAME TOP"] if compared else []), "TOKENS/S"]


def summary_rows(results: Sequence[Result]) -> list[list[str]]:
    """Return a row for each model: what it takes, what it costs, how fast it is."""
    return [
        [
            result.name,
            human_size(result.n_bytes),
            _number(result.ppl.value),
            _number(result.ppl.error),
            *_short(result.comparison),
            f"{speed:,.0f}" if (speed := result.measured.tokens_per_second) else "–",
        ]
        for result in results
    ]


def bars(results: Sequence[Result], width: int) -> Iterator[str]:
    """Yield a line for each model with its size and a bar as long as its mean KL divergence.

    width: columns of the terminal. The models stand in the order of their sizes, so the frontier
    of what a byte buys is seen.
    """
    compared = [result for result in results if result.comparison]
    if len(compared) < 2:
        return
    ordered = sorted(compared, key=lambda result: result.n_bytes)
    most = max(result.comparison.kld.value for result in ordered if result.comparison)
    names = max(len(human_size(result.n_bytes)) for result in ordered)
    for result in ordered:
        assert result.comparison
        kld = result.comparison.kld.value
        size = human_size(result.n_bytes).rjust(names)
        label = f"{size}  KLD {kld:.4f} "
        room = max(1, width - len(label) - 1)
        yield label + "#" * (round(room * kld / most) if most > 0 else 0)


def as_json(result: Result) -> dict[str, Any]:
    """Return all figures of a model. Numbers that JSON has not are null."""
    measured, found = result.measured, result.comparison
    value: dict[str, Any] = {
        "model": result.name,
        "bytes": result.n_bytes,
        "n_ctx": measured.chunks.n_ctx,
        "chunks": measured.num_chunks,
        "tokens_scored": measured.num_tokens,
        "tokens_per_second": _rounded(measured.tokens_per_second, 2),
        "ppl": _estimate(result.ppl),
    }
    if found:
        value |= {
            "base_ppl": _estimate(found.base_ppl),
            "ppl_ratio": _estimate(found.ratio),
            "ln_ppl_ratio": _estimate(found.log_ratio),
            "ppl_difference": _estimate(found.difference),
            "correlation": _rounded(found.correlation),
            "kld": {**_estimate(found.kld), **_spread(found.klds)},
            "delta_p": {**_estimate(found.delta_p), **_spread(found.delta_ps)},
            "rms_delta_p": _estimate(found.rms_delta_p),
            "same_top": _estimate(found.same_top),
        }
    value["depths"] = [
        {key: _rounded(number) for key, number in asdict(depth).items() if number is not None}
        for depth in result.depths
    ]
    if found:
        value["worst"] = [asdict(one) for one in result.worst]
    return value


def as_kept(result: Result) -> dict[str, Any]:
    """Return the figures that are kept for later, by the names of `keeping.Kept`."""
    measured, found = result.measured, result.comparison
    whole = measured.chunks.count * measured.chunks.num_scored
    return {
        "n_ctx": measured.chunks.n_ctx,
        "chunks": measured.num_chunks,
        "tokens": measured.num_tokens,
        "is_partial": measured.num_tokens < whole,
        "ppl": result.ppl.value,
        "ppl_error": result.ppl.error,
        "base_ppl": found.base_ppl.value if found else None,
        "kld": found.kld.value if found else None,
        "kld_error": found.kld.error if found else None,
        "same_top": found.same_top.value if found else None,
    }


def _worst(measured: Measured, tokens: Compared, piece: Piece) -> list[Difference]:
    places, ids = measured.places, measured.chunks.tokens
    p, base_p = np.exp(-tokens.nll), np.exp(-tokens.base_nll)
    found = []
    for at in np.argsort(-tokens.kld, kind="stable")[:NUM_WORST].tolist():
        place = places[at]
        start = max(place - place % measured.chunks.n_ctx, place - _TOKENS_BEFORE)
        before = _text(ids[start:place], piece)[-_BEFORE:]
        found.append(
            Difference(
                place,
                before,
                _text([ids[place]], piece),
                round(float(tokens.kld[at]), 6),
                round(float(base_p[at]), 6),
                round(float(p[at]), 6),
                _text([int(tokens.base_top[at])], piece),
                _text([int(tokens.top[at])], piece),
            )
        )
    return found


def _text(ids: Sequence[int], piece: Piece) -> str:
    """Return the text of tokens in one line, with what is not seen written out."""
    text = b"".join(map(piece, ids)).decode("utf-8", errors="replace")
    for plain, shown in (("\n", "⏎"), ("\t", "⇥"), ("\r", "␍")):
        text = text.replace(plain, shown)
    return text


def _short(found: Comparison | None) -> list[str]:
    if found is None:
        return []
    return [f"{found.kld.value:.6f}", f"{found.same_top.value:.2%}"]


def _plain(estimate: Estimate) -> list[str]:
    return [f"{estimate.value:.6f}", f"{estimate.error:.6f}"]


def _percent(estimate: Estimate) -> list[str]:
    return [f"{100 * estimate.value:.3f}%", f"{100 * estimate.error:.3f}%"]


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 1e6 else f"{value:.3g}"


def _probability(value: float) -> str:
    return f"{100 * value:.1f}%"


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": _rounded(estimate.value), "error": _rounded(estimate.error)}


def _spread(spread: figures.Spread) -> dict[str, Any]:
    return {
        "maximum": _rounded(spread.greatest),
        "median": _rounded(spread.median),
        "minimum": _rounded(spread.least),
        "percentiles": {f"{at:g}": _rounded(value) for at, value in spread.percentiles},
    }


def _rounded(value: float | None, digits: int = 8) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
