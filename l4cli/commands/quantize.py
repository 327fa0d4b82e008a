"""`l4 quantize`: makes a GGUF of another type from a GGUF."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli.commands import completion
from l4cli.commands import convert_options as options
from l4cli.commands import convert_show as show
from l4cli.commands.convert_imatrix import AUTO, Measuring, refuse_auto, refuse_text_alone
from l4cli.commands.convert_work import LIST, Work, paired, parse_types, split_of, types_asked
from l4cli.commands.find_gguf import find_located
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.models.locate import Located


def quantize(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.models,
            metavar="FILE|NAME",
            help="GGUF file to quantize (the first one, if it is split), best in F16, BF16 or F32; "
            "or a name from `l4 models`.",
        ),
    ],
    dry_run: options.DryRun = False,
    requantize: Annotated[
        bool,
        typer.Option(
            "--requantize",
            help="Quantize again what is quantized to less than 8 bits, at a loss of quality.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Quantize even a model that llama.cpp would run wrong.")
    ] = False,
    verify: options.Verify = False,
    verify_only: Annotated[
        bool,
        typer.Option(
            "--verify-only",
            help="Quantize nothing; compare the existing file of -o with the GGUF it was made of.",
        ),
    ] = False,
    eval: options.Eval = None,
    json: options.Json = False,
    type: options.TypeOfGGUF = None,
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
    """Quantize a GGUF file: make one of another type from it.

    Every architecture that llama.cpp knows. Types, tensors and metadata are
    those that llama-quantize makes, byte for byte. The output grows in
    FILE.part and gets its name only when it is complete; --resume goes on
    after a kill.

        l4 quantize model-F16.gguf -o model-Q4_K_M.gguf --type Q4_K_M
    """
    import convert as converter

    _refuse_habit(source, context.args)
    is_auto = imatrix == AUTO
    if is_auto:
        refuse_auto(dry_run=dry_run, verify_only=verify_only)
    else:
        refuse_text_alone(imatrix_text)
    located = find_located(source)
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
        show.sizes(converter.quantize_sizes(located.path, options=wishes), json=json)
        return
    if is_auto:
        measuring = Measuring(
            _name_without_type(located),
            out,
            types,
            wishes,
            tuple(imatrix_text or ()),
            overwrite,
            resume,
            threads,
        )
        wishes = replace(wishes, imatrix=measuring.of_gguf(located))
    plans = converter.plan_quantize(
        located.path, types, options=wishes, requantize=requantize or verify_only, force=force
    )
    work = Work(
        "quantizing",
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
    work.carry_out(paired(plans, out, _name_without_type(located)))


def _refuse_habit(source: str, extra: list[str]) -> None:
    """Raise UsageError, with the command that is meant, if there are arguments behind the source.

    llama-quantize takes the output and the type there.
    """
    if extra:
        from convert import FTYPES

        types = [word for word in extra if word.upper() in FTYPES]
        outs = [word for word in extra if word not in types]
        words = ["l4", "quantize", source]
        for name, value in (("-o", outs), ("--type", types)):
            words += [name, value[0]] if value else []
        raise UsageError(
            f"{extra[0]}: the output goes behind -o, the type behind --type: {shlex.join(words)}"
        )


def _name_without_type(located: Located) -> str:
    """The model's name; a file's without what it says of its split and type: m-F16.gguf -> m.

    Caches name files after digests: for these, the name that the file itself gives is used.
    """
    from convert import FTYPES, describe

    if located.spec is not None:
        return located.spec.name
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", located.path.name)
    if re.fullmatch(r"(sha256[-:_])?[0-9a-f]{40,64}", stem):
        stem = re.sub(r"[^\w.]+", "-", describe(located.path).name or "").strip("-.") or "model"
    types = "|".join(map(re.escape, FTYPES))
    return re.sub(rf"[-._](?:{types})$", "", stem, flags=re.IGNORECASE) or stem
