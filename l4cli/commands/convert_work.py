"""What `l4 convert` and `l4 quantize` do with plans: show them, write or verify the outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from l4cli import console
from l4cli.amounts import human_size
from l4cli.commands import convert_eval, eval_models
from l4cli.commands import convert_show as show
from l4cli.commands.convert_options import DEFAULT_TYPE
from l4cli.errors import EXIT_FAILED, UsageError
from l4cli.native import watcher

if TYPE_CHECKING:
    from convert import Leftover, Plan, Split, TypeOptions
    from l4cli.models.hub import HubShards

LIST = "list"  # the value of --type that lists all types

Planned = list[tuple["Plan", Path]]


@dataclass(frozen=True)
class Work:
    """What to do with plans: the values of the options that both commands have.

    doing: the word for it, for the progress line.
    seconds: how long the outputs are evaluated afterwards; None for not at all.
    """

    doing: str
    dry_run: bool
    verify: bool
    verify_only: bool
    seconds: int | None
    json: bool
    overwrite: bool
    split: Split | None
    resume: bool
    ram: int | None
    threads: int | None

    def carry_out(self, planned: Planned, shards: HubShards | None = None) -> None:
        """Show the plans, write their outputs, or verify them.

        Raises typer.Exit(1) if a verified output is wrong.
        """
        import convert as converter
        from convert.kernels.quantize import has_lanes, is_much

        if self.seconds is not None:
            if self.verify_only:
                raise UsageError("--verify-only writes nothing: leave it or --eval out")
            planned = [(converter.with_room_for_figures(plan), path) for plan, path in planned]
            for plan, _ in planned:
                eval_models.refuse_other_purposes(plan)
        plans = [plan for plan, _ in planned]
        if not (self.dry_run or self.verify_only):  # before warnings of what will not be done
            converter.refuse_outputs(
                planned, split=self.split, resume=self.resume, overwrite=self.overwrite
            )
        for finding in (
            ()
            if self.verify_only
            else dict.fromkeys(finding for plan in plans for finding in plan.findings)
        ):
            console.note(f"{finding.level}: {finding.message}")
        if not self.verify_only and is_much(plans) and not has_lanes():
            from l4cli.native.rebuild import extra_line

            console.note(
                f"quantizing takes a fraction of the time with numba: {extra_line('fast')}"
            )
        buffers = _buffers(plans, self.threads, self.ram)
        if self.dry_run:
            estimate = converter.estimate(
                planned, split=self.split, threads=self.threads, ram=buffers
            )
            show.plans(planned, estimate, json=self.json)
            return
        if not self.verify_only:
            planned = self._write(planned, shards, buffers)
        if self.verify or self.verify_only:
            self._verify(planned)
        if self.seconds is not None:
            convert_eval.evaluate(planned, self.seconds, self.threads)

    def _write(self, planned: Planned, shards: HubShards | None, buffers: int | None) -> Planned:
        """Write the outputs. Return the plans with the path of each output (its first file)."""
        import convert as converter

        plans, targets = [plan for plan, _ in planned], [target for _, target in planned]
        total = sum(tensor.n_bytes for plan in plans for tensor in plan.tensors)
        if shards is not None:
            shards.refuse_foreign(_shards_folder(targets))
        with ExitStack() as stack:
            watcher.tell(
                "the part that was written is kept beside the output",
                f"go on with: {console.command_line('--resume')}",
            )
            done = stack.enter_context(_leftovers_told(targets, self.resume, shards is not None))
            update = stack.enter_context(console.byte_progress(self.doing, total, done=done))
            if shards is not None:
                shards.on_bytes = lambda name, _: update(None, f"fetching {name}")
                stack.enter_context(shards.kept_in(_shards_folder(targets)))
            reports = converter.convert_all(
                planned,
                split=self.split,
                resume=self.resume,
                overwrite=self.overwrite,
                threads=self.threads,
                ram=buffers,
                progress=lambda p: update(p.bytes_done, p.tensor),
            )
        show.reports(plans, reports, json=self.json and not self.verify)
        return [(plan, report.path) for plan, report in zip(plans, reports, strict=True)]

    def _verify(self, planned: Planned) -> None:
        """Compare each output with its source; raise typer.Exit(1) if one of them is wrong."""
        import convert as converter

        found = []
        for plan, path in planned:
            total = sum(tensor.n_bytes for tensor in plan.tensors)
            with console.byte_progress("verifying", total) as update:
                result = converter.verify(
                    plan,
                    path,
                    threads=self.threads,
                    progress=lambda p: update(p.bytes_done, p.tensor),
                )
            found.append((path, result))
        show.verifications(found, json=self.json)
        if not all(result.is_fine for _, result in found):
            raise typer.Exit(EXIT_FAILED)


def parse_types(
    imatrix: str | None,
    cold_experts: str | None,
    tensor_type: list[str] | None,
    output_tensor_type: str | None,
    token_embedding_type: str | None,
    pure: bool,
) -> TypeOptions:
    """The options that change the tensors' types."""
    from convert import TypeOptions

    return TypeOptions(
        imatrix=imatrix,
        tensor_types=tuple(_parse_tensor_type(text) for text in tensor_type or ()),
        output_tensor_type=output_tensor_type,
        token_embedding_type=token_embedding_type,
        pure=pure,
        cold_experts=cold_experts,
    )


