"""The options of `l4 convert` and `l4 quantize`, in the order of the panels in their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l4cli.commands import completion
from l4cli.commands.options import parse_file, parse_size

DEFAULT_TYPE = "Q4_K_M"
_TYPES_PANEL, _OUTPUT_PANEL, _WORK_PANEL = "Types", "Output", "Execution"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="Hugging Face checkpoint: a directory, or the name (`l4 models`) or id (org/name) of "
        "one in the Hub's local cache.",
    ),
]
Hub = Annotated[
    bool,
    typer.Option(
        "--hub",
        help="Fetch SRC from the Hub shard by shard, and delete each shard after it is converted.",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="REV",
        help="With --hub: commit, tag or branch to fetch (default: main).",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show every tensor, the size, time and memory needed; read no weights."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Convert even if llama.cpp would run the result wrong.")
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Afterwards, compare every weight with its source; exit 1 if one is too far off.",
    ),
]
VerifyOnly = Annotated[
    bool,
    typer.Option(
        "--verify-only", help="Convert nothing; compare the existing file of -o with SRC."
    ),
]
Eval = Annotated[
    int | None,
    typer.Option(
        "--eval",
        min=1,
        max=10**6,
        metavar="[SECONDS]",
        help="Afterwards, measure for at most so many seconds (default: 60) what each file lost "
        "against its source; the figures are written into its metadata and shown by `l4 info`.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]

Type = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        autocompletion=completion.types,
        help=f"Quantization type, e.g. Q8_0 or IQ2_XXS (default: {DEFAULT_TYPE}); may be repeated, "
        "SRC is then read only once. `list` shows all types with the size of each.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
TypeOfGGUF = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        autocompletion=completion.types,
        help=f"Quantization type, e.g. Q8_0 or IQ2_XXS (default: {DEFAULT_TYPE}); may be repeated, "
        "the GGUF is then read only once. `list` shows all types with the size of each.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
Imatrix = Annotated[
    str | None,
    typer.Option(
        "--imatrix",
        metavar="FILE|auto",
        help="Importance matrix made by `l4 imatrix` or llama-imatrix (GGUF or .dat); `--type "
        "list` shows which types need one. auto measures one first.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
ImatrixText = Annotated[
    list[Path] | None,
    typer.Option(
        "--imatrix-text",
        parser=parse_file,
        metavar="FILE",
        help="Text that --imatrix auto reads; may be repeated (default: l4's own).",
        rich_help_panel=_TYPES_PANEL,
    ),
]
ColdExperts = Annotated[
    str | None,
    typer.Option(
        "--cold-experts",
        metavar="QTYPE",
        help="Safer type, such as Q6_K, for tensors with experts that the text of the imatrix "
        "hardly reached.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
TensorType = Annotated[
    list[str] | None,
    typer.Option(
        "--tensor-type",
        metavar="PATTERN=QTYPE",
        help="Type of the tensors whose names match the regular expression PATTERN; may be "
        "repeated, the first match counts.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
OutputTensorType = Annotated[
    str | None,
    typer.Option(
        "--output-tensor-type",
        metavar="QTYPE",
        help="Type of the tensor output.weight.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
TokenEmbeddingType = Annotated[
    str | None,
    typer.Option(
        "--token-embedding-type",
        metavar="QTYPE",
        help="Type of the tensor token_embd.weight.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
Pure = Annotated[
    bool,
    typer.Option(
        "--pure",
        help="Give all quantized tensors the same type, instead of the mix that --type stands for.",
        rich_help_panel=_TYPES_PANEL,
    ),
]

Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="GGUF file to write, or a directory; {type} in the name is replaced by the type "
        "(default: NAME-{type}.gguf here).",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace a file of that name; otherwise only one that has the bytes of the new one.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]
SplitMaxSize = Annotated[
    int | None,
    typer.Option(
        "--split-max-size",
        metavar="SIZE",
        parser=parse_size,
        help="Split the output into files with at most this many bytes of tensors, e.g. 46G.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]
SplitMaxTensors = Annotated[
    int | None,
    typer.Option(
        "--split-max-tensors",
        min=1,
        metavar="N",
        help="Split the output into files with at most N tensors.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue a conversion that was stopped, and leave a finished one as it is; without "
        "it, the conversion starts over.",
        rich_help_panel=_WORK_PANEL,
    ),
]
Ram = Annotated[
    int | None,
    typer.Option(
        "--ram",
        metavar="SIZE",
        parser=parse_size,
        help="Largest memory use, e.g. 512M or 2G (default: about 64M per thread).",
        rich_help_panel=_WORK_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-t",
        min=1,
        max=512,
        metavar="N",
        help="Number of threads that quantize (default: one per CPU).",
        rich_help_panel=_WORK_PANEL,
    ),
]
