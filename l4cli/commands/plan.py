"""`l4 plan`: what fits on this machine, or on a described one, and how fast it would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli.commands import options, plan_show
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.fit.hardware import Hardware
    from l4cli.fit.memory import ContextSpec
    from l4cli.fit.rates import Sample
    from l4cli.fit.shape import ModelShape
    from l4cli.models.registry import ModelSpec, Registry
    from l4cli.speeds import Conditions

# Of the types there are, those that people choose between.
TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K", "IQ2_XXS", "IQ1_S")
_DEFAULT_CTX = 16384
_MOST_MEMORY, _MOST_RATE = 1 << 50, 1e15  # bytes, and bytes a second


def plan(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|GGUF|DIR]",
            help="A name from `l4 models`, NAME:QUANT, a GGUF file, or a checkpoint to convert; "
            "all names unless given.",
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
        int,
        typer.Option(
            "--parallel",
            metavar="N",
            min=1,
            max=options.MOST_SEQUENCES,
            help="Sequences at the same time.",
        ),
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
    models of `l4 models` need no files; of a GGUF file the header is read,
    of a checkpoint its config.json.
    """
    from l4cli.fit.memory import ContextSpec
    from l4cli.fit.plan import make_row

    machine = _machine(gpu, ram)
    spec = ContextSpec(ctx, parallel, kv_type=kv_type, unified=parallel == 1)
    planned = list(_planned(model, spec))
    samples = [] if machine.is_described else _samples(planned, machine)
    rows = [
        make_row(
            each.name,
            each.shape,
            each.spec,
            machine,
            conditions=each.conditions,
            samples=samples,
        )
        for each in planned
    ]
    if json:
        plan_show.as_json(machine, spec, rows)
    else:
        plan_show.table(machine, spec, rows, is_one_model=model is not None)


def _machine(gpu: list[str] | None, ram: str | None) -> Hardware:
    from l4cli.fit import hardware

    bandwidth = None if ram else hardware.measure_bandwidth()
    here = hardware.probe(bandwidth=bandwidth)
    if gpu is None and ram is None:
        return here
    size, speed = (None, None) if ram is None else _sized(ram, "--ram")
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
    if rate is not None and not rate > 0:
        raise UsageError(f"{option} {text!r} is not above 0 GB/s; try 24G@936")
    if n_bytes > _MOST_MEMORY or (rate is not None and rate > _MOST_RATE):
        raise UsageError(f"{option} {text!r} is more than any machine has")
    return n_bytes, rate


@dataclass(frozen=True, slots=True)
class _Planned:
    """A model to plan with its context, cut to what it can have. `path` None: it is not here."""

    name: str
    shape: ModelShape
    spec: ContextSpec
    path: Path | None = None

    @property
    def conditions(self) -> Conditions | None:
        """What it would be measured under, wherever its weights lie."""
        from l4cli.loading.file import fingerprint_of
        from l4cli.native.cpu import num_physical_cores
        from l4cli.speeds import Conditions

        if self.path is None:
            return None
        return Conditions(fingerprint_of(self.path), self.spec.kv_type, num_physical_cores())


def _planned(model: str | None, wanted: ContextSpec) -> Iterator[_Planned]:
    """What to plan: every type of a model or checkpoint, one of them, a file, or every model."""
    from l4cli.fit.described import checkpoint_shape
    from l4cli.fit.shape import shape_of_file
    from l4cli.loading.decide import check_context
    from l4cli.models.locate import locate
    from l4cli.models.registry import load_registry

    registry = load_registry()
    if model is None:
        for spec in registry.models.values():
            if spec.config or spec.like or spec.checkpoint:
                shape, path = _of_type(spec, spec.quant, registry)
                most = shape.n_ctx_train * wanted.n_seq_max or wanted.n_ctx
                within = replace(wanted, n_ctx=min(wanted.n_ctx, most))
                yield _Planned(f"{spec.name}:{spec.quant}", shape, within, path)
        return
    name, _, quant = model.partition(":")
    if name not in registry.models or Path(model).expanduser().is_file():
        located = locate(model, registry=registry)
        named: list[tuple[str, ModelShape, Path | None]]
        if (located.path / "config.json").is_file():
            named = [(ftype, checkpoint_shape(located.path, ftype), None) for ftype in TYPES]
        else:
            named = [(located.name, shape_of_file(located.path), located.path)]
    else:
        of = registry.models[name]
        types = (quant,) if quant else TYPES
        named = [(ftype.upper(), *_of_type(of, ftype, registry)) for ftype in types]
    for name, shape, path in named:
        check_context(shape.name, wanted.n_ctx, shape.n_ctx_train, wanted.n_seq_max)
        yield _Planned(name, shape, wanted, path)


def _of_type(spec: ModelSpec, ftype: str, registry: Registry) -> tuple[ModelShape, Path | None]:
    """A type of a model: from its file, if that is on this machine, or from models.toml."""
    from l4cli.fit.described import described_shape
    from l4cli.fit.shape import shape_of_file
    from l4cli.models.locate import file_here

    path = file_here(spec, ftype)
    if path is None:
        return described_shape(spec, ftype, registry), None
    return replace(shape_of_file(path), name=f"{spec.name}:{ftype}"), path


def _samples(planned: Sequence[_Planned], machine: Hardware) -> list[Sample]:
    """What was measured here of these models, and what would have been expected of it."""
    from l4cli.fit.rates import sample
    from l4cli.speeds import recall_placements

    return [
        found
        for each in planned
        if (conditions := each.conditions)
        for placed, measured in recall_placements(conditions).items()
        if (found := sample(each.shape, each.spec, machine, placed, measured))
    ]
