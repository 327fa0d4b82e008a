"""`l4 convert`: converts a Hugging Face checkpoint to a quantized GGUF."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from l4cli import console
from l4cli.commands import convert_options as options
from l4cli.commands import convert_show as show
from l4cli.errors import EXIT_FAILED, UsageError
from l4cli.models.locate import hub_repo, locate_checkpoint
from l4cli.native import watcher

if TYPE_CHECKING:
    from convert import Leftover, Plan, Split
    from l4cli.models.hub import HubShards

_LIST = "list"


def convert(
    source: options.Source,
    hub: options.Hub = False,
    revision: options.Revision = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    verify: options.Verify = False,
    verify_only: options.VerifyOnly = False,
    json: options.Json = False,
    type: options.Type = None,
    imatrix: options.Imatrix = None,
    cold_experts: options.ColdExperts = None,
    tensor_type: options.TensorType = None,
    output_tensor_type: options.OutputTensorType = None,
    token_embedding_type: options.TokenEmbeddingType = None,
    pure: options.Pure = False,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    split_max_size: options.SplitMaxSize = None,
    split_max_tensors: options.SplitMaxTensors = None,
    resume: options.Resume = False,
    ram: options.Ram = None,
    threads: options.Threads = None,
) -> None:
    """Convert a Hugging Face checkpoint to GGUF and quantize it.

    This takes one pass, without intermediate files: read, transform, quantize
    in several threads, write. The output grows in FILE.part and gets its name
    only when it is complete. Types, and the options that change them, mean the
    same as in llama-quantize and give the same bytes.
    """
    import convert as converter
    from convert.kernels.quantize import has_lanes, is_much

    if hub and (verify or verify_only):
        raise UsageError(
            "--hub deletes each shard once it is converted; to verify, download the checkpoint"
        )
    src, name, shards = _find_source(source, hub, revision)
    wishes = converter.TypeOptions(
        imatrix=imatrix,
        tensor_types=tuple(_parse_tensor_type(text) for text in tensor_type or ()),
        output_tensor_type=output_tensor_type,
        token_embedding_type=token_embedding_type,
        pure=pure,
        cold_experts=cold_experts,
    )
    if not type:
        is_stated = verify_only and out is not None and Path(out).is_file()
        type = [converter.file_type(str(out)) if is_stated else options.DEFAULT_TYPE]
    if _LIST in map(str.lower, type):
        if len(type) > 1:
            raise UsageError("--type list shows every type: do not combine it with other types")
        show.sizes(converter.sizes(src, options=wishes, shards=shards), json=json)
        return
    plans = converter.plan_all(src, type, options=wishes, force=force, shards=shards)
    for finding in dict.fromkeys(finding for plan in plans for finding in plan.findings):
        console.note(f"{finding.level}: {finding.message}")
    planned = list(zip(plans, _targets(out, name, plans), strict=True))
    split = _split(split_max_size, split_max_tensors)
    if not verify_only and is_much(plans) and not has_lanes():
        console.note("quantizing takes a fraction of the time with numba: pip install 'l4[fast]'")
    buffers = _buffers(plans, threads, ram)
    if dry_run:
        estimate = converter.estimate(planned, split=split, threads=threads, ram=buffers)
        show.plans(planned, estimate, json=json)
        return
    if not verify_only:
        total = sum(tensor.n_bytes for plan in plans for tensor in plan.tensors)
        targets = [target for _, target in planned]
        converter.refuse_outputs(planned, split=split, overwrite=overwrite)
        if shards is not None:
            shards.refuse_foreign(_shards_folder(targets))
        with ExitStack() as stack:
            watcher.tell(
                "the part that was written is kept beside the output",
                f"go on with: {console.command_line('--resume')}",
            )
            done = stack.enter_context(_leftovers_told(targets, resume, hub))
            update = stack.enter_context(console.byte_progress("converting", total, done=done))
            if shards is not None:
                shards.on_bytes = lambda name, _: update(None, f"fetching {name}")
                stack.enter_context(shards.kept_in(_shards_folder(targets)))
            reports = converter.convert_all(
                planned,
                split=split,
                resume=resume,
                overwrite=overwrite,
                threads=threads,
                ram=buffers,
                progress=lambda p: update(p.bytes_done, p.tensor),
            )
        show.reports(plans, reports, json=json and not verify)
        planned = [(plan, report.path) for plan, report in zip(plans, reports, strict=True)]
    if verify or verify_only:
        _verify(planned, threads, json)


def _verify(planned: list[tuple[Plan, Path]], threads: int | None, json: bool) -> None:
    """Compare each output with its source; raise typer.Exit(1) if one of them is wrong."""
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


def _find_source(
    source: str, hub: bool, revision: str | None
) -> tuple[Path, str, HubShards | None]:
    """The checkpoint's directory, its name, and with --hub the supply of its shards, else None."""
    if not hub:
        if revision is not None:
            raise UsageError("--revision names a revision on the Hub: give --hub with it")
        found = locate_checkpoint(source)
        return found.path, found.name, None
    from l4cli.models.hub import open_checkpoint

    repo = hub_repo(source)
    with console.status(f"looking at {repo} on the Hub"):
        checkpoint = open_checkpoint(repo, revision)
    return checkpoint.path, repo.rpartition("/")[2], checkpoint.shards


