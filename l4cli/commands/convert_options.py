"""The options of `l4 convert`, in the panels its help shows."""

from __future__ import annotations

from typing import Annotated

import typer

from l4cli.commands.options import parse_memory, parse_size

DEFAULT_TYPE = "Q4_K_M"
_TYPES_PANEL, _OUTPUT_PANEL, _WORK_PANEL = "Types", "Output", "How to work"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A Hugging Face checkpoint: its directory, or, of what the Hub's cache holds, a "
        "name from models.toml (`l4 models`) or an id as org/name.",
    ),
]
Hub = Annotated[
    bool,
    typer.Option(
        "--hub",
        help="SRC is on the Hub: fetch its shards one by one, each dropped once it is converted.",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="REV",
        help="With --hub: the commit, tag or branch; main unless given.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and what it takes; read no weights.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Convert even what llama.cpp would run wrong.")
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Then compare every weight with its source; exit 1 on a breach."),
]
VerifyOnly = Annotated[
    bool, typer.Option("--verify-only", help="Convert nothing; verify the file of -o.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]

Type = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help=f"Q8_0, Q6_K, IQ2_XXS, …; {DEFAULT_TYPE} unless given. Several read the source once; "
        "`list` shows all, and the size of each.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
Imatrix = Annotated[
    str | None,
    typer.Option(
        "--imatrix",
        metavar="FILE",
        help="Importance matrix of llama-imatrix (GGUF or .dat); `--type list` shows which types "
        "need one.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
ColdExperts = Annotated[
    str | None,
    typer.Option(
        "--cold-experts",
        metavar="QTYPE",
        help="Safer type, such as Q6_K, where the imatrix hardly saw some expert.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
TensorType = Annotated[
    list[str] | None,
    typer.Option(
        "--tensor-type",
        metavar="PATTERN=QTYPE",
        help="Type of the tensors in whose names the pattern is found; the first one decides.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
OutputTensorType = Annotated[
    str | None,
    typer.Option(
        "--output-tensor-type",
        metavar="QTYPE",
        help="Type of output.weight.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
TokenEmbeddingType = Annotated[
    str | None,
    typer.Option(
        "--token-embedding-type",
        metavar="QTYPE",
        help="Type of token_embd.weight.",
        rich_help_panel=_TYPES_PANEL,
    ),
]
Pure = Annotated[
    bool,
    typer.Option(
        "--pure", help="One type for all, without the recipe.", rich_help_panel=_TYPES_PANEL
    ),
]

Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The GGUF to write, or a directory; {type} in it stands for the type.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]
SplitMaxSize = Annotated[
    int | None,
    typer.Option(
        "--split-max-size",
        metavar="SIZE",
        parser=parse_size,
        help="Split into files of so many bytes of tensors: 500M, 48G.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]
SplitMaxTensors = Annotated[
    int | None,
    typer.Option(
        "--split-max-tensors",
        min=1,
        metavar="N",
        help="Split into files of so many tensors.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with a conversion that was stopped; else it starts over.",
        rich_help_panel=_WORK_PANEL,
    ),
]
Ram = Annotated[
    int | None,
    typer.Option(
        "--ram",
        metavar="SIZE",
        parser=parse_memory,
        help="Most memory to take: 512M, 2G; some 64M a thread unless given.",
        rich_help_panel=_WORK_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-t",
        min=1,
        metavar="N",
        help="Quantizing threads; one a CPU unless given.",
        rich_help_panel=_WORK_PANEL,
    ),
]
