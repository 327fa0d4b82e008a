"""`--imatrix auto`: measures an importance matrix before a conversion, and keeps it beside it."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from l4cli import console
from l4cli.amounts import human_size
from l4cli.commands.convert_work import targets
from l4cli.commands.eval_models import refuse_other_purposes
from l4cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from convert import Plan, TypeOptions
    from l4cli.commands.imatrix_work import Wishes
    from l4cli.eval.texts import Text
    from l4cli.models.locate import Located

AUTO = "auto"  # the value of --imatrix
_TYPE = "Q8_0"  # of the model that a checkpoint is measured on


@dataclass(frozen=True)
class Measuring:
    """How to measure an importance matrix; the values are those of the command's options.

    name: the model's, for outputs that `out` does not name.
    wishes: what the conversion itself is to be like.
    """

    name: str
    out: str | None
    types: Sequence[str]
    wishes: TypeOptions
    texts: tuple[Path, ...]
    overwrite: bool
    resume: bool
    threads: int | None

    def of_checkpoint(self, src: Path, *, force: bool) -> str:
        """Convert a checkpoint to Q8_0 for this, measure, delete it; return the imatrix's name."""
        import convert as converter
        from l4cli.models.locate import Located

        path = self._path()
        if self._is_done(path):
            return str(path)
        sources = self._wishes().read_texts()
        model = path.with_name(f".{self.name}-{_TYPE}.l4-temporary.gguf")
        [plan] = converter.plan_all(src, [_TYPE], force=force)
        refuse_other_purposes(plan)
        _refuse_full_disk(plan, model)
        total = sum(tensor.n_bytes for tensor in plan.tensors)
        try:
            with console.byte_progress(f"converting to {_TYPE}, to measure on", total) as update:
                converter.convert_all(
                    [(plan, model)],
                    overwrite=True,
                    threads=self.threads,
                    progress=lambda p: update(p.bytes_done, p.tensor),
                )
            self._measure(Located(model, self.name), path, sources)
        finally:
            for left in model.parent.glob(f"{glob.escape(model.name)}*"):
                left.unlink(missing_ok=True)
        return str(path)

    def of_gguf(self, located: Located) -> str:
        """Measure on the GGUF itself; return the imatrix's name."""
        path = self._path()
        if not self._is_done(path):
            self._measure(located, path, self._wishes().read_texts())
        return str(path)

    def _path(self) -> Path:
        """The name of the imatrix, beside the outputs. Refuse what cannot be made afterwards."""
        from convert.gguf.ftypes import find_ftype
        from convert.recipe.overrides import read_overrides

        read_overrides(self.wishes)
        outputs = targets(self.out, self.name, [find_ftype(name).name for name in self.types])
        for output in outputs:
            if output.exists() and not (self.overwrite or self.resume):
                raise UsageError(
                    f"{output} exists: write elsewhere with -o, or replace it with --overwrite"
                )
        path = outputs[0].with_name(f"imatrix-{self.name.replace(os.sep, '-')}.gguf")
        if path.exists() and not (self.overwrite or self.resume):
            raise UsageError(
                f"{path} exists: take it with --imatrix {path}, or measure anew with --overwrite"
            )
        return path

    def _is_done(self, path: Path) -> bool:
        from l4cli.imatrix import partial

        return self.resume and path.exists() and partial.num_done(path) is None

    def _wishes(self) -> Wishes:
        from l4cli.commands.imatrix_work import Wishes

        return Wishes(self.texts, overwrite=self.overwrite, resume=self.resume)

    def _measure(self, located: Located, path: Path, sources: Sequence[Text]) -> None:
        from l4cli.commands.imatrix_work import measure
        from l4cli.loading.file import ModelFile
        from l4cli.loading.options import LoadOptions

        file, loading = ModelFile(located), LoadOptions(threads=self.threads)
        if exit_code := measure(file, path, sources, self._wishes(), loading):
            raise typer.Exit(exit_code)


def refuse_auto(**given: object) -> None:
    """Raise UsageError if an option is given that `--imatrix auto` does not go with."""
    for name, value in given.items():
        if value:
            raise UsageError(
                f"--imatrix auto measures first, which --{name.replace('_', '-')} does not: make "
                "the imatrix with `l4 imatrix` and give its file"
            )


def refuse_text_alone(texts: Sequence[Path] | None) -> None:
    """Raise UsageError if texts are given, but nothing is measured."""
    if texts:
        raise UsageError("--imatrix-text is what --imatrix auto reads: give both")


def _refuse_full_disk(plan: Plan, path: Path) -> None:
    import convert as converter

    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no directory {path.parent}")
    needs = converter.estimate([(plan, path)])
    if needs.disk > needs.disk_free:
        raise OutputError(
            f"{path.parent}: measuring needs {human_size(needs.disk)} for a model in {_TYPE}, but "
            f"{human_size(needs.disk_free)} are free: write elsewhere with -o"
        )
