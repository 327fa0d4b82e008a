"""Decides which models are in memory together, and the type of a converted reference. Pure.

Figures must not depend on what is held together. So models are only held together if each is placed
as it would be alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from l4cli.errors import InputError
from l4cli.eval.passing import LEAST_ROWS
from l4cli.fit.choose import place
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.shape import ModelShape
from l4cli.fit.together import Wanted, fit_together, rooms
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions

REFERENCE_TYPES = ("BF16", "Q8_0")  # of a checkpoint that is converted to be compared with
_CONTEXTS = 2  # chunks in a context at once, see chunks.steps


def loaded_for(options: LoadOptions, n_ctx: int) -> LoadOptions:
    """Return the options for a model that goes through chunks of `n_ctx` tokens."""
    return options.but(elastic=True, default_ctx=_CONTEXTS * n_ctx)


def options_together(
    files: Sequence[ModelFile], options: LoadOptions, n_ctx: int, hardware: Hardware
) -> list[LoadOptions] | None:
    """Return the options with which all files are loaded at once; None if memory is too short.

    hardware: the machine before any of them is loaded.
    """
    if options.kv_type == "auto":  # the choice would depend on the others
        return None
    try:
        shapes = [file.shape for file in files]
    except InputError:  # a header that lacks what memory depends on
        return None
    wanted = [_wanted(shape, options, n_ctx) for shape in shapes]
    hardware = _without_rows(hardware, shapes)
    together = fit_together(wanted, hardware, options.placement)
    if together.shortfalls or together.repack is not None:
        return None
    for model, fit in zip(wanted, together.fits, strict=True):
        if place(model.shape, model.spec, hardware, options.placement).placement != fit.placement:
            return None
    found = rooms(wanted, together, hardware)
    return [loaded_for(options, n_ctx).but(room=room) for room in found]


def reference_type(
    shapes: Mapping[str, ModelShape],
    beside: Sequence[ModelShape],
    options: LoadOptions,
    n_ctx: int,
    hardware: Hardware,
    has_room: Callable[[str], bool],
) -> str:
    """Return the first type of `shapes` that fits in memory and on disk, or else the last one.

    shapes: the reference by its types, the best one first.
    beside: the models that are in memory with it, one at a time.
    has_room: whether the disk has room for the type.
    """
    for ftype, shape in shapes.items():
        is_fitting = all(
            not fit_together(
                [_wanted(one, options, n_ctx) for one in (shape, other)],
                _without_rows(hardware, [shape, other]),
                options.placement,
            ).shortfalls
            for other in beside
        )
        if is_fitting and has_room(ftype):
            return ftype
    return list(shapes)[-1]


def _wanted(shape: ModelShape, options: LoadOptions, n_ctx: int) -> Wanted:
    kv_type = "f16" if options.kv_type == "auto" else options.kv_type
    n_cells = _CONTEXTS * n_ctx
    return Wanted(shape, ContextSpec(n_cells, _CONTEXTS, kv_type=kv_type, unified=False))


def _without_rows(hardware: Hardware, shapes: Sequence[ModelShape]) -> Hardware:
    """Return the machine without what the rows of logits of these models take at most."""
    rows = max(512 << 10, *(4 * LEAST_ROWS * shape.n_vocab for shape in shapes))
    return replace(hardware, ram_free=hardware.ram_free - 2 * rows * len(shapes))
