"""`l4 plan`: shows what fits on this machine or a described one, and how fast it would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli.commands import completion, options, plan_show
from l4cli.errors import UsageError
from l4cli.paths import expanded

if TYPE_CHECKING:
    from l4cli.fit.hardware import Hardware
    from l4cli.fit.memory import ContextSpec
    from l4cli.fit.rates import Sample
    from l4cli.fit.shape import ModelShape
    from l4cli.models.registry import ModelSpec, Registry
    from l4cli.speeds import Conditions

# The types that people usually choose between.
TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K", "IQ2_XXS", "IQ1_S")
_Sized = tuple[int, "float | None"]  # bytes, and bytes per second if they are known
_MOST_MEMORY, _MOST_RATE = 1 << 50, 1e15  # bytes, and bytes per second


def plan(
    model: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.models,
            metavar="MODEL|GGUF|DIR",
            help="A name from `l4 models`, NAME:QUANT, a GGUF file, or the directory of a "
            "checkpoint to convert (default: every model that `l4 models` names).",
        ),
    ] = None,
    ctx: Annotated[
        int | None,
        typer.Option(
            "--ctx",
            metavar="N",
            parser=options.parse_tokens,
            help="Context size in tokens, shared by all sequences, e.g. 128k or 10M (default: "
            "16384, or less if the model was trained for less).",
        ),
    ] = None,
    kv_type: Annotated[
        str,
        typer.Option(
            "--kv-type",
            metavar="TYPE",
            parser=options.parse_kv_type,
            help="Type of the KV cache: f16, q8_0, q4_0 …",
        ),
    ] = "f16",
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel",
            metavar="N",
            min=1,
            max=options.MOST_SEQUENCES,
            help="Number of sequences to run at the same time.",
        ),
    ] = 1,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu",
            metavar="SIZE[@GB/s]|none",
            help="Plan for a GPU with this memory, e.g. 24G, or 24G@936 with its bandwidth; may be "
            "repeated. 'none' plans without a GPU.",
        ),
    ] = None,
    ram: Annotated[
        str | None,
        typer.Option(
            "--ram",
            metavar="SIZE[@GB/s]",
            help="Plan for this much RAM instead of this machine's, e.g. 64G, or 64G@80 with its "
            "bandwidth.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Show what fits in memory: weights, context, and the speed to expect.

    The plan is for this machine, or for the one that --gpu and --ram describe.
    The models of `l4 models` need no files. Only the header of a GGUF file and
    the config.json of a checkpoint are read.
    """
    from l4cli.fit.memory import ContextSpec
    from l4cli.fit.plan import make_row
    from l4cli.loading.options import DEFAULT_N_CTX

    spec = ContextSpec(ctx or DEFAULT_N_CTX, parallel, kv_type=kv_type, unified=parallel == 1)
    cards = [_sized(text, "--gpu") for text in gpu if text != "none"] if gpu else None
    memory = None if ram is None else _sized(ram, "--ram")
    planned = list(_planned(model, spec, is_stated=ctx is not None))
    machine = _machine(cards, memory)
    if model is not None:
        spec = planned[0].spec  # the same for all types of a model
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
        if model is not None and (name := _to_run(model)):
            plan_show.how_to_run(name, rows, is_ctx_stated=ctx is not None)


def _to_run(model: str) -> str | None:
    """What -m takes for a planned model; None if it cannot be run as it is."""
    from l4cli.models.folders import is_checkpoint
    from l4cli.models.registry import load_registry

    if is_checkpoint(expanded(model)):
        return None
    registry = load_registry()
    known = registry.models.get(registry.meant(model).partition(":")[0])
    return None if known is not None and not known.released else model


def _machine(cards: Sequence[_Sized] | None, memory: _Sized | None) -> Hardware:
    """The machine that --gpu and --ram describe, or this one without them."""
    from l4cli.fit import hardware

    here = hardware.probe(bandwidth=None if memory else hardware.measure_bandwidth())
    if cards is None and memory is None:
        return here
    gpus = [hardware.described_gpu(number, *card) for number, card in enumerate(cards or ())]
    size, speed = memory or (None, None)
    return hardware.described(ram=size, ram_bandwidth=speed, gpus=gpus, here=here)


