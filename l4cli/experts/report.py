"""The results of `l4 experts`, as tables, as a map and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l4cli.amounts import counted, human_size
from l4cli.experts import figures
from l4cli.experts.classes import CLASSES
from l4cli.experts.counts import Choices, Counts
from l4cli.experts.keeping import Kept
from l4cli.experts.sections import Section

NUM_ROWS = 20  # of a file, that are shown
_LEVELS = ((0.25, "▁"), (0.5, "▂"), (0.8, "▃"), (1.25, "▄"), (2.0, "▅"), (4.0, "▆"), (8.0, "▇"))
_UNUSED, _MOST = "·", "█"
LEGEND = f"{_UNUSED} never  ▁ a little  ▄ an even share  ▆ twice that  {_MOST} 8 times or more"
_WIDEST_CELL = 3
_LEAST_ROUTED = 32  # tokens, to tell which expert a class of them prefers


@dataclass(frozen=True, slots=True)
class Text:
    """A text that was counted, perhaps not to its end.

    sections: its parts. has_rows: whether they are rows of a file.
    """

    name: str
    sections: Sequence[Section]
    counts: Counts
    has_rows: bool

    @property
    def is_whole(self) -> bool:
        """Whether all tokens were counted."""
        return self.counts.num_tokens >= sum(len(section.tokens) for section in self.sections)


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a model.

    per_token: experts per token. other: the text that `text` is compared with.
    kept: what keeping the hottest experts in `fast` memory means; `fast` is "GPU" or "RAM".
    """

    model: str
    per_token: int
    text: Text
    other: Text | None
    kept: Sequence[Kept]
    fast: str

    @property
    def layers(self) -> list[figures.Layer]:
        """The figures of each layer."""
        counts = self.text.counts
        return [
            figures.layer_of(number, choices)
            for number, choices in zip(counts.layers, counts.total, strict=True)
        ]


def headline(result: Result) -> str:
    """Return one line on what was counted."""
    counts = result.text.counts
    return (
        f"{result.text.name}: {counted(counts.num_tokens, 'token')}, "
        f"{counted(len(counts.layers), 'layer')} with {counts.n_experts} experts, "
        f"{result.per_token} a token"
    )


def summary(result: Result) -> str:
    """Return one line on all layers together."""
    layers, total = result.layers, result.text.counts.total
    evenness = float(np.mean([layer.evenness for layer in layers]))
    hottest = max(layers, key=lambda layer: layer.load)
    unused, cold = (sum(getattr(layer, n) for layer in layers) for n in ("num_unused", "num_cold"))
    return (
        f"evenness {evenness:.0%} on average; hottest: expert {hottest.hottest} of layer "
        f"{hottest.number}, {hottest.load:.1f} times an even share; {cold:,} of {total.size:,} "
        f"cold (under a tenth of it), {unused:,} of them never used"
    )


