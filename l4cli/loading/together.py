"""Plans the memory of several models before any of them is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from l4cli.amounts import gib, tokens
from l4cli.engine.kv import num_sequences
from l4cli.errors import InputError, ModelLoadError
from l4cli.fit.choose import KV_TYPES, PlacementLimits
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.shape import ModelShape
from l4cli.fit.together import Together, Wanted, fit_together, rooms, which_fit
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions

_SHORT = 4096  # tokens of a request; a shorter context is no advice


def planned(
    files: Sequence[ModelFile],
    options: LoadOptions,
    hardware: Hardware,
    *,
    longest: int,
    count: int | None = None,
    note: Callable[[str], None] = lambda _line: None,
) -> list[LoadOptions]:
    """Return the options with which each of these models is loaded, so that all fit together.

    Each gets a `room`, but for a model whose header does not say what it takes: of that one, the
    size is set aside. All get the same KV type.

    hardware: the machine, before any of them is loaded.
    longest: tokens that a request should be able to have.
    count: requests that each model should have room for at once; None for as many as fit.
    note: is told, in a line, that models do not fit and `options.force` has them loaded anyway.

    Raises ModelLoadError if they do not fit, with what is missing and what would fit.
    """
    shapes = [_shape(file) for file in files]
    for file, shape in zip(files, shapes, strict=True):
        if shape is None:
            hardware = _less(hardware, file.n_bytes)
    known = [index for index, shape in enumerate(shapes) if shape is not None]
    plan = _Plan([shape for shape in shapes if shape], options, hardware, longest, count)
    models, together = plan.best()
    if together.shortfalls:
        names = [files[index].name for index in known]
        if not options.force:
            raise ModelLoadError(f"{_lack(names, together)}; {plan.advice(names)}")
        note(f"{_lack(names, together)}: slow, or the system ends l4")
    found = dict(zip(known, rooms(models, together, hardware), strict=True))
    kv_type = models[0].spec.kv_type if models else options.kv_type
    options = options.but(default_ctx=longest, kv_type=kv_type)
    return [options.but(room=found.get(index)) for index in range(len(files))]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is planned: the parameters of `planned`, and the shapes of the models."""

    shapes: Sequence[ModelShape]
    options: LoadOptions
    hardware: Hardware
    longest: int
    count: int | None

    def best(self) -> tuple[list[Wanted], Together]:
        """Place the models, with the best KV type with which they fit if it is to be chosen."""
        kv_type = self.options.kv_type
        for one in KV_TYPES if kv_type == "auto" else (kv_type,):
            models = self._models(one)
            together = fit_together(models, self.hardware, self._limits)
            if not together.shortfalls:
                break
        return models, together

    def advice(self, names: Sequence[str]) -> str:
        """Return what would fit, and what else to try."""
        models, _ = self.best()
        fitting = which_fit(models, self.hardware, self._limits)
        some = [name for name, one in zip(names, models, strict=True) if one in fitting]
        ways = ", ".join([*self._ways(), "--force to load them anyway"])
        if not some:
            return f"none of them fits; try {ways}"
        return f"{_listed(some)} {'alone ' if len(some) == 1 else ''}would fit; or try {ways}"

    def _ways(self) -> Iterator[str]:
        """Yield options with which the models fit."""
        options = self.options
        short = replace(self, longest=_SHORT)
        if self.longest > _SHORT and not short.best()[1].shortfalls:
            yield f"--ctx {tokens(_SHORT)}"
        small = replace(self, options=options.but(kv_type="q8_0"))
        if options.kv_type == "f16" and not small.best()[1].shortfalls:
            yield "--kv-type q8_0"
        on_both = replace(self, options=options.but(gpu_layers="auto"))
        is_fixed = self.hardware.gpus and options.gpu_layers != "auto"
        if is_fixed and not on_both.best()[1].shortfalls:
            yield "--gpu-layers auto"

    @property
    def _limits(self) -> PlacementLimits:
        return self.options.placement

    def _models(self, kv_type: str) -> list[Wanted]:
        return [Wanted(shape, self._spec(shape, kv_type)) for shape in self.shapes]

    def _spec(self, shape: ModelShape, kv_type: str) -> ContextSpec:
        length, count = min(self.longest, shape.n_ctx_train or self.longest), self.count or 1
        is_pool = count == 1
        n_seqs = num_sequences(count, unified=is_pool, with_states=self.options.store)
        return ContextSpec(length * count, n_seqs, kv_type=kv_type, unified=is_pool)


def _lack(names: Sequence[str], together: Together) -> str:
    lacking = ", ".join(f"{each.device} lacks {gib(each.n_bytes)}" for each in together.shortfalls)
    each = ", ".join(
        f"{name} takes {gib(fit.use.ram.total + sum(gpu.total for gpu in fit.use.gpus))}"
        for name, fit in zip(names, together.fits, strict=True)
    )
    return f"{_listed(names)} do not fit together: {lacking} ({each})"


def _listed(names: Sequence[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _shape(file: ModelFile) -> ModelShape | None:
    """Return the shape of a model; None if its header lacks what memory depends on."""
    try:
        return file.shape
    except InputError:
        return None


def _less(hardware: Hardware, n_bytes: int) -> Hardware:
    """Return the machine with so much less memory, on the roomiest card if there is one."""
    if not hardware.gpus:
        return replace(hardware, ram_free=hardware.ram_free - n_bytes)
    roomiest = max(hardware.gpus, key=lambda gpu: gpu.free)
    gpus = tuple(
        replace(gpu, free=gpu.free - n_bytes) if gpu is roomiest else gpu for gpu in hardware.gpus
    )
    return replace(hardware, gpus=gpus)