def _sized(text: str, option: str) -> _Sized:
    """Parse SIZE[@GB/s]."""
    size, _, speed = text.partition("@")
    try:
        n_bytes = options.parse_size(size)
        rate = float(speed.lower().removesuffix("gb/s")) * 1e9 if speed else None
    except (typer.BadParameter, ValueError) as error:
        if isinstance(error, options.NoUnitError):
            raise UsageError(f"{option} {error.message}") from None
        raise UsageError(f"{option} {text!r} is not a size; try 24G or 24G@936") from None
    if rate is not None and not rate > 0:
        raise UsageError(f"{option} {text!r}: the bandwidth must be above 0 GB/s; try 24G@936")
    if n_bytes > _MOST_MEMORY or (rate is not None and rate > _MOST_RATE):
        raise UsageError(f"{option} {text!r} is more than any machine has")
    return n_bytes, rate


@dataclass(frozen=True, slots=True)
class _Planned:
    """A model to plan, with its context cut to the length that it was trained for.

    path: its file; None if it is not on this machine.
    """

    name: str
    shape: ModelShape
    spec: ContextSpec
    path: Path | None = None

    @property
    def conditions(self) -> Conditions | None:
        """The conditions of measurements of this model, with any placement of its weights."""
        from l4cli.models.fingerprints import fingerprint_of
        from l4cli.native.cpu import num_physical_cores
        from l4cli.speeds import Conditions

        if self.path is None:
            return None
        return Conditions(fingerprint_of(self.path), self.spec.kv_type, num_physical_cores())


def _planned(model: str | None, wanted: ContextSpec, *, is_stated: bool) -> Iterator[_Planned]:
    """Yields what to plan: all types of a model or checkpoint, one type, a file, or all models.

    is_stated: the user asked for this context, so that one model must have it or is refused.
    """
    from l4cli.fit.described import checkpoint_shape
    from l4cli.fit.shape import shape_of_file
    from l4cli.models.locate import file_here, locate
    from l4cli.models.registry import load_registry

    registry = load_registry()
    if model is None:
        for spec in registry.models.values():
            if spec.config or spec.like or spec.checkpoint or file_here(spec, spec.quant):
                shape, path = _of_type(spec, spec.quant, registry)
                name = spec.name if spec.path else f"{spec.name}:{spec.quant}"
                yield _Planned(name, shape, _within(wanted, shape), path)
        return
    is_file = expanded(model).is_file()
    model = model if is_file else registry.meant(model)
    name, _, quant = model.partition(":")
    if is_file or name not in registry.models or registry.models[name].path:
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
        if is_stated:
            from l4cli.loading.decide import check_context

            check_context(shape.name, wanted.n_ctx, shape.n_ctx_train, wanted.n_seq_max)
        yield _Planned(name, shape, _within(wanted, shape), path)


def _within(wanted: ContextSpec, shape: ModelShape) -> ContextSpec:
    """The context, cut to what the model was trained for."""
    most = shape.n_ctx_train * wanted.n_seq_max or wanted.n_ctx
    return replace(wanted, n_ctx=min(wanted.n_ctx, most))


def _of_type(spec: ModelSpec, ftype: str, registry: Registry) -> tuple[ModelShape, Path | None]:
    """The shape of a model in one type, and its file if that is on this machine.

    Without a file the shape comes from models.toml.
    """
    from l4cli.fit.described import described_shape
    from l4cli.fit.shape import shape_of_file
    from l4cli.models.locate import file_here

    path = file_here(spec, ftype)
    if path is None:
        return described_shape(spec, ftype, registry), None
    return replace(shape_of_file(path), name=f"{spec.name}:{ftype}"), path


def _samples(planned: Sequence[_Planned], machine: Hardware) -> list[Sample]:
    """Speeds measured on this machine for these models, each with the speed that was expected."""
    from l4cli.fit.rates import sample
    from l4cli.speeds import recall_placements

    return [
        found
        for each in planned
        if (conditions := each.conditions)
        for placed, measured in recall_placements(conditions).items()
        if (found := sample(each.shape, each.spec, machine, placed, measured))
    ]
