"""`l4 plan`: what fits on this machine, or on a described one, and how fast it would be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import options
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.fit.hardware import Hardware
    from l4cli.fit.memory import ContextSpec
    from l4cli.fit.plan import Row
    from l4cli.fit.shape import ModelShape

# Of the types there are, those that people choose between.
TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K", "IQ2_XXS", "IQ1_S")
_DEFAULT_CTX = 16384
_MOST_MEMORY = 1 << 50


def plan(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|GGUF]",
            help="A name from `l4 models`, NAME:QUANT or a GGUF file; all names unless given.",
        ),
    ] = None,
    ctx: Annotated[
        int,
        typer.Option(
            "--ctx",
            metavar="N",
            parser=options.parse_tokens,
            help="Context in tokens, shared by all sequences; 128k and 10M are understood.",
        ),
    ] = _DEFAULT_CTX,
    kv_type: Annotated[
        str,
        typer.Option("--kv-type", metavar="TYPE", help="Type of the KV cache: f16, q8_0, q4_0 …"),
    ] = "f16",
    parallel: Annotated[
        int, typer.Option("--parallel", metavar="N", min=1, help="Sequences at the same time.")
    ] = 1,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu",
            metavar="SIZE[@GB/s]|none",
            help="A graphics card of so much memory, as 24G or 24G@936; may be repeated.",
        ),
    ] = None,
    ram: Annotated[
        str | None,
        typer.Option(
            "--ram", metavar="SIZE[@GB/s]", help="So much memory instead of what is here, as 64G."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Show what fits where: weights, context, and the speed to expect.

    For this machine, or with --gpu and --ram for one you think of buying. The
    models of `l4 models` need no files; of a GGUF file the header is read.
    """
    from l4cli.fit.memory import ContextSpec
    from l4cli.fit.plan import make_row

    machine = _machine(gpu, ram)
    spec = ContextSpec(ctx, parallel, kv_type=kv_type, unified=parallel == 1)
    rows = [
        make_row(
            name, shape, _within(spec, shape), machine, measured=_measured(path, spec, machine)
        )
        for name, shape, path in _shapes(model, ctx, parallel)
    ]
    if json:
        console.data_json(_as_json(machine, spec, rows))
        return
    console.data(_heading(machine, spec))
    _show(rows, machine)
    if model is not None and (line := _cache_line(rows[0].shape, spec)):
        console.data(line)


def _machine(gpu: list[str] | None, ram: str | None) -> Hardware:
    from l4cli.fit import hardware

    bandwidth = None if ram else hardware.measure_bandwidth()
    here = hardware.probe(bandwidth=bandwidth)
    if gpu is None and ram is None:
        return here
    size, speed = _sized(ram, "--ram") if ram else (None, None)
    cards = [
        hardware.described_gpu(number, *_sized(text, "--gpu"))
        for number, text in enumerate(gpu or [])
        if text != "none"
    ]
    return hardware.described(ram=size, ram_bandwidth=speed, gpus=cards, here=here)


def _sized(text: str, option: str) -> tuple[int, float | None]:
    """Bytes, and bytes a second where they are given."""
    size, _, speed = text.partition("@")
    try:
        n_bytes = options.parse_memory(size)
        rate = float(speed.lower().removesuffix("gb/s")) * 1e9 if speed else None
    except (typer.BadParameter, ValueError):
        raise UsageError(f"{option} {text!r} is no size; try 24G or 24G@936") from None
    if n_bytes > _MOST_MEMORY or (rate is not None and not 0 < rate < 1e15):
        raise UsageError(f"{option} {text!r} is more than any machine has")
    return n_bytes, rate


def _within(spec: ContextSpec, shape: ModelShape) -> ContextSpec:
    """The context, cut to what a model can have where many are listed."""
    most = shape.n_ctx_train * spec.n_seq_max or spec.n_ctx
    return replace(spec, n_ctx=min(spec.n_ctx, most))


