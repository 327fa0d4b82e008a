"""`l4 run`: a file of prompts in, a file of answers out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from l4cli import console
from l4cli.commands import options
from l4cli.errors import EXIT_FAILED, InputError, UsageError

if TYPE_CHECKING:
    from l4cli.batch.journal import JournaledOutput
    from l4cli.batch.rows import BadRow, Row
    from l4cli.batch.runner import BatchOptions, BatchStats
    from l4cli.llm import LLM


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
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write answers here, with a journal to resume by."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an --out file that was interrupted.")
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
    its own if it likes. Answers go to stdout, or to --out, in the same order, errors as rows
    among them. With --out a run that was killed goes on where it was: --resume.

    Exit code: 0 every row was answered, 1 some rows are errors, 2 nothing could be run.
    """
    from l4cli.batch.rows import read_rows, to_line
    from l4cli.batch.runner import BatchOptions, BatchStats, run_rows
    from l4cli.commands.loading import load_for_command, read_text_option
    from l4cli.signals import catch_interrupts

    if resume and out is None:
        raise UsageError("--resume goes on with an output file: name it with -o")
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
    hardware = {"ctx": ctx, "threads": threads, "gpu_layers": gpu_layers, "kv_type": kv_type}
    stats = BatchStats()
    with (
        _open_input(input, out) as lines,
        load_for_command(model, parallel=parallel, **hardware) as llm,
        _open_output(out, llm, batch, resume) as output,
        _status(out) as update,
        catch_interrupts(llm.engine.interrupt) as interrupts,
    ):
        llm.params(**given)  # a wrong setting is told once, not in every row
        started = time.perf_counter()
        rows = output.skip_done(read_rows(lines, lenient=lenient))
        for row, answer in run_rows(llm, rows, batch, stats, stopping=lambda: interrupts.count):
            output.write(to_line(answer), row.digest)
            update(_progress(stats, time.perf_counter() - started))
    if stats.num_rows + output.num_done == 0 and not interrupts:
        raise InputError(f"{_name(input)} has no rows: nothing to do")
    if out or console.stderr_is_terminal():
        console.note(_progress(stats, time.perf_counter() - started))
    _report(stats, output.num_done, out, interrupts.exit_code)


def _report(stats: BatchStats, num_done: int, out: Path | None, exit_code: int) -> None:
    """What went otherwise than planned, in a line, and as exit code."""
    if num_done:
        console.note(f"{num_done} rows were in {out} already")
    if exit_code:
        hint = f"; go on with: --resume -o {out}" if out else ""
        console.note(f"l4: stopped after {stats.num_rows} rows; the rest was not run{hint}")
        raise typer.Exit(exit_code)
    if stats.num_errors:
        console.note(f"l4: {stats.num_errors} of {stats.num_rows} rows are errors")
        raise typer.Exit(EXIT_FAILED)


class _Stdout:
    """Answers to stdout: nothing is kept, so nothing can be resumed."""

    num_done = 0

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterable[Row | BadRow]:
        return rows

    def write(self, line: str, _digest: bytes) -> None:
        console.data(line)


@contextmanager
def _open_output(
    out: Path | None, llm: LLM, options: BatchOptions, resume: bool
) -> Iterator[_Stdout | JournaledOutput]:
    from l4cli.batch.journal import JournaledOutput

    if out is None:
        yield _Stdout()
        return
    settings = {
        "model": llm.name,
        "model file": llm.fingerprint,
        "template": llm.template_digest,
        "system": options.system,
        "raw": options.raw,
        "sampling": dict(options.sampling),
    }
    with JournaledOutput(out, settings, resume=resume) as output:
        yield output


@contextmanager
def _open_input(name: str, out: Path | None) -> Iterator[BinaryIO]:
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
        if _is_stdout(file) or (out and out.exists() and out.samefile(path)):
            raise UsageError(f"{path} is both input and output: the answers would overwrite it")
        yield file


def _is_stdout(file: BinaryIO) -> bool:
    """Whether stdout goes into the very file that is read."""
    try:
        ours, theirs = os.fstat(file.fileno()), os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.path.samestat(ours, theirs)


def _status(out: Path | None) -> AbstractContextManager[Callable[[str], None]]:
    """How far the run is; nothing where the answers themselves appear on the terminal."""
    if out is None and sys.stdout.isatty():
        return nullcontext(lambda _text: None)
    return console.status("reading prompts")


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
