"""`l4 convert`: converts a Hugging Face checkpoint to a quantized GGUF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli import console
from l4cli.commands import convert_options as options
from l4cli.commands import convert_show as show
from l4cli.commands.convert_imatrix import AUTO, Measuring, refuse_auto, refuse_text_alone
from l4cli.commands.convert_work import LIST, Work, paired, parse_types, split_of, types_asked
from l4cli.errors import UsageError
from l4cli.models.locate import hub_repo, locate_checkpoint

if TYPE_CHECKING:
    from l4cli.models.hub import HubShards


def convert(
    source: options.Source,
    hub: options.Hub = False,
    revision: options.Revision = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    verify: options.Verify = False,
    verify_only: options.VerifyOnly = False,
    eval: options.Eval = None,
    json: options.Json = False,
    type: options.Type = None,
    imatrix: options.Imatrix = None,
    imatrix_text: options.ImatrixText = None,
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

    is_auto = imatrix == AUTO
    if is_auto:
        refuse_auto(hub=hub, dry_run=dry_run, verify_only=verify_only)
    else:
        refuse_text_alone(imatrix_text)
    if hub and (verify or verify_only):
        raise UsageError(
            "--hub deletes each shard once it is converted; to verify, download the checkpoint"
        )
    if hub and eval is not None:
        raise UsageError(
            "--hub deletes each shard once it is converted; to evaluate, download the checkpoint"
        )
    src, name, shards = _find_source(source, hub, revision)
    wishes = parse_types(
        None if is_auto else imatrix,
        cold_experts,
        tensor_type,
        output_tensor_type,
        token_embedding_type,
        pure,
    )
    types = types_asked(type, out, verify_only=verify_only)
    if types == [LIST]:
        show.sizes(converter.sizes(src, options=wishes, shards=shards), json=json)
        return
    if is_auto:
        measuring = Measuring(
            name, out, types, wishes, tuple(imatrix_text or ()), overwrite, resume, threads
        )
        wishes = replace(wishes, imatrix=measuring.of_checkpoint(src, force=force))
    plans = converter.plan_all(src, types, options=wishes, force=force, shards=shards)
    work = Work(
        "converting",
        dry_run=dry_run,
        verify=verify,
        verify_only=verify_only,
        seconds=eval,
        json=json,
        overwrite=overwrite,
        split=split_of(split_max_size, split_max_tensors),
        resume=resume,
        ram=ram,
        threads=threads,
    )
    work.carry_out(paired(plans, out, name), shards)


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
