"""`l4 imatrix`: importance matrices, measured on texts; merging them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from l4cli import console
from l4cli.amounts import counted
from l4cli.commands import chunk_options, completion, options
from l4cli.errors import UsageError

_WORK_PANEL = "Work"

Models = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=completion.models,
        metavar="NAME|FILE",
        help="GGUF file of the model, best in BF16 or Q8_0, a checkpoint, or a name from `l4 "
        "models` (default: the one that it marks with *); with --merge, imatrix files.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        parser=options.parse_file,
        metavar="FILE",
        help="Imatrix file to write (default: imatrix-NAME.gguf here).",
    ),
]
TextFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--text",
        parser=options.parse_file,
        metavar="FILE",
        help="Text to read; may be repeated (default: l4's own of several languages, code, JSON "
        "and dialogue).",
    ),
]
Rows = Annotated[
    list[Path] | None,
    typer.Option(
        "--rows",
        parser=options.parse_file,
        metavar="FILE",
        help="JSON Lines to read, one after another: each has text, prompt or messages; may be "
        "repeated.",
    ),
]
Ctx = Annotated[
    int | None,
    typer.Option(
        "--ctx",
        parser=options.parse_tokens,
        metavar="N",
        help="Tokens of a chunk (default: 512, as llama-imatrix).",
    ),
]
NumChunks = Annotated[
    int | None,
    typer.Option("--chunks", min=1, max=10**9, metavar="N", help="Read at most N chunks."),
]
Coverage = Annotated[
    int | None,
    typer.Option(
        "--coverage",
        min=1,
        max=10**9,
        metavar="N",
        help="End once every expert of every layer has seen N tokens. Of several texts, always "
        "that one is read on that fills most of what is missing.",
    ),
]
Add = Annotated[
    Path | None,
    typer.Option(
        "--add",
        parser=options.parse_file,
        metavar="FILE",
        help="Begin with the sums of this imatrix of the same model.",
    ),
]
Merge = Annotated[
    bool, typer.Option("--merge", help="Read no text: add up the imatrix files that are given.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a file of that name.", rich_help_panel=_WORK_PANEL),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with a run that was stopped, and leave a finished one as it is; without it, "
        "the run starts over.",
        rich_help_panel=_WORK_PANEL,
    ),
]


def imatrix(
    models: Models = None,
    yes: options.Yes = False,
    out: Out = None,
    text: TextFiles = None,
    rows: Rows = None,
    ctx: Ctx = None,
    chunks: NumChunks = None,
    coverage: Coverage = None,
    add: Add = None,
    merge: Merge = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    experts: options.Experts = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    force: options.Force = False,
) -> None:
    """Measure which columns of a model's weights matter: an importance matrix.

    The model reads texts, chunk by chunk; what its weights are multiplied with
    is squared and summed up, for each expert by itself. `l4 convert` and
    `l4 quantize` then lose less (--imatrix FILE). The file is llama-imatrix's.
    Ctrl-C keeps what was read; --resume goes on.

        l4 imatrix model-Q8_0.gguf -o imatrix.gguf --text mine.txt
        l4 imatrix --merge a.gguf b.gguf -o both.gguf
    """
    chunk_options.check(ctx)
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, experts=experts
    )
    if merge:
        reading = {"text": text, "rows": rows, "ctx": ctx, "chunks": chunks}
        _refuse_with_merge(**reading, coverage=coverage, add=add, resume=resume, experts=experts)
        _merge([Path(name) for name in models or []], out, overwrite=overwrite)
        return
    if models and len(models) > 1:
        raise UsageError(
            f"{models[1]}: one model is measured at a time; to add up imatrix files, give --merge"
        )
    from l4cli.commands.eval_models import Purpose, found
    from l4cli.commands.imatrix_work import Wishes, measure

    wishes = Wishes(
        tuple(text or ()), tuple(rows or ()), ctx, chunks, coverage, add, overwrite, resume
    )
    sources = wishes.read_texts()
    asked = chunk_options.models_asked(models)
    if out:
        wishes.refuse_output(out)
    n_ctx = ctx or chunk_options.DEFAULT_CTX
    purpose = Purpose("measurement", "convert it to a smaller type first")
    with found(asked, None, loading, n_ctx=n_ctx, type=None, yes=yes, purpose=purpose) as given:
        file = given.files[0].with_experts(experts)
        target = out or Path(f"imatrix-{file.name.replace(os.sep, '-')}.gguf")
        exit_code = measure(file, target, sources, wishes, loading)
    if exit_code:
        raise typer.Exit(exit_code)


def _refuse_with_merge(**given: object) -> None:
    names = chunk_options.options_given(given)
    if names:
        raise UsageError(f"{names[0]} is for measuring: leave it or --merge out")


def _merge(paths: list[Path], out: Path | None, *, overwrite: bool) -> None:
    from l4cli.commands.imatrix_work import refuse_taken
    from l4cli.imatrix import files

    if len(paths) < 2:
        raise UsageError("--merge adds up imatrix files: give two or more")
    if out is None:
        raise UsageError("--merge needs the name of the file to write: -o FILE")
    refuse_taken(out, overwrite=overwrite)
    merged = files.merge(paths)
    files.write(out, merged)
    console.note(
        f"wrote {out}: {counted(len(paths), 'file')}, {merged.sums.num_tokens:,} tokens, "
        f"{counted(len(merged.sums.entries), 'tensor')}"
    )