def _shards_folder(targets: Sequence[Path]) -> Path:
    """The folder that shards are fetched to, beside the first output."""
    return targets[0].with_name(f"{targets[0].name}.part.shards")


def _parse_tensor_type(text: str) -> tuple[str, str]:
    pattern, _, qtype = text.partition("=")
    if not pattern or not qtype:
        raise UsageError(f"--tensor-type {text}: not PATTERN=QTYPE, such as attn_v=q8_0")
    return pattern, qtype


def _targets(out: str | None, name: str, plans: Sequence[Plan]) -> list[Path]:
    """The path of each plan's output.

    out: the value of --out.
    name: the checkpoint's name, for outputs that --out does not name.
    """
    pattern = f"{name}-{{type}}.gguf"
    if out == "":
        raise UsageError("-o is empty: give the name of a file or a directory")
    if out is not None:
        path = Path(out).expanduser()
        # Path.is_dir raises OSError for some names.
        pattern = str(path / pattern) if os.path.isdir(path) else str(path)  # noqa: PTH112
    if len(plans) > 1 and "{type}" not in pattern:
        raise UsageError(
            f"-o {out}: for several types, put {{type}} into the name or give a directory"
        )
    return [Path(pattern.replace("{type}", plan.ftype)) for plan in plans]


def _split(max_size: int | None, max_tensors: int | None) -> Split | None:
    from convert import Split

    return Split(max_size, max_tensors) if max_size or max_tensors else None


def _buffers(plans: Sequence[Plan], threads: int | None, ram: int | None) -> int | None:
    """The bytes left for buffers if the process may take `ram` bytes; None if `ram` is None."""
    if ram is None:
        return None
    from convert.kernels.quantize import quantizer
    from convert.writing import resources

    quantizer(plans)  # loads libraries, which count as held memory below
    threads = threads or resources.n_cpus()
    held = resources.held()
    least = held + resources.least_buffers(plans, threads)
    if ram < least:
        advised = least + (4 << 20)  # the memory of the same process varies a little
        raise UsageError(
            f"--ram {ram >> 20}M is too little: with {threads} threads give at least "
            f"{advised >> 20}M"
        )
    return ram - held


@contextmanager
def _leftovers_told(targets: list[Path], resume: bool, is_hub: bool) -> Iterator[int]:
    """Report unfinished conversions: those that are restarted and, on failure, those that remain.

    Yields the number of bytes that are done already. On failure, fetched shards are removed unless
    an unfinished output can still use them.
    """
    import convert as converter

    before = [(target, found) for target in targets if (found := converter.leftover(target))]
    for target, found in before if not resume else ():
        console.note(
            f"{target}: an unfinished conversion, {_share(found)} done, is restarted; "
            "with --resume it would go on"
        )
    try:
        yield sum(found.n_done for _, found in before) if resume else 0
    except BaseException:
        shards = _shards_folder(targets) if is_hub else None
        lefts = [(target, left) for target in targets if (left := converter.leftover(target))]
        if not lefts and shards:
            shutil.rmtree(shards, ignore_errors=True)
        for target, left in lefts:
            files = (*left.files, shards) if shards and shards.is_dir() else left.files
            console.note(
                f"{target}: {_share(left)} is done and kept: the same command with --resume "
                f"goes on; to discard it, delete {' and '.join(map(str, files))}"
            )
        raise


def _share(found: Leftover) -> str:
    return f"{100 * found.n_done / found.n_bytes:.0f}%"