def _measured(
    path: Path | None, spec: ContextSpec, machine: Hardware
) -> tuple[float, float] | None:
    """Tokens a second that were measured of a file on this machine: at first, and at full depth."""
    if path is None or machine.is_described:
        return None
    from l4cli.engine.llamacpp import num_physical_cores
    from l4cli.identity import fingerprint_of
    from l4cli.speeds import Conditions, recall

    layers = -1 if machine.gpus else 0
    known = recall(
        Conditions(fingerprint_of(path), spec.kv_type, num_physical_cores(), n_gpu_layers=layers)
    )
    at_first = known.decode_tps()
    deep = known.decode_tps(depth=spec.n_ctx // spec.n_seq_max)
    return (at_first, deep) if at_first and deep else None


def _shapes(
    model: str | None, ctx: int, parallel: int
) -> list[tuple[str, ModelShape, Path | None]]:
    """What to plan: every type of a model, one of them, a file, or every model."""
    from l4cli.fit.described import described_shape
    from l4cli.fit.shape import shape_of_file
    from l4cli.fit.wanted import check_context
    from l4cli.locate import cached_quants, locate
    from l4cli.registry import load_registry

    def checked(shape: ModelShape) -> ModelShape:
        check_context(shape.name, ctx, shape.n_ctx_train, parallel)
        return shape

    registry = load_registry()
    if model is None:
        models = registry.models.values()
        return [
            (f"{spec.name}:{spec.quant}", described_shape(spec, spec.quant, registry), None)
            for spec in models
            if spec.config or spec.like or spec.checkpoint
        ]
    name, _, quant = model.partition(":")
    if name not in registry.models or Path(model).expanduser().is_file():
        located = locate(model, registry=registry)
        return [(located.name, checked(shape_of_file(located.path)), located.path)]
    spec = registry.models[name]
    here = {name.upper(): files for name, files in cached_quants(spec).items()}
    found = []
    for ftype in (quant,) if quant else TYPES:
        files = here.get(ftype.upper())
        shape = shape_of_file(files[0]) if files else described_shape(spec, ftype, registry)
        found.append((ftype.upper(), checked(shape), files[0] if files else None))
    return found


def _heading(machine: Hardware, spec: ContextSpec) -> str:
    from l4cli.fit.plan import gib, tokens

    where = "a machine of" if machine.is_described else "this machine:"
    free = "" if machine.is_described else f" ({gib(machine.ram_free)} free)"
    many = f", {spec.n_seq_max} sequences" if spec.n_seq_max > 1 else ""
    lines = [
        f"{where} {gib(machine.ram_total)} RAM{free} at {machine.ram_bandwidth / 1e9:.0f} GB/s, "
        f"{_cards(machine)}",
        f"context {tokens(spec.n_ctx)} tokens{many}, KV cache {spec.kv_type}; sizes in GiB",
    ]
    if machine.gpus:
        lines.append("LEFT: on the fullest card / in RAM")
    return "\n".join([*lines, ""])


def _cards(machine: Hardware) -> str:
    """The graphics cards, those alike counted."""
    from l4cli.fit.plan import gib

    cards = Counter((gpu.name.rstrip(" 0123456789"), gpu.total) for gpu in machine.gpus)
    if not machine.is_described:
        cards = Counter((gpu.name, gpu.total) for gpu in machine.gpus)
    told = [
        f"{count} x {name} {gib(total)}" if count > 1 else f"{name} {gib(total)}"
        for (name, total), count in cards.items()
    ]
    return ", ".join(told) or "no GPU"


def _show(rows: list[Row], machine: Hardware) -> None:
    from l4cli.fit.hardware import GIB
    from l4cli.fit.plan import about

    def size(n_bytes: float) -> str:
        value = n_bytes / GIB
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 1 else 2
        return f"{value:.{digits}f}"

    def rough(n_bytes: float) -> str:
        value = n_bytes / GIB
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"

    def cells(row: Row) -> list[str]:
        use = row.fit.use
        on_cards = sum(card.weights for card in use.gpus)
        left = machine.ram_usable - use.ram.total
        cards_left = sorted(
            card.usable - held.total for card, held in zip(machine.gpus, use.gpus, strict=False)
        )
        columns = [row.name, size(row.shape.n_bytes)]
        if machine.gpus:
            columns.append(size(on_cards))
        columns += [
            size(use.ram.weights),
            size(use.kv) if row.shape.knows_cache else "?",
            size(use.compute) if row.shape.knows_cache else "?",
            "/".join(rough(each) for each in (*cards_left[:1], left)),
            about(row.max_ctx) if row.max_ctx is not None else "?",
            "–" if row.fit.verdict == "too large" else _rate(row.tps),
        ]
        return columns

    heads = ["MODEL", "WEIGHTS", *(["GPU"] if machine.gpus else []), "RAM", "KV", "COMPUTE"]
    console.table([*heads, "LEFT", "CONTEXT", "TOK/S"], [cells(row) for row in rows])
    console.data("")
    width = max(len(row.name) for row in rows)
    for row in rows:
        measured = "; tok/s were measured" if row.is_measured else ""
        console.data(f"{row.name:<{width}}  {row.limit}{measured}")


def _cache_line(shape: ModelShape, spec: ContextSpec) -> str | None:
    """Of a model with layers of two kinds, how the cache is shared out between them."""
    from l4cli.fit.hardware import GIB
    from l4cli.fit.memory import kv_cache
    from l4cli.fit.plan import tokens

    windows = [window for window in shape.cache.windows if window]
    n_global = len(shape.cache.windows) - len(windows)
    if not windows or not n_global:
        return None
    everything, windowed = (n_bytes / GIB for n_bytes in kv_cache(shape.cache, spec))
    if everything + windowed < 0.1:
        return None
    return (
        f"\n{everything + windowed:.1f} GiB of KV cache: {everything:.1f} in {n_global} layers "
        f"that see everything, {windowed:.1f} in {len(windows)} that see {tokens(windows[0])}"
    )


def _rate(tps: float) -> str:
    return f"{tps:.0f}" if tps >= 9.5 else f"{tps:.1f}"


def _as_json(machine: Hardware, spec: ContextSpec, rows: list[Row]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
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