def heat_lines(counts: Counts, width: int) -> list[str]:
    """Return a line for each layer, with a bar for each expert's share, and a line of numbers.

    width: columns of the terminal. Where they are too few, a bar is the mean of neighbours.
    """
    label = max(len(str(number)) for number in counts.layers)
    room = max(1, width - label - 1)
    group = -(-counts.n_experts // room)
    num_cells = -(-counts.n_experts // group)
    cell = max(1, min(_WIDEST_CELL, room // num_cells))
    loads = figures.shares(counts.total) * counts.n_experts
    lines = [" " * (label + 1) + _ruler(num_cells, group, cell)]
    for number, row in zip(counts.layers, loads, strict=True):
        bars = [_bar(float(row[at : at + group].mean())) for at in range(0, len(row), group)]
        drawn = "".join(bar * (cell - (cell > 2)) + " " * (cell > 2) for bar in bars)
        lines.append(f"{number:>{label}} {drawn}".rstrip())
    if group > 1:
        lines.append(f"{'':{label}} each bar is the mean of {group} neighbours")
    return lines


def _bar(load: float) -> str:
    if load <= 0:
        return _UNUSED
    return next((bar for most, bar in _LEVELS if load < most), _MOST)


def _ruler(num_cells: int, group: int, cell: int) -> str:
    """The experts' numbers above their bars, as many as have room."""
    line = ""
    for index in range(num_cells):
        at, text = index * cell, str(index * group)
        if (not line or at >= len(line) + 2) and at + len(text) <= num_cells * cell:
            line = line.ljust(at) + text
    return line


LAYER_COLUMNS = ("LAYER", "EVEN", "HOT", "TIMES", "COLD", "UNUSED")


def layer_rows(result: Result) -> list[list[str]]:
    """Return the figures of each layer."""
    return [
        [
            str(layer.number),
            f"{layer.evenness:.0%}",
            str(layer.hottest),
            f"{layer.load:.1f}",
            str(layer.num_cold),
            str(layer.num_unused),
        ]
        for layer in result.layers
    ]


CLASS_COLUMNS = ("TOKENS", "COUNT", "OVERLAP", "PREFERS", "OF THEM", "OF ALL")


def class_rows(text: Text) -> list[list[str]]:
    """Return what is known of each class of tokens that the text has."""
    counts, total = text.counts, text.counts.total
    rows = []
    for index, name in enumerate(CLASSES):
        number, own = int(counts.tokens_by_class[index]), counts.by_class[index]
        if not number:
            continue
        row = [name, f"{number:,}", f"{_overlap(own, total):.0%}"]
        if number < _LEAST_ROUTED:
            rows.append([*row, "–", "–", "–"])
            continue
        found = figures.preference(list(counts.layers), own, total)
        where = f"{found.expert} of layer {found.layer}"
        rows.append([*row, where, f"{found.share:.0%}", f"{found.usual:.0%}"])
    return rows


SECTION_COLUMNS = ("ROW", "TOKENS", "OVERLAP", "EXPERTS")


def section_rows(text: Text) -> list[list[str]]:
    """Return what is known of the first rows of a file."""
    counts, total = text.counts, text.counts.total
    return [
        [
            text.sections[number].name,
            f"{counts.tokens_by_section[number]:,}",
            f"{_overlap(choices, total):.0%}",
            f"{int((choices > 0).sum()):,}",
        ]
        for number, choices in sorted(counts.by_section.items())[:NUM_ROWS]
    ]


OVERLAP_COLUMNS = ("LAYER", "OVERLAP", "HOT HERE", "HOT THERE")


def overlap_rows(result: Result) -> list[list[str]]:
    """Return how alike the two texts use each layer."""
    assert result.other
    here, there = result.text.counts, result.other.counts
    alike = figures.overlap(here.total, there.total)
    return [
        [str(number), f"{share:.0%}", str(int(own.argmax())), str(int(others.argmax()))]
        for number, share, own, others in zip(
            here.layers, alike, here.total, there.total, strict=True
        )
    ]


def overlap_line(result: Result) -> str:
    """Return one line on how alike the two texts use the experts."""
    assert result.other
    alike = figures.overlap(result.text.counts.total, result.other.counts.total)
    return (
        f"{result.other.name}: {counted(result.other.counts.num_tokens, 'token')}; overlap "
        f"{alike.mean():.0%} on average, {alike.min():.0%} to {alike.max():.0%} by layer"
    )


KEPT_COLUMNS = ("KEPT", "EXPERTS", "SIZE", "SAVED", "CHOICES", "TOKENS/S")


def kept_rows(result: Result) -> list[list[str]]:
    """Return what keeping the hottest experts in fast memory means."""
    size = result.text.counts.total.size
    return [
        [
            f"{kept.num_experts / size:.0%}",
            f"{kept.num_experts:,}",
            human_size(kept.n_bytes),
            human_size(kept.saved),
            f"{kept.hits:.1%}",
            f"about {kept.tokens_per_second:.3g}" if kept.tokens_per_second else "",
        ]
        for kept in result.kept
    ]


def as_json(result: Result, *, interrupted: bool) -> dict[str, Any]:
    """Return every figure."""
    value: dict[str, Any] = {
        "model": result.model,
        "experts": result.text.counts.n_experts,
        "experts_per_token": result.per_token,
        **_text(result.text, result.text.counts.total),
        "keep": {"in": result.fast, "hottest": [asdict(kept) for kept in result.kept]},
        "interrupted": interrupted,
    }
    if result.other:
        alike = figures.overlap(result.text.counts.total, result.other.counts.total)
        value["with"] = {
            **_text(result.other, result.other.counts.total),
            "overlap": [round(float(share), 6) for share in alike],
            "mean_overlap": round(float(alike.mean()), 6),
        }
    return value


def _text(text: Text, total: Choices) -> dict[str, Any]:
    counts = text.counts
    entropies = figures.entropy(total)
    value: dict[str, Any] = {
        "text": text.name,
        "tokens": counts.num_tokens,
        "layers": [
            {
                "layer": number,
                "counts": choices.tolist(),
                "entropy_bits": round(float(bits), 6),
                **_rounded(figures.layer_of(number, choices)),
            }
            for number, choices, bits in zip(counts.layers, total, entropies, strict=True)
        ],
        "classes": {
            name: {
                "tokens": int(counts.tokens_by_class[index]),
                "overlap": round(_overlap(counts.by_class[index], total), 6),
                "counts": counts.by_class[index].tolist(),
            }
            for index, name in enumerate(CLASSES)
            if counts.tokens_by_class[index]
        },
    }
    if text.has_rows:
        value["rows"] = [
            {
                "row": number + 1,
                "tokens": counts.tokens_by_section[number],
                "overlap": round(_overlap(choices, total), 6),
                "counts": choices.tolist(),
            }
            for number, choices in sorted(counts.by_section.items())
        ]
    return value


def _rounded(layer: figures.Layer) -> dict[str, Any]:
    return {
        "evenness": round(layer.evenness, 6),
        "hottest": layer.hottest,
        "load": round(layer.load, 6),
        "cold": layer.num_cold,
        "unused": layer.num_unused,
    }


def _overlap(part: Choices, whole: Choices) -> float:
    return float(figures.overlap(part, whole).mean())
