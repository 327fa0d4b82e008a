"""`l4 run`: a file of prompts in, a file of answers out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from l4cli import console
from l4cli.commands import options
from l4cli.errors import EXIT_FAILED, InputError, UsageError

if TYPE_CHECKING:
    from l4cli.batch.runner import BatchStats


def run(
    input: Annotated[
        str, typer.Argument(metavar="INPUT", help="Prompts as JSON Lines; - reads stdin.")
    ] = "-",
    model: options.Model = None,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel",
            envvar="L4_PARALLEL",
            min=1,
            metavar="N",
            help="Rows answered at the same time.",
            rich_help_panel=options.HARDWARE_PANEL,
        ),
    ] = 16,
    system: options.System = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Continue each prompt as it stands, with no chat template."),
    ] = False,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Ignore unknown fields instead of failing the row.")
    ] = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    seed: options.Seed = None,
    ctx: options.Ctx = 16384,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    kv_type: options.KvType = "f16",
) -> None:
    """Answer a file of prompts, one JSON line each.

    A row is {"prompt": "..."} or {"messages": [...]}, with an id, tools and sampling settings of
    its own if it likes. Answers go to stdout in the same order, errors as rows among them.

    Exit code: 0 every row was answered, 1 some rows are errors, 2 nothing could be run.
    """
    from l4cli.batch.rows import read_rows, to_line
    from l4cli.batch.runner import BatchOptions, BatchStats, run_rows
    from l4cli.commands.loading import load_for_command, read_text_option
    from l4cli.signals import catch_interrupts

    sampling = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "seed": seed,
    }
    given = {name: value for name, value in sampling.items() if value is not None}
    batch = BatchOptions(system=read_text_option(system), raw=raw, sampling=given)
    stats = BatchStats()
    with (
        _open_input(input) as lines,
        load_for_command(
            model,
            ctx=ctx,
            parallel=parallel,
            threads=threads,
            gpu_layers=gpu_layers,
            kv_type=kv_type,
        ) as llm,
        console.status("reading prompts") as update,
        catch_interrupts(llm.engine.interrupt) as interrupts,
    ):
        llm.params(**given)  # a wrong setting is told once, not in every row
        started = time.perf_counter()
        rows = read_rows(lines, lenient=lenient)
        for row in run_rows(llm, rows, batch, stats, stopping=lambda: bool(interrupts)):
            console.data(to_line(row))
            update(_progress(stats, time.perf_counter() - started))
    if stats.num_rows == 0 and not interrupts:
        raise InputError(f"{_name(input)} has no rows: nothing to do")
    if console.stderr_is_terminal():
        console.note(_progress(stats, time.perf_counter() - started))
    if interrupts:
        console.note(f"l4: stopped after {stats.num_rows} rows; the rest was not run")
        raise typer.Exit(interrupts.exit_code)
    if stats.num_errors:
        console.note(f"l4: {stats.num_errors} of {stats.num_rows} rows are errors")
        raise typer.Exit(EXIT_FAILED)


@contextmanager
def _open_input(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("give a file of prompts, or pipe one in: l4 run prompts.jsonl")
        yield sys.stdin.buffer
        return
    path = Path(name).expanduser()
    try:
        file = path.open("rb")
        file.peek(1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with file:
        if _is_stdout(file):
            raise UsageError(f"{path} is both input and output: the answers would overwrite it")
        yield file


def _is_stdout(file: BinaryIO) -> bool:
    """Whether stdout goes into the very file that is read."""
    try:
        ours, theirs = os.fstat(file.fileno()), os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.path.samestat(ours, theirs)


def _name(input: str) -> str:
    return "stdin" if input == "-" else input


def _progress(stats: BatchStats, seconds: float) -> str:
    rate = stats.num_completion_tokens / seconds if seconds else 0.0
    errors = f", {stats.num_errors} errors" if stats.num_errors else ""
    return (
        f"{stats.num_rows} rows{errors} · {stats.num_prompt_tokens} prompt tokens "
        f"({stats.num_cached_tokens} cached) · {stats.num_completion_tokens} generated, "
        f"{rate:.0f}/s · {seconds:.1f} s"
    )
