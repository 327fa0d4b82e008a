"""What `l4 plan` shows: a table of at most 80 columns with one line per model, or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from l4cli import console
from l4cli.amounts import GIB, gib, gib_figure, rounded_tokens, tokens

if TYPE_CHECKING:
    from l4cli.fit.hardware import Hardware
    from l4cli.fit.memory import ContextSpec
    from l4cli.fit.plan import Row
    from l4cli.fit.rates import Rates
    from l4cli.fit.shape import ModelShape


def table(machine: Hardware, spec: ContextSpec, rows: Sequence[Row], *, is_one_model: bool) -> None:
    """Write the machine, a row for each model or type, and what limits each of them.

    With `is_one_model`, also write how the KV cache is divided between kinds of layers.
    """
    for heading in _heading(machine, spec, rows):
        console.paragraph(heading)
    console.data("")
    _rows(rows, machine)
    if is_one_model and (line := _cache_line(rows[0].shape, spec)):
        console.data("")
        console.paragraph(line)


def as_json(machine: Hardware, spec: ContextSpec, rows: Sequence[Row]) -> None:
    """Write the plan as JSON, in bytes, tokens and tokens per second."""
    console.data_json(
        {
            "machine": {
                "described": machine.is_described,
                "ram_total": machine.ram_total,
                "ram_free": machine.ram_free,
                "ram_bandwidth": round(machine.ram_bandwidth),
                "gpus": [asdict(gpu) for gpu in machine.gpus],
            },
            "context": asdict(spec),
            "rows": [row.as_json(machine) for row in rows],
        }
    )


def _heading(machine: Hardware, spec: ContextSpec, rows: Sequence[Row]) -> list[str]:
    where = "a machine of" if machine.is_described else "this machine:"
    free = "" if machine.is_described else f" ({gib(machine.ram_free)} free)"
    many = f", {spec.n_seq_max} sequences" if spec.n_seq_max > 1 else ""
    lines = [
        f"{where} {gib(machine.ram_total)} RAM{free} at {machine.ram_bandwidth / 1e9:.0f} GB/s"
        f", {_cards(machine)}",
        f"context {tokens(spec.n_ctx)} tokens{many}, KV cache {spec.kv_type}; sizes in GiB",
    ]
    from l4cli.fit.hardware import KEPT_GPU, KEPT_RAM

    kept = f"{gib(KEPT_RAM)} of RAM"
    if machine.gpus:
        lines.append("LEFT: on the fullest card / in RAM")
        kept += f" and {gib(KEPT_GPU)} of each card"
    lines.append(f"kept free for the system, not in LEFT: {kept}")
    if assumed := _assumed(machine):
        lines.append(assumed)
    lines.append("CONTEXT: the most tokens that fit beside the weights")
    return [*lines, _how_rates_are_known(rows)]


def _assumed(machine: Hardware) -> str:
    """That a bandwidth is a guess, and how to state it; "" if it was measured or stated."""
    from l4cli.fit.hardware import UNKNOWN_RAM_BANDWIDTH

    is_guess = machine.is_described and machine.ram_bandwidth == UNKNOWN_RAM_BANDWIDTH
    speed = f"{machine.ram_bandwidth / 1e9:.0f} GB/s"
    return f"{speed} of RAM are assumed: --ram SIZE@GB/s states yours" if is_guess else ""


def _how_rates_are_known(rows: Sequence[Row]) -> str:
    origins = {row.rates.origin for row in rows}
    if origins == {"measured"}:
        return "TOK/S: measured on this machine"
    by = "measurements on this machine" if "calibrated" in origins else "memory bandwidth"
    if "measured" in origins:
        return f"TOK/S: measured on this machine, or ~ estimated from {by}"
    return f"TOK/S: ~ estimated from {by}"


def _cards(machine: Hardware) -> str:
    """The graphics cards; equal ones are counted together: 8 x GPU 24.0 GiB."""
    cards = Counter((gpu.name.rstrip(" 0123456789"), gpu.total) for gpu in machine.gpus)
    if not machine.is_described:
        cards = Counter((gpu.name, gpu.total) for gpu in machine.gpus)
    told = [
        f"{count} x {name} {gib(total)}" if count > 1 else f"{name} {gib(total)}"
        for (name, total), count in cards.items()
    ]
    return ", ".join(told) or "no GPU"


def _rows(rows: Sequence[Row], machine: Hardware) -> None:
    def cells(row: Row) -> list[str]:
        use = row.fit.use
        on_cards = sum(card.weights for card in use.gpus)
        left = machine.ram_usable - use.ram.total
        cards_left = sorted(
            card.usable - held.total for card, held in zip(machine.gpus, use.gpus, strict=False)
        )
        columns = [row.name, gib_figure(row.shape.n_bytes)]
        if machine.gpus:
            columns.append(gib_figure(on_cards))
        columns += [
            gib_figure(use.ram.weights),
            gib_figure(use.kv) if row.shape.knows_cache else "?",
            gib_figure(use.compute) if row.shape.knows_cache else "?",
            "/".join(_left(each) for each in (*cards_left[:1], left)),
            _context(row),
            "–" if row.fit.verdict == "too large" else _rate(row.rates),
        ]
        return columns

    heads = ["MODEL", "WEIGHTS", *(["GPU"] if machine.gpus else []), "RAM", "KV", "COMPUTE"]
    console.table(
        [*heads, "LEFT", "CONTEXT", "TOK/S"],
        [cells(row) for row in rows],
        remarks=[row.limit for row in rows],
    )


def _context(row: Row) -> str:
    """The longest context that fits; a model that is read from disk has no such limit."""
    if row.fit.verdict == "from disk":
        return "–"
    return rounded_tokens(row.max_ctx) if row.max_ctx is not None else "?"


def how_to_run(name: str, rows: Sequence[Row], *, is_ctx_stated: bool) -> None:
    """Write the command for the first row that fits, the largest type; nothing if none does.

    name: the model without a type if the rows are its types, else what -m takes.
    """
    row = next((row for row in rows if row.fit.verdict == "fits"), None)
    if row is None or row.fit.spec.n_seq_max > 1:
        return
    words = ["l4", "chat", "-m", name if len(rows) == 1 else f"{name}:{row.name}"]
    placed, spec = row.fit.placement, row.fit.spec
    if row.fit.use.gpus and (placed.cpu_moe or placed.gpu_layers <= row.shape.n_layers):
        words += ["--gpu-layers", "auto"]
        words += ["--cpu-moe", "auto"] if row.shape.routed_bytes else []
    words += ["--ctx", tokens(spec.n_ctx).replace(",", "")] if is_ctx_stated else []
    words += ["--kv-type", spec.kv_type] if spec.kv_type != "f16" else []
    console.data("")
    console.command(f"run {'it' if len(rows) == 1 else row.name}", words)


def _left(n_bytes: float) -> str:
    """GiB without a unit. Shorter than `gib_figure`, since two of these share a column."""
    value = n_bytes / GIB
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _cache_line(shape: ModelShape, spec: ContextSpec) -> str | None:
    """How the KV cache is divided between global and windowed layers; None if all are alike."""
    from l4cli.fit.memory import kv_cache

    windows = [window for window in shape.cache.windows if window]
    n_global = len(shape.cache.windows) - len(windows)
    if not windows or not n_global:
        return None
    everything, windowed = kv_cache(shape.cache, spec)
    if everything + windowed < 0.1 * GIB:
        return None
    these = "1 layer that sees" if n_global == 1 else f"{n_global} layers that see"
    return (
        f"{gib(everything + windowed)} of KV cache: {gib_figure(everything)} in {these} "
        f"everything, {gib_figure(windowed)} in {len(windows)} that see {tokens(windows[0])}"
    )


def _rate(rates: Rates) -> str:
    if rates.first < 0.05:
        return "<0.1"
    about = "" if rates.origin == "measured" else "~"
    return f"{about}{rates.first:.0f}" if rates.first >= 9.5 else f"{about}{rates.first:.1f}"