def _parse_tensor_type(text: str) -> tuple[str, str]:
    pattern, _, qtype = text.partition("=")
    if not pattern or not qtype:
        raise UsageError(f"--tensor-type {text}: not PATTERN=QTYPE, such as attn_v=q8_0")
    return pattern, qtype


def types_asked(type: list[str] | None, out: str | None, *, verify_only: bool) -> list[str]:
    """The types to make; [LIST] to list all. Without --type, --verify-only takes the file's own."""
    import convert as converter

    if not type:
        is_stated = verify_only and out is not None and Path(out).is_file()
        return [converter.file_type(str(out)) if is_stated else DEFAULT_TYPE]
    if LIST not in map(str.lower, type):
        return type
    if len(type) > 1:
        raise UsageError("--type list shows every type: do not combine it with other types")
    return [LIST]


def paired(plans: Sequence[Plan], out: str | None, name: str) -> Planned:
    """Each plan with the path of its output.

    out: the value of --out.
    name: of outputs that --out does not name, without the type.
    """
    return list(zip(plans, targets(out, name, [plan.ftype for plan in plans]), strict=True))


def targets(out: str | None, name: str, ftypes: Sequence[str]) -> list[Path]:
    """The path of the output of each type; see `paired`."""
    pattern = f"{name}-{{type}}.gguf"
    if out == "":
        raise UsageError("-o is empty: give the name of a file or a directory")
    if out is not None:
        path = Path(out).expanduser()
        if out.endswith(os.sep) and not path.is_dir():
            raise UsageError(f"-o {out}: no such directory; make it first")
        # Path.is_dir raises OSError for some names.
        pattern = str(path / pattern) if os.path.isdir(path) else str(path)  # noqa: PTH112
    if len(ftypes) > 1 and "{type}" not in pattern:
        raise UsageError(
            f"-o {out}: for several types, put {{type}} into the name or give a directory"
        )
    return [Path(pattern.replace("{type}", ftype)) for ftype in ftypes]


def split_of(max_size: int | None, max_tensors: int | None) -> Split | None:
    from convert import Split

    return Split(max_size, max_tensors) if max_size or max_tensors else None


def _shards_folder(targets: Sequence[Path]) -> Path:
    """The folder that shards are fetched to, beside the first output."""
    return targets[0].with_name(f"{targets[0].name}.part.shards")


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
            f"--ram {human_size(ram)} is too little: with {threads} threads give at least "
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
    except BaseException as error:
        shards = _shards_folder(targets) if is_hub else None
        lefts = [(target, left) for target in targets if (left := converter.leftover(target))]
        if not lefts and shards:
            shutil.rmtree(shards, ignore_errors=True)
        if not lefts and isinstance(error, KeyboardInterrupt):
            console.note("stopped; nothing is kept")
        for target, left in lefts:
            files = (*left.files, shards) if shards and shards.is_dir() else left.files
            console.note(
                f"{target}: {_share(left)} is done and kept: the same command with --resume "
                f"goes on; to discard it, delete {' and '.join(map(str, files))}"
            )
        raise


def _share(found: Leftover) -> str:
    return f"{100 * found.n_done / found.n_bytes:.0f}%"
