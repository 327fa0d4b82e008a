"""The models that `l4 eval` is given, and others: files, names, checkpoints to convert first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli import console
from l4cli.amounts import human_size
from l4cli.errors import InputError, OutputError
from l4cli.paths import expanded

if TYPE_CHECKING:
    from convert import Plan
    from l4cli.fit.shape import ModelShape
    from l4cli.loading.file import ModelFile
    from l4cli.loading.options import LoadOptions
    from l4cli.models.locate import Located


@dataclass(frozen=True, slots=True)
class Purpose:
    """What checkpoints are converted for, and what to do where the disk is full; for messages."""

    name: str
    remedy: str


_EVALUATION = Purpose("evaluation", "give a smaller --against-type")


@dataclass(frozen=True, slots=True)
class Found:
    """The models of a command. `base` is the reference; None if there is none."""

    files: list[ModelFile]
    base: ModelFile | None


@contextmanager
def found(
    models: Sequence[str | None],
    against: str | None,
    loading: LoadOptions,
    *,
    n_ctx: int,
    type: str | None,
    yes: bool,
    purpose: Purpose = _EVALUATION,
) -> Iterator[Found]:
    """Find the models, and convert those that are checkpoints; what was converted is removed.

    n_ctx: tokens of a chunk. type: of what is converted; None for the best one that fits.
    GivenUpError if a signal ends a conversion.
    """
    from l4cli.eval.scratch import scratch_folder

    names = [*models, *([against] if against is not None else [])]
    checkpoints = {name: one for name in names if name and (one := _checkpoint(name))}
    files = {name: _file(name, yes=yes) for name in names if name not in checkpoints}
    if checkpoints:
        with scratch_folder() as folder:
            beside = [shape for file in files.values() if (shape := _shape(file))]
            for name, located in checkpoints.items():
                target = folder / str(len(files))
                target.mkdir()
                files[name] = converted(
                    located, target, loading, n_ctx=n_ctx, type=type, beside=beside, purpose=purpose
                )
            yield _of(files, models, against)
        return
    yield _of(files, models, against)


def _of(
    files: dict[str | None, ModelFile], models: Sequence[str | None], against: str | None
) -> Found:
    return Found([files[name] for name in models], None if against is None else files[against])


def _file(name: str | None, *, yes: bool) -> ModelFile:
    from l4cli.commands.open_model import find_file

    file = find_file(name, yes=yes)
    _ = file.header  # tells files that are no language model before anything is loaded
    return file


def is_checkpoint(name: str | None) -> bool:
    """Whether a name stands for a checkpoint, which has to be converted first."""
    return name is not None and _checkpoint(name) is not None


def _checkpoint(name: str) -> Located | None:
    """The checkpoint that a name stands for: a folder, or a repository in the Hub's cache."""
    from l4cli.models.folders import is_checkpoint
    from l4cli.models.locate import cached_snapshot, is_hub_id, locate_checkpoint

    path = expanded(name)
    if path.is_dir():
        return locate_checkpoint(name) if is_checkpoint(path) else None
    if not path.exists() and is_hub_id(name) and cached_snapshot(name) is not None:
        return locate_checkpoint(name)
    return None


def converted(
    located: Located,
    folder: Path,
    loading: LoadOptions,
    *,
    n_ctx: int,
    type: str | None,
    beside: Sequence[ModelShape],
    purpose: Purpose = _EVALUATION,
) -> ModelFile:
    """Convert a checkpoint into a folder, where it stays until the folder is removed.

    beside: the models that are in memory together with it, one at a time.
    InputError if it is no language model, OutputError if the disk has no room for it, GivenUpError
    if a signal ends it.
    """
    import convert as converter
    from l4cli.loading.file import ModelFile
    from l4cli.models.locate import Located
    from l4cli.signals import GivenUpError, catch_interrupts

    with console.status(f"looking at {located.name}"):
        ftype = _chosen(located.path, folder, loading, n_ctx, beside) if type is None else type
        plan = converter.plan(located.path, ftype)
    refuse_other_purposes(plan)
    target = folder / f"{located.name}-{plan.ftype}.gguf"
    _check_disk(plan, target, purpose)
    for finding in plan.findings:
        console.note(f"{finding.level}: {finding.message}")
    console.note(
        f"{located.name} is a checkpoint: converted to {plan.ftype} for this {purpose.name} "
        f"({human_size(plan.n_bytes)} in {folder}, removed at the end)"
    )
    total = sum(tensor.n_bytes for tensor in plan.tensors)
    with (
        console.byte_progress(f"converting {located.name}", total) as update,
        catch_interrupts(console.show_stopping) as interrupts,
    ):

        def progress(made: converter.Progress) -> None:
            update(made.bytes_done, made.tensor)
            if interrupts:
                raise GivenUpError(interrupts.exit_code)

        converter.convert(plan, target, progress=progress)
    return ModelFile(Located(target, target.stem))


def refuse_other_purposes(plan: Plan) -> None:
    """Raise InputError if what a plan makes is no language model, which cannot be evaluated."""
    from convert.gguf.kind import other_purpose

    fields = {key: field.value for key, field in plan.fields.items()}
    if purpose := other_purpose(fields, [tensor.name for tensor in plan.tensors]):
        raise InputError(f"{plan.source}: it is {purpose}")


def _chosen(
    path: Path, folder: Path, loading: LoadOptions, n_ctx: int, beside: Sequence[ModelShape]
) -> str:
    """The type that memory and disk have room for."""
    import shutil

    import convert as converter
    from l4cli.eval.planning import REFERENCE_TYPES, reference_type
    from l4cli.fit.described import checkpoint_shape
    from l4cli.fit.hardware import probe

    sizes = {one.ftype: one.n_bytes or 0 for one in converter.sizes(path)}
    free = shutil.disk_usage(folder).free
    shapes = {ftype: checkpoint_shape(path, ftype) for ftype in REFERENCE_TYPES}
    return reference_type(
        shapes,
        beside or list(shapes.values())[-1:],
        loading,
        n_ctx,
        probe(),
        lambda ftype: sizes[ftype] <= free,
    )


def _check_disk(plan: Plan, target: Path, purpose: Purpose) -> None:
    import convert as converter

    needs = converter.estimate([(plan, target)])
    if needs.disk > needs.disk_free:
        raise OutputError(
            f"{plan.source}: as {plan.ftype} it needs {human_size(needs.disk)} in {target.parent}, "
            f"where {human_size(needs.disk_free)} are free: {purpose.remedy}, or set "
            "XDG_CACHE_HOME to a folder on another disk"
        )


def _shape(file: ModelFile) -> ModelShape | None:
    try:
        return file.shape
    except InputError:
        return None
