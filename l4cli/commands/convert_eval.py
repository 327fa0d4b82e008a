"""`l4 convert --eval` and `l4 quantize --eval`: what the outputs lost against their source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from l4cli import console
from l4cli.commands import chunk_options

if TYPE_CHECKING:
    from convert import Plan
    from l4cli.eval.report import Result


def evaluate(planned: Sequence[tuple[Plan, Path]], seconds: int, threads: int | None) -> None:
    """Compare each output with the source, and write the figures into its metadata.

    planned: the plans of one source, with the (first) file of each output.
    seconds: for all of them together, without the time to load.

    Raises typer.Exit with a signal's code if one ends it; the outputs are whole all the same.
    """
    from l4cli.commands import eval_models
    from l4cli.commands.eval_run import Run
    from l4cli.commands.eval_show import oddity_texts
    from l4cli.eval.texts import built_in_text
    from l4cli.loading.options import LoadOptions

    loading = LoadOptions(threads=threads)
    run = Run(built_in_text(), loading, None, None, seconds=seconds, keeps=False)
    names = [str(path) for _, path in planned]
    source = str(planned[0][0].source)
    with eval_models.found(
        names, source, loading, n_ctx=chunk_options.DEFAULT_CTX, type=None, yes=False
    ) as models:
        assert models.base
        run.all(models.files, models.base)
        for file, result in zip(run.sources, run.results, strict=True):
            _write(file.path, result, run.text.name, models.base.name)
        run.keep(models.base)
        for result in run.results:
            console.note(_line(result, models.base.name))
        broken = {name: found for name, found in run.oddities.items() if found}
        for lines in oddity_texts(broken, models.base.name):
            console.note(f"warning: {' '.join(lines)}")
    for failure in run.failures[1:]:
        console.warn(str(failure))
    if run.failures:
        raise run.failures[0]
    if run.exit_code:
        console.warn("stopped: the files are whole, their evaluation is not")
        raise typer.Exit(run.exit_code)


def _write(path: Path, result: Result, text: str, base: str) -> None:
    import convert as converter
    from l4cli.eval.keeping import today
    from l4cli.eval.report import as_kept

    figures = as_kept(result)
    del figures["chunks"], figures["is_partial"]
    converter.write_figures(path, {**figures, "text": text, "against": base, "date": today()})


def _line(result: Result, base: str) -> str:
    found = result.comparison
    assert found
    return (
        f"{result.name} against {base}: PPL {found.ppl.value:.4f} (reference "
        f"{found.base_ppl.value:.4f}), KLD {found.kld.value:.4f} ± {found.kld.error:.4f}, same top "
        f"{found.same_top.value:.1%}, over {result.measured.num_tokens:,} tokens; it is in the "
        "file's metadata"
    )
