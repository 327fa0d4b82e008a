"""`l4 convert`: a Hugging Face checkpoint to a quantized GGUF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.commands import convert_show as show
from l4cli.commands.options import parse_memory, parse_size
from l4cli.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from convert import Leftover, Plan, Split

_DEFAULT_TYPE = "Q4_K_M"
_OUTPUT_PANEL, _WORK_PANEL = "Output", "How to work"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="A checkpoint directory in Hugging Face layout, or `demo`."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The GGUF to write, or a directory; {type} in it stands for the type.",
        ),
    ] = None,
    type: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help=f"F32, F16, BF16, Q8_0, Q6_K, Q4_K_M, …; {_DEFAULT_TYPE} unless given. "
            "Several read the source once.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what it takes; read no weights.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Convert even what llama.cpp would run wrong.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Then compare every weight with its source; exit 1 on a breach."
        ),
    ] = False,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Convert nothing; verify the file of -o.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
    split_max_size: Annotated[
        int | None,
        typer.Option(
            "--split-max-size",
            metavar="SIZE",
            parser=parse_size,
            help="Split into files of so many bytes of tensors: 500M, 48G.",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ] = None,
    split_max_tensors: Annotated[
        int | None,
        typer.Option(
            "--split-max-tensors",
            min=1,
            metavar="N",
            help="Split into files of so many tensors.",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a conversion that was stopped; else it starts over.",
            rich_help_panel=_WORK_PANEL,
        ),
    ] = False,
    ram: Annotated[
        int | None,
        typer.Option(
            "--ram",
            metavar="SIZE",
            parser=parse_memory,
            help="Most memory to take: 512M, 2G; some 64M a thread unless given.",
            rich_help_panel=_WORK_PANEL,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            "-t",
            min=1,
            metavar="N",
            help="Quantizing threads.",
            rich_help_panel=_WORK_PANEL,
        ),
    ] = None,
) -> None:
    """Convert a checkpoint to GGUF, quantizing on the way.

    One pass, with no intermediate file: read, transform, quantize in threads, write. The output
    appears under its name only when it is whole; until then it grows in FILE.part.
    """
    import convert as converter

    directory = _checkpoint(source)
    if not type:
        is_stated = verify_only and out is not None and Path(out).is_file()
        type = [converter.file_type(str(out)) if is_stated else _DEFAULT_TYPE]
    plans = [converter.plan(directory, name, force=force) for name in type]
    for finding in dict.fromkeys(finding for plan in plans for finding in plan.findings):
        console.note(f"{finding.level}: {finding.message}")
    planned = list(zip(plans, _targets(out, directory, plans), strict=True))
    split = _split(split_max_size, split_max_tensors)
    buffers = _buffers(plans, threads, ram)
    if dry_run:
        estimate = converter.estimate(planned, split=split, threads=threads, ram=buffers)
        show.plans(planned, estimate, json=json)
        return
    if not verify_only:
        total = sum(tensor.n_bytes for plan in plans for tensor in plan.tensors)
        with (
            _leftovers_told([target for _, target in planned], resume) as done,
            console.byte_progress("converting", total, done=done) as update,
        ):
            reports = converter.convert_all(
                planned,
                split=split,
                resume=resume,
                threads=threads,
                ram=buffers,
                progress=lambda p: update(p.bytes_done, p.tensor),
            )
        show.reports(plans, reports, json=json and not verify)
        planned = [(plan, report.path) for plan, report in zip(plans, reports, strict=True)]
    if verify or verify_only:
        _verify(planned, threads, json)


def _verify(planned: list[tuple[Plan, Path]], threads: int | None, json: bool) -> None:
    """Verify the outputs one by one; exit 1 if one of them is not what it should be."""
    import convert as converter

    found = []
    for plan, path in planned:
        total = sum(tensor.n_bytes for tensor in plan.tensors)
        with console.byte_progress("verifying", total) as update:
            result = converter.verify(
                plan, path, threads=threads, progress=lambda p: update(p.bytes_done, p.tensor)
            )
        found.append((path, result))
    show.verifications(found, json=json)
    if not all(result.is_fine for _, result in found):
        raise typer.Exit(EXIT_FAILED)


def _checkpoint(source: str) -> Path:
    path = Path(source).expanduser()
    if source == "demo" and not (path / "config.json").exists():
        from l4cli.demo import checkpoint_dir

        return checkpoint_dir()
    if path.exists():
        return path
    raise UsageError(f"{source}: no such checkpoint directory (and no bundled one but `demo`)")


def _targets(out: str | None, directory: Path, plans: list[Plan]) -> list[Path]:
    """What each plan's output is called."""
    pattern = f"{directory.resolve().name}-{{type}}.gguf"
    if out is not None:
        path = Path(out).expanduser()
        pattern = str(path / pattern) if path.is_dir() else str(path)
    if len(plans) > 1 and "{type}" not in pattern:
        raise UsageError(f"-o {out}: several types need {{type}} in the name, or a directory")
    return [Path(pattern.replace("{type}", plan.ftype)) for plan in plans]


def _split(max_size: int | None, max_tensors: int | None) -> Split | None:
    from convert import Split

    return Split(max_size, max_tensors) if max_size or max_tensors else None


def _buffers(plans: list[Plan], threads: int | None, ram: int | None) -> int | None:
    """What of `ram`, the most that the process may take, is left for buffers."""
    if ram is None:
        return None
    from convert import resources

    threads = threads or resources.n_cpus()
    held = resources.held()
    least = held + resources.least_buffers(plans, threads)
    if ram < least:
        advised = least + (4 << 20)  # the same process does not weigh the same every time
        raise UsageError(
            f"--ram {ram >> 20}M is too little: with {threads} threads the least that works is "
            f"{advised >> 20}M"
        )
    return ram - held


@contextmanager
def _leftovers_told(targets: list[Path], resume: bool) -> Iterator[int]:
    """Tell of unfinished conversions: one that is about to be lost, one that is left behind.

    Yields how many bytes are done to begin with.
    """
    import convert as converter

    before = [(target, found) for target in targets if (found := converter.leftover(target))]
    for target, found in before if not resume else ():
        console.note(
            f"{target}: an unfinished conversion, {_share(found)} done, is started over; "
            "--resume would have gone on with it"
        )
    try:
        yield sum(found.n_done for _, found in before) if resume else 0
    except BaseException:
        for target in targets:
            if left := converter.leftover(target):
                console.note(
                    f"{target}: {_share(left)} are done and kept: the same command with --resume "
                    f"goes on; to drop them, delete {' and '.join(map(str, left.files))}"
                )
        raise


def _share(found: Leftover) -> str:
    return f"{100 * found.n_done / found.n_bytes:.0f}%"
